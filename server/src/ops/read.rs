//! Bodies on their way out: an object opened at one moment, its bytes read as slowly as its client likes.
//! Invariants: between the snapshot and the hold the core is in an epoch, after it the hold keeps the bytes; a range
//! is resolved a stretch at a time, so that memory does not follow the size of the object.
//! Not here: pages, parity, cache (`shardstore`); how segments are opened (`seal`); conditions and range syntax (`s3`).

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::{DataExtent, FoundObject, Place};
use shardstore::{HoldGuard, ObjectReader, ReadError};
use shardstore_format::DataId;
use shardstore_reactor::{Drive, Executor};

use super::api::{
    BodyReader, BucketName, CustomerKey, ObjectInfo, ObjectKey, ObjectPart, ObjectParts, OpError,
    OpenedObject, PAGE_MAX, VersionId,
};
use super::core::{CoreInner, object_info};
use super::error::{of_failure, of_read};
use super::seal::{Bodies, SealedReader, Sealing, StoredBytes};

/// Extents that are resolved at a time: 256 x 48 bytes a read.
const EXTENTS_AT_A_TIME: usize = 256;
/// Attempts at a stretch whose volumes are always gone when the store looks: compaction is never that fast.
const STALE_MAX: u32 = 8;

/// An object opened for reading.
pub struct Opened<D: Drive, E: Engine, X: Executor> {
    core: Rc<CoreInner<D, E, X>>,
    info: ObjectInfo,
    data: DataId,
    /// Length of its bytes as they are stored.
    stored_bytes: u64,
    /// Of an encrypted object that was unlocked.
    sealing: Option<Sealing>,
    bytes: OpenedBytes,
}

enum OpenedBytes {
    Inline(Bytes),
    Rows {
        /// All extents, or none.
        hint: Vec<DataExtent>,
        hold: HoldGuard,
    },
}

pub(crate) async fn open_object<D: Drive, E: Engine, X: Executor>(
    core: &Rc<CoreInner<D, E, X>>,
    bucket: &BucketName,
    key: &ObjectKey,
    version: Option<VersionId>,
) -> Result<Opened<D, E, X>, OpError> {
    let epoch = core.store.enter_epoch();
    let found = core.metadata.object_and_inline(bucket.as_str(), key.as_bytes(), version).await;
    let (FoundObject { mut record, version }, inline) = found.map_err(of_failure)?;
    let bytes = match (inline, std::mem::replace(&mut record.place, Place::Inline)) {
        (Some(bytes), _) => OpenedBytes::Inline(bytes),
        (None, Place::Rows { hint }) => OpenedBytes::Rows { hint, hold: core.store.hold(record.data) },
        (None, Place::Inline) => return Err(OpError::Damaged("inline bytes were not read".to_owned())),
    };
    drop(epoch);
    let (core, data, stored_bytes) = (Rc::clone(core), record.data, record.stored_bytes());
    let info = object_info(FoundObject { record, version });
    Ok(Opened { core, info, data, stored_bytes, sealing: None, bytes })
}

impl<D: Drive, E: Engine, X: Executor> OpenedObject for Opened<D, E, X> {
    type Reader = Reader<D, E, X>;

    fn info(&self) -> &ObjectInfo {
        &self.info
    }

    fn unlock(&mut self, key: Option<&CustomerKey>) -> Result<(), OpError> {
        match &self.info.encryption {
            None if key.is_some() => return Err(OpError::CustomerKeyUnexpected),
            None => {}
            Some(encryption) => self.sealing = Some(Sealing::open(encryption, key, &self.core.master_key)?),
        }
        Ok(())
    }

    async fn part(&self, part_number: u16) -> Result<ObjectPart, OpError> {
        if self.info.part_count.is_none() {
            let range = 0..self.info.size_bytes;
            let whole = ObjectPart { part_number: 1, range, checksum: self.info.checksums.first().cloned() };
            return if part_number == 1 { Ok(whole) } else { Err(OpError::NoSuchPart { part_count: 1 }) };
        }
        let page = self.parts(part_number.saturating_sub(1), 1).await?;
        let found = page.parts.into_iter().next().filter(|part| part.part_number == part_number);
        found.ok_or(OpError::NoSuchPart { part_count: page.part_count })
    }

    async fn parts(&self, after: u16, limit: usize) -> Result<ObjectParts, OpError> {
        let Some(part_count) = self.info.part_count else {
            return Ok(ObjectParts { parts: Vec::new(), part_count: 0 });
        };
        let limit = limit.min(PAGE_MAX);
        let is_sealed = self.info.encryption.is_some();
        let mut found =
            self.core.metadata.parts(self.data, is_sealed, after, limit).await.map_err(of_failure)?;
        // An append grows the rows of what was opened: parts that came since are not of it.
        found.parts.retain(|part| part.range.end <= self.info.size_bytes);
        found.part_count = found.part_count.min(part_count);
        Ok(found)
    }

    fn read(self, range: Range<u64>) -> Reader<D, E, X> {
        assert!(range.start <= range.end && range.end <= self.info.size_bytes);
        if self.info.encryption.is_some() {
            return self.read_sealed(range);
        }
        let state = match self.bytes {
            OpenedBytes::Inline(bytes) => {
                let at = |offset: u64| usize::try_from(offset).expect("inline bytes are few");
                ReaderState::Inline(bytes.slice(at(range.start)..at(range.end)))
            }
            OpenedBytes::Rows { hint, hold } => ReaderState::Rows(Box::new(Rows::new(range, hint, hold))),
        };
        Reader { core: self.core, data: self.data, state }
    }
}

