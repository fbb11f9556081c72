//! The background pass that acts on lifecycle rules: it deletes objects and aborts uploads whose time has come.
//! Invariants: a current version is deleted as a client would without naming it, so a bucket with versioning keeps it; older
//! versions and lone delete markers are removed by their ids, unless they are locked; one pass at a time, on one core; a page at a time with a pause after it, so its load is bounded whatever a
//! bucket holds; an object goes only if it is still the one that was looked at; after a stop it goes on where it was.
//! Not here: what rules say (`config::lifecycle`), which version is an older one (`lifecycle_versions`).

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::Metadata;
use metrics::{Counter, Gauge, counter, gauge};
use shardstore_reactor::Executor;

use super::access_log::{AccessLog, Record};
use super::bucket_settings::{BucketSettings, SettingsCache};
use super::config::lifecycle::{DayLength, Lifecycle, Subject};
use super::error::{Code, S3Error};
use super::lifecycle_versions::{Older, VersionWalk};
use super::tagging::TagSet;
use crate::ops::api::{
    BucketName, DeleteCondition, DeleteEntry, ListBuckets, ListObjects, ListUploads, ListVersions,
    ListedObject, ObjectKey, OpError, Operations, PAGE_MAX, UploadId, VersionEntry, VersionId, Versioning,
};

/// The row that says how far the pass came.
const MARK_NAME: &str = "lifecycle";
const MARK_VERSION: u8 = 1;
/// Buckets looked up at a time.
const BUCKETS_PAGE: usize = 100;
/// After a page: at most 10,000 rows are read in a second.
const PAGE_PAUSE: Duration = Duration::from_millis(100);
/// After each deletion: at most 1,000 in a second.
const DELETE_PAUSE: Duration = Duration::from_millis(1);
/// Before a failed pass goes on.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// What access logs say: something is gone for good, hidden by a delete marker, or an upload was aborted.
const REMOVED: &str = "S3.EXPIRE.OBJECT";
const MARKED: &str = "S3.CREATE.DELETEMARKER";
const ABORTED: &str = "S3.DELETE.UPLOAD";
/// A pass begins so often in a day of lifecycle.
const PASSES_PER_DAY: u64 = 24;

/// Where the pass keeps how far it came.
pub trait PassMarks {
    /// What was kept last.
    fn load(&self) -> impl Future<Output = Result<Option<Bytes>, S3Error>>;
    /// Keeps it.
    fn keep(&self, mark: &[u8]) -> impl Future<Output = Result<(), S3Error>>;
}

impl<E: Engine, X: Executor> PassMarks for Metadata<E, X> {
    async fn load(&self) -> Result<Option<Bytes>, S3Error> {
        self.upkeep_mark(MARK_NAME).await.map_err(unreadable)
    }

    async fn keep(&self, mark: &[u8]) -> Result<(), S3Error> {
        self.set_upkeep_mark(MARK_NAME, mark).await.map_err(unreadable)
    }
}

fn unreadable(failure: fdb_schema::schema::Failure) -> S3Error {
    S3Error { detail: Some(failure.to_string()), ..S3Error::from(Code::InternalError) }
}

/// What of a bucket is walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Walked {
    /// Its current objects.
    #[default]
    Objects,
    /// Then its versions.
    Versions,
}

/// How far a pass came: everything before this place is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The bucket that is being walked; empty: none yet.
    bucket: String,
    /// What of it.
    walked: Walked,
    /// The last key that was done in it.
    after: Bytes,
}

impl Place {
    fn encode(&self) -> Vec<u8> {
        let len = u8::try_from(self.bucket.len()).expect("a bucket's name has at most 63 bytes");
        let walked = u8::from(self.walked == Walked::Versions);
        [&[MARK_VERSION, walked, len][..], self.bucket.as_bytes(), &self.after].concat()
    }

    /// A mark that does not read begins a new pass: nothing is lost by looking again.
    pub fn decode(mark: &Bytes) -> Place {
        let [MARK_VERSION, walked, len, ..] = mark[..] else { return Place::default() };
        let walked = match walked {
            0 => Walked::Objects,
            1 => Walked::Versions,
            _ => return Place::default(),
        };
        let end = 3 + usize::from(len);
        let Some(bucket) = mark.get(3..end).and_then(|name| std::str::from_utf8(name).ok()) else {
            return Place::default();
        };
        Place { bucket: bucket.to_owned(), walked, after: mark.slice(end..) }
    }
}

/// The pass of one server.
pub struct LifecyclePass<O, M, X> {
    ops: O,
    marks: M,
    executor: X,
    day: DayLength,
    settings: SettingsCache,
    access_log: AccessLog,
    figures: Figures,
}

