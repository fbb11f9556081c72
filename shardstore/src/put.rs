//! Writing an object: bytes into page buffers as they come, runs written while more is received, and the
//! evidence that all of it is durable.
//! Invariants: memory per object is bounded whatever its size; evidence exists only for bytes that are durable
//! on every shard, and pins their volumes.
//! Not here: packing (`packed`), places and writes (`append`), metadata.

use std::collections::VecDeque;
use std::rc::Rc;

use futures_channel::oneshot;
use shardstore_erasure::checksum::Crc32c;
use shardstore_format::{Durable, Extent, PAGE_PAYLOAD_MAX_BYTES, Profile};
use shardstore_reactor::{AlignedBuf, Drive, Executor, PoolExhausted};

use crate::append::Placed;
use crate::catalog::Catalog;
use crate::lane::Lane;
use crate::options::{
    LARGE_MIN_BYTES, OWN_CRC_MAX_BYTES, RUN_PAGES, RUN_TAIL_PAGES, RUNS_IN_FLIGHT_MAX, in_memory,
};
use crate::packed::{PackedItem, continues, extent_in};
use crate::place::PutError;
use crate::run::{PageFill, Run};
use crate::store::{Store, StoreInner};
use crate::table::Pin;
use crate::wait::answer;

/// Length of the buffers that an object of unknown length gathers in while it is small.
const SMALL_BUF_BYTES: u64 = 64 * 1024;

/// Evidence that an object's bytes are durable; keeps their volumes from being reclaimed until it is dropped.
pub struct Evidence {
    extents: Vec<Extent>,
    crc32c: Option<u32>,
    pins: Vec<Pin>,
}

impl Durable for Evidence {
    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

impl Evidence {
    /// CRC32C of the bytes, for objects up to [`OWN_CRC_MAX_BYTES`]; goes into the data record beside the extent.
    pub fn crc32c(&self) -> Option<u32> {
        self.crc32c
    }

    /// Volumes that are pinned, one pin an extent at least.
    pub fn pin_count(&self) -> usize {
        self.pins.len()
    }
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence").field("extents", &self.extents).finish_non_exhaustive()
    }
}

/// An object being written. Dropping it abandons the object: what was written already is dead space.
pub struct ObjectWriter<D: Drive, X: Executor, C: Catalog> {
    store: Rc<StoreInner<D, X, C>>,
    size_hint: Option<u64>,
    received_bytes: u64,
    body: Body,
}

enum Body {
    Small(Small),
    Large(Large),
}

#[derive(Default)]
struct Small {
    parts: Vec<AlignedBuf>,
    crc: Crc32c,
}

struct Large {
    lane: Lane,
    profile: Profile,
    fill: PageFill,
    dispatched_bytes: u64,
    runs: VecDeque<oneshot::Receiver<Result<WrittenRun, PutError>>>,
    extents: Vec<Extent>,
    pins: Vec<Pin>,
}

/// A run of an object that is durable.
struct WrittenRun {
    extent: Extent,
    profile: Profile,
    pin: Pin,
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// Begins an object. `size_hint` is its length if known: it decides where it goes, and may be wrong.
    ///
    /// # Errors
    /// [`PutError::TooFewDrives`] at once, so that no body is received in vain.
    pub fn put(&self, size_hint: Option<u64>) -> Result<ObjectWriter<D, X, C>, PutError> {
        let shared = self.shared();
        let (healthy, needed) = (shared.drives.healthy().len(), usize::from(shared.profile.m) + 1);
        if healthy < needed {
            return Err(PutError::TooFewDrives { healthy, needed });
        }
        let store = Rc::clone(&self.inner);
        let body = match size_hint {
            Some(len) if len >= LARGE_MIN_BYTES => Body::Large(Large::new(&store, Lane::Large)),
            _ => Body::Small(Small::default()),
        };
        Ok(ObjectWriter { store, size_hint, received_bytes: 0, body })
    }
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    /// Begins to move a large extent.
    pub(crate) fn move_large(self: &Rc<Self>, len_bytes: u64) -> ObjectWriter<D, X, C> {
        let body = Body::Large(Large::new(self, Lane::MovedLarge));
        ObjectWriter { store: Rc::clone(self), size_hint: Some(len_bytes), received_bytes: 0, body }
    }
}