impl<D: Drive, E: Engine, X: Executor> Opened<D, E, X> {
    fn read_sealed(self, range: Range<u64>) -> Reader<D, E, X> {
        let bodies = match self.info.part_count {
            None => Bodies::Whole(self.stored_bytes),
            Some(_) => Bodies::Parts(VecDeque::new()),
        };
        let stored = match self.bytes {
            OpenedBytes::Inline(bytes) => StoredBytes::Inline(bytes),
            OpenedBytes::Rows { hint, hold } => StoredBytes::Rows(Box::new(Rows::new(0..0, hint, hold))),
        };
        let state = self.sealing.map_or(ReaderState::Locked, |sealing| {
            ReaderState::Sealed(Box::new(SealedReader::new(sealing, stored, bodies, range)))
        });
        Reader { core: self.core, data: self.data, state }
    }
}

/// The bytes of a range, in order.
pub struct Reader<D: Drive, E: Engine, X: Executor> {
    core: Rc<CoreInner<D, E, X>>,
    data: DataId,
    state: ReaderState<D, X>,
}

enum ReaderState<D: Drive, X: Executor> {
    Inline(Bytes),
    Rows(Box<Rows<D, X>>),
    Sealed(Box<SealedReader<D, X>>),
    /// Encrypted, and no one unlocked it.
    Locked,
    Ended,
}

/// Stored bytes of a range.
pub(crate) struct Rows<D: Drive, X: Executor> {
    /// What is left to return.
    range: Range<u64>,
    hint: Vec<DataExtent>,
    /// Dropped with the reader: the bytes may be swept then.
    #[expect(dead_code, reason = "held for its drop")]
    hold: HoldGuard,
    stretch: Option<ObjectReader<D, X>>,
    stale_count: u32,
}

impl<D: Drive, E: Engine, X: Executor> BodyReader for Reader<D, E, X> {
    async fn next(&mut self) -> Option<Result<Vec<Bytes>, OpError>> {
        let next = match &mut self.state {
            ReaderState::Ended => None,
            ReaderState::Inline(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(vec![bytes]))
            }
            ReaderState::Rows(rows) => rows.next(&self.core, self.data).await,
            ReaderState::Sealed(sealed) => sealed.next(&self.core, self.data).await,
            ReaderState::Locked => {
                Some(Err(OpError::Internal("it was read before it was unlocked".to_owned())))
            }
        };
        if !matches!(next, Some(Ok(_))) {
            self.state = ReaderState::Ended;
        }
        next
    }
}

impl<D: Drive, X: Executor> Rows<D, X> {
    fn new(range: Range<u64>, hint: Vec<DataExtent>, hold: HoldGuard) -> Rows<D, X> {
        Rows { range, hint, hold, stretch: None, stale_count: 0 }
    }

    /// Turns to another range.
    pub(crate) fn seek(&mut self, range: Range<u64>) {
        self.range = range;
        self.stretch = None;
    }

    pub(crate) async fn next<E: Engine>(
        &mut self,
        core: &CoreInner<D, E, X>,
        data: DataId,
    ) -> Option<Result<Vec<Bytes>, OpError>> {
        while self.range.start < self.range.end {
            let stretch = match &mut self.stretch {
                Some(stretch) => stretch,
                None => match self.open_stretch(core, data).await {
                    Ok(stretch) => self.stretch.insert(stretch),
                    Err(error) => return Some(Err(error)),
                },
            };
            match stretch.next().await {
                Some(Ok(slices)) => {
                    let len: usize = slices.iter().map(Bytes::len).sum();
                    self.range.start += u64::try_from(len).expect("usize fits");
                    self.stale_count = 0;
                    return Some(Ok(slices));
                }
                // The next stretch: with a hint there is none, so resolve what is left.
                None => self.hint.clear(),
                Some(Err(ReadError::Stale(_))) if self.stale_count < STALE_MAX => {
                    self.stale_count += 1;
                    self.hint.clear();
                }
                Some(Err(error)) => return Some(Err(of_read(error))),
            }
            self.stretch = None;
        }
        None
    }

    /// Begins to read at the start of what is left: by the hint, else by the data rows.
    async fn open_stretch<E: Engine>(
        &mut self,
        core: &CoreInner<D, E, X>,
        data: DataId,
    ) -> Result<ObjectReader<D, X>, OpError> {
        let (extents, start_bytes, end_bytes) = if self.hint.is_empty() {
            let range = self.range.clone();
            let resolved = core.metadata.resolve(data, range, EXTENTS_AT_A_TIME).await.map_err(of_failure)?;
            let end_bytes = resolved.end_bytes();
            (resolved.extents, resolved.start_bytes, end_bytes)
        } else {
            (self.hint.clone(), 0, u64::MAX)
        };
        let within = self.range.start - start_bytes..self.range.end.min(end_bytes) - start_bytes;
        let extents = extents.into_iter().map(|item| (item.extent, item.crc32c)).collect();
        Ok(core.store.open_read(extents, within))
    }
}
