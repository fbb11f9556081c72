//! What failures below mean to a request: one table for metadata, one for writes, one for reads.
//! Invariants: total by `match`, no `_`; a sentence about damage goes to the log with the request, not to the client.
//! Not here: S3 codes (`s3::error`).

use fdb_schema::EngineError;
use fdb_schema::schema::{Failure, Refusal};
use shardstore::{CatalogError, PutError, ReadError};

use super::api::{OpError, Unavailable};

pub(crate) fn of_engine(error: EngineError) -> OpError {
    match error {
        // The retries' bound was reached: contention.
        EngineError::Conflict | EngineError::TooOld | EngineError::CommitUnknown => OpError::SlowDown,
        EngineError::Overloaded => OpError::SlowDown,
        EngineError::TooLarge => OpError::Internal("a transaction is over the engine's limits".to_owned()),
        EngineError::ReadOnly => OpError::ServiceUnavailable(Unavailable::ReadOnly),
        EngineError::Stopped => OpError::ServiceUnavailable(Unavailable::Stopping),
        EngineError::Damaged(what) => OpError::Damaged(what),
    }
}

pub(crate) fn of_failure(failure: Failure) -> OpError {
    match failure {
        Failure::Engine(error) => of_engine(error),
        Failure::Refused(refusal) => of_refusal(refusal),
    }
}

/// As [`of_failure`], for a write with a condition: contention means that others were faster.
pub(crate) fn of_conditional(failure: Failure) -> OpError {
    match failure {
        Failure::Engine(EngineError::Conflict) => OpError::ConditionalRequestConflict,
        other => of_failure(other),
    }
}

pub(crate) fn of_refusal(refusal: Refusal) -> OpError {
    match refusal {
        Refusal::NoSuchBucket => OpError::NoSuchBucket,
        Refusal::NoSuchKey => OpError::NoSuchKey,
        Refusal::NoSuchVersion => OpError::NoSuchVersion,
        Refusal::DeleteMarker { version, modified_ms, is_current } => {
            OpError::DeleteMarker { version, modified_ms, is_current }
        }
        Refusal::Locked => OpError::ObjectLocked,
        Refusal::NoObjectLock => OpError::NoObjectLock,
        Refusal::NoSuchUpload => OpError::NoSuchUpload,
        Refusal::NoSuchAccount => OpError::NoSuchAccount,
        Refusal::BucketExists { .. } => OpError::BucketAlreadyExists,
        Refusal::BucketNotEmpty | Refusal::BucketHasUploads => OpError::BucketNotEmpty,
        Refusal::ObjectLockNeedsVersioning => OpError::ObjectLockNeedsVersioning,
        Refusal::PreconditionFailed => OpError::PreconditionFailed,
        Refusal::CopyOntoItself => OpError::CopyOntoItself,
        Refusal::WriteOffset { size_bytes } => OpError::InvalidWriteOffset { size_bytes },
        Refusal::KeepsVersions => OpError::KeepsVersions,
        Refusal::ObjectChanged => OpError::ConditionalRequestConflict,
        Refusal::TokenReused => OpError::TokenReused,
        Refusal::TooManyParts => OpError::TooManyParts,
        Refusal::TooManySharedParts => OpError::TooManySharedParts,
        Refusal::InvalidPart { part_number } => OpError::InvalidPart { part_number },
        // Only the admin API asks for these.
        Refusal::AccountExists
        | Refusal::AccountOwnsBuckets
        | Refusal::NoSuchAccessKey
        | Refusal::AccessKeyExists
        | Refusal::TooManyAccessKeys => OpError::Internal(format!("{refusal:?}")),
        Refusal::VolumeGone(volume) | Refusal::VolumeExists(volume) | Refusal::NoSuchVolume(volume) => {
            OpError::Internal(format!("volume {} is not as its writer left it", volume.0))
        }
    }
}

pub(crate) fn of_put(error: PutError) -> OpError {
    match error {
        PutError::NoSpace => OpError::InsufficientStorage,
        PutError::TooFewDrives { .. } => OpError::ServiceUnavailable(Unavailable::ReadOnly),
        PutError::DrivesLost | PutError::Overloaded => OpError::SlowDown,
        PutError::Metadata(CatalogError::Retry) => OpError::SlowDown,
        PutError::Metadata(CatalogError::ReadOnly) => OpError::ServiceUnavailable(Unavailable::ReadOnly),
        PutError::Metadata(CatalogError::Failed(what)) => OpError::Damaged(what),
    }
}

pub(crate) fn of_read(error: ReadError) -> OpError {
    match error {
        ReadError::Stale(volume) => {
            OpError::Damaged(format!("data rows point into volume {}, which is gone", volume.0))
        }
        ReadError::Lost { .. } => OpError::ServiceUnavailable(Unavailable::ShardsLost),
        ReadError::Overloaded => OpError::SlowDown,
    }
}
