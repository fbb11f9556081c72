//! Looks at what is stored, for an operator: the census, fsck, dumps of metadata, and one object in detail.
//! Invariants: changes nothing; runs on the thread of the drives, so that it delays no request; one census and one fsck
//! at a time.
//! Not here: the wire form (`api`), the work itself (`ops::census`, `ops::fsck`).

use std::sync::Arc;

use fdb_schema::schema::{EncryptedBy, Failure, FoundObject, Metadata, Place, Refusal, VersionId};
use fdb_schema::{Engine, RunVolume};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use serde::Serialize;
use shardstore::{Media, PageState};
use shardstore_format::{Extent, Layout};
use shardstore_reactor::{Drive, Executor};

use crate::ops::{
    CensusProgress, ExportError, ExportPart, Exports, FsckReport, FsckScope, JobProgress, run_fsck,
    take_census,
};

/// Extents that an inspection shows; an object has more only if it is larger than a TiB or was uploaded in many parts.
const EXTENTS_MAX: usize = 1_000;
/// Extents resolved at a time.
const EXTENTS_AT_A_TIME: usize = 256;

/// What is asked, and who waits.
pub(super) enum Question {
    /// Begin a census; its result is in the progress.
    Census,
    /// Begin an fsck; its result is in its progress.
    Fsck,
    /// Begin a dump; its name.
    ExportStart { answer: oneshot::Sender<Result<String, ExportError>> },
    /// A part of a dump.
    ExportPart { id: String, number: u64, answer: oneshot::Sender<Result<ExportPart, ExportError>> },
    /// One object.
    Object {
        bucket: String,
        key: Vec<u8>,
        version: Option<VersionId>,
        answer: oneshot::Sender<Result<Inspection, InspectError>>,
    },
}

/// Why an object is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectError {
    /// There is none.
    NotFound(String),
    /// Metadata cannot be read: a sentence.
    Failed(String),
}

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its bucket.
    pub bucket: String,
    /// Its key, as text.
    pub key: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// ETag without quotes.
    pub etag: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Its version, in a bucket that has versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who holds the key under which it is encrypted: `pool` or `customer`. Its extents are then of the sealed bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_under: Option<&'static str>,
    /// The identity of its bytes: writer, counter.
    pub data_id: String,
    /// Its bytes are a metadata row.
    pub inline: bool,
    /// Where its bytes lie: the first 1,000 runs of bytes.
    pub extents: Vec<InspectedExtent>,
}

/// A run of bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectedExtent {
    /// The volume, in hex.
    pub volume: String,
    /// First sector in every segment.
    pub sector: u32,
    /// First byte in its first stripe.
    pub byte_in_stripe: u32,
    /// Length in bytes.
    pub len_bytes: u64,
    /// The shards of its first stripe; empty if no page of that verifies.
    pub shards: Vec<InspectedShard>,
}

/// A shard of a stripe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectedShard {
    /// Which: data first.
    pub shard: u8,
    /// Its drive.
    pub drive: String,
    /// `whole`, `absent` (a short stripe has no such page), `bad` or `unread`.
    pub page: &'static str,
}

/// The way to the inspector.
#[derive(Clone)]
pub struct InspectorHandle {
    questions: mpsc::UnboundedSender<Question>,
    progress: Arc<CensusProgress>,
    fsck: Arc<JobProgress<FsckReport>>,
}

impl InspectorHandle {
    /// How the census stands.
    pub fn progress(&self) -> &CensusProgress {
        &self.progress
    }

    /// Begins a census; false if one is running, or the server is stopping.
    pub fn start_census(&self) -> bool {
        self.progress.begin() && self.questions.unbounded_send(Question::Census).is_ok()
    }

    /// How fsck stands.
    pub fn fsck(&self) -> &JobProgress<FsckReport> {
        &self.fsck
    }

    /// Begins an fsck; false if one is running, or the server is stopping.
    pub fn start_fsck(&self) -> bool {
        self.fsck.begin() && self.questions.unbounded_send(Question::Fsck).is_ok()
    }

