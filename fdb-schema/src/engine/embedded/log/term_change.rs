//! Changing the term: which drives hold the log from now on.
//! Invariants: the order is log on the new members, term on the members, term on the other drives, then the next
//! acknowledgement; every attempt takes a new number, above all that any drive has shown, so no number ever names two
//! member lists; the new files hold the manifest and every record still needed, an unfinished one included, so a
//! failed append is completed with its own sequence number.

use bytes::Bytes;
use futures_util::future::join_all;
use shardstore_format::{DriveId, PoolId};
use shardstore_reactor::{Drive, Executor};

use super::error::LogError;
use super::format::{FileAddress, FileId, Head, ZEROS, encode_record, record_bytes};
use super::reader::list_files;
use super::replica::{Piece, Replica, write_term_file};
use super::slot::{Slot, SlotError};
use super::term::{TERM_PATH, Term};
use super::writer::{LogTask, Member};

/// Records are copied in groups of about this much.
const COPY_GROUP_BYTES: usize = 1024 * 1024;

/// Drives that did not do their part in an attempt, and why.
type Refusals = Vec<(DriveId, SlotError)>;

impl<D: Drive, X: Executor> LogTask<D, X> {
    /// Puts the log on a full set of drives under a new term.
    ///
    /// # Errors
    /// [`LogError::ReadOnly`]: too few drives. [`LogError::NoSpace`]: there would be enough if they had room.
    pub(crate) async fn change_term(&mut self) -> Result<(), LogError> {
        let mut avoid = Avoid::default();
        loop {
            let mut members = self.candidates(&avoid);
            if members.len() < self.set_size {
                return Err(if avoid.no_space { LogError::NoSpace } else { LogError::ReadOnly });
            }
            members.truncate(self.set_size);
            match self.establish(members).await {
                Ok(()) => return Ok(()),
                Err(refusals) => avoid.note(self, refusals),
            }
        }
    }

    /// Puts the log on every drive that takes it, fewer than a set: reads are served from it, writes refused.
    ///
    /// # Errors
    /// [`LogError`]: not one drive takes it.
    pub(crate) async fn copy_to_all(&mut self) -> Result<(), LogError> {
        let mut avoid = Avoid::default();
        loop {
            let mut members = self.candidates(&avoid);
            // A full set would be writable, which an attempt has just failed to make.
            members.truncate(self.set_size.saturating_sub(1).max(1));
            if members.is_empty() {
                return Err(if avoid.no_space { LogError::NoSpace } else { LogError::ReadOnly });
            }
            match self.establish(members).await {
                Ok(()) => return Ok(()),
                Err(refusals) => avoid.note(self, refusals),
            }
        }
    }

