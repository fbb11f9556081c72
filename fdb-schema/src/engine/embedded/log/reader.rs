//! Reads the log files of one term from all members that are there, as one.
//! Invariants: the same file has the same bytes on every member, so what is damaged on one is taken from another at
//! the same place; where no member has the next record, that record was never acknowledged, or (a valid record lies
//! further on) the log is damaged and this says so.

use std::collections::BTreeMap;

use bytes::Bytes;
use shardstore_format::PoolId;
use shardstore_reactor::{AlignedBuf, Drive, DriveFile, Executor, IoError, OpenMode, SECTOR_BYTES};

use super::error::LogError;
use super::format::{
    FileAddress, FileId, Head, HeadFixed, LOG_DIR, RECORD_MAX_BYTES, RecordHeader, is_untouched, record_bytes,
};
use super::open::LogRecord;
use super::slot::{Slot, SlotError};

/// One read.
const WINDOW_BYTES: usize = 1024 * 1024;
/// How far past the last record to look for a later one: past the longest record that could be damaged there.
const LOOK_PAST_BYTES: u64 = (RECORD_MAX_BYTES + 2 * WINDOW_BYTES) as u64;

/// The names of all log files on a drive; none if it has no such directory.
pub(crate) async fn list_files<D: Drive, X: Executor>(slot: &Slot<D, X>) -> Result<Vec<FileId>, SlotError> {
    let drive = slot.drive.clone();
    match slot.run(async move { drive.list(LOG_DIR).await }).await {
        Ok(names) => Ok(names.iter().filter_map(|name| FileId::parse(name)).collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What a term's files hold.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) manifest: Option<Bytes>,
    pub(crate) keep_from_sequence: u64,
    pub(crate) records: Vec<LogRecord>,
    pub(crate) next_sequence: u64,
}

/// The files of one term on the members that are there.
pub(crate) struct TermFiles<D: Drive, X> {
    pool: PoolId,
    /// By number; each with the members that have it.
    files: BTreeMap<FileId, Vec<FileReader<D, X>>>,
    pub(crate) notes: Vec<String>,
}

impl<D: Drive, X: Executor> TermFiles<D, X> {
    /// Opens every file of `term` that `members` list.
    pub(crate) async fn open(
        pool: PoolId,
        term: u64,
        members: &[(Slot<D, X>, Vec<FileId>)],
    ) -> TermFiles<D, X> {
        let mut files: BTreeMap<FileId, Vec<FileReader<D, X>>> = BTreeMap::new();
        let mut notes = Vec::new();
        for (slot, ids) in members {
            for &id in ids.iter().filter(|id| id.term == term) {
                match FileReader::open(slot, id).await {
                    Ok(reader) => files.entry(id).or_default().push(reader),
                    Err(error) => {
                        notes.push(format!("{}: cannot open {}: {error}", slot.drive.label(), id.path()));
                    }
                }
            }
        }
        TermFiles { pool, files, notes }
    }

    /// The longest chain of records that the members hold together; `None` if no file was ever begun.
    ///
    /// # Errors
    /// [`LogError::Damaged`]: what was acknowledged is on none of them.
    pub(crate) async fn chain(&mut self) -> Result<Option<Chain>, LogError> {
        let mut last = None;
        for id in self.files.keys().rev().copied().collect::<Vec<_>>() {
            if let Some(head) = self.head(id).await {
                last = Some((id, head));
                break;
            }
            self.check_not_begun(id).await?;
        }
        let Some((last_id, (last_head, last_crc, last_at))) = last else { return Ok(None) };
        let mut records = Vec::new();
        let earlier = self.heads_back_to(last_id, &last_head).await?;
        let mut later: Vec<(FileId, Head)> =
            earlier.iter().skip(1).map(|(id, head, ..)| (*id, head.clone())).collect();
        later.push((last_id, last_head.clone()));
        for ((id, head, crc, at), (next_id, next)) in earlier.into_iter().zip(later) {
            let end = self
                .read_records(id, (head.first_sequence, crc, at), Some(next.first_sequence), &mut records)
                .await;
            if end.sequence != next.first_sequence || end.crc != next.previous_crc {
                return Err(damaged(format!(
                    "record {} is in no copy of {}, which {} follows",
                    end.sequence,
                    id.path(),
                    next_id.path()
                )));
            }
        }
        let begin = (last_head.first_sequence, last_crc, last_at);
        let end = self.read_records(last_id, begin, None, &mut records).await;
        self.check_nothing_later(last_id, &end).await?;
        records.retain(|record| record.sequence >= last_head.keep_from_sequence);
        Ok(Some(Chain {
            manifest: last_head.manifest,
            keep_from_sequence: last_head.keep_from_sequence,
            records,
            next_sequence: end.sequence,
        }))
    }

    /// Heads of the files before `last_id` that hold records still needed, oldest first.
    async fn heads_back_to(
        &mut self,
        last_id: FileId,
        last: &Head,
    ) -> Result<Vec<(FileId, Head, u32, u64)>, LogError> {
        let mut earlier = Vec::new();
        let (mut id, mut first_sequence) = (last_id, last.first_sequence);
        while first_sequence > last.keep_from_sequence {
            let Some((&before, _)) = self.files.range(..id).next_back() else {
                let from = last.keep_from_sequence;
                return Err(damaged(format!("no file before {} holds records from {from} on", id.path())));
            };
            id = before;
            // One that was made ready and never begun lies between; if it was begun, the chain will not hold.
            let Some((head, crc, at)) = self.head(id).await else { continue };
            first_sequence = head.first_sequence;
            earlier.push((id, head, crc, at));
        }
        earlier.reverse();
        Ok(earlier)
    }

    /// The head of a file from any member, its CRC and where the records begin.
    async fn head(&mut self, id: FileId) -> Option<(Head, u32, u64)> {
        let address = FileAddress { pool: self.pool, file: id };
        let mut without = Vec::new();
        for reader in self.files.get_mut(&id)? {
            if let Some(head) = reader.head(address).await {
                self.notes.append(&mut without);
                return Some(head);
            }
            without.push(format!("{}: {} has no valid head", reader.slot.drive.label(), id.path()));
        }
        None
    }

    /// A file without a valid head must hold no record of its own: else its head is damaged on every member.
    async fn check_not_begun(&mut self, id: FileId) -> Result<(), LogError> {
        let address = FileAddress { pool: self.pool, file: id };
        for reader in self.files.get_mut(&id).into_iter().flatten() {
            let untouched =
                reader.read(0, SECTOR_BYTES).await.is_none_or(|sector| is_untouched(&sector, address));
            if !untouched && reader.has_record_past(0, u64::MAX, address, 0).await {
                return Err(damaged(format!("{} has records and no valid head on any member", id.path())));
            }
        }
        Ok(())
    }

    /// Reads records one after the other, each from any member that has it, until none has or `until` is reached.
    async fn read_records(
        &mut self,
        id: FileId,
        (first_sequence, head_crc, at_bytes): (u64, u32, u64),
        until_sequence: Option<u64>,
        records: &mut Vec<LogRecord>,
    ) -> ChainEnd {
        let address = FileAddress { pool: self.pool, file: id };
        let mut end = ChainEnd { sequence: first_sequence, crc: head_crc, at_bytes };
        let Some(readers) = self.files.get_mut(&id) else { return end };
        while until_sequence != Some(end.sequence) {
            let mut found = None;
            for (index, reader) in readers.iter_mut().enumerate() {
                found = reader.record(end, address).await;
                if found.is_some() {
                    // Read on from this one, and note what was wrong with the others.
                    for passed in &readers[..index] {
                        let (label, sequence) = (passed.slot.drive.label(), end.sequence);
                        self.notes.push(format!(
                            "{label}: record {sequence} of {} is missing or damaged",
                            id.path()
                        ));
                    }
                    readers.rotate_left(index);
                    break;
                }
            }
            let Some((header, payload)) = found else { break };
            records.push(LogRecord { sequence: end.sequence, payload });
            end = ChainEnd {
                sequence: end.sequence + 1,
                crc: header.crc,
                at_bytes: end.at_bytes + header.record_bytes() as u64,
            };
        }
        end
    }

    /// One record is under way at a time, so one past the end of the chain means that the end was acknowledged.
    async fn check_nothing_later(&mut self, id: FileId, end: &ChainEnd) -> Result<(), LogError> {
        let address = FileAddress { pool: self.pool, file: id };
        for reader in self.files.get_mut(&id).into_iter().flatten() {
            let until_bytes = end.at_bytes + LOOK_PAST_BYTES;
            if reader.has_record_past(end.at_bytes, until_bytes, address, end.sequence).await {
                return Err(damaged(format!(
                    "record {} of {} is damaged on every member, and later ones are there",
                    end.sequence,
                    id.path()
                )));
            }
        }
        Ok(())
    }
}

fn damaged(what: String) -> LogError {
    LogError::Damaged { what }
}

/// Where a chain of records ends: the next record's number, what it must follow, and where it would begin.
#[derive(Clone, Copy)]
struct ChainEnd {
    sequence: u64,
    crc: u32,
    at_bytes: u64,
}

/// One file on one member, read through a window.
struct FileReader<D: Drive, X> {
    slot: Slot<D, X>,
    file: D::File,
    len_bytes: u64,
    window_at_bytes: u64,
    window: Vec<u8>,
}

impl<D: Drive, X: Executor> FileReader<D, X> {
    async fn open(slot: &Slot<D, X>, id: FileId) -> Result<FileReader<D, X>, SlotError> {
        let drive = slot.drive.clone();
        let opened = slot.run(async move {
            let file = drive.open(&id.path(), OpenMode::Read).await?;
            let len_bytes = file.len_bytes().await?;
            Ok::<_, IoError>((file, len_bytes))
        });
        let (file, len_bytes) = opened.await?;
        let len_bytes = len_bytes / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
        Ok(FileReader { slot: slot.clone(), file, len_bytes, window_at_bytes: 0, window: Vec::new() })
    }

    async fn head(&mut self, address: FileAddress) -> Option<(Head, u32, u64)> {
        let fixed = HeadFixed::decode(&self.read(0, SECTOR_BYTES).await?, address)?;
        let (crc, len) = (fixed.crc, fixed.head_bytes());
        let head = fixed.finish(&self.read(0, len).await?)?;
        Some((head, crc, len as u64))
    }

    /// The record that continues the chain at `end`.
    async fn record(&mut self, end: ChainEnd, address: FileAddress) -> Option<(RecordHeader, Bytes)> {
        let header = RecordHeader::decode(&self.read(end.at_bytes, SECTOR_BYTES).await?, address)?;
        if header.sequence != end.sequence || header.previous_crc != end.crc {
            return None;
        }
        let record = self.read(end.at_bytes, header.record_bytes()).await?;
        let payload = Bytes::copy_from_slice(header.payload(&record)?);
        Some((header, payload))
    }

    /// Whether a valid record of this file with a number above `sequence` begins in `[from, until)`.
    async fn has_record_past(
        &mut self,
        from_bytes: u64,
        until_bytes: u64,
        address: FileAddress,
        sequence: u64,
    ) -> bool {
        let mut at_bytes = from_bytes;
        while at_bytes < until_bytes.min(self.len_bytes) {
            let found = match self.read(at_bytes, SECTOR_BYTES).await {
                Some(sector) => RecordHeader::decode(&sector, address),
                None => None,
            };
            if let Some(header) = found.filter(|header| header.sequence > sequence)
                && let Some(record) = self.read(at_bytes, header.record_bytes()).await
                && header.payload(&record).is_some()
            {
                return true;
            }
            at_bytes += SECTOR_BYTES as u64;
        }
        false
    }

    /// `len` bytes from `at_bytes`, whole sectors both; `None` past the end or where the drive cannot read.
    async fn read(&mut self, at_bytes: u64, len: usize) -> Option<Vec<u8>> {
        assert!(len <= record_bytes(RECORD_MAX_BYTES).max(2 * RECORD_MAX_BYTES));
        let end_bytes = at_bytes.checked_add(len as u64).filter(|&end| end <= self.len_bytes)?;
        let window_end_bytes = self.window_at_bytes + self.window.len() as u64;
        if at_bytes < self.window_at_bytes || end_bytes > window_end_bytes {
            self.fill_window(at_bytes, len).await?;
        }
        let begin = usize::try_from(at_bytes - self.window_at_bytes).ok()?;
        self.window.get(begin..begin + len).map(<[u8]>::to_vec)
    }

    async fn fill_window(&mut self, at_bytes: u64, len: usize) -> Option<()> {
        self.window.clear();
        let left = usize::try_from(self.len_bytes - at_bytes).unwrap_or(usize::MAX);
        let window = match self.read_device(at_bytes, len.max(WINDOW_BYTES).min(left)).await {
            Some(window) => window,
            // One sector that cannot be read must not hide its neighbours.
            None => self.read_device(at_bytes, len).await?,
        };
        self.window = window;
        self.window_at_bytes = at_bytes;
        Some(())
    }

    async fn read_device(&mut self, at_bytes: u64, len: usize) -> Option<Vec<u8>> {
        if self.slot.is_silent() {
            return None;
        }
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let part = (len - bytes.len()).min(WINDOW_BYTES);
            let (file, offset_bytes) = (self.file.clone(), at_bytes + bytes.len() as u64);
            let read = self.slot.run(async move {
                let (result, buf) = file.read_at(offset_bytes, AlignedBuf::zeroed(part)).await;
                result.map(|()| buf)
            });
            bytes.extend_from_slice(&read.await.ok()?);
        }
        Some(bytes)
    }
}
