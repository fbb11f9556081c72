//! Records of one core that wait for their delivery.
//! Invariants: with all that is kept beside them they take at most as many bytes as they were given, those that a delivery
//! holds counted too; what does not fit is dropped and counted, and a request never waits for it; lines of one buffer are of
//! one bucket under one configuration; of a bucket's settings only where its log goes is kept.
//! Not here: writing them (`delivery`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use metrics::{Counter, Gauge, counter, gauge};

use super::line::Record;
use crate::auth::is_canonical_id;
use crate::s3::acl::{Grant, Grantee};
use crate::s3::bucket_settings::BucketSettings;
use crate::s3::config::logging::{DateSource, KeyFormat, Logging};

/// A buffer of so much is delivered at once, or of a quarter of all that may wait.
const FULL_BYTES: usize = 1 << 20;
/// The least by which a buffer grows: two or three lines.
const GROWTH_MIN_BYTES: usize = 1_024;
/// What a buffer takes besides its lines and where they go: its part of the map, and what the allocator keeps of it.
const OVERHEAD_BYTES: usize = 512;
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

/// Whose lines they are and where they go: what a delivery needs to know of a bucket's settings.
pub(super) struct Origin {
    /// The bucket's name.
    pub(super) bucket: String,
    /// The canonical id of its owner.
    pub(super) account: String,
    pub(super) logging: Rc<Logging>,
}

/// Lines that wait.
struct Buffer {
    /// As it was when the first of them was written.
    origin: Origin,
    lines: Vec<u8>,
    count: u64,
    /// They could not be delivered before.
    is_put_off: bool,
    counted_bytes: usize,
}

/// Lines that are being delivered. They count until they are given back in one way or another.
pub(super) struct Taken {
    pub(super) origin: Origin,
    pub(super) lines: Bytes,
    count: u64,
    counted_bytes: usize,
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
    pub fn record(&self, settings: &BucketSettings, record: &Record) {
        let Some(logging) = &settings.logging else { return };
        let mut line = Vec::with_capacity(512);
        record.push_line(&mut line);
        let is_by_day = logging.key_format == KeyFormat::Partitioned(DateSource::Event);
        let place = Place {
            bucket_id: settings.info.id,
            generation: settings.info.config_generation,
            day: if is_by_day { record.received_ms / DAY_MS } else { 0 },
        };
        let origin = || Origin {
            bucket: settings.info.name.as_str().to_owned(),
            account: self.owner_id(&settings.info.owner).to_owned(),
            logging: Rc::clone(logging),
        };
        if self.inner.push(place, &line, origin) {
            self.inner.records.increment(1);
        } else {
            self.drop_records(1, record.received_ms);
        }
    }