    /// Drives that may become members, the best first: members, other healthy ones, then those that failed at
    /// something other than a durable write.
    fn candidates(&self, avoid: &Avoid) -> Vec<Slot<D, X>> {
        let rank = |slot: &Slot<D, X>| match (slot.is_healthy(), self.term.members.contains(&slot.id)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
        let usable = self.slots.iter().filter(|slot| slot.is_usable() && !avoid.drives.contains(&slot.id));
        let mut slots: Vec<Slot<D, X>> = usable.cloned().collect();
        slots.sort_by_key(rank);
        slots
    }

    /// One attempt to begin a new term on `members`.
    async fn establish(&mut self, members: Vec<Slot<D, X>>) -> Result<(), Refusals> {
        assert!(!members.is_empty());
        self.highest_term += 1;
        self.highest_file += 1;
        let file = FileId { term: self.highest_term, number: self.highest_file };
        let previous = (self.term.number > 0).then(|| (self.term.number, self.term.members.clone()));
        let ids = members.iter().map(|slot| slot.id).collect();
        let term = Term { number: self.highest_term, members: ids, previous };
        tracing::info!(term = term.number, members = ?term.members, "a new term of the metadata log");

        let copied = match self.copy_log(&members, file).await {
            Ok(copied) => copied,
            Err(refusals) => {
                remove_attempt(&members, file);
                return Err(refusals);
            }
        };
        // From here on a start may find the new term: nothing is acknowledged under the old one any more.
        self.superseded = true;
        self.write_term(&term, &members).await.map_err(|refusal| vec![refusal])?;
        members.iter().for_each(Slot::clear_failed);
        self.term = term;
        self.superseded = false;
        self.write_term_to_others().await;

        self.file = file;
        self.tail_crc = copied.tail_crc;
        self.head_bytes = copied.head_bytes;
        self.end_bytes = copied.end_bytes;
        self.members = copied.replicas.into_iter().map(Member::new).collect();
        self.start_write_ahead();
        self.prepare_next_file(Vec::new());
        self.remove_older_terms();
        self.publish();
        Ok(())
    }

    /// Log on the new members: one file with head and all records.
    async fn copy_log(&self, members: &[Slot<D, X>], file: FileId) -> Result<Copied<D, X>, Refusals> {
        let address = FileAddress { pool: self.pool, file };
        let head = Head {
            first_sequence: self.keep_from_sequence,
            keep_from_sequence: self.keep_from_sequence,
            previous_crc: 0,
            manifest: self.manifest.clone(),
        };
        let (head, mut tail_crc) = head.encode(address);
        let head_bytes = head.len() as u64;
        let records_bytes: u64 = self.records.iter().map(|record| record_bytes(record.len()) as u64).sum();
        let created = members.iter().map(|slot| Replica::create(slot, file, head_bytes + records_bytes));
        let replicas = sort_out(members, join_all(created).await)?;

        let mut group = vec![Bytes::from(head)];
        let mut group_bytes = group[0].len();
        let mut end_bytes = 0;
        let mut sequence = self.keep_from_sequence;
        for record in &self.records {
            assert_eq!(record.sequence, sequence);
            sequence += 1;
            if group_bytes >= COPY_GROUP_BYTES {
                end_bytes = self.write_group(members, &replicas, end_bytes, &mut group).await?;
                group_bytes = 0;
            }
            let (header, crc, padding) = encode_record(address, record.sequence, tail_crc, &record.payload);
            tail_crc = crc;
            group.push(Bytes::copy_from_slice(&header));
            group.extend(record.payload.iter().cloned());
            group.push(Bytes::from_static(&ZEROS[..padding]));
            group_bytes += record_bytes(record.len());
        }
        assert_eq!(sequence, self.next_sequence);
        let end_bytes = self.write_group(members, &replicas, end_bytes, &mut group).await?;
        assert_eq!(end_bytes, head_bytes + records_bytes);
        Ok(Copied { replicas, tail_crc, head_bytes, end_bytes })
    }

    async fn write_group(
        &self,
        members: &[Slot<D, X>],
        replicas: &[Replica<D, X>],
        offset_bytes: u64,
        group: &mut Vec<Bytes>,
    ) -> Result<u64, Refusals> {
        let (end_bytes, results) = self.write_to_all(replicas, offset_bytes, group, Piece::Copy).await;
        sort_out(members, results)?;
        group.clear();
        Ok(end_bytes)
    }

    /// Term on the members: all of them, or the attempt has failed.
    async fn write_term(&self, term: &Term, members: &[Slot<D, X>]) -> Result<(), (DriveId, SlotError)> {
        let written = join_all(members.iter().map(|slot| write_term_on(self.pool, term, slot))).await;
        members.iter().zip(written).try_for_each(|(slot, result)| result.map_err(|error| (slot.id, error)))
    }

    /// Term on the other drives: a drive that does not take it is behind, and its term loses at the next start.
    pub(crate) async fn write_term_to_others(&self) {
        let behind = |slot: &&Slot<D, X>| slot.is_usable() && slot.term_written() < self.term.number;
        let others: Vec<Slot<D, X>> = self.slots.iter().filter(behind).cloned().collect();
        let written = join_all(others.iter().map(|slot| write_term_on(self.pool, &self.term, slot))).await;
        for (slot, result) in others.iter().zip(written) {
            if let Err(error) = result {
                tracing::warn!(drive = slot.drive.label(), %error, "the term was not written");
                slot.mark_failed();
            }
        }
    }

    /// Nothing reads files of older terms any more.
    fn remove_older_terms(&self) {
        for slot in self.slots.iter().filter(|slot| slot.is_usable()).cloned() {
            let term = self.term.number;
            slot.clone().spawn(async move {
                let Ok(files) = list_files(&slot).await else { return };
                for file in files.into_iter().filter(|file| file.term < term) {
                    let drive = slot.drive.clone();
                    // What stays behind is removed at the next change or start.
                    drop(slot.run(async move { drive.remove(&file.path()).await }).await);
                }
            });
        }
    }
}

async fn write_term_on<D: Drive, X: Executor>(
    pool: PoolId,
    term: &Term,
    slot: &Slot<D, X>,
) -> Result<(), SlotError> {
    let (drive, bytes) = (slot.drive.clone(), term.encode(pool));
    slot.run(async move { write_term_file(&drive, TERM_PATH, bytes).await }).await?;
    slot.note_term(term.number);
    Ok(())
}

/// Frees the room of an attempt that never came to its term; nobody waits.
fn remove_attempt<D: Drive, X: Executor>(members: &[Slot<D, X>], file: FileId) {
    for slot in members.iter().filter(|slot| slot.is_usable()).cloned() {
        slot.clone().spawn(async move {
            let drive = slot.drive.clone();
            // What stays behind is removed with the next change of term.
            drop(slot.run(async move { drive.remove(&file.path()).await }).await);
        });
    }
}

struct Copied<D: Drive, X> {
    replicas: Vec<Replica<D, X>>,
    tail_crc: u32,
    head_bytes: u64,
    end_bytes: u64,
}

/// Drives not to try again within one change.
#[derive(Default)]
struct Avoid {
    drives: Vec<DriveId>,
    no_space: bool,
}

impl Avoid {
    fn note<D: Drive, X: Executor>(&mut self, task: &LogTask<D, X>, refusals: Refusals) {
        assert!(!refusals.is_empty());
        for (id, error) in refusals {
            tracing::warn!(drive = %format_args!("{:032x}", id.0), %error, "a drive cannot take the metadata log");
            self.no_space |= error.is_no_space();
            self.drives.push(id);
            if let Some(slot) = task.slots.iter().find(|slot| slot.id == id)
                && !error.is_no_space()
            {
                slot.mark_failed();
            }
        }
    }
}

/// All results, or who refused.
fn sort_out<D, X, T>(members: &[Slot<D, X>], results: Vec<Result<T, SlotError>>) -> Result<Vec<T>, Refusals> {
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for (slot, result) in members.iter().zip(results) {
        match result {
            Ok(value) => done.push(value),
            Err(error) => refused.push((slot.id, error)),
        }
    }
    if refused.is_empty() { Ok(done) } else { Err(refused) }
}
