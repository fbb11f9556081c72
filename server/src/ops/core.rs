//! The operations of one core: its metadata, its store, its budget.
//! Invariants: clones share one core's state and never leave its thread; every method is one row of `Operations`.
//! Not here: bodies (`write`, `read`), multipart rules (`multipart`).

use std::rc::Rc;

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::{
    AfterVersion, BucketRecord, Copy, Delete, Failure, FoundObject, ListQuery, ListedKind, ListedRecord,
    ListedVersion, Metadata, NamedBucket, ObjectRecord, Page, Refusal, Rename, UploadPath, owner_of_list,
};
use shardstore::Store;
use shardstore_reactor::{Drive, Executor};

use super::admission::{Admission, Permit};
use super::api::{
    AppendObject, BodySource, BucketConfigs, BucketInfo, BucketName, BucketPage, CompleteUpload, ConfigKind,
    Copied, CopyObject, CreateUpload, CustomerKey, DefaultRetention, DeleteEntry, Deleted, ListBuckets,
    ListObjects, ListUploads, ListVersions, ListedObject, NewBucket, ObjectEncryption, ObjectInfo, ObjectKey,
    ObjectPage, OpError, Operations, PAGE_MAX, PartInfo, PartPage, PutObject, PutPart, RenameObject,
    Retention, UploadId, UploadInfo, UploadPage, VersionEntry, VersionId, VersionPage, Versioning, Written,
};
use super::catalog::StoreCatalog;
use super::error::{of_conditional, of_failure};
use super::read::{Opened, open_object};
use super::seal::{check_key, seal_of_copy};
use super::write::{check_headers, put_object};
use crate::keys::MasterKey;

/// Most buckets of one page of a listing of buckets; S3's own limit.
const BUCKETS_MAX: usize = 10_000;

/// One core's store over the metadata's catalog.
pub(crate) type CoreStore<D, E, X> = Store<D, X, StoreCatalog<E, X>>;

/// The operations of one core. Clones share it.
pub struct Core<D: Drive, E: Engine, X: Executor> {
    pub(crate) inner: Rc<CoreInner<D, E, X>>,
}

pub(crate) struct CoreInner<D: Drive, E: Engine, X: Executor> {
    pub(crate) metadata: Metadata<E, X>,
    pub(crate) store: CoreStore<D, E, X>,
    pub(crate) executor: X,
    pub(crate) master_key: MasterKey,
    admission: Admission,
}

impl<D: Drive, E: Engine, X: Executor> Clone for Core<D, E, X> {
    fn clone(&self) -> Core<D, E, X> {
        Core { inner: Rc::clone(&self.inner) }
    }
}

impl<D: Drive, E: Engine, X: Executor> Core<D, E, X> {
    /// The operations over a core's metadata and store. `master_key`: under which data keys are sealed.
    pub fn new(
        metadata: Metadata<E, X>,
        store: CoreStore<D, E, X>,
        executor: X,
        admission: Admission,
        master_key: MasterKey,
    ) -> Core<D, E, X> {
        Core { inner: Rc::new(CoreInner { metadata, store, executor, master_key, admission }) }
    }

    /// The metadata beneath.
    pub fn metadata(&self) -> &Metadata<E, X> {
        &self.inner.metadata
    }

    /// The store beneath.
    pub fn store(&self) -> &CoreStore<D, E, X> {
        &self.inner.store
    }
}

impl<D: Drive, E: Engine, X: Executor> Operations for Core<D, E, X> {
    type Permit = Permit;
    type Object = Opened<D, E, X>;

    fn admit(&self, len_bytes: Option<u64>) -> Result<Permit, OpError> {
        self.inner.admission.write(len_bytes)
    }

    fn admit_read(&self, len_bytes: u64) -> Result<Permit, OpError> {
        self.inner.admission.read(len_bytes)
    }

