//! The operations over a map: what the handlers are tested against. Durability is not its business.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::ops::api::*;

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, BucketConfigs>,
    next_bucket: u64,
    objects: BTreeMap<(String, Bytes), (ObjectInfo, Bytes)>,
    uploads: BTreeMap<UploadId, Upload>,
    next_upload: u8,
}

struct Upload {
    bucket: String,
    key: Bytes,
    create: CreateUpload,
    parts: BTreeMap<u16, (PartInfo, Bytes)>,
}

/// Operations of one test.
#[derive(Clone, Default)]
pub(super) struct MemoryOps {
    state: Rc<RefCell<State>>,
    /// While true nothing is admitted.
    pub(super) full: Rc<Cell<bool>>,
    /// Places taken now.
    pub(super) permits: Rc<Cell<usize>>,
    /// How often a bucket's row was read.
    pub(super) bucket_reads: Rc<Cell<u32>>,
    /// The key that cannot be deleted.
    pub(super) stuck_key: Rc<RefCell<Bytes>>,
    /// Room for bodies that was asked for and not looked at since: the length of each, as it was stated.
    pub(super) admitted: Rc<RefCell<Vec<Option<u64>>>>,
}

pub(super) struct Permit(Rc<Cell<usize>>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

pub(super) struct MemoryObject {
    info: ObjectInfo,
    bytes: Bytes,
    is_unlocked: bool,
}

pub(super) struct MemoryReader {
    bytes: Bytes,
    is_unlocked: bool,
}

impl OpenedObject for MemoryObject {
    type Reader = MemoryReader;

    fn info(&self) -> &ObjectInfo {
        &self.info
    }

    fn unlock(&mut self, key: Option<&CustomerKey>) -> Result<(), OpError> {
        check_sealed(self.info.encryption.as_ref(), key)?;
        self.is_unlocked = true;
        Ok(())
    }

    async fn part(&self, part_number: u16) -> Result<ObjectPart, OpError> {
        if part_number == 1 {
            let range = 0..self.info.size_bytes;
            Ok(ObjectPart { part_number, range, checksum: self.info.checksums.first().cloned() })
        } else {
            Err(OpError::NoSuchPart { part_count: self.info.part_count.unwrap_or(1) })
        }
    }

    async fn parts(&self, _after: u16, _limit: usize) -> Result<ObjectParts, OpError> {
        Ok(ObjectParts { parts: Vec::new(), part_count: 0 })
    }

    fn read(self, range: Range<u64>) -> MemoryReader {
        let at = |position: u64| usize::try_from(position).unwrap();
        let is_unlocked = self.is_unlocked || self.info.encryption.is_none();
        MemoryReader { bytes: self.bytes.slice(at(range.start)..at(range.end)), is_unlocked }
    }
}

impl BodyReader for MemoryReader {
    async fn next(&mut self) -> Option<Result<Vec<Bytes>, OpError>> {
        if !self.is_unlocked {
            return Some(Err(OpError::Internal("read before it was unlocked".to_owned())));
        }
        let len = self.bytes.len().min(1000);
        (len > 0).then(|| Ok(vec![self.bytes.split_to(len)]))
    }
}

async fn pull(body: &mut impl BodySource) -> Result<(Bytes, BodySummary), OpError> {
    let mut whole = Vec::new();
    loop {
        match body.next().await? {
            BodyEvent::Data(data) => whole.extend_from_slice(&data),
            BodyEvent::End(summary) => return Ok((Bytes::from(whole), summary)),
        }
    }
}

const MODIFIED_MS: u64 = 784_111_777_000;

/// Bytes stay as they are here; what stands for the sealed key is the key that opens it.
fn sealed(encrypt: &Encrypt) -> ObjectEncryption {
    let key = match encrypt {
        Encrypt::Managed => Bytes::new(),
        Encrypt::Customer(key) => Bytes::copy_from_slice(key.as_bytes()),
    };
    ObjectEncryption::new(encrypt.by(), key)
}

fn check_sealed(encryption: Option<&ObjectEncryption>, key: Option<&CustomerKey>) -> Result<(), OpError> {
    match (encryption.filter(|encryption| encryption.by() == EncryptedBy::Customer), key) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(OpError::CustomerKeyUnexpected),
        (Some(_), None) => Err(OpError::CustomerKeyMissing),
        (Some(encryption), Some(key)) if encryption.sealed_key()[..] == key.as_bytes()[..] => Ok(()),
        (Some(_), Some(_)) => Err(OpError::CustomerKeyWrong),
    }
}

