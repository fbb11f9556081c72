//! Delivers the records of one core as objects of the buckets that their buckets name.
//! Invariants: a log is an ordinary object of the target's owner, written only while the target may be one; what may
//! succeed later is kept for the next round, everything else is dropped and counted; the last round is that of a stop.
//! Not here: what waits and how much of it (`buffer`), whether a target lets itself be written (`rights`).

use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::select;
use metrics::{Counter, counter};
use shardstore_reactor::Executor;
use time::OffsetDateTime;

use super::buffer::{AccessLog, Buffer, Place, Trouble};
use super::rights::may_deliver;
use crate::ops::api::{
    BucketName, ConfigKind, Header, ObjectKey, ObjectLock, OpError, Operations, PutObject, WriteCondition,
};
use crate::s3::acl::{Acl, Grant, Grantee, Permission};
use crate::s3::body::GatheredBody;
use crate::s3::bucket_settings::{BucketSettings, SettingsCache};
use crate::s3::config::logging::{DateSource, KeyFormat, Logging};
use crate::s3::error::{Code, S3Error};

/// The delivery of one core's log.
pub struct Delivery<O, X> {
    ops: O,
    executor: X,
    log: AccessLog,
    region: String,
    interval: Duration,
    settings: SettingsCache,
    delivered: Counter,
    failed: Counter,
}

/// Why a log was not delivered.
enum Undelivered {
    /// Another try may do.
    Later(S3Error),
    /// The target is none any more, in words for the operator.
    Never(&'static str),
}

impl<O: Operations, X: Executor> Delivery<O, X> {
    /// Delivers what `log` records every `interval`. Metrics register here: install the recorder first.
    pub fn new(ops: O, executor: X, log: AccessLog, region: &str, interval: Duration) -> Delivery<O, X> {
        Delivery {
            ops,
            executor,
            log,
            region: region.to_owned(),
            interval,
            settings: SettingsCache::default(),
            delivered: counter!("basalt_access_log_delivered_objects_total"),
            failed: counter!("basalt_access_log_failed_deliveries_total"),
        }
    }

    /// Runs until the log is told to stop, then delivers once more and says so.
    pub async fn run(self, done: oneshot::Sender<()>) {
        loop {
            let urgent = std::pin::pin!(self.log.urgent());
            let due = std::pin::pin!(self.executor.sleep(self.interval));
            select(urgent, due).await;
            let is_last = self.log.is_stopping();
            self.deliver_all().await;
            if is_last {
                // Whoever waited may be gone.
                done.send(()).unwrap_or_default();
                return;
            }
        }
    }

    /// One try for each buffer that waits now.
    pub async fn deliver_all(&self) {
        for place in self.log.places() {
            let Some(buffer) = self.log.take(place) else { continue };
            let Err(why) = self.deliver(place, &buffer).await else {
                self.delivered.increment(1);
                continue;
            };
            self.failed.increment(1);
            let now_ms = self.executor.unix_ms();
            self.warn(&buffer.settings, &why, now_ms);
            match why {
                Undelivered::Later(_) if !self.log.is_stopping() => self.log.put_back(place, buffer, now_ms),
                Undelivered::Later(_) | Undelivered::Never(_) => self.log.drop_records(buffer.count, now_ms),
            }
        }
    }

    async fn deliver(&self, place: Place, buffer: &Buffer) -> Result<(), Undelivered> {
        let source = &*buffer.settings;
        let Some(logging) = &source.logging else { return Ok(()) };
        let name = BucketName::parse(&logging.target_bucket)
            .map_err(|_| Undelivered::Never("the target's name is none"))?;
        let target = match self.settings.get(&self.ops, &name).await {
            Err(error) if error.code == Code::NoSuchBucket => {
                return Err(Undelivered::Never("the target bucket does not exist"));
            }
            target => target.map_err(Undelivered::Later)?,
        };
        let account = self.log.owner_id(&source.info.owner);
        let now_ms = self.executor.unix_ms();
        let key = self.key(logging, source, account, place, now_ms);
        check_target(&target, source, account, self.log.owner_id(&target.info.owner), &key, now_ms)?;
        let lines = Bytes::copy_from_slice(&buffer.lines);
        let put = PutObject {
            bucket: name,
            key: ObjectKey::parse(key).map_err(|_| Undelivered::Never("the key of a log is too long"))?,
            headers: headers(&target, logging),
            condition: WriteCondition::default(),
            len_bytes: Some(lines.len() as u64),
            storage_class: None,
            lock: ObjectLock::default(),
        };
        let _permit = self.ops.admit(put.len_bytes).map_err(of_ops)?;
        self.ops.put_object(put, &mut GatheredBody::new(lines)).await.map_err(of_ops)?;
        Ok(())
    }