/// What the metrics tell.
struct Figures {
    looked_at: Counter,
    expired: Counter,
    removed: Counter,
    aborted: Counter,
    is_running: Gauge,
    ended_s: Gauge,
}

impl<O: Operations, M: PassMarks, X: Executor> LifecyclePass<O, M, X> {
    /// A pass over the buckets of `ops`, whose deletions go into `access_log`. Metrics register here: install the
    /// recorder first.
    pub fn new(
        ops: O,
        marks: M,
        executor: X,
        day: DayLength,
        access_log: AccessLog,
    ) -> LifecyclePass<O, M, X> {
        let figures = Figures {
            looked_at: counter!("basalt_lifecycle_objects_looked_at_total"),
            expired: counter!("basalt_lifecycle_expired_objects_total"),
            removed: counter!("basalt_lifecycle_removed_versions_total"),
            aborted: counter!("basalt_lifecycle_aborted_uploads_total"),
            is_running: gauge!("basalt_lifecycle_pass_running"),
            ended_s: gauge!("basalt_lifecycle_last_pass_end_seconds"),
        };
        let settings = SettingsCache::default();
        LifecyclePass { ops, marks, executor, day, settings, access_log, figures }
    }

    /// Runs passes for as long as the process lives.
    pub async fn run(self) {
        loop {
            self.figures.is_running.set(1.0);
            let done = self.pass().await;
            self.figures.is_running.set(0.0);
            let pause = match done {
                Ok(()) => {
                    self.figures.ended_s.set(Duration::from_millis(self.executor.unix_ms()).as_secs_f64());
                    Duration::from_millis((self.day.after(0, 1) / PASSES_PER_DAY).max(1_000))
                }
                Err(error) => {
                    let detail = error.detail.as_deref();
                    tracing::warn!(%error, detail, "lifecycle rules wait");
                    RETRY_PAUSE
                }
            };
            self.executor.sleep(pause).await;
        }
    }

    /// One pass, or the rest of one that was cut off.
    ///
    /// # Errors
    /// Metadata cannot be read or written now; the next pass goes on from there.
    pub async fn pass(&self) -> Result<(), S3Error> {
        let mut place = self.marks.load().await?.map(|mark| Place::decode(&mark)).unwrap_or_default();
        if let Ok(bucket) = BucketName::parse(&place.bucket) {
            self.walk(&bucket, &mut place).await?;
        }
        loop {
            let list = ListBuckets {
                after: place.bucket.clone(),
                max_buckets: BUCKETS_PAGE,
                ..ListBuckets::default()
            };
            let page = self.ops.list_buckets(list).await?;
            for info in &page.buckets {
                place = Place { bucket: info.name.as_str().to_owned(), ..Place::default() };
                if info.config_generation > 0 {
                    self.walk(&info.name, &mut place).await?;
                }
            }
            if page.next.is_none() {
                return self.marks.keep(&Place::default().encode()).await;
            }
            self.executor.sleep(PAGE_PAUSE).await;
        }
    }

    /// One bucket, from a place on. One that is deleted meanwhile is done.
    async fn walk(&self, bucket: &BucketName, place: &mut Place) -> Result<(), S3Error> {
        match self.walk_rules(bucket, place).await {
            Err(error) if error.code == Code::NoSuchBucket => Ok(()),
            done => done,
        }
    }

    async fn walk_rules(&self, bucket: &BucketName, place: &mut Place) -> Result<(), S3Error> {
        if place.walked == Walked::Objects {
            self.walk_objects(bucket, place).await?;
            (place.walked, place.after) = (Walked::Versions, Bytes::new());
        }
        self.walk_versions(bucket, place).await?;
        let settings = self.settings.get(&self.ops, bucket).await?;
        match &settings.lifecycle {
            Some(lifecycle) if lifecycle.looks_at_uploads() => self.abort_old(&settings, lifecycle).await,
            _ => Ok(()),
        }
    }

    async fn walk_objects(&self, bucket: &BucketName, place: &mut Place) -> Result<(), S3Error> {
        loop {
            // Rules are read anew for each page: what was switched off stops at once.
            let settings = self.settings.get(&self.ops, bucket).await?;
            let Some(lifecycle) = &settings.lifecycle else { return Ok(()) };
            let list = ListObjects {
                bucket: bucket.clone(),
                prefix: Bytes::new(),
                delimiter: None,
                after: place.after.clone(),
                max_keys: PAGE_MAX,
                with_headers: false,
                with_acl: false,
            };
            let page = self.ops.list_objects(list).await?;
            self.expire(&settings, lifecycle, &page.objects).await?;
            let Some(next) = page.next else { return Ok(()) };
            place.after = next;
            self.marks.keep(&place.encode()).await?;
            self.executor.sleep(PAGE_PAUSE).await;
        }
    }

