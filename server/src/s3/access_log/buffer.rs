//! Records of one core that wait for their delivery.
//! Invariants: they take at most as many bytes as they were given; what does not fit is dropped and counted, and a request never
//! waits for it; lines of one buffer are of one bucket under one configuration.
//! Not here: writing them (`delivery`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use metrics::{Counter, Gauge, counter, gauge};

use super::line::Record;
use crate::auth::is_canonical_id;
use crate::s3::bucket_settings::BucketSettings;
use crate::s3::config::logging::{DateSource, KeyFormat};

/// A buffer of so much is delivered at once, or of a quarter of all that may wait.
const FULL_BYTES: usize = 1 << 20;
/// Between two warnings of the same kind on a core.
const WARNING_INTERVAL_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The access log of one core. Clones share it.
#[derive(Clone)]
pub struct AccessLog {
    inner: Rc<Inner>,
}

struct Inner {
    /// The canonical id of root, who owns what was made before there were accounts.
    root_id: Arc<str>,
    buffers: RefCell<BTreeMap<Place, Buffer>>,
    bytes_max: usize,
    bytes: Cell<usize>,
    is_full: Cell<bool>,
    is_stopping: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    next_warning_ms: [Cell<u64>; 2],
    records: Counter,
    dropped: Counter,
    buffered_bytes: Gauge,
}

/// Which lines are delivered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    bucket_id: u64,
    generation: u64,
    /// Days since 1970 where each day has logs of its own, else 0.
    day: u64,
}

/// Lines that wait.
pub(super) struct Buffer {
    /// Of the bucket, when the first of them was written.
    pub(super) settings: Rc<BucketSettings>,
    pub(super) lines: Vec<u8>,
    pub(super) count: u64,
}

/// What a warning is about.
#[derive(Clone, Copy)]
pub(super) enum Trouble {
    Dropped = 0,
    Undelivered = 1,
}

impl Place {
    /// The begin of its day, in milliseconds since 1970.
    pub(super) fn day_ms(self) -> u64 {
        self.day * DAY_MS
    }
}

impl AccessLog {
    /// For one core, of which at most `bytes_max` wait. Metrics register here: install the recorder first.
    pub fn new(root_id: Arc<str>, bytes_max: usize) -> AccessLog {
        AccessLog {
            inner: Rc::new(Inner {
                root_id,
                buffers: RefCell::default(),
                bytes_max,
                bytes: Cell::new(0),
                is_full: Cell::new(false),
                is_stopping: Cell::new(false),
                waker: RefCell::default(),
                next_warning_ms: Default::default(),
                records: counter!("basalt_access_log_records_total"),
                dropped: counter!("basalt_access_log_dropped_records_total"),
                buffered_bytes: gauge!("basalt_access_log_buffered_bytes"),
            }),
        }
    }

    /// The canonical id under which a bucket's owner is shown.
    pub fn owner_id<'o>(&'o self, owner: &'o str) -> &'o str {
        if is_canonical_id(owner) { owner } else { &self.inner.root_id }
    }

    /// Records a request of a bucket that is logged; without room it is dropped.
    pub fn record(&self, settings: &Rc<BucketSettings>, record: &Record) {
        let Some(logging) = &settings.logging else { return };
        let mut line = Vec::with_capacity(512);
        record.push_line(&mut line);
        if self.inner.bytes.get() + line.len() > self.inner.bytes_max {
            self.drop_records(1, record.received_ms);
            return;
        }
        let is_by_day = logging.key_format == KeyFormat::Partitioned(DateSource::Event);
        let place = Place {
            bucket_id: settings.info.id,
            generation: settings.info.config_generation,
            day: if is_by_day { record.received_ms / DAY_MS } else { 0 },
        };
        self.inner.records.increment(1);
        self.add(place, Buffer { settings: Rc::clone(settings), lines: line, count: 1 });
    }

    fn add(&self, place: Place, more: Buffer) {
        self.inner.bytes.set(self.inner.bytes.get() + more.lines.len());
        self.inner.buffered_bytes.increment(in_gauge(more.lines.len()));
        let mut buffers = self.inner.buffers.borrow_mut();
        let (before_bytes, more_bytes) = match buffers.get_mut(&place) {
            Some(buffer) => {
                let before_bytes = buffer.lines.len();
                buffer.lines.extend_from_slice(&more.lines);
                buffer.count += more.count;
                (before_bytes, more.lines.len())
            }
            None => {
                let more_bytes = more.lines.len();
                buffers.insert(place, more);
                (0, more_bytes)
            }
        };
        // Once only: one that could not be delivered when it was full waits for its turn.
        let full_bytes = FULL_BYTES.min(self.inner.bytes_max / 4);
        if before_bytes < full_bytes && before_bytes + more_bytes >= full_bytes {
            self.inner.is_full.set(true);
            self.wake();
        }
    }

    /// Counts records that will never be delivered.
    pub(super) fn drop_records(&self, count: u64, now_ms: u64) {
        self.inner.dropped.increment(count);
        if self.may_warn(Trouble::Dropped, now_ms) {
            tracing::warn!(
                "access log records are dropped: they come faster than they can be delivered; \
                 basalt_access_log_dropped_records_total counts them"
            );
        }
    }

