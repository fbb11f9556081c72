//! A survey: how many pages of every stripe of a volume are whole on their drives, read from end to end.
//! Invariants: goes around the cache; changes nothing; memory is a window a shard and what is not whole.
//! Not here: whose bytes the stripes hold (`server` census), mending.

use std::rc::Rc;
use std::sync::Arc;

use shardstore_format::{DriveId, Extent, Layout, VolumeClass, VolumeId, VolumeState};
use shardstore_reactor::{Drive, Executor};

use crate::media::{Media, MediaInner};
use crate::mend::ReadPage;
use crate::options::OVERLOAD_WAIT;
use crate::pace::Pace;
use crate::table::Volume;
use crate::walk::{PageFound, Step, Walk};

/// Stripes that are not whole, or a place where none can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStripe {
    /// Its first sector.
    pub sector: u32,
    /// One past its last sector; the next sector if its length is not known.
    pub end_sector: u32,
    /// Pages that are not whole.
    pub bad_pages: u8,
    /// Fewer than k pages are left.
    pub is_lost: bool,
}

/// What a survey of a volume found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSurvey {
    /// The volume.
    pub id: VolumeId,
    /// What it holds.
    pub class: VolumeClass,
    /// Stripes found.
    pub stripes: u64,
    /// Pages that verified.
    pub whole_pages: u64,
    /// One past the last sector that was final when it was read.
    pub end_sector: u32,
    /// Stripes that are not whole, by place; neighbours that are alike are one.
    pub bad: Vec<BadStripe>,
}

impl VolumeSurvey {
    /// The worst of the stripes that an extent lies in: bad pages, and whether one is lost.
    pub fn of_extent(&self, extent: &Extent, k: u8) -> (u8, bool) {
        let end_sector = Layout::of_extent(extent, k).end_sector().unwrap_or(u32::MAX);
        let overlapping = |bad: &&BadStripe| bad.sector < end_sector && bad.end_sector > extent.sector;
        let bad = self.bad.iter().filter(overlapping);
        bad.fold((0, false), |(pages, lost), bad| (pages.max(bad.bad_pages), lost || bad.is_lost))
    }
}

impl VolumeSurvey {
    fn note_bad(&mut self, bad: BadStripe) {
        match self.bad.last_mut() {
            Some(last)
                if last.end_sector == bad.sector
                    && (last.bad_pages, last.is_lost) == (bad.bad_pages, bad.is_lost) =>
            {
                last.end_sector = bad.end_sector;
            }
            _ => self.bad.push(bad),
        }
    }
}

/// One page as it lies on its drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// It verifies.
    Whole,
    /// A short stripe has no such page.
    Absent,
    /// It does not verify.
    Bad,
    /// Its drive or file cannot be read.
    Unread,
}

/// A shard of a stripe and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// Which shard: data first.
    pub shard: u8,
    /// Its drive, if that is a member.
    pub drive: Option<DriveId>,
    /// The name of that drive.
    pub label: String,
    /// What lies there.
    pub page: PageState,
}

impl<D: Drive, X: Executor> Media<D, X> {
    /// All volumes that this process knows, metadata runs included, by id, with their number of data shards.
    pub fn known_volumes(&self) -> Vec<(VolumeId, VolumeClass, u8)> {
        let all = self.inner.shared.volumes.from(VolumeId(0));
        all.into_iter().map(|volume| (volume.id, volume.class, volume.profile.k)).collect()
    }

    /// The number of data shards of a volume, if it is known.
    pub fn data_shards(&self, id: VolumeId) -> Option<u8> {
        self.inner.shared.volumes.get(id).map(|volume| volume.profile.k)
    }

    /// Reads every page of a volume that is final, at the pace of repair. `None`: the volume is not known (any more).
    pub async fn survey_volume(&self, id: VolumeId, pace: &SurveyPace) -> Option<VolumeSurvey> {
        let volume = self.inner.shared.volumes.get(id)?;
        let survey = self.inner.survey(&volume, &pace.0).await;
        let is_known = self.inner.shared.volumes.contains(id) && volume.state() != VolumeState::Reclaimed;
        is_known.then_some(survey)
    }

    /// Every page of the stripe at a place, as it lies on its drive. `None`: the volume is not known, or no page of
    /// the stripe verifies.
    pub async fn stripe_states(&self, id: VolumeId, sector: u32) -> Option<Vec<ShardState>> {
        let volume = self.inner.shared.volumes.get(id)?;
        let stripe = loop {
            match self.inner.read_stripe(&volume, sector).await {
                Ok(stripe) => break stripe?,
                Err(_) => self.inner.executor.sleep(OVERLOAD_WAIT).await,
            }
        };
        let state = |(shard, page): (u8, &ReadPage)| {
            let member = volume.member(usize::from(shard));
            let slot = member.map(|member| self.inner.shared.drives.slot(member));
            ShardState {
                shard,
                drive: slot.as_ref().map(|slot| slot.id),
                label: slot.map(|slot| slot.label.clone()).unwrap_or_default(),
                page: match page {
                    ReadPage::Whole(_) => PageState::Whole,
                    ReadPage::Absent => PageState::Absent,
                    ReadPage::Bad => PageState::Bad,
                    ReadPage::Unread => PageState::Unread,
                },
            }
        };
        Some((0u8..).zip(&stripe.pages).map(state).collect())
    }

    /// A pace for surveys, from now on.
    pub fn survey_pace(&self) -> SurveyPace {
        SurveyPace(Pace::new(self.inner.executor.now()))
    }
}

/// Keeps surveys from getting in the way of requests.
pub struct SurveyPace(Pace);

impl<D: Drive, X: Executor> MediaInner<D, X> {
    async fn survey(self: &Rc<Self>, volume: &Arc<Volume>, pace: &Pace) -> VolumeSurvey {
        let shards = u8::try_from(volume.profile.shards()).unwrap_or(u8::MAX);
        let mut survey = VolumeSurvey {
            id: volume.id,
            class: volume.class,
            stripes: 0,
            whole_pages: 0,
            end_sector: volume.frontier_sector(),
            bad: Vec::new(),
        };
        let mut walk = Walk::new(volume, (0..shards).collect()).reading_ahead();
        loop {
            let before = walk.read_bytes;
            let Ok(step) = walk.next(self).await else {
                self.executor.sleep(OVERLOAD_WAIT).await;
                continue;
            };
            if walk.read_bytes > before {
                let rate = self.shared.options.repair_bytes_per_s;
                pace.take(&self.shared, &self.executor, walk.read_bytes - before, rate).await;
            }
            match step {
                Step::End => return survey,
                Step::Stripe(sector, header) => {
                    survey.stripes += 1;
                    let (mut whole, mut absent, mut bad_pages) = (0, 0, 0);
                    for shard in 0..shards {
                        match walk.page(self, shard) {
                            PageFound::Whole(_) => whole += 1,
                            PageFound::Absent => absent += 1,
                            PageFound::Bad | PageFound::Unread => bad_pages += 1,
                        }
                    }
                    survey.whole_pages += u64::from(whole);
                    if bad_pages > 0 {
                        let end_sector = sector + u32::from(header.shape.page_len_sectors);
                        let is_lost = whole + absent < header.profile.k;
                        survey.note_bad(BadStripe { sector, end_sector, bad_pages, is_lost });
                    }
                }
                Step::Unreadable(sector) => {
                    // Whether anything of worth lies here, only its owners know.
                    let end_sector = sector + 1;
                    survey.note_bad(BadStripe { sector, end_sector, bad_pages: shards, is_lost: true });
                    walk.skip_to(end_sector);
                }
            }
        }
    }
}