fn check(condition: &WriteCondition, old: Option<&ObjectInfo>) -> Result<(), OpError> {
    match (condition, old) {
        (WriteCondition::Always, _) | (WriteCondition::IfAbsent, None) => Ok(()),
        (WriteCondition::IfMatch(tag), Some(old)) if *tag == old.etag.to_string() => Ok(()),
        (WriteCondition::IfMatch(_), None) => Err(OpError::NoSuchKey),
        _ => Err(OpError::PreconditionFailed),
    }
}

/// There are no versions here.
fn only_null(version: Option<VersionId>) -> Result<(), OpError> {
    match version {
        None | Some(VersionId::Null) => Ok(()),
        Some(VersionId::Named { .. }) => Err(OpError::NoSuchVersion),
    }
}

impl MemoryOps {
    fn need(&self, bucket: &BucketName) -> Result<(), OpError> {
        if self.state.borrow().buckets.contains_key(bucket.as_str()) {
            Ok(())
        } else {
            Err(OpError::NoSuchBucket)
        }
    }

    fn change(&self, bucket: &BucketName, change: impl FnOnce(&mut BucketConfigs)) -> Result<(), OpError> {
        let mut state = self.state.borrow_mut();
        let configs = state.buckets.get_mut(bucket.as_str()).ok_or(OpError::NoSuchBucket)?;
        change(configs);
        configs.info.config_generation += 1;
        Ok(())
    }

    fn find(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(ObjectInfo, Bytes), OpError> {
        self.need(bucket)?;
        let name = (bucket.as_str().to_owned(), key.to_bytes());
        self.state.borrow().objects.get(&name).cloned().ok_or(OpError::NoSuchKey)
    }

    /// Puts an object of one byte.
    pub(super) fn store_for_tests(&self, bucket: &BucketName, key: &ObjectKey) {
        let info = ObjectInfo {
            size_bytes: 1,
            etag: ETag::whole([1; 16]),
            modified_ms: MODIFIED_MS,
            headers: Vec::new(),
            checksums: Vec::new(),
            storage_class: None,
            part_count: None,
            version: None,
            lock: ObjectLock::NONE,
            encryption: None,
        };
        self.store(bucket, key, info, Bytes::from_static(b"x"));
    }

    fn store(&self, bucket: &BucketName, key: &ObjectKey, info: ObjectInfo, bytes: Bytes) -> Written {
        let written = Written {
            etag: info.etag,
            checksum: info.checksums.first().cloned(),
            size_bytes: info.size_bytes,
            modified_ms: info.modified_ms,
            version: info.version,
            encryption: info.encryption.as_ref().map(ObjectEncryption::by),
        };
        let name = (bucket.as_str().to_owned(), key.to_bytes());
        self.state.borrow_mut().objects.insert(name, (info, bytes));
        written
    }

    fn permit(&self) -> Result<Permit, OpError> {
        if self.full.get() {
            return Err(OpError::SlowDown);
        }
        self.permits.set(self.permits.get() + 1);
        Ok(Permit(Rc::clone(&self.permits)))
    }
}

impl Operations for MemoryOps {
    type Permit = Permit;
    type Object = MemoryObject;

    fn admit(&self, len_bytes: Option<u64>) -> Result<Permit, OpError> {
        self.admitted.borrow_mut().push(len_bytes);
        self.permit()
    }

    fn admit_read(&self, _len_bytes: u64) -> Result<Permit, OpError> {
        self.permit()
    }

    async fn create_bucket(&self, bucket: BucketName, owner: String, new: NewBucket) -> Result<(), OpError> {
        let mut state = self.state.borrow_mut();
        if let Some(earlier) = state.buckets.get(bucket.as_str()) {
            let is_same = earlier.info.owner == owner;
            return Err(if is_same {
                OpError::BucketAlreadyOwnedByYou
            } else {
                OpError::BucketAlreadyExists
            });
        }
        let name = bucket.as_str().to_owned();
        state.next_bucket += 1;
        let info = BucketInfo {
            name: bucket,
            owner,
            created_ms: MODIFIED_MS,
            id: state.next_bucket,
            versioning: if new.object_lock { Versioning::Enabled } else { Versioning::Never },
            object_lock: new.object_lock,
            config_generation: u64::from(!new.configs.is_empty()),
        };
        let documents = new.configs.into_iter().collect();
        state.buckets.insert(name, BucketConfigs { info, documents });
        Ok(())
    }