    /// Older versions and lone delete markers, of a bucket that may have them.
    async fn walk_versions(&self, bucket: &BucketName, place: &mut Place) -> Result<(), S3Error> {
        let mut walk = VersionWalk::after(place.after.clone());
        let mut after = (place.after.clone(), None);
        loop {
            let settings = self.settings.get(&self.ops, bucket).await?;
            let lifecycle = settings.lifecycle.as_ref().filter(|rules| rules.looks_at_versions());
            let Some(lifecycle) = lifecycle else { return Ok(()) };
            if settings.info.versioning == Versioning::Never {
                return Ok(());
            }
            let list = ListVersions {
                bucket: bucket.clone(),
                prefix: Bytes::new(),
                delimiter: None,
                after_key: after.0,
                after_version: after.1,
                max_keys: PAGE_MAX,
                with_acl: false,
            };
            let page = self.ops.list_versions(list).await?;
            self.figures.looked_at.increment(page.versions.len() as u64);
            let mut doomed = Vec::new();
            for entry in page.versions {
                let shown = walk.take(&entry);
                doomed.extend(shown.lone_marker.filter(|marker| self.marker_goes(lifecycle, marker)));
                if let Some(older) = shown.older
                    && self.older_goes(bucket, lifecycle, &entry, older).await?
                {
                    doomed.push(entry);
                }
            }
            if page.next.is_none() {
                doomed.extend(walk.end().filter(|marker| self.marker_goes(lifecycle, marker)));
            }
            self.remove(&settings, doomed).await?;
            let Some(next) = page.next else { return Ok(()) };
            after = next;
            place.after = walk.done().clone();
            self.marks.keep(&place.encode()).await?;
            self.executor.sleep(PAGE_PAUSE).await;
        }
    }

    fn marker_goes(&self, lifecycle: &Lifecycle, marker: &VersionEntry) -> bool {
        lifecycle.marker_expired(&marker.key, marker.modified_ms, self.executor.unix_ms(), self.day)
    }

    async fn older_goes(
        &self,
        bucket: &BucketName,
        lifecycle: &Lifecycle,
        entry: &VersionEntry,
        older: Older,
    ) -> Result<bool, S3Error> {
        let key = ObjectKey::parse(entry.key.clone())?;
        // A delete marker has no bytes and no tags.
        let tags = match entry.object.is_some() && lifecycle.looks_at_tags() {
            true => self.tags(bucket, &key, Some(entry.version)).await?,
            false => Some(TagSet::default()),
        };
        let Some(tags) = tags else { return Ok(false) };
        let size_bytes = entry.object.as_ref().map_or(0, |object| object.size_bytes);
        let subject = Subject { key: key.as_bytes(), size_bytes, tags: tags.tags() };
        let now_ms = self.executor.unix_ms();
        Ok(lifecycle.noncurrent_expired(&subject, older.since_ms, older.newer, now_ms, self.day))
    }

    /// Removes versions for good.
    async fn remove(&self, settings: &Rc<BucketSettings>, doomed: Vec<VersionEntry>) -> Result<(), S3Error> {
        for group in doomed.chunks(PAGE_MAX) {
            let deletes = group.iter().map(|entry| {
                let key = ObjectKey::parse(entry.key.clone())?;
                Ok(DeleteEntry { version: Some(entry.version), ..DeleteEntry::current(key) })
            });
            let deletes = deletes.collect::<Result<Vec<_>, OpError>>()?;
            self.delete(settings, deletes, REMOVED, &self.figures.removed).await?;
        }
        Ok(())
    }

    async fn expire(
        &self,
        settings: &Rc<BucketSettings>,
        lifecycle: &Lifecycle,
        objects: &[ListedObject],
    ) -> Result<(), S3Error> {
        self.figures.looked_at.increment(objects.len() as u64);
        let now_ms = self.executor.unix_ms();
        let mut deletes = Vec::new();
        for object in objects {
            let key = ObjectKey::parse(object.key.clone())?;
            let tags = match lifecycle.looks_at_tags() {
                true => self.tags(&settings.info.name, &key, None).await?,
                false => Some(TagSet::default()),
            };
            let Some(tags) = tags else { continue };
            let subject = Subject { key: key.as_bytes(), size_bytes: object.size_bytes, tags: tags.tags() };
            let expiry = lifecycle.expiry(&subject, object.modified_ms, self.day);
            if expiry.is_some_and(|(at_ms, _)| at_ms <= now_ms) {
                // Only the object that was looked at: one that was replaced meanwhile is young.
                let condition = DeleteCondition {
                    must_exist: true,
                    if_match: Some(object.etag.to_string()),
                    size_bytes: Some(object.size_bytes),
                    modified_s: Some(object.modified_ms / 1_000),
                };
                deletes.push(DeleteEntry { condition, ..DeleteEntry::current(key) });
            }
        }
        let is_kept = settings.info.versioning != Versioning::Never;
        let operation = if is_kept { MARKED } else { REMOVED };
        self.delete(settings, deletes, operation, &self.figures.expired).await
    }