    /// Counts records for which there was no room.
    fn drop_records(&self, count: u64, now_ms: u64) {
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

    /// What is not to wait for its round: what is full, or everything once there is little room left. What could not be
    /// delivered before is among it only if that is asked for.
    pub(super) fn urgent_places(&self, with_put_off: bool) -> Vec<Place> {
        let (is_tight, full_bytes) = (self.inner.is_tight(), self.inner.full_bytes());
        let is_urgent = |buffer: &Buffer| match buffer.is_put_off {
            true => with_put_off,
            false => is_tight || buffer.lines.len() >= full_bytes,
        };
        let buffers = self.inner.buffers.borrow();
        buffers.iter().filter(|(_, buffer)| is_urgent(buffer)).map(|(place, _)| *place).collect()
    }

    /// Whether something waits that could not be delivered before.
    pub(super) fn has_put_off(&self) -> bool {
        self.inner.buffers.borrow().values().any(|buffer| buffer.is_put_off)
    }

    /// Takes a buffer out, for its delivery.
    pub(super) fn take(&self, place: Place) -> Option<Taken> {
        let Buffer { origin, lines, count, counted_bytes, .. } =
            self.inner.buffers.borrow_mut().remove(&place)?;
        Some(Taken { origin, lines: Bytes::from(lines), count, counted_bytes })
    }

    /// Forgets what was delivered.
    pub(super) fn delivered(&self, taken: &Taken) {
        self.inner.recount(taken.counted_bytes, 0);
    }

    /// Forgets what will never be delivered.
    pub(super) fn drop_taken(&self, taken: &Taken) {
        self.inner.recount(taken.counted_bytes, 0);
        self.inner.dropped.increment(taken.count);
    }

    /// Puts back what could not be delivered yet, before what came meanwhile.
    pub(super) fn put_back(&self, place: Place, taken: Taken) {
        let Taken { origin, lines, count, counted_bytes } = taken;
        // Without a copy, as nobody else holds them any more.
        let lines = Vec::from(lines);
        let mut buffer = Buffer { origin, lines, count, is_put_off: true, counted_bytes };
        let mut buffers = self.inner.buffers.borrow_mut();
        if let Some(newer) = buffers.remove(&place) {
            // There is room: it takes no more than the two of them did.
            buffer.lines.reserve_exact(newer.lines.len());
            buffer.lines.extend_from_slice(&newer.lines);
            buffer.count += newer.count;
            buffer.counted_bytes += newer.counted_bytes;
        }
        self.inner.count(&mut buffer);
        buffers.insert(place, buffer);
    }

    /// Forgets everything that waits; how many records that were.
    pub(super) fn drop_all(&self) -> u64 {
        let taken = self.places().into_iter().filter_map(|place| self.take(place));
        let dropped = taken.map(|taken| {
            self.drop_taken(&taken);
            taken.count
        });
        dropped.sum()
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
        self.inner.wake();
    }
}

impl Inner {
    /// Adds a line; false where there is no room for it.
    fn push(&self, place: Place, line: &[u8], origin: impl FnOnce() -> Origin) -> bool {
        let mut buffers = self.buffers.borrow_mut();
        let was_tight = self.is_tight();
        let mut room_bytes = self.bytes_max.saturating_sub(self.bytes.get());
        let buffer = match buffers.entry(place) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let buffer = Buffer::new(origin());
                let cost_bytes = buffer.cost_bytes();
                if cost_bytes + line.len() > room_bytes {
                    return false;
                }
                room_bytes -= cost_bytes;
                entry.insert(buffer)
            }
        };
        let before_bytes = buffer.lines.len();
        if !buffer.push(line, room_bytes) {
            return false;
        }
        self.count(buffer);
        let full_bytes = self.full_bytes();
        let is_full = !buffer.is_put_off && before_bytes < full_bytes && buffer.lines.len() >= full_bytes;
        if is_full || (!was_tight && self.is_tight()) {
            self.is_full.set(true);
            self.wake();
        }
        true
    }

    fn full_bytes(&self) -> usize {
        FULL_BYTES.min(self.bytes_max / 4)
    }

    /// Whether it is time to deliver everything, lest records be dropped.
    fn is_tight(&self) -> bool {
        self.bytes.get() >= self.bytes_max / 4 * 3
    }

    /// Counts what a buffer takes now.
    fn count(&self, buffer: &mut Buffer) {
        let cost_bytes = buffer.cost_bytes();
        self.recount(buffer.counted_bytes, cost_bytes);
        buffer.counted_bytes = cost_bytes;
    }

    fn recount(&self, before_bytes: usize, bytes: usize) {
        self.bytes.set(self.bytes.get() - before_bytes + bytes);
        self.buffered_bytes.increment(in_gauge(bytes) - in_gauge(before_bytes));
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Buffer {
    fn new(origin: Origin) -> Buffer {
        Buffer { origin, lines: Vec::new(), count: 0, is_put_off: false, counted_bytes: 0 }
    }

    fn cost_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.origin.cost_bytes() + self.lines.capacity()
    }

    /// Adds a line, growing by half, but by no more than `room_bytes`; false where that is too little.
    fn push(&mut self, line: &[u8], room_bytes: usize) -> bool {
        let free_bytes = self.lines.capacity() - self.lines.len();
        let lacking_bytes = line.len().saturating_sub(free_bytes);
        if lacking_bytes > room_bytes {
            return false;
        }
        if lacking_bytes > 0 {
            let growth_bytes = lacking_bytes.max(self.lines.capacity() / 2).max(GROWTH_MIN_BYTES);
            self.lines.reserve_exact(free_bytes + growth_bytes.min(room_bytes));
        }
        self.lines.extend_from_slice(line);
        self.count += 1;
        true
    }
}

