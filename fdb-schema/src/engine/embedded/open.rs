//! Start: recovers the log, opens the runs that its manifest names, replays the rest into a memtable.
//! Invariants: nothing is served before the recovered tail is durable under a new term (the log sees to that); records
//! that runs cover are not replayed twice.

use std::sync::Arc;

use futures_channel::mpsc;
use shardstore_format::{DriveId, PoolId};
use shardstore_reactor::{BufPool, Drive, Executor, SECTOR_BYTES};

use super::commit::replay;
use super::config::EmbeddedConfig;
use super::core::{CoreStart, EmbeddedCore};
use super::handle::EmbeddedFactory;
use super::log::{Log, LogError, Recovered};
use super::memtable::Memtable;
use super::record::MalformedPart;
use super::request::Message;
use super::tree::{Levels, Manifest, ManifestError, TreeError};
use super::view::{Shared, View};
use crate::run_store::{RunStore, RunVolume};

/// What start-up found, for the operator and for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// The new term.
    pub term: u64,
    /// False: too few healthy drives; metadata is served and not changed.
    pub writable: bool,
    /// Log records replayed.
    pub replayed_records: u64,
    /// Their payload bytes.
    pub replayed_bytes: u64,
    /// The last commit.
    pub last_version: u64,
    /// The volumes of all runs: they are in no volume record of the catalog.
    pub run_volumes: Vec<RunVolume>,
    /// Sentences for the operator: damaged records that were mended, members that were missing.
    pub notes: Vec<String>,
}

/// Why metadata could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The log: its variant says what to do.
    Log(LogError),
    /// The manifest that the log holds is not readable.
    Manifest(ManifestError),
    /// A log record passed its checksum and is not a commit: a bug, or another version's log.
    Record {
        /// Its sequence number.
        sequence: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A run cannot be opened.
    Tree(TreeError),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Log(source) => write!(f, "{source}"),
            OpenError::Manifest(source) => write!(f, "{source}"),
            OpenError::Record { sequence, what } => {
                write!(f, "record {sequence} of the metadata log cannot be read: {what}")
            }
            OpenError::Tree(source) => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Log(source) => Some(source),
            OpenError::Manifest(source) => Some(source),
            OpenError::Record { .. } => None,
            OpenError::Tree(source) => Some(source),
        }
    }
}

/// What [`open`] gives: the factory of handles, the core to run on the metadata thread, and the report.
pub type Opened<D, R, X> = (EmbeddedFactory, EmbeddedCore<D, R, X>, OpenReport);

/// Opens the engine over the log on `drives`, all healthy members of `pool`, and the runs in `run_store`.
/// `drives` are all that answer, and the caller has made sure that at most m are missing; `buf_pool` gives the buffers
/// of log writes. Cost: the log is read once (at most 64 MiB of records), and 2 % of each run (its index and filter).
///
/// # Errors
/// [`OpenError`]: nothing was changed but what the log's recovery wrote.
pub async fn open<D: Drive, R: RunStore, X: Executor>(
    config: EmbeddedConfig,
    drives: Vec<(DriveId, D)>,
    pool: PoolId,
    run_store: R,
    executor: X,
    buf_pool: BufPool,
) -> Result<Opened<D, R, X>, OpenError> {
    let opened =
        Log::open_or(config.if_lost, drives, pool, config.log_members, executor.clone(), buf_pool).await;
    let (log, recovered) = opened.map_err(OpenError::Log)?;
    let next_sequence = recovered.next_sequence;
    let loaded = load(&run_store, recovered).await?;
    let core = EmbeddedCore::new(CoreStart {
        config,
        log,
        messages: loaded.messages,
        shared: Arc::clone(&loaded.shared),
        run_store,
        executor,
        replayed_bytes: loaded.report.replayed_bytes + loaded.report.replayed_records * SECTOR_BYTES as u64,
        next_sequence,
        keep_from_sequence: loaded.keep_from_sequence,
    });
    Ok((EmbeddedFactory::new(loaded.shared), core, loaded.report))
}

/// Opens the engine for reading only, without its metadata thread, and changes nothing on any drive. For tools that
/// look at what a stopped server left; what they see must not be served.
///
/// # Errors
/// [`OpenError`].
pub async fn look<D: Drive, R: RunStore, X: Executor>(
    drives: Vec<(DriveId, D)>,
    pool: PoolId,
    run_store: R,
    executor: X,
    buf_pool: BufPool,
) -> Result<(EmbeddedFactory, OpenReport), OpenError> {
    let recovered = Log::look(drives, pool, executor, buf_pool).await.map_err(OpenError::Log)?;
    assert!(!recovered.writable, "a log that was only looked at has no members");
    let loaded = load(&run_store, recovered).await?;
    Ok((EmbeddedFactory::new(loaded.shared), loaded.report))
}

/// What the log and the runs hold, in memory.
struct Loaded {
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<Message>,
    keep_from_sequence: u64,
    report: OpenReport,
}

async fn load<R: RunStore>(run_store: &R, recovered: Recovered) -> Result<Loaded, OpenError> {
    let Recovered { manifest, records, term, writable, notes, .. } = recovered;
    let manifest = match manifest {
        Some(manifest) => Manifest::decode(&manifest).map_err(OpenError::Manifest)?,
        None => Manifest::default(),
    };
    let levels = Levels::open(run_store, &manifest).await.map_err(OpenError::Tree)?;

    let active = Memtable::default();
    let mut last_version = manifest.flushed_version;
    let (mut replayed_records, mut replayed_bytes) = (0, 0);
    for record in &records {
        if record.sequence < manifest.keep_from_sequence {
            continue;
        }
        let replayed = replay(&record.payload, &active, manifest.flushed_version);
        let version =
            replayed.map_err(|MalformedPart(what)| OpenError::Record { sequence: record.sequence, what })?;
        last_version = last_version.max(version.unwrap_or(0));
        replayed_records += 1;
        replayed_bytes += record.payload.len() as u64;
    }
    let run_volumes = levels.runs().map(|run| run.volume().clone()).collect();
    let view =
        View { active: Arc::new(active), frozen: None, levels, flushed_version: manifest.flushed_version };
    let (sender, messages) = mpsc::unbounded();
    let shared = Arc::new(Shared::new(view, last_version, sender));
    shared.set_read_only(!writable);
    let report =
        OpenReport { term, writable, replayed_records, replayed_bytes, last_version, run_volumes, notes };
    Ok(Loaded { shared, messages, keep_from_sequence: manifest.keep_from_sequence, report })
}
