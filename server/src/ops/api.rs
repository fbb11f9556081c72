//! The S3 operations as their callers see them: requests, responses, bodies, errors. HTTP codes against this file.
//! Invariants: names are checked when they are made; a write's body is pulled only after everything that can be
//! refused without it was; nothing is committed before the body's source said that all of it was right.
//! Not here: HTTP, XML, signatures; the implementation (`Core` and its modules).

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use fdb_schema::schema::SEGMENT_PLAIN_BYTES;

pub use fdb_schema::schema::{
    ACL_HEADER, ChecksumAlgorithm, ChecksumKind, ConfigKind, DOCUMENT_MAX_BYTES, DefaultRetention,
    DeleteCondition, Deleted, ETag, EncryptedBy, Encryption as ObjectEncryption, Header, NewBucket,
    ObjectLock, PartOfData as ObjectPart, PartsOfData as ObjectParts, REDIRECT_HEADER, Retention,
    RetentionMode, RetentionPeriod, StoredChecksum, TAGGING_HEADER, VersionId, Versioning, WriteCondition,
    owner_of_list,
};

/// Longest object key, in bytes.
pub const KEY_MAX_BYTES: usize = 1024;
/// Largest body of one PUT and largest part.
pub const BODY_MAX_BYTES: u64 = 5 << 30;
/// Smallest part but the last.
pub const PART_MIN_BYTES: u64 = 5 << 20;
/// Most parts of an upload, and highest part number.
pub const PARTS_MAX: u16 = 10_000;
/// Most keys of one bulk delete, and most entries of one page of a listing.
pub const PAGE_MAX: usize = 1000;

/// A bucket's name: 3 to 63 of `a-z 0-9 . -`, letter or digit at both ends, no `..`, not an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName(String);

