//! Scrub: every page of every drive is read and verified from time to time, and mended if it does not verify.
//! Invariants: one pass at a time in a process; it reads what is final, open volumes up to their durable stripes and
//! metadata runs too; how far it came survives a restart; it never holds up a request.
//! Not here: mending itself (`mend`), shards whose file is gone (`repair`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shardstore_format::{VolumeId, VolumeState};
use shardstore_reactor::{Drive, Executor};

use crate::catalog::{Catalog, CatalogError};
use crate::mend::Mended;
use crate::options::{BACKGROUND_PERIOD, OVERLOAD_WAIT, WALK_WINDOW_SECTORS, sector_offset_bytes};
use crate::pace::Pace;
use crate::shared::count;
use crate::store::{Store, StoreInner};
use crate::table::Volume;
use crate::upkeep::ScrubPhase;
use crate::walk::{PageFound, Step, Walk};

/// The name of the mark that says how far scrub came.
const MARK: &str = "scrub";
const MARK_VERSION: u8 = 2;
/// Owner rows looked through for the next stripe after one that cannot be read.
const OWNERS_BATCH: usize = 64;

/// How far scrub came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ScrubMark {
    /// The next volume of the pass under way; 0 if none is.
    next_volume: u64,
    /// When the pass under way began, in milliseconds since 1970.
    begun_ms: u64,
    /// When the last whole pass ended; 0 if none did.
    last_full_ms: u64,
    /// An operator told it to wait, and has not told it to go on.
    is_paused: bool,
}

