//! Encrypted bodies on their way out: the segments that a range needs are read, and opened one at a time.
//! Invariants: beside what the store reads ahead, one segment is held; what does not open ends the read, and nothing of
//! it is returned; of an object of parts the parts are looked up as they are reached, a bounded number at a time.
//! Not here: where stored bytes lie (`read`), how segments are opened (`segments`).

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::SealedPart;
use shardstore_format::DataId;
use shardstore_reactor::{Drive, Executor};

use super::{BodyOf, BodyOpener, Sealing};
use crate::ops::api::OpError;
use crate::ops::core::CoreInner;
use crate::ops::error::of_failure;
use crate::ops::read::Rows;

/// Parts that are looked up at a time: 256 x 48 bytes.
const PARTS_AT_A_TIME: usize = 256;

/// The plain bytes of a range, in order.
pub(crate) struct SealedReader<D: Drive, X: Executor> {
    sealing: Sealing,
    stored: StoredBytes<D, X>,
    bodies: Bodies,
    /// What is left to return.
    range: Range<u64>,
    /// Of the body that is read.
    opener: Option<BodyOpener>,
    /// Read, not opened yet.
    arrived: VecDeque<Bytes>,
}

/// Where the sealed bytes come from.
pub(crate) enum StoredBytes<D: Drive, X: Executor> {
    Inline(Bytes),
    Rows(Box<Rows<D, X>>),
}

/// The sealed bodies that an object is made of.
pub(crate) enum Bodies {
    /// One, of so many stored bytes.
    Whole(u64),
    /// One for each part; those that were looked up.
    Parts(VecDeque<SealedPart>),
}

impl<D: Drive, X: Executor> SealedReader<D, X> {
    pub(crate) fn new(
        sealing: Sealing,
        stored: StoredBytes<D, X>,
        bodies: Bodies,
        range: Range<u64>,
    ) -> SealedReader<D, X> {
        SealedReader { sealing, stored, bodies, range, opener: None, arrived: VecDeque::new() }
    }

    /// The next plain bytes; `None` at the end. Nothing may be asked for after an error.
    pub(crate) async fn next<E: Engine>(
        &mut self,
        core: &CoreInner<D, E, X>,
        data: DataId,
    ) -> Option<Result<Vec<Bytes>, OpError>> {
        if self.range.is_empty() {
            return None;
        }
        Some(self.next_segment(core, data).await.map(|bytes| vec![bytes]))
    }

    /// What the next segment holds of the range.
    async fn next_segment<E: Engine>(
        &mut self,
        core: &CoreInner<D, E, X>,
        data: DataId,
    ) -> Result<Bytes, OpError> {
        if self.opener.is_none() {
            self.open_body(core, data).await?;
        }
        loop {
            while let (Some(opener), Some(bytes)) = (&mut self.opener, self.arrived.front_mut()) {
                let opened = opener.take(bytes)?;
                if bytes.is_empty() {
                    self.arrived.pop_front();
                }
                let Some(opened) = opened else { continue };
                if opener.is_done() {
                    self.opener = None;
                }
                self.range.start += u64::try_from(opened.len()).expect("usize fits");
                return Ok(opened);
            }
            let arrived = self.stored.next(core, data).await;
            let arrived =
                arrived.unwrap_or_else(|| Err(OpError::Damaged("sealed bytes end too early".to_owned())));
            self.arrived.extend(arrived?.into_iter().filter(|bytes| !bytes.is_empty()));
        }
    }

    /// Turns to the body that holds the first byte of what is left.
    async fn open_body<E: Engine>(&mut self, core: &CoreInner<D, E, X>, data: DataId) -> Result<(), OpError> {
        assert!(self.arrived.is_empty(), "a body's needed bytes are taken to their end");
        let (body, stored, plain) = match &mut self.bodies {
            Bodies::Whole(stored_bytes) => (BodyOf::Object, 0..*stored_bytes, 0..self.range.end),
            Bodies::Parts(parts) => {
                if parts.is_empty() {
                    let found = core.metadata.sealed_parts(data, self.range.start, PARTS_AT_A_TIME).await;
                    parts.extend(found.map_err(of_failure)?);
                }
                let part = parts.pop_front().filter(|part| part.plain.contains(&self.range.start));
                let part =
                    part.ok_or_else(|| OpError::Damaged("an object's parts are shorter than it".to_owned()))?;
                (BodyOf::Part(part.data), part.stored, part.plain)
            }
        };
        let within = self.range.start - plain.start..self.range.end.min(plain.end) - plain.start;
        let opener = BodyOpener::new(self.sealing.body_key(body), stored.end - stored.start, within)?;
        let needed = opener.needed();
        self.stored.seek(stored.start + needed.start..stored.start + needed.end)?;
        self.opener = Some(opener);
        Ok(())
    }
}

impl<D: Drive, X: Executor> StoredBytes<D, X> {
    /// Turns to a range of the stored bytes.
    fn seek(&mut self, range: Range<u64>) -> Result<(), OpError> {
        match self {
            StoredBytes::Inline(bytes) => {
                // They are sought once, and by then they are whole.
                let shorter = || OpError::Damaged("inline bytes are shorter than their object".to_owned());
                let end = usize::try_from(range.end).ok().filter(|end| *end <= bytes.len());
                let end = end.ok_or_else(shorter)?;
                let begin = usize::try_from(range.start).ok().filter(|begin| *begin <= end);
                *bytes = bytes.slice(begin.ok_or_else(shorter)?..end);
            }
            StoredBytes::Rows(rows) => rows.seek(range),
        }
        Ok(())
    }

    async fn next<E: Engine>(
        &mut self,
        core: &CoreInner<D, E, X>,
        data: DataId,
    ) -> Option<Result<Vec<Bytes>, OpError>> {
        match self {
            StoredBytes::Inline(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(vec![bytes]))
            }
            StoredBytes::Rows(rows) => rows.next(core, data).await,
        }
    }
}
