//! The parts of a byte sequence by number: where each lies in it, and its checksum.
//! Invariants: parts are numbered from 1 in their order, whatever they were called in their upload; a byte sequence of
//! extents is one part; only the headers of the parts asked for are read.
//! The ranges of sealed parts are of the plain bytes. Not here: the extents of a range (`data`), what makes a byte sequence of parts (`upload`, `append`).

use std::ops::Range;

use shardstore_format::DataId;
use shardstore_reactor::Executor;

use super::data::{header, row_items};
use super::encryption::opened_len;
use super::error::{Failure, Refusal, damaged};
use super::record::{DataItems, DataPart};
use super::retry::Metadata;
use super::value::StoredChecksum;
use crate::{Engine, Isolation, Transaction};

/// A part of a byte sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOfData {
    /// Its number, from 1.
    pub part_number: u16,
    /// Which bytes of the whole.
    pub range: Range<u64>,
    /// Its checksum, if it came with its upload.
    pub checksum: Option<StoredChecksum>,
}

/// A part of a sealed byte sequence: a sealed body of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPart {
    /// The identity of its bytes.
    pub data: DataId,
    /// Which of the stored bytes of the whole.
    pub stored: Range<u64>,
    /// Which of its plain bytes.
    pub plain: Range<u64>,
}

/// Some of the parts of a byte sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartsOfData {
    /// In order.
    pub parts: Vec<PartOfData>,
    /// How many there are in all.
    pub part_count: u16,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Up to `limit` parts of a byte sequence with numbers above `after`. Cost: all its rows, at most 40, and one
    /// read for each part returned.
    ///
    /// # Errors
    /// [`Refusal::NoSuchKey`] if the data id is gone. [`Failure::Engine`].
    pub async fn parts(
        &self,
        data: DataId,
        is_sealed: bool,
        after: u16,
        limit: usize,
    ) -> Result<PartsOfData, Failure> {
        self.read(async |txn| {
            let header = header(txn, data, Isolation::Snapshot).await?.ok_or(Refusal::NoSuchKey)?;
            let mut found = PartsOfData { parts: Vec::new(), part_count: 0 };
            let mut at_bytes = 0;
            for row_index in 0..=header.row_starts.len() {
                let items = match row_index {
                    0 => header.items.clone(),
                    index => row_items(txn, data, index).await?,
                };
                let DataItems::Parts(parts) = items else {
                    return Ok(one_part(header.len_bytes, header.checksum.clone(), after, limit));
                };
                for part in parts {
                    let end_bytes = at_bytes + if is_sealed { opened(part)? } else { part.len_bytes };
                    found.part_count = found.part_count.saturating_add(1);
                    if found.part_count > after && found.parts.len() < limit {
                        let range = at_bytes..end_bytes;
                        found.parts.push(described(txn, found.part_count, part, range).await?);
                    }
                    at_bytes = end_bytes;
                }
            }
            Ok(found)
        })
        .await
    }

    /// Up to `limit` parts of a sealed byte sequence of parts, from the one that holds the plain byte `from_bytes` on;
    /// empty ones are left out. Cost: at most all its rows, which are 40.
    ///
    /// # Errors
    /// [`Refusal::NoSuchKey`] if the data id is gone. [`Failure::Engine`].
    pub async fn sealed_parts(
        &self,
        data: DataId,
        from_bytes: u64,
        limit: usize,
    ) -> Result<Vec<SealedPart>, Failure> {
        self.read(async |txn| {
            let header = header(txn, data, Isolation::Snapshot).await?.ok_or(Refusal::NoSuchKey)?;
            let (mut stored_bytes, mut plain_bytes) = (0, 0);
            let mut found = Vec::new();
            for row_index in 0..=header.row_starts.len() {
                let items = match row_index {
                    0 => header.items.clone(),
                    index => row_items(txn, data, index).await?,
                };
                let DataItems::Parts(parts) = items else {
                    return Err(damaged("an object of parts has extents"));
                };
                for part in parts {
                    let stored = stored_bytes..stored_bytes + part.len_bytes;
                    let plain = plain_bytes..plain_bytes + opened(part)?;
                    (stored_bytes, plain_bytes) = (stored.end, plain.end);
                    if plain.end > from_bytes && plain.start < plain.end {
                        found.push(SealedPart { data: part.data, stored, plain });
                    }
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            Ok(found)
        })
        .await
    }
}

/// How many plain bytes a sealed part holds.
fn opened(part: DataPart) -> Result<u64, Failure> {
    opened_len(part.len_bytes).ok_or_else(|| damaged("a sealed part is not as long as one can be"))
}

fn one_part(len_bytes: u64, checksum: Option<StoredChecksum>, after: u16, limit: usize) -> PartsOfData {
    let whole = PartOfData { part_number: 1, range: 0..len_bytes, checksum };
    let is_asked = after == 0 && limit > 0;
    PartsOfData { parts: is_asked.then_some(whole).into_iter().collect(), part_count: 1 }
}

async fn described<T: Transaction>(
    txn: &T,
    part_number: u16,
    part: DataPart,
    range: Range<u64>,
) -> Result<PartOfData, Failure> {
    let missing = || damaged("a part of an object has no data rows");
    let header = header(txn, part.data, Isolation::Snapshot).await?.ok_or_else(missing)?;
    Ok(PartOfData { part_number, range, checksum: header.checksum })
}