    /// Begins a dump of metadata; its name.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn start_export(&self) -> Result<String, ExportError> {
        let (answer, answered) = oneshot::channel();
        self.questions.unbounded_send(Question::ExportStart { answer }).map_err(|_| stopping())?;
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// A part of a dump.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn export_part(&self, id: String, number: u64) -> Result<ExportPart, ExportError> {
        let (answer, answered) = oneshot::channel();
        let question = Question::ExportPart { id, number, answer };
        self.questions.unbounded_send(question).map_err(|_| stopping())?;
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Looks at one object.
    ///
    /// # Errors
    /// [`InspectError`].
    pub async fn object(
        &self,
        bucket: String,
        key: Vec<u8>,
        version: Option<VersionId>,
    ) -> Result<Inspection, InspectError> {
        let (answer, answered) = oneshot::channel();
        let gone = || InspectError::Failed("the server is stopping".to_owned());
        self.questions
            .unbounded_send(Question::Object { bucket, key, version, answer })
            .map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn stopping() -> ExportError {
    ExportError::Failed("the server is stopping".to_owned())
}

/// An inspector over this thread's metadata and drives, and the runs that the manifest names: the way to ask it, and the
/// task that answers.
pub fn inspector<D: Drive, E: Engine, X: Executor>(
    metadata: Metadata<E, X>,
    media: Media<D, X>,
    runs: impl Fn() -> Vec<RunVolume> + Clone + 'static,
    exports: Exports<E, X>,
    executor: X,
) -> (InspectorHandle, impl Future<Output = ()> + 'static) {
    let (questions, mut asked) = mpsc::unbounded();
    let progress = Arc::new(CensusProgress::default());
    let fsck = Arc::new(JobProgress::default());
    let handle = InspectorHandle { questions, progress: Arc::clone(&progress), fsck: Arc::clone(&fsck) };
    let answering = async move {
        while let Some(question) = asked.next().await {
            match question {
                Question::Census => {
                    let (metadata, media) = (metadata.clone(), media.clone());
                    let progress = Arc::clone(&progress);
                    // Beside the questions about single objects.
                    executor.spawn(async move {
                        progress.end(take_census(&metadata, &media, &progress).await);
                    });
                }
                Question::Fsck => {
                    let (metadata, media, runs) = (metadata.clone(), media.clone(), runs.clone());
                    let (fsck, clock) = (Arc::clone(&fsck), executor.clone());
                    executor.spawn(async move {
                        let scope = FsckScope {
                            metadata: &metadata,
                            media: &media,
                            runs: &runs,
                            executor: &clock,
                            is_live: true,
                        };
                        fsck.end(run_fsck(scope, &fsck).await);
                    });
                }
                Question::ExportStart { answer } => {
                    // Whoever asked may have gone.
                    drop(answer.send(exports.start().await));
                }
                Question::ExportPart { id, number, answer } => {
                    drop(answer.send(exports.part(&id, number).await));
                }
                Question::Object { bucket, key, version, answer } => {
                    // Whoever asked may have gone.
                    drop(answer.send(inspect(&metadata, &media, bucket, key, version).await));
                }
            }
        }
    };
    (handle, answering)
}

async fn inspect<D: Drive, E: Engine, X: Executor>(
    metadata: &Metadata<E, X>,
    media: &Media<D, X>,
    bucket: String,
    key: Vec<u8>,
    version: Option<VersionId>,
) -> Result<Inspection, InspectError> {
    let shown = String::from_utf8_lossy(&key).into_owned();
    let not_found = |failure: Failure| match failure {
        Failure::Refused(Refusal::DeleteMarker { version, .. }) => {
            InspectError::NotFound(format!("version {version} of {bucket}/{shown} is a delete marker"))
        }
        Failure::Refused(_) => InspectError::NotFound(format!("there is no object {bucket}/{shown}")),
        Failure::Engine(error) => InspectError::Failed(error.to_string()),
    };
    let found = metadata.object(&bucket, &key, version).await.map_err(not_found)?;
    let FoundObject { record, version: shown_version } = found;
    let (data, len_bytes) = (record.data, record.stored_bytes());
    let inline = record.place == Place::Inline;
    let mut extents = Vec::new();
    let mut at_bytes = 0;
    while !inline && at_bytes < len_bytes && extents.len() < EXTENTS_MAX {
        let resolved = metadata.resolve(data, at_bytes..len_bytes, EXTENTS_AT_A_TIME).await;
        let resolved = resolved.map_err(not_found)?;
        at_bytes = resolved.end_bytes();
        for item in resolved.extents.iter().take(EXTENTS_MAX - extents.len()) {
            extents.push(inspect_extent(media, &item.extent).await);
        }
    }
    let etag = &record.listed.etag;
    let suffix = etag.part_count.map(|count| format!("-{count}")).unwrap_or_default();
    Ok(Inspection {
        key: shown.clone(),
        size_bytes: record.listed.size_bytes,
        etag: format!("{}{suffix}", hex::encode(etag.md5)),
        modified_ms: record.listed.modified_ms,
        version: shown_version.map(|version| version.to_string()),
        encrypted_under: record.encryption().map(|encryption| match encryption.by() {
            EncryptedBy::Managed => "pool",
            EncryptedBy::Customer => "customer",
        }),
        data_id: format!("{:08x}-{:016x}", data.writer.0, data.counter),
        inline,
        extents,
        bucket,
    })
}

async fn inspect_extent<D: Drive, X: Executor>(media: &Media<D, X>, extent: &Extent) -> InspectedExtent {
    let k = media.data_shards(extent.volume).unwrap_or(1);
    let sector = Layout::of_extent(extent, k).span_at(0, 1).map_or(extent.sector, |span| span.sector);
    let states = media.stripe_states(extent.volume, sector).await.unwrap_or_default();
    let shards = states.into_iter().map(|state| InspectedShard {
        shard: state.shard,
        drive: state.label,
        page: match state.page {
            PageState::Whole => "whole",
            PageState::Absent => "absent",
            PageState::Bad => "bad",
            PageState::Unread => "unread",
        },
    });
    InspectedExtent {
        volume: format!("{:016x}", extent.volume.0),
        sector: extent.sector,
        byte_in_stripe: extent.byte_in_stripe,
        len_bytes: extent.len_bytes,
        shards: shards.collect(),
    }
}
