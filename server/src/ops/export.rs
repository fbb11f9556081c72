//! A dump of metadata, handed out part by part at one snapshot.
//! Invariants: one is under way at a time; a part can be asked for again until the next one is; one that nobody asks for
//! is given up after a minute, since it keeps the memtables and runs of its moment.
//! Not here: the bytes (`dump`), the wire (`admin`).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::{Audit, Failure, Metadata};
use shardstore_format::{PoolId, Profile};
use shardstore_reactor::Executor;

use super::dump::{DumpHead, DumpWriter, GROUP_BYTES};

/// Rows read at a time: with the largest values 12.8 MB.
const BATCH: usize = 128;
/// A client that asks for nothing for so long is gone.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// Some bytes of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPart {
    /// What comes next in the file.
    pub bytes: Bytes,
    /// It is the last.
    pub is_last: bool,
}

/// Why there is no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportError {
    /// Another one is under way.
    Busy,
    /// No such export, or no such part of it: begin again.
    Gone,
    /// Metadata cannot be read: a sentence.
    Failed(String),
}

/// The exports of one thread.
pub struct Exports<E: Engine, X: Executor> {
    metadata: Metadata<E, X>,
    executor: X,
    pool: PoolId,
    profile: Profile,
    current: Rc<RefCell<Option<SharedExport<E>>>>,
}

/// The export under way, or the one that ended last.
type SharedExport<E> = Rc<RefCell<Export<E>>>;

struct Export<E: Engine> {
    id: String,
    /// `None` once it is not needed any more.
    audit: Option<Rc<Audit<E>>>,
    writer: DumpWriter,
    /// The first row key of the next part; `None` after the last row.
    begin: Option<Bytes>,
    /// The number of the newest part, and it.
    newest: Option<(u64, ExportPart)>,
    /// Goes up with every question.
    touched: u64,
    is_busy: bool,
}

impl<E: Engine, X: Executor> Exports<E, X> {
    /// Exports of this metadata.
    pub fn new(metadata: Metadata<E, X>, executor: X, pool: PoolId, profile: Profile) -> Exports<E, X> {
        Exports { metadata, executor, pool, profile, current: Rc::default() }
    }

    /// Begins one; its name.
    ///
    /// # Errors
    /// [`ExportError::Busy`], [`ExportError::Failed`].
    pub async fn start(&self) -> Result<String, ExportError> {
        let is_under_way =
            self.current.borrow().as_ref().is_some_and(|export| export.borrow().audit.is_some());
        if is_under_way {
            return Err(ExportError::Busy);
        }
        let audit = self.metadata.audit();
        let random = [self.executor.random_u64().to_le_bytes(), self.executor.random_u64().to_le_bytes()];
        let mut dump = [0; 16];
        dump.copy_from_slice(random.as_flattened());
        let head = DumpHead {
            pool: self.pool,
            profile: self.profile,
            dump,
            made_unix_ms: self.executor.unix_ms(),
            next_volume: audit.next_volume_id().await.map_err(failed)?,
        };
        let id = hex::encode(dump);
        let export = Export {
            id: id.clone(),
            audit: Some(Rc::new(audit)),
            writer: DumpWriter::new(head),
            begin: Some(Bytes::new()),
            newest: None,
            touched: 0,
            is_busy: false,
        };
        let export = Rc::new(RefCell::new(export));
        *self.current.borrow_mut() = Some(Rc::clone(&export));
        self.give_up_later(&export);
        Ok(id)
    }

    /// A part by its number, from 0: the next one, or the newest once more.
    ///
    /// # Errors
    /// [`ExportError::Gone`], [`ExportError::Failed`].
    pub async fn part(&self, id: &str, number: u64) -> Result<ExportPart, ExportError> {
        let current = self.current.borrow().clone();
        let export = current.filter(|export| export.borrow().id == id).ok_or(ExportError::Gone)?;
        if let Some(newest) = Self::newest(&export, number)? {
            self.give_up_later(&export);
            return Ok(newest);
        }
        export.borrow_mut().is_busy = true;
        let made = self.make_part(&export).await;
        export.borrow_mut().is_busy = false;
        let part = made.map_err(failed)?;
        export.borrow_mut().newest = Some((number, part.clone()));
        self.give_up_later(&export);
        Ok(part)
    }

    /// The newest part if that is asked for; `None` if it is the next.
    fn newest(export: &SharedExport<E>, number: u64) -> Result<Option<ExportPart>, ExportError> {
        let export = export.borrow();
        match &export.newest {
            _ if export.is_busy => Err(ExportError::Gone),
            Some((newest, part)) if *newest == number => Ok(Some(part.clone())),
            Some((newest, part)) if *newest + 1 == number && !part.is_last => Ok(None),
            None if number == 0 => Ok(None),
            _ => Err(ExportError::Gone),
        }
    }

    async fn make_part(&self, export: &SharedExport<E>) -> Result<ExportPart, Failure> {
        let (audit, mut begin, mut bytes) = {
            let export = export.borrow();
            let head = if export.newest.is_none() { export.writer.head() } else { Vec::new() };
            (export.audit.clone(), export.begin.clone(), head)
        };
        let (mut rows, mut rows_bytes) = (Vec::new(), 0);
        while let Some((audit, from)) = audit.as_ref().zip(begin.take()) {
            let (found, next) = audit.all_rows(&from, BATCH).await?;
            rows_bytes += found.iter().map(|row| row.key.len() + row.value.len()).sum::<usize>();
            rows.extend(found);
            begin = next;
            if rows_bytes >= GROUP_BYTES {
                break;
            }
        }
        let mut export = export.borrow_mut();
        let is_last = begin.is_none();
        export.begin = begin;
        if !rows.is_empty() {
            bytes.extend(export.writer.group(&rows));
        }
        if is_last {
            bytes.extend(export.writer.end());
            export.audit = None;
        }
        Ok(ExportPart { bytes: Bytes::from(bytes), is_last })
    }

    fn give_up_later(&self, export: &SharedExport<E>) {
        let touched = {
            let mut export = export.borrow_mut();
            export.touched += 1;
            export.touched
        };
        let (current, executor) = (Rc::clone(&self.current), self.executor.clone());
        let export = Rc::downgrade(export);
        self.executor.spawn(async move {
            executor.sleep(GIVEN_UP_AFTER).await;
            let Some(export) = export.upgrade() else { return };
            let is_idle = export.borrow().touched == touched && !export.borrow().is_busy;
            let is_current = current.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, &export));
            if is_idle && is_current {
                tracing::info!("an export of metadata was given up: nobody asked for its next part");
                current.borrow_mut().take();
            }
        });
    }
}

fn failed(failure: Failure) -> ExportError {
    ExportError::Failed(failure.to_string())
}