impl Evidence {
    /// The same evidence once more, with pins of its own.
    pub(crate) fn beside(&self) -> Evidence {
        Evidence {
            extents: self.extents.clone(),
            crc32c: self.crc32c,
            pins: self.pins.iter().map(Pin::new_beside).collect(),
        }
    }

    /// Of one small extent that was moved.
    pub(crate) fn of_moved(extent: Extent, pin: Pin) -> Evidence {
        Evidence { extents: vec![extent], crc32c: None, pins: vec![pin] }
    }
}

impl<D: Drive, X: Executor, C: Catalog> ObjectWriter<D, X, C> {
    /// Takes the next bytes: one copy into page buffers. Waits while 4 runs of this object are in flight.
    ///
    /// # Errors
    /// [`PutError`]; the object is then lost to this writer.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), PutError> {
        self.received_bytes += bytes.len() as u64;
        if let Body::Small(small) = &mut self.body {
            if self.received_bytes < LARGE_MIN_BYTES {
                let expected_bytes = self.size_hint.unwrap_or(0);
                return small.push(&self.store, bytes, expected_bytes).map_err(|_| PutError::Overloaded);
            }
            let gathered = std::mem::take(&mut small.parts);
            self.body = Body::Large(Large::new(&self.store, Lane::Large));
            for part in gathered {
                self.write_large(&part).await?;
            }
        }
        self.write_large(bytes).await
    }

    async fn write_large(&mut self, mut bytes: &[u8]) -> Result<(), PutError> {
        let Body::Large(large) = &mut self.body else { unreachable!("the caller made it large") };
        while !bytes.is_empty() {
            if large.has_full_run(self.size_hint) {
                large.dispatch(&self.store).await?;
            }
            match large.fill.push(self.store.media.shared.bufs(), bytes) {
                Ok(len) => bytes = &bytes[len..],
                // Own runs in flight give their buffers back; without any there is nothing to wait for.
                Err(PoolExhausted) if large.runs.is_empty() => return Err(PutError::Overloaded),
                Err(PoolExhausted) => large.take_oldest().await?,
            }
        }
        Ok(())
    }

    /// Returns once every byte is on stable media on every shard.
    ///
    /// An empty object has no extents.
    ///
    /// # Errors
    /// [`PutError`]; nothing of the object is visible or pinned then.
    pub async fn finish(self) -> Result<Evidence, PutError> {
        match self.body {
            Body::Small(small) => small.finish(&self.store, self.received_bytes).await,
            Body::Large(large) => large.finish(&self.store).await,
        }
    }
}

impl Small {
    fn push<D: Drive, X: Executor, C: Catalog>(
        &mut self,
        store: &StoreInner<D, X, C>,
        mut bytes: &[u8],
        expected_bytes: u64,
    ) -> Result<(), PoolExhausted> {
        self.crc.update(bytes);
        while !bytes.is_empty() {
            let has_room = self.parts.last().is_some_and(|part| part.len() < part.capacity_bytes());
            if !has_room {
                let held: usize = self.parts.iter().map(|part| part.len()).sum();
                let left_bytes = expected_bytes.saturating_sub(held as u64);
                let wanted = if left_bytes == 0 { SMALL_BUF_BYTES } else { left_bytes };
                let mut part = store.media.shared.bufs().take(in_memory(wanted))?;
                part.set_len(0);
                self.parts.push(part);
            }
            let part = self.parts.last_mut().expect("pushed above or has room");
            let begin = part.len();
            let len = bytes.len().min(part.capacity_bytes() - begin);
            part.set_len(begin + len);
            part[begin..].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
        }
        Ok(())
    }

    async fn finish<D: Drive, X: Executor, C: Catalog>(
        self,
        store: &Rc<StoreInner<D, X, C>>,
        len_bytes: u64,
    ) -> Result<Evidence, PutError> {
        let crc32c = (len_bytes <= OWN_CRC_MAX_BYTES).then(|| self.crc.finish());
        if len_bytes == 0 {
            return Ok(Evidence { extents: Vec::new(), crc32c, pins: Vec::new() });
        }
        let (reply, receiver) = oneshot::channel();
        store.enqueue(PackedItem { parts: self.parts, len_bytes, reply });
        let (extent, pin) = receiver.await.unwrap_or(Err(PutError::DrivesLost))?;
        Ok(Evidence { extents: vec![extent], crc32c, pins: vec![pin] })
    }
}

