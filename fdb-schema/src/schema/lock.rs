//! Object lock: the default of a bucket, and what is set on a version.
//! Invariants: only versions of a bucket with object lock are ever locked; a compliance retention never gets shorter;
//! a governance retention does so only for those who may bypass it.
//! Not here: what a lock forbids (`history`), XML and headers (`server`).

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::bucket_config::{ConfigKind, clear_document, read_document, write_document};
use super::codec::{DecodeError, Decoder, Encoder};
use super::error::{Failure, Refusal};
use super::record::{BucketRecord, Versioning};
use super::retry::Metadata;
use super::version::{ObjectLock, Retention, RetentionMode, VersionId};
use crate::{Engine, Transaction};

const VERSION: u8 = 1;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const YEAR_DAYS: u64 = 365;

/// How long a default retention lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionPeriod {
    /// Days.
    Days(u32),
    /// Years of 365 days.
    Years(u32),
}

/// What a new version of a bucket gets that was given no retention. The document of [`ConfigKind::ObjectLock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRetention {
    /// Who may end it early.
    pub mode: RetentionMode,
    /// How long it lasts.
    pub period: RetentionPeriod,
}

impl DefaultRetention {
    /// As it is stored.
    pub fn encode(self) -> Bytes {
        let mut out = Encoder::new(VERSION);
        out.byte(match self.mode {
            RetentionMode::Governance => 1,
            RetentionMode::Compliance => 2,
        });
        let (unit, number) = match self.period {
            RetentionPeriod::Days(days) => (1, days),
            RetentionPeriod::Years(years) => (2, years),
        };
        out.byte(unit);
        out.number(u64::from(number));
        Bytes::from(out.finish())
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(value: &Bytes) -> Result<DefaultRetention, DecodeError> {
        let mut from = Decoder::new("default retention", VERSION, value)?;
        let mode = match from.byte()? {
            1 => RetentionMode::Governance,
            2 => RetentionMode::Compliance,
            _ => return Err(from.invalid()),
        };
        let period = match from.byte()? {
            1 => RetentionPeriod::Days(from.number_u32()?),
            2 => RetentionPeriod::Years(from.number_u32()?),
            _ => return Err(from.invalid()),
        };
        from.finish()?;
        Ok(DefaultRetention { mode, period })
    }

    fn from(self, now_ms: u64) -> Retention {
        let days = match self.period {
            RetentionPeriod::Days(days) => u64::from(days),
            RetentionPeriod::Years(years) => u64::from(years) * YEAR_DAYS,
        };
        Retention { mode: self.mode, until_ms: now_ms.saturating_add(days.saturating_mul(DAY_MS)) }
    }
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Gives a bucket object lock, and its new versions a retention, or none.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::ObjectLockNeedsVersioning`], [`Failure::Engine`].
    pub async fn set_object_lock(
        &self,
        bucket_name: &str,
        default: Option<DefaultRetention>,
    ) -> Result<(), Failure> {
        self.change_bucket(bucket_name, async |txn, record| {
            if record.versioning != Versioning::Enabled {
                return Err(Refusal::ObjectLockNeedsVersioning.into());
            }
            record.object_lock = true;
            match default {
                Some(default) => write_document(txn, record.id, ConfigKind::ObjectLock, &default.encode()),
                None => clear_document(txn, record.id, ConfigKind::ObjectLock),
            }
            Ok(())
        })
        .await
    }

    /// Sets or ends the retention of a version; the version as clients see it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Refusal::NoSuchVersion`], [`Refusal::DeleteMarker`],
    /// [`Refusal::NoObjectLock`], [`Refusal::Locked`], [`Failure::Engine`].
    pub async fn put_retention(
        &self,
        bucket_name: &str,
        key: &[u8],
        version: Option<VersionId>,
        retention: Option<Retention>,
        bypass_governance: bool,
    ) -> Result<Option<VersionId>, Failure> {
        let now_ms = self.executor.unix_ms();
        self.change_version(bucket_name, key, version, |bucket, record| {
            check_object_lock(bucket)?;
            if !may_become(record.lock.retention, retention, now_ms, bypass_governance) {
                return Err(Refusal::Locked.into());
            }
            record.lock.retention = retention;
            Ok(())
        })
        .await
    }