impl ScrubMark {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![MARK_VERSION];
        for number in [self.next_volume, self.begun_ms, self.last_full_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(self.is_paused));
        out
    }

    /// A mark that cannot be read only costs a pass.
    fn decode(bytes: &[u8]) -> ScrubMark {
        let Some((&version, rest)) = bytes.split_first() else { return ScrubMark::default() };
        let (numbers, rest) = rest.as_chunks::<8>();
        let is_paused = match (version, rest) {
            // The first version did not remember it.
            (1, []) => false,
            (MARK_VERSION, &[is_paused]) => is_paused != 0,
            _ => return ScrubMark::default(),
        };
        let &[next_volume, begun_ms, last_full_ms] = numbers else { return ScrubMark::default() };
        ScrubMark {
            next_volume: u64::from_le_bytes(next_volume),
            begun_ms: u64::from_le_bytes(begun_ms),
            last_full_ms: u64::from_le_bytes(last_full_ms),
            is_paused,
        }
    }
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// Scrubs everything once, now, as fast as the drives allow. Ends early if the store stops.
    ///
    /// # Errors
    /// [`CatalogError`]: what is left is scrubbed another time.
    pub async fn scrub_now(&self) -> Result<(), CatalogError> {
        let mut mark = self.inner.read_mark().await?;
        mark.next_volume = 0;
        self.inner.scrub_pass(mark, None).await
    }

    /// Scrubs from time to time until the store stops. Runs on one core of the process.
    pub(crate) async fn run_scrub(self) {
        let shared = Arc::clone(self.shared());
        let executor = self.inner.media.executor.clone();
        let pace = Pace::new(executor.now());
        let mut is_first_look = true;
        while !shared.stopping.load(Ordering::SeqCst) {
            executor.sleep(BACKGROUND_PERIOD).await;
            let mark = match self.inner.mark_as_told(is_first_look).await {
                Ok(mark) => mark,
                Err(error) => {
                    tracing::debug!(%error, "scrub was put off");
                    continue;
                }
            };
            is_first_look = false;
            if mark.is_paused {
                continue;
            }
            shared.scrub.last_full_ms.store(mark.last_full_ms, Ordering::Relaxed);
            let period_ms = u64::try_from(shared.options.scrub_period.as_millis()).unwrap_or(u64::MAX);
            // A new pool has nothing to find in its first period.
            let since_ms = mark.last_full_ms.max(shared.created_unix_ms);
            let is_due = executor.unix_ms().saturating_sub(since_ms) >= period_ms;
            if !(shared.scrub.take_request() || mark.next_volume > 0 || is_due) {
                continue;
            }
            if let Err(error) = self.inner.scrub_pass(mark, Some(&pace)).await {
                tracing::debug!(%error, "scrub goes on later");
            }
        }
    }
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    async fn read_mark(&self) -> Result<ScrubMark, CatalogError> {
        let mark = self.catalog.upkeep_mark(MARK).await?;
        Ok(mark.as_deref().map(ScrubMark::decode).unwrap_or_default())
    }

    /// The mark, in which the operator's last word on pausing is kept: what was said since the start, or before it.
    async fn mark_as_told(&self, is_first_look: bool) -> Result<ScrubMark, CatalogError> {
        let scrub = &self.media.shared.scrub;
        let mut mark = self.read_mark().await?;
        if is_first_look && mark.is_paused {
            scrub.pause_as_before();
        }
        let is_paused = scrub.is_paused();
        if mark.is_paused != is_paused {
            mark.is_paused = is_paused;
            self.catalog.set_upkeep_mark(MARK, mark.encode()).await?;
        }
        Ok(mark)
    }

    /// One pass from where `mark` stands; `pace` is none for the fastest.
    async fn scrub_pass(&self, mut mark: ScrubMark, pace: Option<&Pace>) -> Result<(), CatalogError> {
        let shared = &self.media.shared;
        if mark.next_volume == 0 {
            mark.begun_ms = self.media.executor.unix_ms();
        }
        let volumes = shared.volumes.from(VolumeId(mark.next_volume));
        let end = volumes.last().map_or(0, |volume| volume.id.0 + 1);
        shared.scrub.enter(ScrubPhase::Running, volumes.len());
        for volume in volumes {
            if shared.stopping.load(Ordering::SeqCst) || (pace.is_some() && shared.scrub.is_paused()) {
                shared.scrub.enter(ScrubPhase::Idle, 0);
                return self.catalog.set_upkeep_mark(MARK, mark.encode()).await;
            }
            self.scrub_volume(&volume, pace).await?;
            shared.scrub.volume_done();
            mark.next_volume = (volume.id.0 + 1).min(end);
            self.catalog.set_upkeep_mark(MARK, mark.encode()).await?;
        }
        mark.next_volume = 0;
        mark.last_full_ms = self.media.executor.unix_ms();
        self.catalog.set_upkeep_mark(MARK, mark.encode()).await?;
        shared.scrub.last_full_ms.store(mark.last_full_ms, Ordering::Relaxed);
        shared.scrub.enter(ScrubPhase::Idle, 0);
        tracing::info!(begun_ms = mark.begun_ms, "scrub: a full pass ended");
        Ok(())
    }

    async fn scrub_volume(&self, volume: &Arc<Volume>, pace: Option<&Pace>) -> Result<(), CatalogError> {
        let (media, shared) = (&self.media, &self.media.shared);
        let shards = u8::try_from(volume.profile.shards()).unwrap_or(u8::MAX);
        let mut walk = Walk::new(volume, (0..shards).collect());
        let mut paced_bytes = 0;
        loop {
            if let Some(pace) = pace {
                let step = sector_offset_bytes(WALK_WINDOW_SECTORS) * u64::from(shards);
                if walk.read_bytes >= paced_bytes {
                    paced_bytes = walk.read_bytes + step;
                    pace.take(shared, &media.executor, step, shared.options.scrub_bytes_per_s).await;
                }
            }
            let before = walk.read_bytes;
            let step = match walk.next(media).await {
                Ok(step) => step,
                Err(_) => {
                    media.executor.sleep(OVERLOAD_WAIT).await;
                    continue;
                }
            };
            count(&shared.counts.scrubbed_bytes, walk.read_bytes - before);
            match step {
                Step::End => return Ok(()),
                Step::Stripe(sector, _) => {
                    let mut is_suspect = false;
                    for shard in 0..shards {
                        match walk.page(media, shard) {
                            PageFound::Whole(_) | PageFound::Absent => {}
                            PageFound::Bad => is_suspect = true,
                            PageFound::Unread => media.note_unread(volume, shard),
                        }
                    }
                    if is_suspect {
                        self.mend_and_count(volume, sector).await;
                    }
                }
                Step::Unreadable(sector) => {
                    if media.is_gone(volume) {
                        return Ok(());
                    }
                    match self.next_owned_stripe(volume, sector).await? {
                        Owned::Here => {
                            count(&shared.counts.stripes_lost, 1);
                            tracing::error!(
                                volume = volume.id.0,
                                sector,
                                "a stripe that objects need is lost"
                            );
                            match self.next_owned_stripe(volume, sector + 1).await? {
                                Owned::Here => walk.skip_to(sector + 1),
                                Owned::At(next) => walk.skip_to(next),
                                Owned::None => return Ok(()),
                            }
                        }
                        Owned::At(next) => walk.skip_to(next),
                        Owned::None => return Ok(()),
                    }
                }
            }
        }
    }

    /// Mends a stripe and counts what was found. A volume that went meanwhile has no bad pages.
    pub(crate) async fn mend_and_count(&self, volume: &Arc<Volume>, sector: u32) {
        let Some(Mended { bad, is_lost, .. }) = self.media.mend_stripe(volume, sector).await else { return };
        if self.media.is_gone(volume) {
            return;
        }
        count(&self.media.shared.counts.pages_bad, u64::from(bad));
        if is_lost {
            count(&self.media.shared.counts.stripes_lost, 1);
            tracing::error!(
                volume = volume.id.0,
                sector,
                bad,
                "a stripe has more bad pages than parity mends"
            );
        }
    }

    /// The first stripe at or after `sector` that an extent begins in or goes through.
    pub(crate) async fn next_owned_stripe(
        &self,
        volume: &Arc<Volume>,
        sector: u32,
    ) -> Result<Owned, CatalogError> {
        if volume.class == shardstore_format::VolumeClass::Run {
            // Every stripe of a run is needed, and all but the last are full.
            let next = sector.next_multiple_of(u32::from(shardstore_format::PAGE_MAX_SECTORS));
            let is_inside = next < volume.frontier_sector();
            return Ok(match is_inside {
                true if next == sector => Owned::Here,
                true => Owned::At(next),
                false => Owned::None,
            });
        }
        // An extent that begins before may go on here: look from the start of what could reach this far.
        let mut from = (0, 0);
        loop {
            let owners = self.catalog.owners(volume.id, from, OWNERS_BATCH).await?;
            let Some(last) = owners.last() else { return Ok(Owned::None) };
            from = (last.extent.sector, last.extent.byte_in_stripe + 1);
            for owner in &owners {
                let layout = shardstore_format::Layout::of_extent(&owner.extent, volume.profile.k);
                let Some(end) = layout.end_sector() else { continue };
                if end <= sector {
                    continue;
                }
                if owner.extent.sector > sector {
                    return Ok(Owned::At(owner.extent.sector));
                }
                // Inside: its stripes but the last are full.
                let full = u32::from(shardstore_format::PAGE_MAX_SECTORS);
                let next = owner.extent.sector + (sector - owner.extent.sector).next_multiple_of(full);
                if next == sector {
                    return Ok(Owned::Here);
                }
                if next < end {
                    return Ok(Owned::At(next));
                }
            }
        }
    }

    /// Mends what readers found bad since the last call.
    pub(crate) async fn mend_suspects(&self) {
        while let Some(suspect) = self.media.shared.suspects.pop() {
            if let Some(volume) = self.media.shared.volumes.get(suspect.volume)
                && volume.state() != VolumeState::Reclaimed
            {
                self.mend_and_count(&volume, suspect.sector).await;
            }
        }
    }
}

/// Where the next stripe with owned bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owned {
    /// At the sector asked about.
    Here,
    /// At a later one.
    At(u32),
    /// There is none.
    None,
}