    async fn head_bucket(&self, bucket: BucketName) -> Result<BucketInfo, OpError> {
        self.bucket_reads.set(self.bucket_reads.get() + 1);
        Ok(self.bucket_configs(bucket).await?.info)
    }

    async fn list_buckets(&self, list: ListBuckets) -> Result<BucketPage, OpError> {
        let state = self.state.borrow();
        let mut buckets: Vec<BucketInfo> = state
            .buckets
            .values()
            .map(|bucket| &bucket.info)
            .filter(|b| b.name.as_str().starts_with(&list.prefix) && b.name.as_str() > list.after.as_str())
            .filter(|b| list.owner.as_ref().is_none_or(|owner| *owner == b.owner))
            .cloned()
            .collect();
        let more = buckets.len() > list.max_buckets;
        buckets.truncate(list.max_buckets);
        let next = buckets.last().filter(|_| more).map(|b| b.name.as_str().to_owned());
        Ok(BucketPage { buckets, next })
    }

    async fn delete_bucket(&self, bucket: BucketName) -> Result<(), OpError> {
        self.need(&bucket)?;
        let mut state = self.state.borrow_mut();
        if state.objects.keys().any(|(name, _)| name == bucket.as_str()) {
            return Err(OpError::BucketNotEmpty);
        }
        state.buckets.remove(bucket.as_str());
        Ok(())
    }

    async fn bucket_configs(&self, bucket: BucketName) -> Result<BucketConfigs, OpError> {
        self.state.borrow().buckets.get(bucket.as_str()).cloned().ok_or(OpError::NoSuchBucket)
    }

    async fn put_bucket_config(
        &self,
        bucket: BucketName,
        kind: ConfigKind,
        document: Bytes,
    ) -> Result<(), OpError> {
        self.change(&bucket, |configs| drop(configs.documents.insert(kind, document)))
    }

    async fn change_bucket_config(
        &self,
        bucket: BucketName,
        kind: ConfigKind,
        change: impl Fn(Option<&Bytes>) -> Option<Bytes> + 'static,
    ) -> Result<(), OpError> {
        let before = self.bucket_configs(bucket.clone()).await?.documents.remove(&kind);
        let after = change(before.as_ref()).ok_or_else(|| OpError::Damaged("a document".to_owned()))?;
        self.change(&bucket, |configs| drop(configs.documents.insert(kind, after)))
    }

    async fn delete_bucket_config(&self, bucket: BucketName, kind: ConfigKind) -> Result<(), OpError> {
        self.change(&bucket, |configs| drop(configs.documents.remove(&kind)))
    }

    async fn set_versioning(&self, bucket: BucketName, versioning: Versioning) -> Result<(), OpError> {
        self.change(&bucket, |configs| configs.info.versioning = versioning)
    }

    async fn put_object(&self, put: PutObject, body: &mut impl BodySource) -> Result<Written, OpError> {
        self.need(&put.bucket)?;
        let old = self.find(&put.bucket, &put.key).ok();
        check(&put.condition, old.as_ref().map(|(info, _)| info))?;
        body.want_checksum(ChecksumAlgorithm::Crc64Nvme);
        let (bytes, summary) = pull(body).await?;
        let info = ObjectInfo {
            size_bytes: summary.len_bytes,
            etag: ETag::whole(summary.md5),
            modified_ms: MODIFIED_MS,
            headers: put.headers,
            checksums: summary.checksum.into_iter().collect(),
            storage_class: put.storage_class,
            part_count: None,
            version: None,
            lock: put.lock,
            encryption: put.encrypt.as_ref().map(sealed),
        };
        Ok(self.store(&put.bucket, &put.key, info, bytes))
    }

    async fn append_object(
        &self,
        append: AppendObject,
        body: &mut impl BodySource,
    ) -> Result<Written, OpError> {
        let (mut info, bytes) = self.find(&append.put.bucket, &append.put.key)?;
        if info.encryption.is_some() || append.put.encrypt.is_some() {
            return Err(OpError::AppendToEncrypted);
        }
        if info.size_bytes != append.offset_bytes {
            return Err(OpError::InvalidWriteOffset { size_bytes: info.size_bytes });
        }
        let (more, summary) = pull(body).await?;
        info.size_bytes += summary.len_bytes;
        let bytes = Bytes::from([bytes, more].concat());
        Ok(self.store(&append.put.bucket, &append.put.key, info, bytes))
    }

    async fn head_object(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
    ) -> Result<ObjectInfo, OpError> {
        only_null(version)?;
        Ok(self.find(&bucket, &key)?.0)
    }