    fn key(
        &self,
        logging: &Logging,
        source: &BucketSettings,
        account: &str,
        place: Place,
        now_ms: u64,
    ) -> String {
        let number = self.executor.random_u64();
        let at = |unix_ms: u64| {
            let unix_s = i64::try_from(unix_ms / 1_000).unwrap_or_default();
            OffsetDateTime::from_unix_timestamp(unix_s).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        let (folders, at) = match logging.key_format {
            KeyFormat::Unnamed | KeyFormat::Simple => (String::new(), at(now_ms)),
            KeyFormat::Partitioned(date) => {
                let at = at(if date == DateSource::Event { place.day_ms() } else { now_ms });
                let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
                let (region, bucket) = (&self.region, source.info.name.as_str());
                (format!("{account}/{region}/{bucket}/{year:04}/{month:02}/{day:02}/"), at)
            }
        };
        format!(
            "{}{folders}{:04}-{:02}-{:02}-{:02}-{:02}-{:02}-{number:016X}",
            logging.target_prefix,
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
        )
    }

    fn warn(&self, source: &BucketSettings, why: &Undelivered, now_ms: u64) {
        if !self.log.may_warn(Trouble::Undelivered, now_ms) {
            return;
        }
        let bucket = source.info.name.as_str();
        let target = source.logging.as_ref().map(|logging| logging.target_bucket.as_str());
        match why {
            Undelivered::Later(error) => {
                let detail = error.detail.as_deref();
                tracing::warn!(bucket, target, %error, detail, "an access log waits: it could not be delivered");
            }
            Undelivered::Never(why) => {
                tracing::warn!(bucket, target, why, "an access log was dropped: its target does not take it");
            }
        }
    }
}

/// What must still be true of a target.
fn check_target(
    target: &BucketSettings,
    source: &BucketSettings,
    account: &str,
    target_account: &str,
    key: &str,
    now_ms: u64,
) -> Result<(), Undelivered> {
    if target_account != account {
        return Err(Undelivered::Never("the target bucket is another account's"));
    }
    if target.document(ConfigKind::ObjectLock).is_some() {
        return Err(Undelivered::Never("the target bucket has a default retention"));
    }
    if !may_deliver(target, key, source.info.name.as_str(), account, now_ms) {
        return Err(Undelivered::Never(
            "neither the target's policy lets logging.s3.amazonaws.com put objects, nor its list the group of log delivery",
        ));
    }
    Ok(())
}

/// A log is its bucket owner's; others get what the configuration grants them, where lists count.
fn headers(target: &BucketSettings, logging: &Logging) -> Vec<Header> {
    let text = Header { name: "content-type".to_owned(), value: Bytes::from_static(b"text/plain") };
    let mut headers = vec![text];
    if target.access.has_acls() && !logging.grants.is_empty() {
        let owner = &target.info.owner;
        let own = Grant { grantee: Grantee::Account(owner.clone()), permission: Permission::FullControl };
        let grants = std::iter::once(own).chain(logging.grants.iter().cloned()).collect();
        headers.push(Acl { owner: owner.clone(), grants }.to_header());
    }
    headers
}

fn of_ops(error: OpError) -> Undelivered {
    match error {
        OpError::NoSuchBucket => Undelivered::Never("the target bucket does not exist"),
        error => Undelivered::Later(error.into()),
    }
}