impl BucketName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`OpError::InvalidBucketName`].
    pub fn parse(name: &str) -> Result<BucketName, OpError> {
        let bytes = name.as_bytes();
        let at_ends = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inside = bytes.iter().all(|b| at_ends(Some(b)) || *b == b'.' || *b == b'-');
        let length = (3..=63).contains(&bytes.len());
        let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
        let ends = at_ends(bytes.first()) && at_ends(bytes.last());
        if !inside || !length || !ends || is_address || name.contains("..") {
            return Err(OpError::InvalidBucketName);
        }
        Ok(BucketName(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An object's key: 1 to 1,024 bytes of UTF-8, otherwise as sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Bytes);

impl ObjectKey {
    /// Checks a key that was percent-decoded once.
    ///
    /// # Errors
    /// [`OpError::KeyTooLong`]; [`OpError::InvalidKey`] if it is empty or no UTF-8.
    pub fn parse(key: impl Into<Bytes>) -> Result<ObjectKey, OpError> {
        let key = key.into();
        if key.len() > KEY_MAX_BYTES {
            return Err(OpError::KeyTooLong);
        }
        if key.is_empty() || std::str::from_utf8(&key).is_err() {
            return Err(OpError::InvalidKey);
        }
        Ok(ObjectKey(key))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key's bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

/// An upload's identity: the time of its start and random bytes; 32 hex digits on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(pub [u8; 16]);

impl UploadId {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`OpError::NoSuchUpload`]: no upload of ours has such an id.
    pub fn parse(text: &str) -> Result<UploadId, OpError> {
        let mut id = [0u8; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| OpError::NoSuchUpload)?;
        Ok(UploadId(id))
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Why an operation failed, by what the caller must do. `server/src/s3/error.rs` maps it to S3 codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpError {
    /// The name breaks the rules of bucket names: 400 `InvalidBucketName`.
    InvalidBucketName,
    /// The key is empty or no UTF-8: 400 `InvalidURI`.
    InvalidKey,
    /// The key is over [`KEY_MAX_BYTES`]: 400 `KeyTooLongError`.
    KeyTooLong,
    /// 404 `NoSuchBucket`.
    NoSuchBucket,
    /// 404 `NoSuchKey`.
    NoSuchKey,
    /// 404 `NoSuchVersion`.
    NoSuchVersion,
    /// The version is a delete marker: 405 `MethodNotAllowed`, or 404 `NoSuchKey` if it is the current one and none was
    /// named.
    DeleteMarker {
        /// Which.
        version: VersionId,
        /// Milliseconds since 1970.
        modified_ms: u64,
        /// It is the current one, and none was named.
        is_current: bool,
    },
    /// The version is under retention or a legal hold: 403 `AccessDenied`.
    ObjectLocked,
    /// A lock in a bucket without object lock: 400 `InvalidRequest`.
    NoObjectLock,
    /// 404 `NoSuchUpload`.
    NoSuchUpload,
    /// The caller owns such a bucket: 409 `BucketAlreadyOwnedByYou`.
    BucketAlreadyOwnedByYou,
    /// Another owns such a bucket: 409 `BucketAlreadyExists`.
    BucketAlreadyExists,
    /// Objects are left in it: 409 `BucketNotEmpty`.
    BucketNotEmpty,
    /// The account was removed meanwhile: 403 `InvalidAccessKeyId`.
    NoSuchAccount,
    /// The account owns as many buckets as it may: 400 `TooManyBuckets`.
    TooManyBuckets,
    /// Versioning of a bucket with object lock must stay enabled: 409 `InvalidBucketState`.
    ObjectLockNeedsVersioning,
    /// A condition of the request did not hold: 412 `PreconditionFailed`.
    PreconditionFailed,
    /// A conditional write raced others to the end of its retries: 409 `ConditionalRequestConflict`.
    ConditionalRequestConflict,
    /// A copy of an object onto itself that changes nothing: 400 `InvalidRequest`.
    CopyOntoItself,
    /// A bucket that keeps versions, or kept some, takes neither appends nor renames: 409 `InvalidBucketState`.
    KeepsVersions,
    /// A rename's token named another rename before: 400 `IdempotencyParameterMismatch`.
    TokenReused,
    /// An append does not begin where the object ends: 400 `InvalidWriteOffset`.
    InvalidWriteOffset {
        /// The object's length.
        size_bytes: u64,
    },
    /// The object has as many parts as an object may have: 400 `TooManyParts`.
    TooManyParts,
    /// An append to an encrypted object, or one that asks for encryption: 400 `InvalidRequest`.
    AppendToEncrypted,
    /// The object or upload is encrypted under a customer's key, and none was given: 400 `InvalidRequest`.
    CustomerKeyMissing,
    /// It is not the key under which the object or upload is encrypted: 403 `AccessDenied` of an object, 400
    /// `InvalidRequest` of an upload.
    CustomerKeyWrong,
    /// A customer's key was given for an object or upload that is not encrypted under one: 400 `InvalidRequest`.
    CustomerKeyUnexpected,
    /// The target of a copy is to be encrypted otherwise than its source: the caller reads and writes instead.
    CopyMovesBytes,
    /// An append to an object that shares more parts with a copy than can be counted at once: 400 `InvalidRequest`.
    TooManySharedParts,
    /// A part but the last is under [`PART_MIN_BYTES`]: 400 `EntityTooSmall`.
    EntityTooSmall {
        /// Which part.
        part_number: u16,
        /// Its size.
        size_bytes: u64,
    },
    /// A listed part was not uploaded, or its ETag or checksum differs: 400 `InvalidPart`.
    InvalidPart {
        /// Which part.
        part_number: u16,
    },
    /// Parts are not in ascending order: 400 `InvalidPartOrder`.
    InvalidPartOrder,
    /// A part number outside 1 to [`PARTS_MAX`] on a write: 400 `InvalidArgument`.
    PartNumberOutOfRange,
    /// No such part on a read: 416 `InvalidPartNumber`.
    NoSuchPart {
        /// How many parts the object has.
        part_count: u16,
    },
    /// A completion without parts, or with more than [`PARTS_MAX`]: 400 `MalformedXML`.
    BadPartList,
    /// `x-amz-mp-object-size` differs from the sum of the parts: 400 `InvalidRequest`.
    ObjectSizeMismatch,
    /// A full-object checksum in a completion differs from that of the parts: 400 `BadDigest`.
    CompletionChecksumMismatch,
    /// The algorithm has no such kind for multipart objects: 400 `InvalidRequest`.
    ChecksumKindUnsupported {
        /// The algorithm.
        algorithm: ChecksumAlgorithm,
        /// The kind that it does not have.
        kind: ChecksumKind,
    },
    /// A part's or a completion's checksum is not of the algorithm of its upload: 400 `InvalidRequest`.
    ChecksumAlgorithmMismatch {
        /// Of the upload.
        expected: ChecksumAlgorithm,
        /// Of the request.
        actual: ChecksumAlgorithm,
    },
    /// A completion names another kind of checksum than its upload: 400 `InvalidRequest`.
    ChecksumKindMismatch {
        /// Of the upload.
        expected: ChecksumKind,
    },
    /// A completion leaves out a part's checksum of which the object's is made: 400 `InvalidRequest`.
    PartChecksumMissing {
        /// Of the upload.
        algorithm: ChecksumAlgorithm,
        /// Which part.
        part_number: u16,
    },
    /// A body over [`BODY_MAX_BYTES`]: 400 `EntityTooLarge`.
    EntityTooLarge,
    /// Headers to keep are over their limit: 400 `MetadataTooLarge`.
    MetadataTooLarge,
    /// The body was wrong, cut short or late.
    Body(BodyError),
    /// Load or contention: 503 `SlowDown`.
    SlowDown,
    /// Nothing can be written now, or this cannot be read now: 503 `ServiceUnavailable`.
    ServiceUnavailable(Unavailable),
    /// The drives are at their reserve: 507 `InsufficientStorage`.
    InsufficientStorage,
    /// Stored bytes or metadata are damaged beyond their redundancy: 500 `InternalError`; the sentence goes to the
    /// log, not to the client.
    Damaged(String),
    /// What was asked for is over a limit of the engine: a bug of ours; 500 `InternalError`.
    Internal(String),
}

/// Why service is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Too few healthy drives for a new volume or the metadata log: reads go on.
    ReadOnly,
    /// More shards of the object are out of reach than parity mends; it may come back with its drives.
    ShardsLost,
    /// The process is shutting down.
    Stopping,
}

/// Why a body was not taken. Nothing was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// `Content-MD5` differs: 400 `BadDigest`.
    Md5Mismatch {
        /// The client's.
        given: [u8; 16],
        /// That of what came.
        computed: [u8; 16],
    },
    /// `x-amz-checksum-*` or a trailing checksum differs: 400 `BadDigest`.
    ChecksumMismatch(ChecksumAlgorithm),
    /// `x-amz-content-sha256` differs: 400 `XAmzContentSHA256Mismatch`.
    ContentSha256Mismatch {
        /// The client's.
        given: [u8; 32],
        /// That of what came.
        computed: [u8; 32],
    },
    /// The signature of a piece or trailer of an aws-chunked body is wrong: 403 `SignatureDoesNotMatch`.
    SignatureMismatch,
    /// The framing of a chunked or aws-chunked body is wrong: 400 `IncompleteBody`.
    MalformedFraming,
    /// A form is no `multipart/form-data`: 400 `MalformedPOSTRequest`.
    MalformedForm,
    /// A trailer is missing, malformed or was not announced: 400 `MalformedTrailerError`.
    MalformedTrailer,
    /// A trailer's value is none of its algorithm: 400 `InvalidRequest`.
    InvalidTrailer(ChecksumAlgorithm),
    /// Fewer bytes than promised: 400 `IncompleteBody`.
    Incomplete,
    /// More bytes than [`BODY_MAX_BYTES`] or than promised: 400 `EntityTooLarge`.
    TooLarge,
    /// Fewer bytes than the policy of a browser's upload asks for: 400 `EntityTooSmall`.
    TooSmall,
    /// The client stopped sending: 400 `RequestTimeout`.
    TimedOut,
    /// The client closed the connection: there is no one to answer.
    ClientGone,
}

/// One event of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// The next bytes; never empty.
    Data(Bytes),
    /// All bytes came, and every digest that the client gave was right. Nothing follows.
    End(BodySummary),
}

/// What a source knows of a whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodySummary {
    /// Of the bytes, after every transfer framing is taken off.
    pub md5: [u8; 16],
    /// The checksum to store: the client's, else the one asked for by [`BodySource::want_checksum`], else none.
    pub checksum: Option<StoredChecksum>,
    /// The checksum asked for by [`BodySource::need_checksum`].
    pub needed: Option<StoredChecksum>,
    /// Sum of the lengths of [`BodyEvent::Data`].
    pub len_bytes: u64,
}

/// A body on its way in.
///
/// The first call of `next` means that the request was accepted as far as it can be without its body: a source
/// sends `100 Continue` there. A source that is dropped before its end commits nothing.
pub trait BodySource {
    /// Called at most once and before `next`: the checksum to compute if the client gave none.
    fn want_checksum(&mut self, algorithm: ChecksumAlgorithm);
    /// The same, for one to compute whether or not the client gave another.
    fn need_checksum(&mut self, algorithm: ChecksumAlgorithm);
    /// The next event; not called again after `End` or an error.
    fn next(&mut self) -> impl Future<Output = Result<BodyEvent, BodyError>>;
}

/// A body on its way out.
pub trait BodyReader: 'static {
    /// The next verified bytes in order, shared with the page cache; `None` at the end. After an error: nothing.
    /// An error after the first bytes means that the connection must be cut: the length was promised.
    fn next(&mut self) -> impl Future<Output = Option<Result<Vec<Bytes>, OpError>>>;
}

/// A read that has begun: it ends with the bytes that it began with. Holds its bytes until it is dropped.
pub trait OpenedObject: 'static {
    /// Its bytes.
    type Reader: BodyReader;
    /// What is known of the object.
    fn info(&self) -> &ObjectInfo;
    /// Opens the seal of an encrypted object, by the customer's key if it is under one. Before [`OpenedObject::read`].
    ///
    /// # Errors
    /// [`OpError::CustomerKeyMissing`], [`OpError::CustomerKeyWrong`], [`OpError::CustomerKeyUnexpected`];
    /// [`OpError::Damaged`] if the pool's key does not open it.
    fn unlock(&mut self, key: Option<&CustomerKey>) -> Result<(), OpError>;
    /// A part by number, from 1; an object of one piece has part 1, empty if the object is.
    ///
    /// # Errors
    /// [`OpError::NoSuchPart`], or why metadata cannot be read.
    fn part(&self, part_number: u16) -> impl Future<Output = Result<ObjectPart, OpError>>;
    /// Parts with numbers above `after`, at most `limit` and at most [`PAGE_MAX`]; an object of one piece has none.
    ///
    /// # Errors
    /// Why metadata cannot be read.
    fn parts(&self, after: u16, limit: usize) -> impl Future<Output = Result<ObjectParts, OpError>>;
    /// Begins to read `range`, which lies within `0..size_bytes` and may be empty. The caller asks for whole ranges
    /// only after its conditions held. Of an encrypted object that was not unlocked it reads an error.
    fn read(self, range: Range<u64>) -> Self::Reader;
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Length in bytes.
    pub size_bytes: u64,
    /// Its tag.
    pub etag: ETag,
    /// Milliseconds since 1970 of the commit that made it; HTTP shows whole seconds.
    pub modified_ms: u64,
    /// What the client gave to keep: content-type, cache-control, `x-amz-meta-*` and the like.
    pub headers: Vec<Header>,
    /// Its checksums; one, today.
    pub checksums: Vec<StoredChecksum>,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// Number of parts if it was a multipart upload.
    pub part_count: Option<u16>,
    /// Which version it is; `None` in a bucket whose versioning was never set.
    pub version: Option<VersionId>,
    /// What keeps it from being removed.
    pub lock: ObjectLock,
    /// How its bytes are encrypted at rest.
    pub encryption: Option<ObjectEncryption>,
}

