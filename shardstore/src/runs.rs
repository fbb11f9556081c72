//! Metadata runs: immutable byte strings, each a volume of its own, erasure-coded like objects.
//! Invariants: nothing here asks the catalog, which is itself built on runs; a run's bytes are durable on every
//! shard before `finish` returns; every 65,472 bytes of a run begin a page; runs may use the drives' reserve.
//! Not here: what runs hold and which are live (`fdb-schema`).

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{OptionFuture, join_all};
use shardstore_format::{Layout, PAGE_MAX_SECTORS, VolumeClass, VolumeId, VolumeRecord, VolumeState};
use shardstore_reactor::{Drive, DriveFile, Executor, IoError};

use crate::media::{Media, MediaInner};
use crate::options::{
    LARGE_GROWTH_MAX_BYTES, RUN_PAGES, RUNS_IN_FLIGHT_MAX, sector_offset_bytes, sectors_in,
};
use crate::place::{PutError, Room};
use crate::read::{ReadError, concat, load_span};
use crate::run::{Run, TailRule};
use crate::table::OpeningGuard;
use crate::wait::answer;

/// A run being written. Dropping it abandons the run; its files are removed.
pub struct RunVolumeWriter<D: Drive, X: Executor> {
    media: Rc<MediaInner<D, X>>,
    /// `None` once finished.
    volume: Option<RunFiles<D>>,
    /// Bytes that do not fill a piece of whole stripes yet.
    gathered: VecDeque<Bytes>,
    gathered_bytes: u64,
    len_bytes: u64,
    next_sector: u32,
    ready_sector: u32,
    writes: VecDeque<oneshot::Receiver<Result<(), PutError>>>,
}

struct RunFiles<D: Drive> {
    record: VolumeRecord,
    members: Vec<Option<usize>>,
    files: Vec<D::File>,
    _opening: OpeningGuard,
}

impl<D: Drive, X: Executor> Media<D, X> {
    /// Begins a run in a new volume, whose id the caller took from the volume counter and committed.
    ///
    /// # Errors
    /// [`PutError`], never of metadata.
    pub async fn create_run(&self, volume: VolumeId) -> Result<RunVolumeWriter<D, X>, PutError> {
        let media = Rc::clone(&self.inner);
        let opening = media.shared.opening_guard(volume);
        let placement = media.place(Room::All, media.shared.options.growth_step_bytes).await?;
        let made = media.make_files(volume, VolumeClass::Run, &placement).await?;
        let members = placement.members.into_iter().map(Some).collect();
        let files = RunFiles { record: made.record, members, files: made.files, _opening: opening };
        Ok(RunVolumeWriter {
            media,
            volume: Some(files),
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            len_bytes: 0,
            next_sector: 0,
            ready_sector: 0,
            writes: VecDeque::new(),
        })
    }

    /// Exactly `len_bytes` verified bytes of a run of `run_len_bytes` from `offset_bytes`.
    ///
    /// Within one page it is a slice shared with the cache; else a copy.
    ///
    /// # Errors
    /// [`ReadError::Lost`] names the stripe; [`ReadError::Overloaded`]: later.
    pub async fn read_run(
        &self,
        record: &VolumeRecord,
        run_len_bytes: u64,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Result<Bytes, ReadError> {
        if len_bytes == 0 {
            return Ok(Bytes::new());
        }
        let lost = ReadError::Lost { volume: record.id, sector: 0 };
        let layout = Layout::of_run(record.profile, run_len_bytes).ok_or(lost)?;
        let volume = self.inner.shared.know_volume(record);
        let mut loads = Vec::with_capacity(1);
        let (mut at, mut left) = (offset_bytes, len_bytes as u64);
        while left > 0 {
            let span = layout.span_at(at, left).ok_or(lost)?;
            (at, left) = (at + span.len_bytes(), left - span.len_bytes());
            loads.push(load_span(Rc::clone(&self.inner), std::sync::Arc::clone(&volume), span));
        }
        let parts: Result<Vec<Bytes>, ReadError> = join_all(loads).await.into_iter().collect();
        let mut parts = parts?;
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { concat(&parts) })
    }