    async fn open_object(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
    ) -> Result<MemoryObject, OpError> {
        only_null(version)?;
        let (info, bytes) = self.find(&bucket, &key)?;
        Ok(MemoryObject { info, bytes, is_unlocked: false })
    }

    fn check_key(&self, info: &ObjectInfo, key: Option<&CustomerKey>) -> Result<(), OpError> {
        check_sealed(info.encryption.as_ref(), key)
    }

    async fn delete_object(&self, bucket: BucketName, delete: DeleteEntry) -> Result<Deleted, OpError> {
        self.need(&bucket)?;
        if *self.stuck_key.borrow() == delete.key.to_bytes() {
            return Err(OpError::SlowDown);
        }
        if let Some(tag) = delete.condition.if_match {
            let old = self.find(&bucket, &delete.key)?.0;
            check(&WriteCondition::IfMatch(if tag == "*" { old.etag.to_string() } else { tag }), Some(&old))?;
        }
        let name = (bucket.as_str().to_owned(), delete.key.to_bytes());
        let existed = self.state.borrow_mut().objects.remove(&name).is_some();
        Ok(Deleted { existed, version: delete.version, is_marker: false })
    }

    async fn delete_objects(
        &self,
        bucket: BucketName,
        deletes: Vec<DeleteEntry>,
    ) -> Result<Vec<Result<Deleted, OpError>>, OpError> {
        self.need(&bucket)?;
        let mut results = Vec::new();
        for delete in deletes {
            results.push(self.delete_object(bucket.clone(), delete).await);
        }
        Ok(results)
    }

    async fn put_tagging(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        tagging: Option<Bytes>,
    ) -> Result<Option<VersionId>, OpError> {
        only_null(version)?;
        let (mut info, bytes) = self.find(&bucket, &key)?;
        info.headers.retain(|header| header.name != TAGGING_HEADER);
        info.headers.extend(tagging.map(|value| Header { name: TAGGING_HEADER.to_owned(), value }));
        self.store(&bucket, &key, info, bytes);
        Ok(version)
    }

    async fn set_object_lock(
        &self,
        bucket: BucketName,
        _default: Option<DefaultRetention>,
    ) -> Result<(), OpError> {
        self.need(&bucket)?;
        Err(OpError::ObjectLockNeedsVersioning)
    }

    async fn put_retention(
        &self,
        _bucket: BucketName,
        _key: ObjectKey,
        _version: Option<VersionId>,
        _retention: Option<Retention>,
        _bypass_governance: bool,
    ) -> Result<Option<VersionId>, OpError> {
        Err(OpError::NoObjectLock)
    }

    async fn put_legal_hold(
        &self,
        _bucket: BucketName,
        _key: ObjectKey,
        _version: Option<VersionId>,
        _is_held: bool,
    ) -> Result<Option<VersionId>, OpError> {
        Err(OpError::NoObjectLock)
    }

    async fn put_acl(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        acl: Option<Bytes>,
    ) -> Result<Option<VersionId>, OpError> {
        only_null(version)?;
        let (mut info, bytes) = self.find(&bucket, &key)?;
        info.headers.retain(|header| header.name != ACL_HEADER);
        info.headers.extend(acl.map(|value| Header { name: ACL_HEADER.to_owned(), value }));
        self.store(&bucket, &key, info, bytes);
        Ok(version)
    }

    async fn copy_object(
        &self,
        copy: CopyObject,
        source_check: impl Fn(&ObjectInfo) -> Result<(), OpError> + 'static,
    ) -> Result<Copied, OpError> {
        let (mut info, bytes) = self.find(&copy.source_bucket, &copy.source_key)?;
        source_check(&info)?;
        check_sealed(info.encryption.as_ref(), copy.source_key_of_customer.as_ref())?;
        let by = info.encryption.as_ref().map(ObjectEncryption::by);
        let encrypt = copy.encrypt.or_else(|| by.map(|_| Encrypt::Managed));
        if by != encrypt.as_ref().map(Encrypt::by) {
            return Err(OpError::CopyMovesBytes);
        }
        info.encryption = encrypt.as_ref().map(sealed);
        let same = copy.source_bucket == copy.bucket && copy.source_key == copy.key;
        if same && copy.replace_headers.is_none() {
            return Err(OpError::CopyOntoItself);
        }
        self.need(&copy.bucket)?;
        info.headers.retain(|header| ![ACL_HEADER, REDIRECT_HEADER].contains(&header.name.as_str()));
        let redirect = copy.redirect.map(|value| Header { name: REDIRECT_HEADER.to_owned(), value });
        info.headers.extend(redirect);
        if let Some(headers) = copy.replace_headers {
            info.headers = headers;
        }
        let written = self.store(&copy.bucket, &copy.key, info, bytes);
        Ok(Copied { written, source_version: None })
    }