/// The key of a customer for AES-256. It is never kept.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey([u8; 32]);

impl CustomerKey {
    /// The key as it was sent.
    pub fn new(key: [u8; 32]) -> CustomerKey {
        CustomerKey(key)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

/// How a write's bytes are to be encrypted at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encrypt {
    /// Under the pool's key.
    Managed,
    /// Under a customer's.
    Customer(CustomerKey),
}

impl Encrypt {
    /// Who will hold the key.
    pub fn by(&self) -> EncryptedBy {
        match self {
            Encrypt::Managed => EncryptedBy::Managed,
            Encrypt::Customer(_) => EncryptedBy::Customer,
        }
    }
}

/// What is known of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name.
    pub name: BucketName,
    /// The account that made it.
    pub owner: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Its number: another bucket of the same name has another.
    pub id: u64,
    /// Whether it keeps older versions.
    pub versioning: Versioning,
    /// Whether its versions can be locked.
    pub object_lock: bool,
    /// Goes up with every change of its configuration and of the fields above; 0: it has no configuration.
    pub config_generation: u64,
}

/// A bucket and its whole configuration, at one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketConfigs {
    /// The bucket.
    pub info: BucketInfo,
    /// Its documents, at most [`DOCUMENT_MAX_BYTES`] each.
    pub documents: BTreeMap<ConfigKind, Bytes>,
}