    /// Removes a run's files; called once nothing names or reads it. Files on drives that are missing now are
    /// freed as orphans when those return.
    ///
    /// # Errors
    /// [`PutError::DrivesLost`]: some files may be left; they are freed at the next start.
    pub async fn remove_run(&self, record: &VolumeRecord) -> Result<(), PutError> {
        // A shard may have moved since whoever asks took the record.
        let known = self.inner.shared.volumes.get(record.id);
        let members = known.map_or_else(|| self.inner.members_of(record), |volume| volume.members());
        self.inner.shared.volumes.remove(record.id);
        let removed = self.inner.remove_files(record.id, &members).await;
        self.inner.close_stale_files();
        if removed { Ok(()) } else { Err(PutError::DrivesLost) }
    }
}

impl<D: Drive, X: Executor> RunVolumeWriter<D, X> {
    /// Appends bytes; waits while 4 pieces of about 1 MiB are in flight.
    ///
    /// # Errors
    /// [`PutError`]: the run is lost; begin another one.
    pub async fn append(&mut self, bytes: Bytes) -> Result<(), PutError> {
        self.len_bytes += bytes.len() as u64;
        self.gathered_bytes += bytes.len() as u64;
        if !bytes.is_empty() {
            self.gathered.push_back(bytes);
        }
        while self.gathered_bytes > self.piece_bytes() {
            self.write_piece(self.piece_bytes()).await?;
        }
        Ok(())
    }

    /// Makes all bytes durable and returns the sealed volume's record with their number.
    ///
    /// # Errors
    /// [`PutError`]: the run is lost; begin another one.
    pub async fn finish(mut self) -> Result<(VolumeRecord, u64), PutError> {
        if self.gathered_bytes > 0 {
            self.write_piece(self.gathered_bytes).await?;
        }
        while !self.writes.is_empty() {
            self.take_oldest().await?;
        }
        let end_bytes = sector_offset_bytes(self.next_sector);
        let files = self.files()?;
        let cuts = files
            .files
            .iter()
            .zip(&files.members)
            .filter_map(|(file, member)| Some(self.media.bounded((*member)?, file.set_len(end_bytes))));
        for result in join_all(cuts).await {
            if let Err(error) = result {
                tracing::warn!(%error, "unwritten steps of a run could not be freed");
            }
        }
        let files = self.volume.take().ok_or(PutError::DrivesLost)?;
        let RunFiles { mut record, _opening: opening, .. } = files;
        record.state = VolumeState::Sealed { end_sector: self.next_sector };
        self.media.shared.know_volume(&record);
        // Not sooner: its files would be nobody's for a moment.
        drop(opening);
        Ok((record, self.len_bytes))
    }

    fn files(&self) -> Result<&RunFiles<D>, PutError> {
        self.volume.as_ref().ok_or(PutError::DrivesLost)
    }

    /// Whole stripes, about 1 MiB.
    fn piece_bytes(&self) -> u64 {
        let profile = self.volume.as_ref().map_or(self.media.shared.profile, |files| files.record.profile);
        (RUN_PAGES / usize::from(profile.k)).max(1) as u64 * profile.stripe_payload_bytes()
    }

    async fn take_oldest(&mut self) -> Result<(), PutError> {
        match self.writes.pop_front() {
            Some(oldest) => oldest.await.unwrap_or(Err(PutError::DrivesLost)),
            None => Ok(()),
        }
    }

