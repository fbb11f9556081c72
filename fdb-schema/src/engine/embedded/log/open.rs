//! Opening the log: which term counts, what it holds, and a new term before anything is served.
//! Invariants: the highest term on any drive wins and only its members count; a pool is fresh only if no drive has a
//! term and no log file has a record; what is returned is durable on a full set under a new term, or, with too few
//! drives, on every drive that takes it, read-only.
//! Not here: whether too many drives are missing; the caller counts them first.

use bytes::Bytes;
use futures_util::future::join_all;
use shardstore_format::DriveId;
use shardstore_reactor::{Drive, Executor};

use super::error::LogError;
use super::format::FileId;
use super::reader::{Chain, TermFiles, list_files};
use super::slot::{Slot, SlotError};
use super::term::{TERM_MAX_BYTES, TERM_PATH, Term};
use super::writer::{Kept, LogTask};

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its number; they increase by one.
    pub sequence: u64,
    /// What was appended, in one piece.
    pub payload: Bytes,
}

/// What the log held when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The manifest of the last roll; `None` if there was none.
    pub manifest: Option<Bytes>,
    /// Records that may not be in runs, in order.
    pub records: Vec<LogRecord>,
    /// The number that the next record gets.
    pub next_sequence: u64,
    /// The term that was begun.
    pub term: u64,
    /// Whether the log is on a full set of drives.
    pub writable: bool,
    /// What an operator should hear: drives that were behind, damaged or did not answer.
    pub notes: Vec<String>,
}

/// What a start does about a log that is on no drive any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfLost {
    /// Says so.
    Refuse,
    /// Begins an empty one, under a term above all that any drive has shown; refuses if a record is left anywhere.
    BeginAnew,
}

/// Reads what `task`'s drives hold and begins a new term with it.
pub(crate) async fn recover<D: Drive, X: Executor>(
    mut task: LogTask<D, X>,
    if_lost: IfLost,
) -> Result<(LogTask<D, X>, Recovered), LogError> {
    let mut notes = Vec::new();
    let is_fresh = find(&mut task, if_lost, &mut notes).await?;
    let records = records_of(&task);
    match task.change_term().await {
        Ok(()) => {}
        // Nothing is served from a fresh log, so nothing needs to be kept.
        Err(error) if is_fresh => notes.push(format!("{error}: no metadata log was begun")),
        Err(error) => {
            notes.push(format!("{error}: metadata is read-only"));
            task.copy_to_all().await?;
        }
    }
    let recovered = recovered(&task, records, notes);
    Ok((task, recovered))
}

/// Reads what `task`'s drives hold and leaves it as it is.
pub(crate) async fn look<D: Drive, X: Executor>(mut task: LogTask<D, X>) -> Result<Recovered, LogError> {
    let mut notes = Vec::new();
    find(&mut task, IfLost::Refuse, &mut notes).await?;
    let records = records_of(&task);
    Ok(recovered(&task, records, notes))
}

/// Takes up what the drives hold; whether that is nothing.
async fn find<D: Drive, X: Executor>(
    task: &mut LogTask<D, X>,
    if_lost: IfLost,
    notes: &mut Vec<String>,
) -> Result<bool, LogError> {
    let looks = look_at_all(task, notes).await;
    task.highest_term = looks.iter().map(Look::highest_term).max().unwrap_or(0);
    task.highest_file = looks.iter().flat_map(|look| &look.files).map(|file| file.number).max().unwrap_or(0);
    match highest_term(&looks)? {
        Some(term) if if_lost == IfLost::Refuse => {
            let chain = read_term(task, &term, &looks, notes).await?;
            task.term = term;
            task.manifest = chain.manifest;
            task.keep_from_sequence = chain.keep_from_sequence;
            task.next_sequence = chain.next_sequence;
            let kept = |record: LogRecord| Kept { sequence: record.sequence, payload: vec![record.payload] };
            task.records = chain.records.into_iter().map(kept).collect();
            Ok(false)
        }
        Some(_) | None => {
            check_fresh(task, &looks).await?;
            Ok(true)
        }
    }
}

fn records_of<D: Drive, X: Executor>(task: &LogTask<D, X>) -> Vec<LogRecord> {
    let record = |kept: &Kept| LogRecord { sequence: kept.sequence, payload: kept.payload[0].clone() };
    task.records.iter().map(record).collect()
}

fn recovered<D: Drive, X: Executor>(
    task: &LogTask<D, X>,
    records: Vec<LogRecord>,
    notes: Vec<String>,
) -> Recovered {
    Recovered {
        manifest: task.manifest.clone(),
        records,
        next_sequence: task.next_sequence,
        term: task.term.number,
        writable: task.is_full(),
        notes,
    }
}

/// What one drive shows.
struct Look<D, X> {
    slot: Slot<D, X>,
    term: Option<Term>,
    /// The term file is of a later version.
    future_version: Option<u32>,
    files: Vec<FileId>,
}