/// A PUT of an object.
#[derive(Clone, Debug)]
pub struct PutObject {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// To keep and return; at most 64 KiB of names and values, else [`OpError::MetadataTooLarge`]. (S3's own limit of
    /// 2 KiB of `x-amz-meta-*` is HTTP's to check.)
    pub headers: Vec<Header>,
    /// Of what it replaces.
    pub condition: WriteCondition,
    /// The decoded length, if the client said it.
    pub len_bytes: Option<u64>,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// What keeps it from being removed; without a retention it gets the bucket's default.
    pub lock: ObjectLock,
    /// How it is to be encrypted.
    pub encrypt: Option<Encrypt>,
}

/// An append to an object.
#[derive(Clone, Debug)]
pub struct AppendObject {
    /// As of a PUT; its headers and storage class count only if there is no object yet.
    pub put: PutObject,
    /// The object's length; 0 if there may be none.
    pub offset_bytes: u64,
}

/// What a write made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its tag.
    pub etag: ETag,
    /// Its checksum.
    pub checksum: Option<StoredChecksum>,
    /// Its length.
    pub size_bytes: u64,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// Which version it is; `None` in a bucket whose versioning was never set.
    pub version: Option<VersionId>,
    /// How it is encrypted.
    pub encryption: Option<EncryptedBy>,
}

/// One key of a bulk delete.
#[derive(Clone, Debug)]
pub struct DeleteEntry {
    /// Which.
    pub key: ObjectKey,
    /// The version to remove for good; `None`: the current one, which a bucket with versioning only hides.
    pub version: Option<VersionId>,
    /// If what holds.
    pub condition: DeleteCondition,
    /// The caller may bypass governance retention, and does.
    pub bypass_governance: bool,
}

impl DeleteEntry {
    /// Of whatever is current under `key`.
    pub fn current(key: ObjectKey) -> DeleteEntry {
        let condition = DeleteCondition::default();
        DeleteEntry { key, version: None, condition, bypass_governance: false }
    }
}

/// A server-side copy. No bytes move.
#[derive(Clone, Debug)]
pub struct CopyObject {
    /// Bucket of the source.
    pub source_bucket: BucketName,
    /// Key of the source.
    pub source_key: ObjectKey,
    /// Bucket of the target.
    pub bucket: BucketName,
    /// Key of the target.
    pub key: ObjectKey,
    /// `Some` for the directive REPLACE: what the target keeps instead of the source's headers.
    pub replace_headers: Option<Vec<Header>>,
    /// `Some` for the tagging directive REPLACE: the target's tag set, as [`Operations::put_tagging`] takes it.
    pub replace_tagging: Option<Option<Bytes>>,
    /// The target's storage class: `None` keeps STANDARD.
    pub storage_class: Option<String>,
    /// The target's checksum instead of the source's; of the same bytes.
    pub replace_checksum: Option<StoredChecksum>,
    /// The target's [`REDIRECT_HEADER`] where the source's other headers are kept.
    pub redirect: Option<Bytes>,
    /// Of what it replaces.
    pub condition: WriteCondition,
    /// Which version of the source; `None`: the current one.
    pub source_version: Option<VersionId>,
    /// As [`PutObject::lock`]: the source's is not copied.
    pub lock: ObjectLock,
    /// How the target is to be encrypted; nothing of that is taken from the source.
    pub encrypt: Option<Encrypt>,
    /// The key of a source that is encrypted under a customer's.
    pub source_key_of_customer: Option<CustomerKey>,
}

/// What a copy made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The target.
    pub written: Written,
    /// Which version of the source it was.
    pub source_version: Option<VersionId>,
}

/// A rename within a bucket.
#[derive(Clone, Debug)]
pub struct RenameObject {
    /// The bucket.
    pub bucket: BucketName,
    /// The key that the object has.
    pub source_key: ObjectKey,
    /// The key that it gets; another one.
    pub key: ObjectKey,
    /// The client's token, at most 64 bytes: within a day the same one renames once.
    pub token: Option<String>,
}