    async fn rename_object(
        &self,
        rename: RenameObject,
        check: impl Fn(&ObjectInfo, Option<&ObjectInfo>) -> Result<(), OpError> + 'static,
    ) -> Result<(), OpError> {
        let (info, bytes) = self.find(&rename.bucket, &rename.source_key)?;
        let old = self.find(&rename.bucket, &rename.key).ok();
        check(&info, old.as_ref().map(|(info, _)| info))?;
        let name = (rename.bucket.as_str().to_owned(), rename.source_key.to_bytes());
        self.state.borrow_mut().objects.remove(&name);
        self.store(&rename.bucket, &rename.key, info, bytes);
        Ok(())
    }

    async fn list_objects(&self, list: ListObjects) -> Result<ObjectPage, OpError> {
        self.need(&list.bucket)?;
        let mut page = ObjectPage { objects: Vec::new(), common_prefixes: Vec::new(), next: None };
        let mut last = Bytes::new();
        for ((bucket, key), (info, _)) in &self.state.borrow().objects {
            if bucket != list.bucket.as_str() || !key.starts_with(&list.prefix) {
                continue;
            }
            let rolled = list.delimiter.as_ref().and_then(|delimiter| {
                let rest = &key[list.prefix.len()..];
                let at = rest.windows(delimiter.len()).position(|window| window == &delimiter[..])?;
                Some(key.slice(..list.prefix.len() + at + delimiter.len()))
            });
            let entry = rolled.clone().unwrap_or_else(|| key.clone());
            if entry <= list.after || page.common_prefixes.last() == Some(&entry) {
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() == list.max_keys {
                page.next = Some(last);
                break;
            }
            last = entry.clone();
            match rolled {
                Some(prefix) => page.common_prefixes.push(prefix),
                None => page.objects.push(ListedObject {
                    key: key.clone(),
                    size_bytes: info.size_bytes,
                    etag: info.etag,
                    modified_ms: info.modified_ms,
                    checksum: info.checksums.first().map(|checksum| (checksum.algorithm, checksum.kind)),
                    storage_class: None,
                    headers: list.with_headers.then(|| info.headers.clone()),
                    owner: owner_of_list(&info.headers).filter(|_| list.with_acl),
                }),
            }
        }
        Ok(page)
    }

    /// Every object is the one version of its key, and the latest.
    async fn list_versions(&self, list: ListVersions) -> Result<VersionPage, OpError> {
        let ListVersions { bucket, prefix, delimiter, after_key, max_keys, with_acl, .. } = list;
        let page = self.list_objects(ListObjects {
            bucket,
            prefix,
            delimiter,
            after: after_key,
            max_keys,
            with_headers: false,
            with_acl,
        });
        let page = page.await?;
        let entry = |object: ListedObject| VersionEntry {
            key: object.key.clone(),
            version: VersionId::Null,
            is_latest: true,
            modified_ms: object.modified_ms,
            object: Some(object),
        };
        Ok(VersionPage {
            versions: page.objects.into_iter().map(entry).collect(),
            common_prefixes: page.common_prefixes,
            next: page.next.map(|key| (key, None)),
        })
    }

    async fn create_upload(&self, create: CreateUpload) -> Result<UploadInfo, OpError> {
        self.need(&create.bucket)?;
        let mut state = self.state.borrow_mut();
        state.next_upload += 1;
        let id = UploadId([state.next_upload; 16]);
        let upload = Upload {
            bucket: create.bucket.as_str().to_owned(),
            key: create.key.to_bytes(),
            create,
            parts: BTreeMap::new(),
        };
        let info = upload.info(id);
        state.uploads.insert(id, upload);
        Ok(info)
    }

    async fn put_part(&self, put: PutPart, body: &mut impl BodySource) -> Result<PartInfo, OpError> {
        let encryption = {
            let state = self.state.borrow();
            let upload = state.uploads.get(&put.upload).ok_or(OpError::NoSuchUpload)?;
            upload.create.encrypt.as_ref().map(sealed)
        };
        check_sealed(encryption.as_ref(), put.customer_key.as_ref())?;
        body.need_checksum(ChecksumAlgorithm::Crc64Nvme);
        let (bytes, summary) = pull(body).await?;
        let part = PartInfo {
            part_number: put.part_number,
            etag: ETag::whole(summary.md5),
            size_bytes: summary.len_bytes,
            modified_ms: MODIFIED_MS,
            checksum: summary.checksum,
            encryption: encryption.as_ref().map(ObjectEncryption::by),
        };
        let mut state = self.state.borrow_mut();
        let upload = state.uploads.get_mut(&put.upload).ok_or(OpError::NoSuchUpload)?;
        upload.parts.insert(put.part_number, (part.clone(), bytes));
        Ok(part)
    }

    async fn list_parts(
        &self,
        _bucket: BucketName,
        _key: ObjectKey,
        upload: UploadId,
        after: u16,
        max_parts: usize,
    ) -> Result<PartPage, OpError> {
        let state = self.state.borrow();
        let found = state.uploads.get(&upload).ok_or(OpError::NoSuchUpload)?;
        let mut parts: Vec<PartInfo> = found
            .parts
            .values()
            .map(|(part, _)| part.clone())
            .filter(|part| part.part_number > after)
            .collect();
        let more = parts.len() > max_parts;
        parts.truncate(max_parts);
        let next = parts.last().filter(|_| more).map(|part| part.part_number);
        Ok(PartPage { upload: found.info(upload), parts, next })
    }

    async fn check_key_of_upload(
        &self,
        _bucket: BucketName,
        _key: ObjectKey,
        upload: UploadId,
        customer_key: Option<&CustomerKey>,
    ) -> Result<(), OpError> {
        let state = self.state.borrow();
        let create = &state.uploads.get(&upload).ok_or(OpError::NoSuchUpload)?.create;
        match create.checksum.is_some() || customer_key.is_some() {
            true => check_sealed(create.encrypt.as_ref().map(sealed).as_ref(), customer_key),
            false => Ok(()),
        }
    }

    async fn list_uploads(&self, list: ListUploads) -> Result<UploadPage, OpError> {
        self.need(&list.bucket)?;
        let state = self.state.borrow();
        let uploads = state
            .uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == list.bucket.as_str())
            .map(|(id, upload)| upload.info(*id))
            .collect();
        Ok(UploadPage { uploads, common_prefixes: Vec::new(), next: None })
    }