    /// Whether it is time for another warning.
    pub(super) fn may_warn(&self, trouble: Trouble, now_ms: u64) -> bool {
        let next = &self.inner.next_warning_ms[trouble as usize];
        let may = now_ms >= next.get();
        if may {
            next.set(now_ms + WARNING_INTERVAL_MS);
        }
        may
    }

    /// What waits now.
    pub(super) fn places(&self) -> Vec<Place> {
        self.inner.buffers.borrow().keys().copied().collect()
    }

    /// Takes a buffer out.
    pub(super) fn take(&self, place: Place) -> Option<Buffer> {
        let buffer = self.inner.buffers.borrow_mut().remove(&place)?;
        self.inner.bytes.set(self.inner.bytes.get() - buffer.lines.len());
        self.inner.buffered_bytes.decrement(in_gauge(buffer.lines.len()));
        Some(buffer)
    }

    /// Puts a buffer back that could not be delivered yet, unless others took its room.
    pub(super) fn put_back(&self, place: Place, buffer: Buffer, now_ms: u64) {
        if self.inner.bytes.get() + buffer.lines.len() > self.inner.bytes_max {
            self.drop_records(buffer.count, now_ms);
        } else {
            self.add(place, buffer);
            // It goes out with the next round, not at once.
            self.inner.is_full.set(false);
        }
    }

    /// Asks for a last delivery.
    pub fn stop(&self) {
        self.inner.is_stopping.set(true);
        self.wake();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.inner.is_stopping.get()
    }

    /// Returns once a buffer is full or the log is to stop.
    pub(super) async fn urgent(&self) {
        poll_fn(|context| {
            if self.inner.is_full.take() || self.is_stopping() {
                return Poll::Ready(());
            }
            *self.inner.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn wake(&self) {
        if let Some(waker) = self.inner.waker.take() {
            waker.wake();
        }
    }
}

/// Cores share the gauge, so each adds what it adds.
fn in_gauge(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::ops::api::{BucketConfigs, BucketInfo, BucketName, ConfigKind, Versioning};

    const BYTES_MAX: usize = 100_000;

    fn settings(generation: u64, format: &str) -> Rc<BucketSettings> {
        let info = BucketInfo {
            name: BucketName::parse("photos").unwrap(),
            owner: "AKOLD".to_owned(),
            created_ms: 0,
            id: 7,
            versioning: Versioning::Never,
            object_lock: false,
            config_generation: generation,
        };
        let document = format!(
            "<BucketLoggingStatus><LoggingEnabled><TargetBucket>logs</TargetBucket><TargetPrefix/>{format}\
             </LoggingEnabled></BucketLoggingStatus>"
        );
        let documents = BTreeMap::from([(ConfigKind::Logging, Bytes::from(document))]);
        Rc::new(BucketSettings::parse(BucketConfigs { info, documents }).unwrap())
    }

    fn record(received_ms: u64) -> Record {
        Record { bucket: "photos".to_owned(), received_ms, ..Record::default() }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_the_rest_stays() {
        let log = AccessLog::new(Arc::from("root"), BYTES_MAX);
        let settings = settings(1, "");
        let line_bytes = {
            let mut line = Vec::new();
            record(0).push_line(&mut line);
            line.len()
        };
        let fit = BYTES_MAX / line_bytes;
        for _ in 0..fit + 100 {
            log.record(&settings, &record(0));
        }
        let buffer = log.take(log.places()[0]).unwrap();
        assert_eq!((buffer.count, buffer.lines.len()), (fit as u64, fit * line_bytes));
        assert_eq!(log.inner.bytes.get(), 0);
        log.record(&settings, &record(0));
        assert_eq!(log.places().len(), 1, "there is room again");
    }

    #[test]
    fn lines_are_apart_by_configuration_and_where_asked_by_day() {
        let log = AccessLog::new(Arc::from("root"), BYTES_MAX);
        log.record(&settings(1, ""), &record(0));
        log.record(&settings(2, ""), &record(DAY_MS));
        log.record(&settings(2, ""), &record(2 * DAY_MS));
        assert_eq!(log.places().len(), 2);
        let by_day = "<TargetObjectKeyFormat><PartitionedPrefix/></TargetObjectKeyFormat>";
        log.record(&settings(3, by_day), &record(DAY_MS));
        log.record(&settings(3, by_day), &record(2 * DAY_MS + 5));
        let days: Vec<u64> = log.places().iter().map(|place| place.day_ms()).collect();
        assert_eq!(days, [0, 0, DAY_MS, 2 * DAY_MS]);
        assert_eq!(log.owner_id("AKOLD"), "root");
    }

    #[test]
    fn a_warning_is_given_once_a_minute() {
        let log = AccessLog::new(Arc::from("root"), BYTES_MAX);
        let warned: Vec<bool> =
            [0, 1, 59_999, 60_000, 60_001].map(|at| log.may_warn(Trouble::Undelivered, at)).to_vec();
        assert_eq!(warned, [true, false, false, true, false]);
        assert!(log.may_warn(Trouble::Dropped, 1));
    }
}