/// One page of a listing of objects.
#[derive(Clone, Debug)]
pub struct ListObjects {
    /// Which bucket.
    pub bucket: BucketName,
    /// Only keys that begin so; may be empty.
    pub prefix: Bytes,
    /// Keys that hold it after the prefix are rolled up; never empty.
    pub delimiter: Option<Bytes>,
    /// Only keys and common prefixes that sort after it: marker, start-after, or [`ObjectPage::next`].
    pub after: Bytes,
    /// At most so many keys and common prefixes; values above [`PAGE_MAX`] count as that; 0 gives an empty page.
    pub max_keys: usize,
    /// Whether to tell the headers of each object too.
    pub with_headers: bool,
    /// Whether to tell the owner that each object's access list names too.
    pub with_acl: bool,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPage {
    /// Objects, by key.
    pub objects: Vec<ListedObject>,
    /// Rolled-up prefixes, in order, delimiter included.
    pub common_prefixes: Vec<Bytes>,
    /// If there is more: the greatest key or common prefix of this page; `after` of the next.
    pub next: Option<Bytes>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: Bytes,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Its tag.
    pub etag: ETag,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// The algorithm and kind of its checksum.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// What its client gave to keep, if the listing asked for it.
    pub headers: Option<Vec<Header>>,
    /// The owner that its access list names, if it has one and the listing asked for it.
    pub owner: Option<Bytes>,
}

/// One page of a listing of versions.
#[derive(Clone, Debug)]
pub struct ListVersions {
    /// Which bucket.
    pub bucket: BucketName,
    /// Only keys that begin so; may be empty.
    pub prefix: Bytes,
    /// Keys that hold it after the prefix are rolled up; never empty.
    pub delimiter: Option<Bytes>,
    /// Only keys and common prefixes after it.
    pub after_key: Bytes,
    /// With it: also the versions of `after_key` itself that are older than this.
    pub after_version: Option<VersionId>,
    /// At most so many versions and common prefixes; values above [`PAGE_MAX`] count as that.
    pub max_keys: usize,
    /// Whether to tell the owner that each object's access list names too.
    pub with_acl: bool,
}

/// A page of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionPage {
    /// By key, then the newest first.
    pub versions: Vec<VersionEntry>,
    /// Rolled-up prefixes, in order, delimiter included.
    pub common_prefixes: Vec<Bytes>,
    /// If there is more: `after_key` and `after_version` of the next page (no version after a common prefix). The
    /// version says a place, and need not be an id.
    pub next: Option<(Bytes, Option<VersionId>)>,
}

/// A version in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    /// Its key.
    pub key: Bytes,
    /// Its id.
    pub version: VersionId,
    /// Whether it is the newest of its key.
    pub is_latest: bool,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// The object; `None` for a delete marker.
    pub object: Option<ListedObject>,
}

/// One page of a listing of buckets.
#[derive(Clone, Debug, Default)]
pub struct ListBuckets {
    /// Only this owner's.
    pub owner: Option<String>,
    /// Only names that begin so.
    pub prefix: String,
    /// Only names that sort after it.
    pub after: String,
    /// At most so many; S3's default and limit are 10,000.
    pub max_buckets: usize,
}

/// A page of buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPage {
    /// By name.
    pub buckets: Vec<BucketInfo>,
    /// If there is more: the last name, `after` of the next page.
    pub next: Option<String>,
}

/// The start of a multipart upload.
#[derive(Clone, Debug)]
pub struct CreateUpload {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// To keep and return, as for [`PutObject::headers`].
    pub headers: Vec<Header>,
    /// The algorithm that the client named, and the kind if it named that: else composite, or full-object for
    /// CRC64NVME. Without an algorithm: CRC64NVME, full-object.
    pub checksum: Option<(ChecksumAlgorithm, Option<ChecksumKind>)>,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// The account that began it.
    pub initiator: String,
    /// As [`PutObject::lock`].
    pub lock: ObjectLock,
    /// How its parts are to be encrypted.
    pub encrypt: Option<Encrypt>,
}

/// What is known of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// Its id.
    pub upload: UploadId,
    /// The object's key.
    pub key: Bytes,
    /// The account that began it.
    pub initiator: String,
    /// The owner that the access list of its object will name, if there will be one.
    pub owner: Option<Bytes>,
    /// Milliseconds since 1970.
    pub initiated_ms: u64,
    /// The checksum of its parts and object.
    pub checksum: (ChecksumAlgorithm, ChecksumKind),
    /// Whether the client named the algorithm; if not, S3 does not show it.
    pub checksum_named: bool,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// How its parts are encrypted.
    pub encryption: Option<EncryptedBy>,
}

/// A part on its way in.
#[derive(Clone, Debug)]
pub struct PutPart {
    /// The upload's bucket.
    pub bucket: BucketName,
    /// The upload's key.
    pub key: ObjectKey,
    /// Which upload.
    pub upload: UploadId,
    /// 1 to [`PARTS_MAX`].
    pub part_number: u16,
    /// The decoded length, if the client said it.
    pub len_bytes: Option<u64>,
    /// The key of an upload whose parts are encrypted under a customer's.
    pub customer_key: Option<CustomerKey>,
}

/// An uploaded part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its number.
    pub part_number: u16,
    /// Its tag.
    pub etag: ETag,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// Its checksum.
    pub checksum: Option<StoredChecksum>,
    /// How it is encrypted.
    pub encryption: Option<EncryptedBy>,
}

/// A page of an upload's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPage {
    /// The upload.
    pub upload: UploadInfo,
    /// By number.
    pub parts: Vec<PartInfo>,
    /// If there is more: the last part number, `after` of the next page.
    pub next: Option<u16>,
}

/// One page of a listing of uploads.
#[derive(Clone, Debug)]
pub struct ListUploads {
    /// Which bucket.
    pub bucket: BucketName,
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Keys that hold it after the prefix are rolled up; never empty.
    pub delimiter: Option<Bytes>,
    /// Only uploads and common prefixes after this key.
    pub after_key: Bytes,
    /// With it: also those of `after_key` itself that are after this upload.
    pub after_upload: Option<UploadId>,
    /// At most so many uploads and common prefixes; values above [`PAGE_MAX`] count as that.
    pub max_uploads: usize,
}

/// A page of uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPage {
    /// By key, then by start.
    pub uploads: Vec<UploadInfo>,
    /// Rolled-up prefixes, in order, delimiter included.
    pub common_prefixes: Vec<Bytes>,
    /// If there is more: `after_key` and `after_upload` of the next page (no upload after a common prefix).
    pub next: Option<(Bytes, Option<UploadId>)>,
}