impl Large {
    fn new<D: Drive, X: Executor, C: Catalog>(store: &StoreInner<D, X, C>, lane: Lane) -> Large {
        Large {
            lane,
            profile: store.likely_profile(lane),
            fill: PageFill::new(),
            dispatched_bytes: 0,
            runs: VecDeque::new(),
            extents: Vec::new(),
            pins: Vec::new(),
        }
    }

    /// Bytes of a run: whole stripes, about 1 MiB.
    fn run_bytes(&self) -> u64 {
        let stripes = (RUN_PAGES / usize::from(self.profile.k)).max(1);
        stripes as u64 * self.profile.stripe_payload_bytes()
    }

    /// Whether a run should be written before more is taken: it has its stripes, and more than a short tail is
    /// still to come.
    fn has_full_run(&self, size_hint: Option<u64>) -> bool {
        let filled_bytes = self.fill.payload_len_bytes();
        let run_bytes = self.run_bytes();
        if filled_bytes < run_bytes || !filled_bytes.is_multiple_of(self.profile.stripe_payload_bytes()) {
            return false;
        }
        let tail_max_bytes = RUN_TAIL_PAGES as u64 * PAGE_PAYLOAD_MAX_BYTES;
        let taken_bytes = self.dispatched_bytes + filled_bytes;
        let left_bytes = size_hint.unwrap_or(0).saturating_sub(taken_bytes);
        left_bytes == 0 || left_bytes > tail_max_bytes || filled_bytes >= run_bytes + tail_max_bytes
    }

    /// Sends what is filled on its way, after the oldest run if too many are in flight.
    async fn dispatch<D: Drive, X: Executor, C: Catalog>(
        &mut self,
        store: &Rc<StoreInner<D, X, C>>,
    ) -> Result<(), PutError> {
        while self.runs.len() >= RUNS_IN_FLIGHT_MAX {
            self.take_oldest().await?;
        }
        let (pages, len_bytes) = self.fill.take();
        self.dispatched_bytes += len_bytes;
        let codec = store.media.codec(self.profile).ok_or(PutError::DrivesLost)?;
        let bufs = store.media.shared.bufs();
        let run = Run::from_pages(bufs, &codec, self.profile, len_bytes, pages);
        let run = run.map_err(|_| PutError::Overloaded)?;
        let (sender, receiver) = oneshot::channel();
        self.runs.push_back(receiver);
        let (store, lane) = (Rc::clone(store), self.lane);
        store.media.executor.clone().spawn(async move {
            let placed = store.append(lane, run).await;
            let written = placed.map(|placed| {
                let extent = extent_in(&placed, len_bytes, 0, len_bytes);
                let Placed { pin, profile, .. } = placed;
                WrittenRun { extent, profile, pin }
            });
            // If the writer has gone, the bytes are dead.
            answer(sender, written);
        });
        Ok(())
    }

    async fn take_oldest(&mut self) -> Result<(), PutError> {
        let Some(oldest) = self.runs.pop_front() else { return Ok(()) };
        let WrittenRun { extent, profile, pin } = oldest.await.unwrap_or(Err(PutError::DrivesLost))?;
        match self.extents.last_mut() {
            Some(last) if continues(last, &extent, profile) => {
                last.len_bytes += extent.len_bytes;
                last.page_len_sectors = extent.page_len_sectors;
            }
            _ => {
                self.extents.push(extent);
                self.pins.push(pin);
            }
        }
        Ok(())
    }

    async fn finish<D: Drive, X: Executor, C: Catalog>(
        mut self,
        store: &Rc<StoreInner<D, X, C>>,
    ) -> Result<Evidence, PutError> {
        if self.fill.payload_len_bytes() > 0 {
            self.dispatch(store).await?;
        }
        while !self.runs.is_empty() {
            self.take_oldest().await?;
        }
        let Large { extents, pins, .. } = self;
        Ok(Evidence { extents, crc32c: None, pins })
    }
}