    async fn write_piece(&mut self, len_bytes: u64) -> Result<(), PutError> {
        while self.writes.len() >= RUNS_IN_FLIGHT_MAX {
            self.take_oldest().await?;
        }
        let profile = self.files()?.record.profile;
        let codec = self.media.codec(profile).ok_or(PutError::DrivesLost)?;
        let parts = self.take_gathered(len_bytes);
        let slices = parts.iter().map(|part| &part[..]);
        let bufs = self.media.shared.bufs();
        let run = Run::gather(bufs, &codec, profile, TailRule::WholePages, len_bytes, slices);
        let mut run = run.map_err(|_| PutError::Overloaded)?;
        self.grow(run.sectors()).await?;
        let files = self.files()?;
        run.seal(self.media.shared.pool, files.record.id, self.next_sector);
        let offset_bytes = sector_offset_bytes(self.next_sector);
        let writes = files.files.iter().zip(run.take_shards()).map(|(file, pages)| {
            OptionFuture::from((!pages.is_empty()).then(|| file.write_durable(offset_bytes, pages)))
        });
        let writes: Vec<_> = writes.collect();
        let (sender, receiver) = oneshot::channel();
        let (media, members) = (Rc::clone(&self.media), files.members.clone());
        self.media.executor.spawn(async move {
            let outcomes = join_all(writes).await.into_iter().zip(members);
            let mut result = Ok(());
            for (outcome, member) in outcomes {
                match outcome.map(|outcome| outcome.result) {
                    None | Some(Ok(())) => {}
                    Some(Err(IoError::NoSpace)) => result = Err(PutError::NoSpace),
                    Some(Err(error)) => {
                        if let Some(member) = member {
                            media.fence(member, &error);
                        }
                        result = Err(PutError::DrivesLost);
                    }
                }
            }
            answer(sender, result);
        });
        self.writes.push_back(receiver);
        self.next_sector += run.sectors();
        Ok(())
    }

    fn take_gathered(&mut self, len_bytes: u64) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let mut left = crate::options::in_memory(len_bytes);
        while left > 0 {
            let mut part = self.gathered.pop_front().expect("counted when it was gathered");
            if part.len() > left {
                self.gathered.push_front(part.split_off(left));
            }
            left -= part.len();
            parts.push(part);
        }
        self.gathered_bytes -= len_bytes;
        parts
    }

    /// Reserves room on every drive before it is written.
    async fn grow(&mut self, sectors: u32) -> Result<(), PutError> {
        let end_sector = self.next_sector.checked_add(sectors).ok_or(PutError::NoSpace)?;
        if end_sector <= self.ready_sector {
            return Ok(());
        }
        let step_bytes = self.media.shared.options.growth_step_bytes;
        let doubled = sector_offset_bytes(self.ready_sector) / step_bytes * step_bytes;
        let step = sectors_in(doubled.clamp(step_bytes, LARGE_GROWTH_MAX_BYTES.max(step_bytes)));
        let grown_sector =
            end_sector.next_multiple_of(u32::from(PAGE_MAX_SECTORS)).max(self.ready_sector + step);
        let (from, to) = (sector_offset_bytes(self.ready_sector), sector_offset_bytes(grown_sector));
        let files = self.files()?;
        let allocated = join_all(files.files.iter().zip(&files.members).map(|(file, member)| async {
            let member = member.ok_or(IoError::Fenced)?;
            self.media.bounded(member, file.allocate(from, to - from)).await
        }))
        .await;
        for (result, member) in allocated.into_iter().zip(&files.members) {
            match result {
                Ok(()) => {}
                Err(IoError::NoSpace) => return Err(PutError::NoSpace),
                Err(error) => {
                    if let Some(member) = *member {
                        self.media.fence(member, &error);
                    }
                    return Err(PutError::DrivesLost);
                }
            }
        }
        self.ready_sector = grown_sector;
        Ok(())
    }
}

impl<D: Drive, X: Executor> Drop for RunVolumeWriter<D, X> {
    fn drop(&mut self) {
        let Some(RunFiles { record, members, files, _opening: opening }) = self.volume.take() else { return };
        drop(files);
        let media = Rc::clone(&self.media);
        let writes = std::mem::take(&mut self.writes);
        self.media.executor.spawn(async move {
            // Writes under way land first; the files go after them.
            join_all(writes).await;
            media.remove_files(record.id, &members).await;
            drop(opening);
        });
    }
}
