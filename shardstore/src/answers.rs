//! How long each drive takes to answer reads, and what becomes of one that answers none.
//! Invariants: opening a file to read it, and reading it, end within `WRITE_DEADLINE`; a drive is fenced if something
//! waited that long and no data that was read from it came back meanwhile, so a long queue fences nothing; an open is no
//! answer, since the kernel opens what it knows without the device; a read that was given up for a faster one counts as
//! long as it was waited for, and its drive is asked again with nobody waiting: at most one such question a drive and core.
//! Not here: reading around a slow drive (`page_read`), writes, whose deadline is the drive's own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use shardstore_format::SECTOR_BYTES;
use shardstore_reactor::{
    AlignedBuf, Drive, DriveFile, Executor, FenceReason, IoError, MonotonicTime, RecentLatency,
    WRITE_DEADLINE,
};

use crate::media::{Handle, MediaInner, OpenShard};
use crate::options::{SLOW_READ_MAX, SLOW_READ_MIN, in_memory, sector_offset_bytes};
use crate::page_read::PagePlace;
use crate::shared::count;
use crate::table::Volume;

/// What one core knows of its drives' answers.
#[derive(Default)]
pub(crate) struct Answers {
    by_member: RefCell<Vec<OfMember>>,
    /// Where a read was given up, by member, and nobody asked again yet.
    given_up: RefCell<BTreeMap<usize, PagePlace>>,
}

#[derive(Default)]
struct OfMember {
    latency: RecentLatency,
    /// When data that was read came back last.
    last: Option<MonotonicTime>,
    /// It is being asked with nobody waiting.
    is_asked: bool,
}

impl Answers {
    fn of<T>(&self, member: usize, change: impl FnOnce(&mut OfMember) -> T) -> T {
        let mut by_member = self.by_member.borrow_mut();
        if by_member.len() <= member {
            by_member.resize_with(member + 1, OfMember::default);
        }
        change(&mut by_member[member])
    }

    fn p99(&self, member: usize) -> Option<Duration> {
        self.by_member.borrow().get(member).and_then(|of| of.latency.p99())
    }
}

/// Notes how long a read took when it ends, or when it is given up because others were faster: a slow drive whose
/// slow reads were not counted would look quick.
pub(crate) struct TimedRead<'a, D: Drive, X: Executor> {
    media: &'a MediaInner<D, X>,
    place: &'a PagePlace,
    member: usize,
    begin: MonotonicTime,
    is_answered: bool,
}

impl<'a, D: Drive, X: Executor> TimedRead<'a, D, X> {
    pub(crate) fn begin(media: &'a MediaInner<D, X>, place: &'a PagePlace, member: usize) -> Self {
        TimedRead { media, place, member, begin: media.executor.now(), is_answered: false }
    }

    pub(crate) fn end(mut self) {
        self.is_answered = true;
    }
}

impl<D: Drive, X: Executor> Drop for TimedRead<'_, D, X> {
    fn drop(&mut self) {
        let took = self.media.executor.now().since(self.begin);
        self.media.answers.of(self.member, |of| of.latency.note(took));
        let counts = &self.media.shared.counts;
        count(&counts.foreground_reads, 1);
        count(&counts.foreground_read_micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if !self.is_answered && took >= SLOW_READ_MIN {
            self.media.answers.given_up.borrow_mut().insert(self.member, self.place.clone());
        }
    }
}

impl<D: Drive, X: Executor> MediaInner<D, X> {
    /// How long a read of a shard is waited for before it counts as slow.
    pub(crate) fn patience(&self, volume: &Volume, shard: usize) -> Duration {
        let p99 = volume.member(shard).and_then(|member| self.answers.p99(member));
        p99.map_or(SLOW_READ_MAX, |p99| p99.clamp(SLOW_READ_MIN, SLOW_READ_MAX))
    }

    /// Reads sectors of a shard's file; of the two results the inner one is the drive's.
    ///
    /// # Errors
    /// A deadline that passed.
    pub(crate) async fn read_file(
        &self,
        from: &OpenShard<D>,
        offset_bytes: u64,
        buf: AlignedBuf,
    ) -> Result<(Result<(), IoError>, AlignedBuf), IoError> {
        let reading = async { Ok(from.file.read_at(offset_bytes, buf).await) };
        let (result, buf) = self.answered(from.member, &from.asked, reading).await?;
        // Where a file ends the kernel knows without the device.
        if !matches!(result, Err(IoError::Fenced | IoError::ShortRead { got_bytes: 0 })) {
            let now = self.executor.now();
            self.answers.of(from.member, |of| of.last = Some(now));
        }
        Ok((result, buf))
    }

    /// Runs what only reads from a member's drive, with an end: a drive that gives no data at all until then is fenced.
    pub(crate) async fn answered<T>(
        &self,
        member: usize,
        asked: &Handle<D>,
        reading: impl Future<Output = Result<T, IoError>>,
    ) -> Result<T, IoError> {
        let begin = self.executor.now();
        let reading = std::pin::pin!(reading);
        let deadline = std::pin::pin!(self.executor.sleep(WRITE_DEADLINE));
        match select(reading, deadline).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => {
                let is_silent = self.answers.of(member, |of| of.last.is_none_or(|last| last < begin));
                if is_silent {
                    self.fence_hung(member, asked);
                }
                Err(IoError::Device(std::io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// A drive, in the arrival that was asked, did not answer in time.
    pub(crate) fn fence_hung(&self, member: usize, asked: &Handle<D>) {
        asked.drive.fence(FenceReason::Hung);
        // The drive may have gone and come back meanwhile: what it was asked before says nothing of it now.
        if self.shared.drives.slot(member).arrival == asked.arrival {
            self.mark_failed(member, "it does not answer");
        }
    }

    /// Asks drives whose reads were given up once more, until they answer or are fenced: those who gave up will not wait
    /// for any deadline.
    pub(crate) fn ask_the_silent(self: &Rc<Self>) {
        while let Some((member, place)) = self.answers.given_up.borrow_mut().pop_first() {
            if self.answers.of(member, |of| std::mem::replace(&mut of.is_asked, true)) {
                continue;
            }
            let media = Rc::clone(self);
            self.executor.spawn(async move {
                media.ask(member, &place).await;
                media.answers.of(member, |of| of.is_asked = false);
            });
        }
    }

    /// Reads a sector of the very page that somebody wanted: elsewhere in the file there may be holes, which the kernel
    /// answers itself, or a part of the device that is well.
    async fn ask(&self, member: usize, place: &PagePlace) {
        let shard = usize::from(place.shard);
        let Ok(file) = self.segment(&place.volume, shard).await else { return };
        if file.member != member {
            // The shard has moved: nobody will wait for this drive there.
            return;
        }
        let Ok(buf) = self.shared.bufs().take(in_memory(SECTOR_BYTES)) else { return };
        if let Err(error) = self.read_file(&file, sector_offset_bytes(place.sector), buf).await {
            tracing::warn!(volume = place.volume.id.0, shard, %error, "a drive does not answer");
        }
    }
}