    async fn complete_upload(&self, complete: CompleteUpload) -> Result<Written, OpError> {
        let (bucket, key, given) =
            (complete.bucket.clone(), complete.key.clone(), complete.customer_key.as_ref());
        self.check_key_of_upload(bucket, key, complete.upload, given).await?;
        let upload = self.state.borrow_mut().uploads.remove(&complete.upload).ok_or(OpError::NoSuchUpload)?;
        let mut bytes = Vec::new();
        let mut digest = Md5::new();
        for part in &complete.parts {
            let number = part.part_number;
            let found = upload.parts.get(&number).filter(|(info, _)| info.etag.to_string() == part.etag);
            let (info, data) = found.ok_or(OpError::InvalidPart { part_number: number })?;
            digest.update(info.etag.md5);
            bytes.extend_from_slice(data);
        }
        let part_count = u16::try_from(complete.parts.len()).ok();
        let info = ObjectInfo {
            size_bytes: bytes.len() as u64,
            etag: ETag { md5: digest.finalize().into(), part_count },
            modified_ms: MODIFIED_MS,
            headers: upload.create.headers,
            checksums: Vec::new(),
            storage_class: None,
            part_count,
            version: None,
            lock: ObjectLock::NONE,
            encryption: upload.create.encrypt.as_ref().map(sealed),
        };
        Ok(self.store(&complete.bucket, &complete.key, info, Bytes::from(bytes)))
    }

    async fn abort_upload(
        &self,
        _bucket: BucketName,
        _key: ObjectKey,
        upload: UploadId,
    ) -> Result<(), OpError> {
        self.state.borrow_mut().uploads.remove(&upload).map(|_| ()).ok_or(OpError::NoSuchUpload)
    }
}

impl Upload {
    fn info(&self, upload: UploadId) -> UploadInfo {
        UploadInfo {
            upload,
            key: self.key.clone(),
            initiator: self.create.initiator.clone(),
            owner: owner_of_list(&self.create.headers),
            initiated_ms: MODIFIED_MS,
            checksum: (ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject),
            checksum_named: false,
            storage_class: None,
            encryption: self.create.encrypt.as_ref().map(Encrypt::by),
        }
    }
}