    /// Deletes, at the pass's pace, and counts each that was deleted in `deleted`, whatever became of the others.
    async fn delete(
        &self,
        settings: &Rc<BucketSettings>,
        deletes: Vec<DeleteEntry>,
        operation: &'static str,
        deleted: &Counter,
    ) -> Result<(), S3Error> {
        if deletes.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(deletes.len()).unwrap_or(u32::MAX);
        let named = |entry: &DeleteEntry| (entry.key.to_bytes(), entry.version);
        let logged: Vec<_> = match &settings.logging {
            Some(_) => deletes.iter().map(named).collect(),
            None => Vec::new(),
        };
        let mut failed = Ok(());
        let results = self.ops.delete_objects(settings.info.name.clone(), deletes).await?;
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(_) => {
                    deleted.increment(1);
                    if let Some((key, version)) = logged.get(index) {
                        self.record(settings, operation, key.clone(), *version);
                    }
                }
                Err(OpError::PreconditionFailed | OpError::NoSuchKey | OpError::ObjectLocked) => {}
                Err(error) => failed = failed.and(Err(error.into())),
            }
        }
        self.executor.sleep(DELETE_PAUSE * count).await;
        failed
    }

    /// As AWS records what lifecycle did in a bucket that is logged: by itself, from nowhere.
    fn record(
        &self,
        settings: &Rc<BucketSettings>,
        operation: &'static str,
        key: Bytes,
        version: Option<VersionId>,
    ) {
        if settings.logging.is_none() {
            return;
        }
        let record = Record {
            bucket_owner: self.access_log.owner_id(&settings.info.owner).to_owned(),
            bucket: settings.info.name.as_str().to_owned(),
            received_ms: self.executor.unix_ms(),
            requester: Some("AmazonS3".to_owned()),
            request_id: format!("{:016X}", self.executor.random_u64()),
            operation,
            key: Some(key),
            version: version.map(|version| version.to_string()),
            ..Record::default()
        };
        self.access_log.record(settings, &record);
    }

    /// The tags of an object, or of a version of it; `None` where that is gone.
    async fn tags(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
    ) -> Result<Option<TagSet>, S3Error> {
        match self.ops.head_object(bucket.clone(), key.clone(), version).await {
            Ok(info) => TagSet::of_object(&info).map(Some),
            Err(OpError::NoSuchKey | OpError::NoSuchVersion | OpError::DeleteMarker { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn abort_old(&self, settings: &Rc<BucketSettings>, lifecycle: &Lifecycle) -> Result<(), S3Error> {
        let bucket = &settings.info.name;
        let mut after: (Bytes, Option<UploadId>) = (Bytes::new(), None);
        loop {
            let list = ListUploads {
                bucket: bucket.clone(),
                prefix: Bytes::new(),
                delimiter: None,
                after_key: after.0,
                after_upload: after.1,
                max_uploads: PAGE_MAX,
            };
            let page = self.ops.list_uploads(list).await?;
            let now_ms = self.executor.unix_ms();
            for upload in page.uploads {
                if !lifecycle.upload_expired(&upload.key, upload.initiated_ms, now_ms, self.day) {
                    continue;
                }
                let key = ObjectKey::parse(upload.key)?;
                let name = key.to_bytes();
                match self.ops.abort_upload(bucket.clone(), key, upload.upload).await {
                    Ok(()) => {
                        self.figures.aborted.increment(1);
                        self.record(settings, ABORTED, name, None);
                    }
                    Err(OpError::NoSuchUpload) => {}
                    Err(error) => return Err(error.into()),
                }
                self.executor.sleep(DELETE_PAUSE).await;
            }
            let Some(next) = page.next else { return Ok(()) };
            after = next;
            self.executor.sleep(PAGE_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_any_other_mark_begins_anew() {
        for walked in [Walked::Objects, Walked::Versions] {
            let place = Place { bucket: "abc".to_owned(), walked, after: Bytes::from_static(b"k\0\xff") };
            assert_eq!(Place::decode(&Bytes::from(place.encode())), place);
        }
        for mark in
            [&b""[..], b"\x01", b"\x01\x00\x09abc", b"\x01\x02\x00", b"\x02\x00\x00", b"\x01\x00\x02\xff\xfe"]
        {
            assert_eq!(Place::decode(&Bytes::copy_from_slice(mark)), Place::default());
        }
    }
}
