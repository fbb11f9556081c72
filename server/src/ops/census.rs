//! The census: for every object and older version, and every part of an upload under way, how many shards of its stripes are whole.
//! Invariants: every page of every volume is read from its drive once, in order, and then every name is compared with
//! what was found; nothing is changed; memory is what is not whole and a bounded list of names.
//! Not here: single objects in detail (`inspect`), mending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use fdb_schema::Engine;
use fdb_schema::schema::{Failure, ListQuery, Metadata, ObjectRecord, Place, UploadPath, VersionId};
use serde::Serialize;
use shardstore::{Media, SurveyPace, VolumeSurvey};
use shardstore_format::{DataId, Layout, VolumeClass, VolumeId};
use shardstore_reactor::{Drive, Executor};

/// Names that a report lists; more are counted.
const NAMES_MAX: usize = 1_000;
/// Rows read at a time.
const BATCH: usize = 1_000;
/// Extents resolved at a time.
const EXTENTS_AT_A_TIME: usize = 256;
/// Attempts at an object whose volumes are new or gone each time: it is counted as unseen then.
const TRIES_MAX: u32 = 4;

/// Counts by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CensusCounts {
    /// Every page of every stripe verifies on its drive.
    pub whole: u64,
    /// Some page does not, and parity makes up for it.
    pub degraded: u64,
    /// Some stripe has fewer than k whole pages.
    pub lost: u64,
    /// Changed while it was looked at, again and again.
    pub unseen: u64,
}

impl CensusCounts {
    fn add(&mut self, state: State) {
        match state {
            State::Whole => self.whole += 1,
            State::Degraded(_) => self.degraded += 1,
            State::Lost => self.lost += 1,
            State::Unseen => self.unseen += 1,
        }
    }

    fn is_whole(&self) -> bool {
        self.degraded == 0 && self.lost == 0
    }
}

/// Something that is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CensusFinding {
    /// Its bucket.
    pub bucket: String,
    /// Its key, as text; bytes that are no UTF-8 are replaced.
    pub key: String,
    /// The version, if it is not the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The part of an upload, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u16>,
    /// Pages of its worst stripe that are not whole.
    pub bad_pages: u8,
    /// A stripe of it has fewer than k whole pages.
    pub lost: bool,
}

/// What a census found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CensusReport {
    /// Volumes read.
    pub volumes: u64,
    /// Stripes in them.
    pub stripes: u64,
    /// Pages that verified.
    pub whole_pages: u64,
    /// Objects and older versions whose bytes lie in volumes.
    pub objects: CensusCounts,
    /// Objects whose bytes are metadata: whole as the runs and the log are.
    pub inline_objects: u64,
    /// Parts of uploads under way.
    pub parts: CensusCounts,
    /// Metadata runs.
    pub runs: CensusCounts,
    /// Names of what is not whole: the first 1,000.
    pub findings: Vec<CensusFinding>,
    /// Everything is whole.
    pub all_whole: bool,
}

/// How a census stands; shared between who runs it and who asks.
#[derive(Default)]
pub struct CensusProgress {
    running: AtomicBool,
    volumes: AtomicU64,
    volumes_done: AtomicU64,
    names_done: AtomicU64,
    last: ArcSwapOption<Result<CensusReport, String>>,
}

/// A moment of a census.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CensusStatus {
    /// It is under way.
    pub running: bool,
    /// Volumes to read.
    pub volumes: u64,
    /// Of these, read.
    pub volumes_done: u64,
    /// Objects and parts compared.
    pub names_done: u64,
    /// What the last one found.
    pub report: Option<CensusReport>,
    /// Why the last one ended early.
    pub error: Option<String>,
}

impl CensusProgress {
    /// Takes the right to run one; false if one is running.
    pub fn begin(&self) -> bool {
        if self.running.swap(true, Ordering::SeqCst) {
            return false;
        }
        for counter in [&self.volumes, &self.volumes_done, &self.names_done] {
            counter.store(0, Ordering::Relaxed);
        }
        self.last.store(None);
        true
    }

    /// Gives the right back.
    pub fn end(&self, result: Result<CensusReport, String>) {
        self.last.store(Some(Arc::new(result)));
        self.running.store(false, Ordering::SeqCst);
    }