impl Origin {
    fn cost_bytes(&self) -> usize {
        let Logging { target_bucket, target_prefix, grants, .. } = &*self.logging;
        let grant_bytes = |grant: &Grant| match &grant.grantee {
            Grantee::Account(id) => size_of::<Grant>() + id.len(),
            Grantee::AllUsers | Grantee::AuthenticatedUsers | Grantee::LogDelivery => size_of::<Grant>(),
        };
        let texts = [&self.bucket, &self.account, target_bucket, target_prefix];
        let text_bytes: usize = texts.into_iter().map(String::len).sum();
        size_of::<Logging>() + text_bytes + grants.iter().map(grant_bytes).sum::<usize>()
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

    fn log() -> AccessLog {
        AccessLog::new(Arc::from("root"), BYTES_MAX)
    }

    /// A line of about so many bytes.
    fn long(bytes: usize) -> Record {
        Record { request_id: "x".repeat(bytes), ..record(0) }
    }

    #[test]
    fn what_does_not_fit_is_dropped_also_while_a_delivery_holds_the_rest() {
        let log = log();
        let settings = settings(1, "");
        for _ in 0..BYTES_MAX / 50 {
            log.record(&settings, &record(0));
            assert!(log.inner.bytes.get() <= BYTES_MAX);
        }
        let taken = log.take(log.places()[0]).unwrap();
        assert!(taken.lines.len() > BYTES_MAX / 10 * 9, "nearly all of it is lines: {}", taken.lines.len());
        assert_eq!(taken.lines.iter().filter(|byte| **byte == b'\n').count() as u64, taken.count);
        log.record(&settings, &record(0));
        assert!(log.places().is_empty(), "what is being delivered takes room still");
        log.delivered(&taken);
        assert_eq!(log.inner.bytes.get(), 0);
        log.record(&settings, &record(0));
        assert_eq!(log.places().len(), 1, "there is room again");
    }

    /// Each change of a bucket's configuration begins a buffer, and each buffer kept the whole configuration alive.
    #[test]
    fn many_changes_of_a_configuration_take_no_more_memory_than_was_given() {
        let log = log();
        for generation in 0..10_000 {
            let settings = settings(generation, "");
            log.record(&settings, &record(0));
            assert_eq!(Rc::strong_count(&settings), 1, "its other documents can be forgotten");
        }
        assert!(log.inner.bytes.get() <= BYTES_MAX);
        let places = log.places().len();
        assert!(places > 10 && places <= BYTES_MAX / OVERHEAD_BYTES, "{places}");
        let grant = format!(
            "<Grant><Grantee><ID>{}</ID></Grantee><Permission>READ</Permission></Grant>",
            "a".repeat(64)
        );
        let grants = format!("<TargetGrants>{}</TargetGrants>", grant.repeat(99));
        let origin = |settings: &BucketSettings| Origin {
            bucket: String::new(),
            account: String::new(),
            logging: Rc::clone(settings.logging.as_ref().unwrap()),
        };
        assert!(origin(&settings(1, &grants)).cost_bytes() > 99 * 64 + origin(&settings(1, "")).cost_bytes());
    }

    #[test]
    fn what_is_put_back_stands_before_what_came_meanwhile_and_nothing_is_lost() {
        let log = log();
        let settings = settings(1, "");
        let name = |id: &str| Record { request_id: id.to_owned(), ..record(0) };
        for id in ["first", "second"] {
            log.record(&settings, &name(id));
        }
        let place = log.places()[0];
        let taken = log.take(place).unwrap();
        log.record(&settings, &name("third"));
        let before_bytes = log.inner.bytes.get();
        log.put_back(place, taken);
        assert!(log.inner.bytes.get() <= before_bytes);
        log.record(&settings, &name("fourth"));
        let taken = log.take(place).unwrap();
        let text = String::from_utf8(taken.lines.to_vec()).unwrap();
        let ids: Vec<&str> = text.lines().map(|line| line.split(' ').nth(6).unwrap()).collect();
        assert_eq!((ids, taken.count), (vec!["first", "second", "third", "fourth"], 4));
        log.delivered(&taken);
        assert_eq!(log.inner.bytes.get(), 0);
    }

    #[test]
    fn only_what_is_full_is_urgent_and_what_was_put_off_not_at_once() {
        let log = log();
        log.record(&settings(1, ""), &long(BYTES_MAX / 4));
        log.record(&settings(2, ""), &record(0));
        let full = log.places()[0];
        assert_eq!(log.urgent_places(false), [full]);
        let taken = log.take(full).unwrap();
        log.put_back(full, taken);
        assert!(log.has_put_off());
        assert_eq!((log.urgent_places(false), log.urgent_places(true)), (vec![], vec![full]));
        log.record(&settings(3, ""), &long(BYTES_MAX / 4));
        assert_eq!(log.urgent_places(false), [log.places()[2]], "another one does not wait for it");
    }

    #[test]
    fn everything_is_urgent_before_the_room_is_used_up() {
        let log = log();
        for generation in 0..7 {
            assert!(log.urgent_places(false).is_empty(), "after {generation}");
            log.record(&settings(generation, ""), &long(BYTES_MAX / 9));
        }
        assert_eq!(log.urgent_places(false).len(), 7);
        assert!(log.inner.is_full.get());
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