/// A part as a completion names it.
#[derive(Clone, Debug)]
pub struct CompletedPart {
    /// Its number.
    pub part_number: u16,
    /// The unquoted tag that the client got for it.
    pub etag: String,
    /// The checksum that the client got or computed for it.
    pub checksum: Option<StoredChecksum>,
}

/// The end of a multipart upload. Repeating one that succeeded answers the same.
#[derive(Clone, Debug)]
pub struct CompleteUpload {
    /// The upload's bucket.
    pub bucket: BucketName,
    /// The upload's key.
    pub key: ObjectKey,
    /// Which upload.
    pub upload: UploadId,
    /// Its parts, in ascending order.
    pub parts: Vec<CompletedPart>,
    /// `x-amz-mp-object-size`.
    pub size_bytes: Option<u64>,
    /// The object's checksum as the client computed it.
    pub checksum: Option<(ChecksumAlgorithm, Bytes)>,
    /// The kind of checksum that the client named.
    pub checksum_kind: Option<ChecksumKind>,
    /// Of what it replaces.
    pub condition: WriteCondition,
    /// The key of an upload whose parts are encrypted under a customer's; it may be left out where the client named no
    /// checksum.
    pub customer_key: Option<CustomerKey>,
}

/// The S3 operations of one core. Cheap to clone; not shared between threads.
///
/// Every method may also fail with [`OpError::SlowDown`], [`OpError::ServiceUnavailable`], [`OpError::Damaged`] and
/// [`OpError::Internal`]. A write that returned `Ok` is durable and visible to every later read.
pub trait Operations: Clone + 'static {
    /// A place in this core's budget of memory and concurrency; freed on drop.
    type Permit: 'static;
    /// A read that has begun.
    type Object: OpenedObject;

    /// Takes a place before a request's body is read. `len_bytes`: its length if known; 0 for requests without. Hold
    /// it until the operation ended.
    ///
    /// # Errors
    /// [`OpError::SlowDown`].
    fn admit(&self, len_bytes: Option<u64>) -> Result<Self::Permit, OpError>;
    /// Takes a place before `len_bytes` of an object are read. Hold it until they were sent.
    ///
    /// # Errors
    /// [`OpError::SlowDown`].
    fn admit_read(&self, len_bytes: u64) -> Result<Self::Permit, OpError>;

    /// Creates a bucket.
    ///
    /// # Errors
    /// [`OpError::BucketAlreadyOwnedByYou`], [`OpError::BucketAlreadyExists`].
    fn create_bucket(
        &self,
        bucket: BucketName,
        owner: String,
        new: NewBucket,
    ) -> impl Future<Output = Result<(), OpError>>;
    /// Looks a bucket up.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn head_bucket(&self, bucket: BucketName) -> impl Future<Output = Result<BucketInfo, OpError>>;
    /// Buckets by name.
    ///
    /// # Errors
    /// None of its own.
    fn list_buckets(&self, list: ListBuckets) -> impl Future<Output = Result<BucketPage, OpError>>;
    /// Deletes a bucket without objects; unfinished uploads, at most [`PAGE_MAX`], are aborted.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::BucketNotEmpty`].
    fn delete_bucket(&self, bucket: BucketName) -> impl Future<Output = Result<(), OpError>>;

    /// A bucket with its configuration; costs one read of a few rows.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn bucket_configs(&self, bucket: BucketName) -> impl Future<Output = Result<BucketConfigs, OpError>>;
    /// Puts or replaces a document of at most [`DOCUMENT_MAX_BYTES`], which the caller checked.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn put_bucket_config(
        &self,
        bucket: BucketName,
        kind: ConfigKind,
        document: Bytes,
    ) -> impl Future<Output = Result<(), OpError>>;
    /// Puts what `change` makes of the document that is there, in one step; it may be called several times, and says
    /// `None` where it cannot read what is there.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn change_bucket_config(
        &self,
        bucket: BucketName,
        kind: ConfigKind,
        change: impl Fn(Option<&Bytes>) -> Option<Bytes> + 'static,
    ) -> impl Future<Output = Result<(), OpError>>;
    /// Deletes a document; one that is not there is fine.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn delete_bucket_config(
        &self,
        bucket: BucketName,
        kind: ConfigKind,
    ) -> impl Future<Output = Result<(), OpError>>;
    /// Enables or suspends versioning.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::ObjectLockNeedsVersioning`].
    fn set_versioning(
        &self,
        bucket: BucketName,
        versioning: Versioning,
    ) -> impl Future<Output = Result<(), OpError>>;

    /// Stores an object. The body is pulled after the bucket was found and, when cheap, the condition held.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::PreconditionFailed`], [`OpError::ConditionalRequestConflict`],
    /// [`OpError::NoSuchKey`] for `If-Match`, [`OpError::EntityTooLarge`], [`OpError::MetadataTooLarge`],
    /// [`OpError::InsufficientStorage`], [`OpError::Body`].
    fn put_object(
        &self,
        put: PutObject,
        body: &mut impl BodySource,
    ) -> impl Future<Output = Result<Written, OpError>>;
    /// Adds to the end of an object; no byte that is there moves. [`BodySource::need_checksum`] is called with the
    /// algorithm of the object's checksum.
    ///
    /// # Errors
    /// As [`Operations::put_object`], and [`OpError::InvalidWriteOffset`], [`OpError::TooManyParts`],
    /// [`OpError::TooManySharedParts`], [`OpError::AppendToEncrypted`].
    fn append_object(
        &self,
        append: AppendObject,
        body: &mut impl BodySource,
    ) -> impl Future<Output = Result<Written, OpError>>;
    /// What is known of an object, or of one version of it.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchKey`], [`OpError::NoSuchVersion`], [`OpError::DeleteMarker`].
    fn head_object(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
    ) -> impl Future<Output = Result<ObjectInfo, OpError>>;
    /// Begins a read. Drop the result if a condition does not hold.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchKey`], [`OpError::NoSuchVersion`], [`OpError::DeleteMarker`].
    fn open_object(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
    ) -> impl Future<Output = Result<Self::Object, OpError>>;
    /// Whether `key` is what reads an object of which `info` is known: its own customer's, or none if it is under none.
    ///
    /// # Errors
    /// [`OpError::CustomerKeyMissing`], [`OpError::CustomerKeyWrong`], [`OpError::CustomerKeyUnexpected`].
    fn check_key(&self, info: &ObjectInfo, key: Option<&CustomerKey>) -> Result<(), OpError>;
    /// Deletes an object, or a version of it; one that is not there is fine.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::PreconditionFailed`], [`OpError::NoSuchKey`] for `If-Match`,
    /// [`OpError::ObjectLocked`].
    fn delete_object(
        &self,
        bucket: BucketName,
        delete: DeleteEntry,
    ) -> impl Future<Output = Result<Deleted, OpError>>;
    /// Deletes up to [`PAGE_MAX`] objects; one result a key, in order.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`] for all; the inner results are as for one key.
    fn delete_objects(
        &self,
        bucket: BucketName,
        deletes: Vec<DeleteEntry>,
    ) -> impl Future<Output = Result<Vec<Result<Deleted, OpError>>, OpError>>;
    /// Replaces the tag set of an object's version by what [`TAGGING_HEADER`] is to hold; its tag and time stay. Which
    /// version it was.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchKey`], [`OpError::NoSuchVersion`], [`OpError::DeleteMarker`].
    fn put_tagging(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        tagging: Option<Bytes>,
    ) -> impl Future<Output = Result<Option<VersionId>, OpError>>;
    /// Gives a bucket with versioning object lock, and its new versions a retention, or none.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::ObjectLockNeedsVersioning`].
    fn set_object_lock(
        &self,
        bucket: BucketName,
        default: Option<DefaultRetention>,
    ) -> impl Future<Output = Result<(), OpError>>;
    /// Sets or ends the retention of an object's version. Which version it was.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchKey`], [`OpError::NoSuchVersion`], [`OpError::DeleteMarker`],
    /// [`OpError::NoObjectLock`], [`OpError::ObjectLocked`].
    fn put_retention(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        retention: Option<Retention>,
        bypass_governance: bool,
    ) -> impl Future<Output = Result<Option<VersionId>, OpError>>;
    /// Sets or ends the legal hold of an object's version. Which version it was.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchKey`], [`OpError::NoSuchVersion`], [`OpError::DeleteMarker`],
    /// [`OpError::NoObjectLock`].
    fn put_legal_hold(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        is_held: bool,
    ) -> impl Future<Output = Result<Option<VersionId>, OpError>>;
    /// Replaces the access list of an object's version by what [`ACL_HEADER`] is to hold; its tag and time stay. Which
    /// version it was.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchKey`], [`OpError::NoSuchVersion`], [`OpError::DeleteMarker`].
    fn put_acl(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        version: Option<VersionId>,
        acl: Option<Bytes>,
    ) -> impl Future<Output = Result<Option<VersionId>, OpError>>;
    /// Copies an object. `source_check` is the conditions on the source, decided in the transaction that copies. The
    /// target shares the source's bytes; where it is to be encrypted otherwise, nothing is done but to say so.
    ///
    /// # Errors
    /// [`OpError::CopyMovesBytes`], [`OpError::CustomerKeyMissing`], [`OpError::CustomerKeyWrong`],
    /// [`OpError::CustomerKeyUnexpected`] (all of the source),
    /// [`OpError::NoSuchBucket`] (either), [`OpError::NoSuchKey`], [`OpError::NoSuchVersion`],
    /// [`OpError::DeleteMarker`], [`OpError::CopyOntoItself`], [`OpError::NoObjectLock`],
    /// [`OpError::PreconditionFailed`], and what `source_check` returns.
    fn copy_object(
        &self,
        copy: CopyObject,
        source_check: impl Fn(&ObjectInfo) -> Result<(), OpError> + 'static,
    ) -> impl Future<Output = Result<Copied, OpError>>;
    /// Renames an object, replacing what has the new name. `check` is the conditions on the source and on what is
    /// replaced, decided in the transaction that renames.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchKey`], [`OpError::TokenReused`],
    /// [`OpError::ConditionalRequestConflict`], and what `check` returns.
    fn rename_object(
        &self,
        rename: RenameObject,
        check: impl Fn(&ObjectInfo, Option<&ObjectInfo>) -> Result<(), OpError> + 'static,
    ) -> impl Future<Output = Result<(), OpError>>;
    /// One page of objects; costs what the page costs.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn list_objects(&self, list: ListObjects) -> impl Future<Output = Result<ObjectPage, OpError>>;
    /// One page of versions and delete markers; costs what the page costs.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn list_versions(&self, list: ListVersions) -> impl Future<Output = Result<VersionPage, OpError>>;

    /// Begins a multipart upload.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::MetadataTooLarge`], [`OpError::ChecksumKindUnsupported`].
    fn create_upload(&self, create: CreateUpload) -> impl Future<Output = Result<UploadInfo, OpError>>;
    /// Stores a part; a part uploaded again wins. [`BodySource::need_checksum`] is called with the upload's algorithm.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchUpload`], [`OpError::PartNumberOutOfRange`],
    /// [`OpError::EntityTooLarge`], [`OpError::ChecksumAlgorithmMismatch`], [`OpError::InsufficientStorage`],
    /// [`OpError::CustomerKeyMissing`], [`OpError::CustomerKeyWrong`], [`OpError::CustomerKeyUnexpected`] (all of the
    /// upload), [`OpError::Body`].
    fn put_part(
        &self,
        put: PutPart,
        body: &mut impl BodySource,
    ) -> impl Future<Output = Result<PartInfo, OpError>>;
    /// Parts with numbers above `after`, at most `max_parts` and at most [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchUpload`].
    fn list_parts(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
        after: u16,
        max_parts: usize,
    ) -> impl Future<Output = Result<PartPage, OpError>>;
    /// Whether `customer_key` is what an upload is ended with and what its parts are listed with: its own customer's, which may
    /// be left out where no checksum was named, or none if it is under none.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchUpload`], [`OpError::CustomerKeyMissing`],
    /// [`OpError::CustomerKeyWrong`], [`OpError::CustomerKeyUnexpected`].
    fn check_key_of_upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
        customer_key: Option<&CustomerKey>,
    ) -> impl Future<Output = Result<(), OpError>>;
    /// One page of uploads.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`].
    fn list_uploads(&self, list: ListUploads) -> impl Future<Output = Result<UploadPage, OpError>>;
    /// Makes the object of an upload's parts. No bytes move.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchUpload`], [`OpError::BadPartList`], [`OpError::InvalidPartOrder`],
    /// [`OpError::InvalidPart`], [`OpError::EntityTooSmall`], [`OpError::ObjectSizeMismatch`],
    /// [`OpError::PartChecksumMissing`], [`OpError::ChecksumAlgorithmMismatch`], [`OpError::ChecksumKindMismatch`],
    /// [`OpError::CompletionChecksumMismatch`], [`OpError::CustomerKeyMissing`], [`OpError::CustomerKeyWrong`],
    /// [`OpError::CustomerKeyUnexpected`] (all of the upload), [`OpError::PreconditionFailed`],
    /// [`OpError::ConditionalRequestConflict`].
    fn complete_upload(&self, complete: CompleteUpload) -> impl Future<Output = Result<Written, OpError>>;
    /// Gives an upload and its parts up.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::NoSuchUpload`].
    fn abort_upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
    ) -> impl Future<Output = Result<(), OpError>>;
}

