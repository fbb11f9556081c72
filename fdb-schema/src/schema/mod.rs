//! The keyspace and its transactions: what the rows are, and every way they change.
//! Invariants: each operation is one transaction, written once for all engines; every decode checks; a name never
//! points at bytes that are not durable.
//! Not here: engines (`engine`), what moves bytes (`shardstore`), S3's rules of requests (`server`).

mod accounts;
mod acl;
mod append;
mod audit;
mod audit_history;
mod bucket;
mod bucket_config;
mod codec;
mod data;
mod encryption;
mod error;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod history;
mod identity;
mod keyspace;
mod list;
mod list_versions;
mod lock;
mod members;
mod object;
mod parts;
mod record;
mod relocate;
mod rename;
mod restore;
mod retry;
mod sweep;
mod upload;
mod value;
mod version;
mod volume;

#[cfg(test)]
mod tests;

pub use accounts::{
    ACCESS_KEYS_MAX, AccessKeyChange, AccessKeyRecord, AccountId, AccountRecord, NamedAccessKey,
};
pub use append::{Append, OBJECT_PARTS_MAX, StoredBytes};
pub use audit::{
    Audit, DataProblem, KeptUsages, LostName, NameProblem, NameRow, OwnerAudit, OwnerProblem, Reference,
    VolumeRecount,
};
pub use audit_history::{BrokenHistory, HistoryProblem};
pub use bucket::{NamedBucket, NewBucket, Usage};
pub use bucket_config::{BucketConfigs, ConfigKind, DOCUMENT_MAX_BYTES};
pub use codec::{DecodeError, DecodeReason};
pub use data::Resolved;
pub use encryption::{
    EncryptedBy, Encryption, SEGMENT_PLAIN_BYTES, SEGMENT_STORED_BYTES, SEGMENT_TAG_BYTES, opened_len,
    sealed_len,
};
pub use error::{Failure, Refusal};
pub use history::{Delete, Deleted, FoundObject};
pub use keyspace::{BucketId, UploadKey, volume_counter_key};
pub use list::{ListQuery, Page};
pub use list_versions::{AfterVersion, ListedKind, ListedVersion, VersionPage};
pub use lock::{DefaultRetention, RetentionPeriod};
pub use object::{Copied, Copy, DeleteCondition, NewBytes, NewObject, WriteCondition};
pub use parts::{PartOfData, PartsOfData, SealedPart};
pub use record::{
    BucketRecord, DataExtent, DataHeader, DataItems, DataPart, HEADER_ITEMS_MAX, HINT_EXTENTS_MAX,
    INLINE_MAX_BYTES, ListedRecord, ObjectRecord, PartRecord, Place, ROW_ITEMS_MAX, SealedBytes,
    UploadRecord, Versioning,
};
pub use rename::Rename;
pub use restore::{Restore, RestoreTarget, volume_of_row};
pub use retry::{Metadata, Outcomes};
pub use upload::{Completed, Composed, NewPart, NewUpload, UploadPath};
pub use value::{
    ACL_HEADER, ChecksumAlgorithm, ChecksumKind, ETag, Header, REDIRECT_HEADER, StoredChecksum,
    TAGGING_HEADER, owner_of_list,
};
pub use version::{DeleteMarker, ObjectLock, Retention, RetentionMode, Version, VersionId, VersionRecord};
pub use volume::{LiveVolume, Owner};