impl<D, X> Look<D, X> {
    fn highest_term(&self) -> u64 {
        let by_file = self.files.iter().map(|file| file.term).max().unwrap_or(0);
        by_file.max(self.term.as_ref().map_or(0, |term| term.number))
    }
}

/// Looks at all drives; one that does not answer takes no part.
async fn look_at_all<D: Drive, X: Executor>(
    task: &LogTask<D, X>,
    notes: &mut Vec<String>,
) -> Vec<Look<D, X>> {
    let mut looks = Vec::new();
    let looked = join_all(task.slots.iter().map(|slot| look_at(slot, task))).await;
    for (slot, look) in task.slots.iter().zip(looked) {
        match look {
            Ok((look, note)) => {
                looks.push(look);
                notes.extend(note);
            }
            Err(error) => {
                slot.mark_failed();
                notes.push(format!("{}: takes no part in the metadata log: {error}", slot.drive.label()));
            }
        }
    }
    looks
}

async fn look_at<D: Drive, X: Executor>(
    slot: &Slot<D, X>,
    task: &LogTask<D, X>,
) -> Result<(Look<D, X>, Option<String>), SlotError> {
    let drive = slot.drive.clone();
    let bytes = slot.run(async move { drive.read_small(TERM_PATH, TERM_MAX_BYTES).await }).await;
    let mut future_version = None;
    let (term, note) = match bytes {
        Ok(bytes) => {
            let term = Term::decode(&bytes, task.pool);
            future_version = Term::future_version(&bytes);
            let damaged = || format!("{}: {TERM_PATH} is damaged or of another pool", slot.drive.label());
            let note = term.is_none().then(damaged);
            (term, note)
        }
        Err(error) if error.is_not_found() => (None, None),
        Err(error) => return Err(error),
    };
    let files = list_files(slot).await?;
    Ok((Look { slot: slot.clone(), term, future_version, files }, note))
}

/// The highest term on any drive; two member lists for one number cannot be told apart, and what a later version wrote
/// is never taken for damage: a log without its newest terms would be an old state.
fn highest_term<D: Drive, X>(looks: &[Look<D, X>]) -> Result<Option<Term>, LogError> {
    for look in looks {
        if let Some(version) = look.future_version {
            return Err(LogError::FutureVersion { label: look.slot.drive.label().to_owned(), version });
        }
    }
    let mut highest: Option<&Term> = None;
    for term in looks.iter().filter_map(|look| look.term.as_ref()) {
        match highest {
            Some(other) if other.number == term.number && other.members != term.members => {
                let what = format!("two drives name different members for term {}", term.number);
                return Err(LogError::Damaged { what });
            }
            Some(other) if other.number >= term.number => {}
            _ => highest = Some(term),
        }
    }
    Ok(highest.cloned())
}

async fn read_term<D: Drive, X: Executor>(
    task: &LogTask<D, X>,
    term: &Term,
    looks: &[Look<D, X>],
    notes: &mut Vec<String>,
) -> Result<Chain, LogError> {
    let present = looks.iter().filter(|look| term.members.contains(&look.slot.id));
    let members: Vec<(Slot<D, X>, Vec<FileId>)> =
        present.map(|look| (look.slot.clone(), look.files.clone())).collect();
    for (slot, files) in &members {
        if !files.iter().any(|file| file.term == term.number) {
            notes.push(format!("{}: has no log of term {}", slot.drive.label(), term.number));
        }
    }
    let mut files = TermFiles::open(task.pool, term.number, &members).await;
    let chain = files.chain().await;
    notes.append(&mut files.notes);
    chain?.ok_or_else(|| {
        let names: Vec<String> = term.members.iter().map(|DriveId(id)| format!("{id:032x}")).collect();
        let what =
            format!("no drive holds the log of term {}; its members are {}", term.number, names.join(", "));
        LogError::Damaged { what }
    })
}

/// Where a log begins, log files may only be what a first start left that never came to its term.
async fn check_fresh<D: Drive, X: Executor>(
    task: &LogTask<D, X>,
    looks: &[Look<D, X>],
) -> Result<(), LogError> {
    let mut terms: Vec<u64> = looks.iter().flat_map(|look| &look.files).map(|file| file.term).collect();
    terms.sort_unstable();
    terms.dedup();
    let members: Vec<(Slot<D, X>, Vec<FileId>)> =
        looks.iter().map(|look| (look.slot.clone(), look.files.clone())).collect();
    for term in terms {
        let chain = TermFiles::open(task.pool, term, &members).await.chain().await?;
        if chain.is_some_and(|chain| !chain.records.is_empty() || chain.manifest.is_some()) {
            let what = format!("there are records of term {term} where a new log was to begin");
            return Err(LogError::Damaged { what });
        }
    }
    Ok(())
}