    /// How it stands.
    pub fn status(&self) -> CensusStatus {
        let running = self.running.load(Ordering::SeqCst);
        let last = self.last.load_full();
        let (report, error) = match last.as_deref() {
            Some(Ok(report)) => (Some(report.clone()), None),
            Some(Err(error)) => (None, Some(error.clone())),
            None => (None, None),
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CensusStatus {
            running,
            volumes: read(&self.volumes),
            volumes_done: read(&self.volumes_done),
            names_done: read(&self.names_done),
            report,
            error,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Whole,
    Degraded(u8),
    Unseen,
    Lost,
}

/// Runs a census to its end.
///
/// # Errors
/// A sentence: metadata cannot be read.
pub async fn take_census<D: Drive, E: Engine, X: Executor>(
    metadata: &Metadata<E, X>,
    media: &Media<D, X>,
    progress: &CensusProgress,
) -> Result<CensusReport, String> {
    let mut census = Census {
        metadata,
        media,
        progress,
        pace: media.survey_pace(),
        surveys: BTreeMap::new(),
        report: CensusReport::default(),
    };
    census.read_volumes().await;
    census.read_names().await.map_err(|failure| failure.to_string())?;
    let report = &mut census.report;
    report.all_whole = report.objects.is_whole() && report.parts.is_whole() && report.runs.is_whole();
    Ok(census.report)
}

struct Census<'a, D: Drive, E: Engine, X: Executor> {
    metadata: &'a Metadata<E, X>,
    media: &'a Media<D, X>,
    progress: &'a CensusProgress,
    pace: SurveyPace,
    surveys: BTreeMap<VolumeId, VolumeSurvey>,
    report: CensusReport,
}

impl<D: Drive, E: Engine, X: Executor> Census<'_, D, E, X> {
    async fn read_volumes(&mut self) {
        let volumes = self.media.known_volumes();
        self.progress.volumes.store(volumes.len() as u64, Ordering::Relaxed);
        for (id, class, _) in volumes {
            if let Some(state) = self.survey(id).await
                && class == VolumeClass::Run
            {
                self.report.runs.add(state);
            }
            self.progress.volumes_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads a volume; the worst of its stripes, or `None` if it is gone.
    async fn survey(&mut self, id: VolumeId) -> Option<State> {
        let survey = self.media.survey_volume(id, &self.pace).await?;
        self.report.volumes += 1;
        self.report.stripes += survey.stripes;
        self.report.whole_pages += survey.whole_pages;
        let worst = survey.bad.iter().map(|bad| state_of(bad.bad_pages, bad.is_lost)).max();
        self.surveys.insert(id, survey);
        Some(worst.unwrap_or(State::Whole))
    }

    async fn read_names(&mut self) -> Result<(), Failure> {
        let mut after = String::new();
        loop {
            let buckets = self.metadata.list_buckets(None, "", &after, BATCH).await?;
            let Some(last) = buckets.last() else { return Ok(()) };
            after.clone_from(&last.name);
            for bucket in &buckets {
                self.read_objects(&bucket.name).await?;
                self.read_versions(&bucket.name).await?;
                self.read_uploads(&bucket.name).await?;
            }
        }
    }

    async fn read_objects(&mut self, bucket: &str) -> Result<(), Failure> {
        let mut after = bytes::Bytes::new();
        loop {
            let found = match self.metadata.scan_objects(bucket, &after, BATCH).await {
                Ok(found) => found,
                // Deleted meanwhile.
                Err(Failure::Refused(_)) => return Ok(()),
                Err(failure) => return Err(failure),
            };
            let Some((last, _)) = found.last() else { return Ok(()) };
            after = last.clone();
            for (key, record) in found {
                self.read_object(bucket, &key, &record, false).await?;
            }
        }
    }

    /// The versions that others hide.
    async fn read_versions(&mut self, bucket: &str) -> Result<(), Failure> {
        let mut after: Option<(bytes::Bytes, u64)> = None;
        loop {
            let from = after.as_ref().map(|(key, count)| (&key[..], *count));
            let found = match self.metadata.scan_versions(bucket, from, BATCH).await {
                Ok(found) => found,
                // Deleted meanwhile.
                Err(Failure::Refused(_)) => return Ok(()),
                Err(failure) => return Err(failure),
            };
            let Some((last, _)) = found.last() else { return Ok(()) };
            after = Some(last.clone());
            for ((key, _), version) in &found {
                if let Some(record) = version.object() {
                    self.read_object(bucket, key, record, true).await?;
                }
            }
        }
    }

    async fn read_object(
        &mut self,
        bucket: &str,
        key: &[u8],
        record: &ObjectRecord,
        is_hidden: bool,
    ) -> Result<(), Failure> {
        self.progress.names_done.fetch_add(1, Ordering::Relaxed);
        if record.place == Place::Inline {
            self.report.inline_objects += 1;
            return Ok(());
        }
        let state = self.state_of_data(record.data, record.stored_bytes()).await?;
        self.report.objects.add(state);
        let version = is_hidden.then(|| record.listed.version.id());
        self.note((bucket, key), version, None, state);
        Ok(())
    }

    async fn read_uploads(&mut self, bucket: &str) -> Result<(), Failure> {
        let (mut after, mut after_upload) = (bytes::Bytes::new(), None);
        loop {
            let query = ListQuery { prefix: &[], delimiter: None, limit: BATCH };
            let page = match self.metadata.list_uploads(bucket, query, &after, after_upload).await {
                Ok(page) => page,
                Err(Failure::Refused(_)) => return Ok(()),
                Err(failure) => return Err(failure),
            };
            let Some((key, (upload, _))) = page.items.last() else { return Ok(()) };
            (after, after_upload) = (key.clone(), Some(*upload));
            for (key, (upload, _)) in &page.items {
                let path = UploadPath { bucket, key, upload: *upload };
                self.read_parts(path).await?;
            }
        }
    }

    async fn read_parts(&mut self, path: UploadPath<'_>) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let parts = match self.metadata.list_parts(path, after, BATCH).await {
                Ok((_, parts)) => parts,
                Err(Failure::Refused(_)) => return Ok(()),
                Err(failure) => return Err(failure),
            };
            let Some((last, _)) = parts.last() else { return Ok(()) };
            after = *last;
            for (number, part) in parts {
                self.progress.names_done.fetch_add(1, Ordering::Relaxed);
                let state = self.state_of_data(part.data, part.size_bytes).await?;
                self.report.parts.add(state);
                self.note((path.bucket, path.key), None, Some(number), state);
            }
        }
    }

    fn note(&mut self, name: (&str, &[u8]), version: Option<VersionId>, part: Option<u16>, state: State) {
        let (bucket, key) = name;
        let (bad_pages, lost) = match state {
            State::Whole | State::Unseen => return,
            State::Degraded(bad_pages) => (bad_pages, false),
            State::Lost => (u8::MAX, true),
        };
        if self.report.findings.len() < NAMES_MAX {
            let key = String::from_utf8_lossy(key).into_owned();
            self.report.findings.push(CensusFinding {
                bucket: bucket.to_owned(),
                key,
                version: version.map(|version| version.to_string()),
                part,
                bad_pages,
                lost,
            });
        }
    }

    /// The worst stripe of a byte sequence.
    async fn state_of_data(&mut self, data: DataId, len_bytes: u64) -> Result<State, Failure> {
        let (mut at_bytes, mut worst, mut tries) = (0, State::Whole, 0);
        while at_bytes < len_bytes {
            let resolved = match self.metadata.resolve(data, at_bytes..len_bytes, EXTENTS_AT_A_TIME).await {
                Ok(resolved) => resolved,
                // Overwritten or deleted since its name was read.
                Err(Failure::Refused(_)) => return Ok(State::Unseen),
                Err(failure) => return Err(failure),
            };
            let mut is_known = true;
            for item in &resolved.extents {
                match self.state_of_extent(&item.extent).await {
                    Some(state) => worst = worst.max(state),
                    None => is_known = false,
                }
            }
            if is_known {
                at_bytes = resolved.end_bytes();
                continue;
            }
            // A volume went, so the bytes moved: ask again where to.
            tries += 1;
            if tries >= TRIES_MAX {
                return Ok(State::Unseen);
            }
        }
        Ok(worst)
    }

    async fn state_of_extent(&mut self, extent: &shardstore_format::Extent) -> Option<State> {
        let k = self.media.data_shards(extent.volume)?;
        let end_sector = Layout::of_extent(extent, k).end_sector()?;
        // New, or appended to since it was read.
        if self.surveys.get(&extent.volume).is_none_or(|survey| survey.end_sector < end_sector) {
            self.survey(extent.volume).await?;
        }
        let (bad_pages, is_lost) = self.surveys.get(&extent.volume)?.of_extent(extent, k);
        Some(state_of(bad_pages, is_lost))
    }
}

fn state_of(bad_pages: u8, is_lost: bool) -> State {
    match (bad_pages, is_lost) {
        (_, true) => State::Lost,
        (0, false) => State::Whole,
        (bad_pages, false) => State::Degraded(bad_pages),
    }
}
