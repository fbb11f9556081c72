//! Why a transaction of the schema did not happen.
//! Invariants: a refusal changed nothing; an engine error after the retries' bound is passed on as it is.
//! Not here: S3 codes (`server`).

use shardstore_format::VolumeId;

use super::codec::DecodeError;
use super::version::VersionId;
use crate::EngineError;

/// A rule that the request broke, decided inside the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such bucket.
    NoSuchBucket,
    /// There is no such object.
    NoSuchKey,
    /// There is no such version of the object.
    NoSuchVersion,
    /// The version is a delete marker.
    DeleteMarker {
        /// Which.
        version: VersionId,
        /// Milliseconds since 1970.
        modified_ms: u64,
        /// It is the newest of its key, and no version was named.
        is_current: bool,
    },
    /// The version is under retention or a legal hold.
    Locked,
    /// The bucket's versions cannot be locked.
    NoObjectLock,
    /// There is no such upload: it never was, was aborted, or was completed long ago.
    NoSuchUpload,
    /// The name is taken.
    BucketExists {
        /// By this account.
        owner: String,
    },
    /// There is no such account.
    NoSuchAccount,
    /// The account's name is taken.
    AccountExists,
    /// The account owns buckets still.
    AccountOwnsBuckets,
    /// There is no such access key.
    NoSuchAccessKey,
    /// The access key is taken.
    AccessKeyExists,
    /// The account has as many access keys as it may.
    TooManyAccessKeys,
    /// Objects or versions are left in the bucket.
    BucketNotEmpty,
    /// Nothing but unfinished uploads is left in the bucket: abort them and try again.
    BucketHasUploads,
    /// Versioning of a bucket whose versions can be locked must stay enabled.
    ObjectLockNeedsVersioning,
    /// A condition of the request did not hold.
    PreconditionFailed,
    /// A copy of an object onto itself that changes nothing.
    CopyOntoItself,
    /// An append does not begin where the object ends.
    WriteOffset {
        /// The object's length.
        size_bytes: u64,
    },
    /// The bucket keeps versions, or kept some: what is asked for would change one.
    KeepsVersions,
    /// The object is not the one that the caller looked at.
    ObjectChanged,
    /// The object has as many parts as an object may have.
    TooManyParts,
    /// The object shares more parts with a copy than one transaction can count.
    TooManySharedParts,
    /// The client's token named another rename before.
    TokenReused,
    /// A listed part was not uploaded.
    InvalidPart {
        /// Which.
        part_number: u16,
    },
    /// A volume that the evidence names has no record or was reclaimed: a pin was lost, write the bytes again.
    VolumeGone(VolumeId),
    /// A volume's record is in the way of what was asked: a bug in the caller.
    VolumeExists(VolumeId),
    /// There is no such volume.
    NoSuchVolume(VolumeId),
}

/// Why a transaction did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request broke a rule.
    Refused(Refusal),
    /// The engine failed, or went on failing to the end of the retries.
    Engine(EngineError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused(refusal) => write!(f, "refused: {refusal:?}"),
            Failure::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        Failure::Engine(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        Failure::Engine(error.into())
    }
}

/// Metadata that contradicts itself.
pub(crate) fn damaged(what: &str) -> Failure {
    Failure::Engine(EngineError::Damaged(what.to_owned()))
}