    /// Sets or ends the legal hold of a version; the version as clients see it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Refusal::NoSuchVersion`], [`Refusal::DeleteMarker`],
    /// [`Refusal::NoObjectLock`], [`Failure::Engine`].
    pub async fn put_legal_hold(
        &self,
        bucket_name: &str,
        key: &[u8],
        version: Option<VersionId>,
        is_held: bool,
    ) -> Result<Option<VersionId>, Failure> {
        self.change_version(bucket_name, key, version, |bucket, record| {
            check_object_lock(bucket)?;
            record.lock.legal_hold = Some(is_held);
            Ok(())
        })
        .await
    }
}

/// Whether a retention may be exchanged for another: later in the same mode always; everything else is for those who may
/// bypass governance, and a compliance mode stays.
fn may_become(old: Option<Retention>, new: Option<Retention>, now_ms: u64, bypass: bool) -> bool {
    let Some(old) = old.filter(|old| now_ms < old.until_ms) else { return true };
    let is_later = new.is_some_and(|new| new.until_ms >= old.until_ms);
    let keeps_mode = new.is_some_and(|new| new.mode == old.mode);
    match old.mode {
        RetentionMode::Compliance => is_later && keeps_mode,
        RetentionMode::Governance => bypass || (is_later && keeps_mode),
    }
}

fn check_object_lock(bucket: &BucketRecord) -> Result<(), Refusal> {
    if bucket.object_lock { Ok(()) } else { Err(Refusal::NoObjectLock) }
}

/// Whether a new version of the bucket can have such a lock.
pub(crate) fn check_lockable(bucket: &BucketRecord, lock: ObjectLock) -> Result<(), Refusal> {
    if lock == ObjectLock::NONE { Ok(()) } else { check_object_lock(bucket) }
}

/// The lock of a new version: what was given, and the bucket's default if that has no retention.
pub(crate) async fn lock_of_new<T: Transaction>(
    txn: &T,
    bucket: &BucketRecord,
    given: ObjectLock,
    now_ms: u64,
) -> Result<ObjectLock, Failure> {
    check_lockable(bucket, given)?;
    if !bucket.object_lock || given.retention.is_some() {
        return Ok(given);
    }
    let document = read_document(txn, bucket.id, ConfigKind::ObjectLock).await?;
    let default = document.as_ref().map(DefaultRetention::decode).transpose()?;
    Ok(ObjectLock { retention: default.map(|default| default.from(now_ms)), ..given })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_default_reads_back_and_is_counted_from_the_write() {
        for mode in [RetentionMode::Governance, RetentionMode::Compliance] {
            for period in [RetentionPeriod::Days(1), RetentionPeriod::Years(36_500)] {
                let default = DefaultRetention { mode, period };
                assert_eq!(DefaultRetention::decode(&default.encode()), Ok(default));
            }
        }
        let years = DefaultRetention { mode: RetentionMode::Governance, period: RetentionPeriod::Years(2) };
        assert_eq!(years.from(5).until_ms, 5 + 730 * DAY_MS);
    }

    #[test]
    fn an_active_retention_only_gets_stronger_unless_governance_is_bypassed() {
        use RetentionMode::{Compliance, Governance};
        let until = |mode, until_ms| Some(Retention { mode, until_ms });
        for (old, new, bypass, may) in [
            (None, until(Compliance, 1), false, true),
            (until(Governance, 100), until(Governance, 101), false, true),
            (until(Governance, 100), until(Compliance, 100), false, false),
            (until(Governance, 100), until(Compliance, 100), true, true),
            (until(Governance, 100), until(Governance, 99), false, false),
            (until(Governance, 100), None, false, false),
            (until(Governance, 100), None, true, true),
            (until(Compliance, 100), until(Compliance, 99), true, false),
            (until(Compliance, 100), until(Governance, 200), true, false),
            (until(Compliance, 100), None, true, false),
            (until(Compliance, 100), until(Compliance, 200), false, true),
            (until(Compliance, 40), None, false, true),
        ] {
            assert_eq!(may_become(old, new, 50, bypass), may, "{old:?} {new:?} {bypass}");
        }
    }
}