impl ObjectInfo {
    /// How many bytes are held to read a range that is not empty: of what is encrypted whole segments are opened.
    pub fn held_bytes(&self, range: &Range<u64>) -> u64 {
        if self.encryption.is_none() {
            return range.end - range.start;
        }
        let first = range.start / SEGMENT_PLAIN_BYTES;
        (range.end.div_ceil(SEGMENT_PLAIN_BYTES) - first) * SEGMENT_PLAIN_BYTES
    }
}

#[cfg(test)]
impl ObjectInfo {
    /// An object of so many bytes and nothing else.
    pub(crate) fn for_tests(size_bytes: u64) -> ObjectInfo {
        ObjectInfo {
            size_bytes,
            etag: ETag::whole([0; 16]),
            modified_ms: 0,
            headers: Vec::new(),
            checksums: Vec::new(),
            storage_class: None,
            part_count: None,
            version: None,
            lock: ObjectLock::NONE,
            encryption: None,
        }
    }
}

impl From<BodyError> for OpError {
    fn from(error: BodyError) -> OpError {
        OpError::Body(error)
    }
}

impl std::fmt::Display for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpError::Damaged(what) => write!(f, "damaged: {what}"),
            OpError::Internal(what) => write!(f, "internal: {what}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl std::error::Error for OpError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        for name in ["abc", "a-b.c", "0ab", &"a".repeat(63)] {
            assert!(BucketName::parse(name).is_ok(), "{name}");
        }
        let wrong =
            ["", "ab", "Abc", "a_b", "-ab", "ab-", ".ab", "a..b", "192.168.0.1", "a/b", &"a".repeat(64)];
        for name in wrong {
            assert_eq!(BucketName::parse(name), Err(OpError::InvalidBucketName), "{name}");
        }
    }

    #[test]
    fn keys_are_utf8_of_at_most_1024_bytes_and_otherwise_free() {
        for key in ["a", "//", "a/../b", " ", "+%2F", "\u{1}", &"k".repeat(1024)] {
            assert!(ObjectKey::parse(key.to_owned()).is_ok(), "{key:?}");
        }
        assert_eq!(ObjectKey::parse("k".repeat(1025)), Err(OpError::KeyTooLong));
        assert_eq!(ObjectKey::parse(""), Err(OpError::InvalidKey));
        assert_eq!(ObjectKey::parse(vec![0xff, 0xfe]), Err(OpError::InvalidKey));
    }

    #[test]
    fn reading_a_little_of_what_is_encrypted_holds_whole_segments() {
        let plain = ObjectInfo::for_tests(1 << 20);
        let encryption = Some(ObjectEncryption::new(EncryptedBy::Managed, Bytes::new()));
        let sealed = ObjectInfo { encryption, ..plain.clone() };
        for (range, segments) in [(0..1, 1), (65_535..65_536, 1), (65_535..65_537, 2), (0..1 << 20, 16)] {
            assert_eq!(plain.held_bytes(&range), range.end - range.start);
            assert_eq!(sealed.held_bytes(&range), segments * 65_536, "{range:?}");
        }
    }

    #[test]
    fn an_upload_id_reads_back_and_others_are_no_such_upload() {
        let upload = UploadId(*b"0123456789abcdef");
        assert_eq!(UploadId::parse(&upload.to_string()), Ok(upload));
        assert_eq!(UploadId::parse("../../etc"), Err(OpError::NoSuchUpload));
    }
}