    async fn create_bucket(&self, bucket: BucketName, owner: String, new: NewBucket) -> Result<(), OpError> {
        match self.inner.metadata.create_bucket(bucket.as_str(), &owner, &new).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(Refusal::BucketExists { owner: other })) if other == owner => {
                Err(OpError::BucketAlreadyOwnedByYou)
            }
            Err(failure) => Err(of_failure(failure)),
        }
    }

    async fn head_bucket(&self, bucket: BucketName) -> Result<BucketInfo, OpError> {
        let record = self.inner.metadata.bucket(bucket.as_str()).await.map_err(of_failure)?;
        Ok(bucket_info(bucket, record))
    }

    async fn list_buckets(&self, list: ListBuckets) -> Result<BucketPage, OpError> {
        let limit = list.max_buckets.min(BUCKETS_MAX);
        if limit == 0 {
            return Ok(BucketPage { buckets: Vec::new(), next: None });
        }
        let metadata = &self.inner.metadata;
        let found = metadata.list_buckets(list.owner.as_deref(), &list.prefix, &list.after, limit + 1).await;
        let mut found = found.map_err(of_failure)?;
        let is_truncated = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| is_truncated).map(|last| last.name.clone());
        let info = |NamedBucket { name, record }| Ok(bucket_info(BucketName::parse(&name)?, record));
        let buckets = found.into_iter().map(info).collect::<Result<_, OpError>>()?;
        Ok(BucketPage { buckets, next })
    }

    async fn delete_bucket(&self, bucket: BucketName) -> Result<(), OpError> {
        let metadata = &self.inner.metadata;
        let deleted = metadata.delete_bucket(bucket.as_str()).await;
        if !matches!(deleted, Err(Failure::Refused(Refusal::BucketHasUploads))) {
            return deleted.map_err(of_failure);
        }
        // As AWS does: an upload that was never completed is no reason to keep a bucket.
        let all = ListQuery { prefix: b"", delimiter: None, limit: PAGE_MAX };
        let page = metadata.list_uploads(bucket.as_str(), all, b"", None).await.map_err(of_failure)?;
        for (key, (upload, _)) in page.items {
            let path = UploadPath { bucket: bucket.as_str(), key: &key, upload };
            match metadata.abort_upload(path).await {
                Ok(()) | Err(Failure::Refused(Refusal::NoSuchUpload)) => {}
                Err(failure) => return Err(of_failure(failure)),
            }
        }
        metadata.delete_bucket(bucket.as_str()).await.map_err(of_failure)
    }

    async fn bucket_configs(&self, bucket: BucketName) -> Result<BucketConfigs, OpError> {
        let found = self.inner.metadata.bucket_with_configs(bucket.as_str()).await.map_err(of_failure)?;
        Ok(BucketConfigs { info: bucket_info(bucket, found.record), documents: found.documents })
    }

    async fn put_bucket_config(
        &self,
        bucket: BucketName,
        kind: ConfigKind,
        document: Bytes,
    ) -> Result<(), OpError> {
        let put = self.inner.metadata.put_bucket_config(bucket.as_str(), kind, &document).await;
        put.map_err(of_failure)
    }

    async fn change_bucket_config(
        &self,
        bucket: BucketName,
        kind: ConfigKind,
        change: impl Fn(Option<&Bytes>) -> Option<Bytes> + 'static,
    ) -> Result<(), OpError> {
        self.inner.metadata.change_bucket_config(bucket.as_str(), kind, change).await.map_err(of_failure)
    }

    async fn delete_bucket_config(&self, bucket: BucketName, kind: ConfigKind) -> Result<(), OpError> {
        self.inner.metadata.delete_bucket_config(bucket.as_str(), kind).await.map_err(of_failure)
    }

    async fn set_versioning(&self, bucket: BucketName, versioning: Versioning) -> Result<(), OpError> {
        self.inner.metadata.set_versioning(bucket.as_str(), versioning).await.map_err(of_failure)
    }

    async fn put_object(&self, put: PutObject, body: &mut impl BodySource) -> Result<Written, OpError> {
        put_object(&self.inner, put, body).await
    }

    async fn append_object(
        &self,
        append: AppendObject,
        body: &mut impl BodySource,
    ) -> Result<Written, OpError> {
        self.inner.append_object(append, body).await
    }

    async fn head_object(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
    ) -> Result<ObjectInfo, OpError> {
        let found = self.inner.metadata.object(bucket.as_str(), key.as_bytes(), version).await;
        Ok(object_info(found.map_err(of_failure)?))
    }

    async fn open_object(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
    ) -> Result<Opened<D, E, X>, OpError> {
        open_object(&self.inner, &bucket, &key, version).await
    }

    fn check_key(&self, info: &ObjectInfo, key: Option<&CustomerKey>) -> Result<(), OpError> {
        check_key(info, key, &self.inner.master_key)
    }

    async fn delete_object(&self, bucket: BucketName, delete: DeleteEntry) -> Result<Deleted, OpError> {
        self.inner.metadata.delete_object(bucket.as_str(), &delete_of(&delete)).await.map_err(of_failure)
    }

    async fn delete_objects(
        &self,
        bucket: BucketName,
        deletes: Vec<DeleteEntry>,
    ) -> Result<Vec<Result<Deleted, OpError>>, OpError> {
        let deletes: Vec<Delete<'_>> = deletes.iter().map(delete_of).collect();
        let results = self.inner.metadata.delete_objects(bucket.as_str(), &deletes).await;
        let results = results.map_err(of_failure)?;
        Ok(results.into_iter().map(|result| result.map_err(of_failure)).collect())
    }

    async fn put_tagging(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        tagging: Option<Bytes>,
    ) -> Result<Option<VersionId>, OpError> {
        let (metadata, bucket) = (&self.inner.metadata, bucket.as_str());
        metadata.put_tagging(bucket, key.as_bytes(), version, tagging).await.map_err(of_failure)
    }

    async fn set_object_lock(
        &self,
        bucket: BucketName,
        default: Option<DefaultRetention>,
    ) -> Result<(), OpError> {
        self.inner.metadata.set_object_lock(bucket.as_str(), default).await.map_err(of_failure)
    }

    async fn put_retention(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        retention: Option<Retention>,
        bypass_governance: bool,
    ) -> Result<Option<VersionId>, OpError> {
        let (metadata, bucket, key) = (&self.inner.metadata, bucket.as_str(), key.as_bytes());
        metadata.put_retention(bucket, key, version, retention, bypass_governance).await.map_err(of_failure)
    }

    async fn put_legal_hold(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        is_held: bool,
    ) -> Result<Option<VersionId>, OpError> {
        let (metadata, bucket) = (&self.inner.metadata, bucket.as_str());
        metadata.put_legal_hold(bucket, key.as_bytes(), version, is_held).await.map_err(of_failure)
    }

    async fn put_acl(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        acl: Option<Bytes>,
    ) -> Result<Option<VersionId>, OpError> {
        let (metadata, bucket) = (&self.inner.metadata, bucket.as_str());
        metadata.put_acl(bucket, key.as_bytes(), version, acl).await.map_err(of_failure)
    }

    async fn copy_object(
        &self,
        copy: CopyObject,
        source_check: impl Fn(&ObjectInfo) -> Result<(), OpError> + 'static,
    ) -> Result<Copied, OpError> {
        if let Some(headers) = &copy.replace_headers {
            check_headers(headers)?;
        }
        let request = Copy {
            source_bucket: copy.source_bucket.as_str(),
            source_key: copy.source_key.as_bytes(),
            bucket: copy.bucket.as_str(),
            key: copy.key.as_bytes(),
            replace_headers: copy.replace_headers,
            replace_tagging: copy.replace_tagging,
            storage_class: copy.storage_class,
            replace_checksum: copy.replace_checksum,
            redirect: copy.redirect,
            condition: copy.condition,
            source_version: copy.source_version,
            lock: copy.lock,
        };
        let (encrypt, source_key) = (copy.encrypt, copy.source_key_of_customer);
        let check = |source: &ObjectRecord| {
            source_check(&object_info(FoundObject { record: source.clone(), version: None }))?;
            let master_key = &self.inner.master_key;
            seal_of_copy(source.encryption(), source_key.as_ref(), encrypt.as_ref(), master_key)
        };
        let copied = self.inner.metadata.copy_object(request, check).await.map_err(of_conditional)??;
        Ok(Copied { written: written(copied.target), source_version: copied.source_version })
    }

    async fn rename_object(
        &self,
        rename: RenameObject,
        check: impl Fn(&ObjectInfo, Option<&ObjectInfo>) -> Result<(), OpError> + 'static,
    ) -> Result<(), OpError> {
        let request = Rename {
            bucket: rename.bucket.as_str(),
            source_key: rename.source_key.as_bytes(),
            key: rename.key.as_bytes(),
            token: rename.token.as_deref(),
        };
        let check = |source: &ObjectRecord, old: Option<&ObjectRecord>| {
            let shown =
                |record: &ObjectRecord| object_info(FoundObject { record: record.clone(), version: None });
            check(&shown(source), old.map(shown).as_ref())
        };
        self.inner.metadata.rename_object(request, check).await.map_err(of_conditional)?
    }

    async fn list_objects(&self, list: ListObjects) -> Result<ObjectPage, OpError> {
        let query = ListQuery {
            prefix: &list.prefix,
            delimiter: list.delimiter.as_deref(),
            limit: list.max_keys.min(PAGE_MAX),
        };
        let (metadata, bucket) = (&self.inner.metadata, list.bucket.as_str());
        if list.with_headers {
            let page = metadata.list_whole_objects(bucket, query, &list.after).await.map_err(of_failure)?;
            let next = last_entry(&page).filter(|_| page.is_truncated);
            let whole = |(key, object): (Bytes, ObjectRecord)| {
                let owner = owner_of_list(&object.headers).filter(|_| list.with_acl);
                ListedObject { headers: Some(object.headers), ..listed_object(key, object.listed, owner) }
            };
            let objects = page.items.into_iter().map(whole).collect();
            return Ok(ObjectPage { objects, common_prefixes: page.common_prefixes, next });
        }
        if list.with_acl {
            let page = metadata.list_owned_objects(bucket, query, &list.after).await.map_err(of_failure)?;
            let next = last_entry(&page).filter(|_| page.is_truncated);
            let owned =
                page.items.into_iter().map(|(key, (listed, owner))| listed_object(key, listed, owner));
            let objects = owned.collect();
            return Ok(ObjectPage { objects, common_prefixes: page.common_prefixes, next });
        }
        let page = metadata.list_objects(bucket, query, &list.after).await.map_err(of_failure)?;
        let next = last_entry(&page).filter(|_| page.is_truncated);
        let objects = page.items.into_iter().map(|(key, listed)| listed_object(key, listed, None)).collect();
        Ok(ObjectPage { objects, common_prefixes: page.common_prefixes, next })
    }

    async fn list_versions(&self, list: ListVersions) -> Result<VersionPage, OpError> {
        let query = ListQuery {
            prefix: &list.prefix,
            delimiter: list.delimiter.as_deref(),
            limit: list.max_keys.min(PAGE_MAX),
        };
        let after = match list.after_version {
            _ if list.after_key.is_empty() => AfterVersion::Nothing,
            None => AfterVersion::Key(&list.after_key),
            Some(version) => AfterVersion::Version(&list.after_key, version),
        };
        let (metadata, bucket) = (&self.inner.metadata, list.bucket.as_str());
        let page = match list.with_acl {
            true => metadata.list_owned_versions(bucket, query, after).await,
            false => metadata.list_versions(bucket, query, after).await,
        };
        let page = page.map_err(of_failure)?;
        let versions = page.items.into_iter().map(|(key, listed)| version_entry(key, listed)).collect();
        Ok(VersionPage { versions, common_prefixes: page.common_prefixes, next: page.next })
    }

    async fn create_upload(&self, create: CreateUpload) -> Result<UploadInfo, OpError> {
        self.inner.create_upload(create).await
    }

    async fn put_part(&self, put: PutPart, body: &mut impl BodySource) -> Result<PartInfo, OpError> {
        self.inner.put_part(put, body).await
    }

    async fn list_parts(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
        after: u16,
        max_parts: usize,
    ) -> Result<PartPage, OpError> {
        self.inner.list_parts(&bucket, &key, upload, after, max_parts).await
    }

    async fn check_key_of_upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
        customer_key: Option<&CustomerKey>,
    ) -> Result<(), OpError> {
        self.inner.check_key_of_upload(&bucket, &key, upload, customer_key).await
    }

    async fn list_uploads(&self, list: ListUploads) -> Result<UploadPage, OpError> {
        self.inner.list_uploads(list).await
    }

    async fn complete_upload(&self, complete: CompleteUpload) -> Result<Written, OpError> {
        self.inner.complete_upload(complete).await
    }

    async fn abort_upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
    ) -> Result<(), OpError> {
        self.inner.abort_upload(&bucket, &key, upload).await
    }
}

