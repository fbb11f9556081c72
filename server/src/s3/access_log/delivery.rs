//! Delivers the records of one core as objects of the buckets that their buckets name.
//! Invariants: a log is an ordinary object of the target's owner, written only while the target may be one; what may
//! succeed later is kept and tried again, everything else is dropped and counted; what is full does not wait for its round
//! and takes nobody else along; the last round is that of a stop.
//! Not here: what waits and how much of it (`buffer`), whether a target lets itself be written (`rights`).

use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::select;
use metrics::{Counter, counter};
use shardstore_reactor::Executor;

use super::buffer::{AccessLog, Origin, Place, Taken, Trouble};
use super::rights::may_deliver;
use crate::ops::api::{
    BucketName, ConfigKind, Header, ObjectKey, ObjectLock, OpError, Operations, PutObject, WriteCondition,
};
use crate::s3::acl::{Acl, GRANTS_MAX, Grant, Grantee, Permission};
use crate::s3::body::GatheredBody;
use crate::s3::bucket_settings::{BucketSettings, SettingsCache};
use crate::s3::config::logging::{DateSource, KeyFormat, Logging};
use crate::s3::encryption::by_default;
use crate::s3::error::{Code, S3Error};
use crate::s3::time_text::at_ms;

/// What could not be delivered is tried again after so long.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Tries at a stop, and the pause between them: together less than a stop waits for them.
const LAST_TRIES: u32 = 16;
const LAST_PAUSE: Duration = Duration::from_millis(500);

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

    /// Runs until the log is told to stop, then delivers what waits and says so.
    pub async fn run(self, done: oneshot::Sender<()>) {
        let (mut round_at, mut tried_at) = (self.executor.now(), self.executor.now());
        loop {
            let now = self.executor.now();
            let mut wait = self.interval.saturating_sub(now.since(round_at));
            if self.log.has_put_off() {
                wait = wait.min(RETRY_INTERVAL.saturating_sub(now.since(tried_at)));
            }
            let urgent = std::pin::pin!(self.log.urgent());
            let due = std::pin::pin!(self.executor.sleep(wait));
            select(urgent, due).await;
            if self.log.is_stopping() {
                break;
            }
            let now = self.executor.now();
            let is_round = now.since(round_at) >= self.interval;
            let is_retry = is_round || now.since(tried_at) >= RETRY_INTERVAL;
            let places = if is_round { self.log.places() } else { self.log.urgent_places(is_retry) };
            self.deliver_each(places).await;
            if is_round {
                round_at = now;
            }
            if is_retry {
                tried_at = self.executor.now();
            }
        }
        self.deliver_last().await;
        // Whoever waited may be gone.
        done.send(()).unwrap_or_default();
    }

    /// One try for each buffer that waits now.
    pub async fn deliver_all(&self) {
        self.deliver_each(self.log.places()).await;
    }

    /// Tries until nothing waits, but not for long.
    async fn deliver_last(&self) {
        for _ in 0..LAST_TRIES {
            self.deliver_all().await;
            if self.log.places().is_empty() {
                return;
            }
            self.executor.sleep(LAST_PAUSE).await;
        }
        let records = self.log.drop_all();
        tracing::warn!(records, "the last access logs are lost: the store did not take them");
    }

    async fn deliver_each(&self, places: Vec<Place>) {
        for place in places {
            let Some(taken) = self.log.take(place) else { continue };
            match self.deliver(place, &taken).await {
                Ok(()) => {
                    self.delivered.increment(1);
                    self.log.delivered(&taken);
                }
                Err(why) => self.not_delivered(place, taken, &why),
            }
        }
    }

    fn not_delivered(&self, place: Place, taken: Taken, why: &Undelivered) {
        self.failed.increment(1);
        self.warn(&taken.origin, why);
        match why {
            Undelivered::Later(_) => self.log.put_back(place, taken),
            Undelivered::Never(_) => self.log.drop_taken(&taken),
        }
    }

    async fn deliver(&self, place: Place, taken: &Taken) -> Result<(), Undelivered> {
        let (source, lines) = (&taken.origin, taken.lines.clone());
        let logging = &source.logging;
        let name = BucketName::parse(&logging.target_bucket)
            .map_err(|_| Undelivered::Never("the target's name is none"))?;
        // First: while the store is full nothing is looked up either.
        let len_bytes = Some(lines.len() as u64);
        let _permit = self.ops.admit(len_bytes).map_err(of_ops)?;
        let target = match self.settings.get(&self.ops, &name).await {
            Err(error) if error.code == Code::NoSuchBucket => {
                return Err(Undelivered::Never("the target bucket does not exist"));
            }
            target => target.map_err(Undelivered::Later)?,
        };
        let now_ms = self.executor.unix_ms();
        let key = self.key(source, place, now_ms);
        check_target(&target, source, self.log.owner_id(&target.info.owner), &key, now_ms)?;
        let put = PutObject {
            bucket: name,
            key: ObjectKey::parse(key).map_err(|_| Undelivered::Never("the key of a log is too long"))?,
            headers: headers(&target, logging),
            condition: WriteCondition::default(),
            len_bytes,
            storage_class: None,
            lock: ObjectLock::default(),
            encrypt: by_default(&target),
        };
        self.ops.put_object(put, &mut GatheredBody::new(lines)).await.map_err(of_ops)?;
        Ok(())
    }

    fn key(&self, source: &Origin, place: Place, now_ms: u64) -> String {
        let Origin { bucket, account, logging } = source;
        let number = self.executor.random_u64();
        let (folders, at) = match logging.key_format {
            KeyFormat::Unnamed | KeyFormat::Simple => (String::new(), at_ms(now_ms)),
            KeyFormat::Partitioned(date) => {
                let at = at_ms(if date == DateSource::Event { place.day_ms() } else { now_ms });
                let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
                let region = &self.region;
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

    fn warn(&self, source: &Origin, why: &Undelivered) {
        if !self.log.may_warn(Trouble::Undelivered, self.executor.unix_ms()) {
            return;
        }
        let (bucket, target) = (source.bucket.as_str(), source.logging.target_bucket.as_str());
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
    source: &Origin,
    target_account: &str,
    key: &str,
    now_ms: u64,
) -> Result<(), Undelivered> {
    if target_account != source.account {
        return Err(Undelivered::Never("the target bucket is another account's"));
    }
    if target.document(ConfigKind::ObjectLock).is_some() {
        return Err(Undelivered::Never("the target bucket has a default retention"));
    }
    if !may_deliver(target, key, &source.bucket, &source.account, now_ms) {
        return Err(Undelivered::Never(
            "neither the target's policy lets logging.s3.amazonaws.com put objects, nor its list the group of log delivery",
        ));
    }
    Ok(())
}

/// A log is its bucket owner's; others get what the configuration grants them, where lists count, and everyone only where
/// the target does not refuse such lists.
fn headers(target: &BucketSettings, logging: &Logging) -> Vec<Header> {
    let text = Header { name: "content-type".to_owned(), value: Bytes::from_static(b"text/plain") };
    let mut headers = vec![text];
    if target.access.has_acls() && !logging.grants.is_empty() {
        let owner = &target.info.owner;
        let own = Grant { grantee: Grantee::Account(owner.clone()), permission: Permission::FullControl };
        let refuses_public = target.access.switches().refuse_acls;
        let given = logging.grants.iter().filter(|grant| !(refuses_public && grant.grantee.is_public()));
        let grants = std::iter::once(own).chain(given.cloned()).take(GRANTS_MAX).collect();
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