fn bucket_info(name: BucketName, record: BucketRecord) -> BucketInfo {
    BucketInfo {
        name,
        owner: record.owner,
        created_ms: record.created_ms,
        id: record.id.0,
        versioning: record.versioning,
        object_lock: record.object_lock,
        config_generation: record.config_generation,
    }
}

/// The greater of the last key and the last common prefix.
pub(crate) fn last_entry<I>(page: &Page<I>) -> Option<Bytes> {
    let last_key = page.items.last().map(|(key, _)| key.clone());
    last_key.max(page.common_prefixes.last().cloned())
}

fn listed_object(key: Bytes, listed: ListedRecord, owner: Option<Bytes>) -> ListedObject {
    ListedObject {
        key,
        size_bytes: listed.size_bytes,
        etag: listed.etag,
        modified_ms: listed.modified_ms,
        checksum: listed.checksums.first().map(|checksum| (checksum.algorithm, checksum.kind)),
        storage_class: listed.storage_class,
        headers: None,
        owner,
    }
}

fn version_entry(key: Bytes, listed: ListedVersion) -> VersionEntry {
    let (version, is_latest) = (listed.id(), listed.is_latest);
    let (modified_ms, object) = match listed.kind {
        ListedKind::Object(record) => {
            (record.modified_ms, Some(listed_object(key.clone(), record, listed.owner)))
        }
        ListedKind::Marker(marker) => (marker.modified_ms, None),
    };
    VersionEntry { key, version, is_latest, modified_ms, object }
}

fn delete_of(entry: &DeleteEntry) -> Delete<'_> {
    Delete {
        key: entry.key.as_bytes(),
        version: entry.version,
        condition: entry.condition.clone(),
        bypass_governance: entry.bypass_governance,
    }
}

pub(crate) fn object_info(found: FoundObject) -> ObjectInfo {
    let FoundObject { record, version } = found;
    let encryption = record.encryption().cloned();
    let listed = record.listed;
    ObjectInfo {
        size_bytes: listed.size_bytes,
        etag: listed.etag,
        modified_ms: listed.modified_ms,
        headers: record.headers,
        checksums: listed.checksums,
        storage_class: listed.storage_class,
        part_count: listed.etag.part_count,
        version,
        lock: record.lock,
        encryption,
    }
}

pub(crate) fn written(found: FoundObject) -> Written {
    let encryption = found.record.encryption().map(ObjectEncryption::by);
    let listed = found.record.listed;
    Written {
        etag: listed.etag,
        checksum: listed.checksums.into_iter().next(),
        size_bytes: listed.size_bytes,
        modified_ms: listed.modified_ms,
        version: found.version,
        encryption,
    }
}
