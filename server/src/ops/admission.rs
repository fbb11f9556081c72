//! Admission: how many requests one core takes at once, and how much memory they may pin.
//! Invariants: the sum of what permits stand for never exceeds the budget; requests with a body never take the last
//! eighth of it, so however many of them stall, the core reads, lists and deletes; full means refuse, never queue; a
//! permit gives back exactly what it took.
//! Not here: connections and their buffers (`http`).

use std::cell::Cell;
use std::rc::Rc;

use fdb_schema::schema::SEGMENT_STORED_BYTES;
use shardstore_format::Profile;

use super::api::OpError;

/// What any request pins besides its body: a head, a reply or a page of a listing, a few rows.
const REQUEST_BYTES: u64 = 64 * 1024;
/// A large body on its way in: one run being filled and 4 in flight, of at most 20 pages of 64 KiB, before parity.
const WRITE_DATA_MAX_BYTES: u64 = 5 * 20 * 64 * 1024;
/// Of the budget, what requests with a body leave to all others. With 64 MiB for a core it is 8 MiB: 3 large GETs
/// or 120 small requests at once.
const UNWRITTEN_SHARE: u64 = 8;
/// A body on its way out: the store's read-ahead.
const READ_MAX_BYTES: u64 = 2 * 1024 * 1024;

/// Of an encrypted body on its way in: the segment that is sealed. Counted for every body, for whether it is encrypted is
/// known later.
const SEALED_MAX_BYTES: u64 = SEGMENT_STORED_BYTES;
/// Of one on its way out: a segment that is opened while the one before is sent.
const OPENED_MAX_BYTES: u64 = 2 * SEGMENT_STORED_BYTES;

/// What one core may take.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Requests at once.
    pub requests_max: u32,
    /// Bytes that they may pin together: of the process's memory budget, less cache, memtables and connections, a
    /// core's share. With 256 MiB, redundancy 4+2: 23 large PUTs (9.4 MiB + 128 KiB each), or 117 large GETs, or
    /// 3,000 of 4 KiB.
    pub memory_bytes: u64,
}

/// One core's budget. Clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    profile: Profile,
    free_requests: Cell<u32>,
    free_bytes: Cell<u64>,
    /// Of `free_bytes`, what requests with a body may still take.
    free_body_bytes: Cell<u64>,
}

/// A place among the requests of a core; freed on drop.
#[derive(Debug)]
pub struct Permit {
    inner: Rc<Inner>,
    bytes: u64,
    /// All of `bytes` if there is a body on its way in, else 0.
    body_bytes: u64,
}

impl Admission {
    /// A budget for writes of this redundancy.
    pub fn new(limits: AdmissionLimits, profile: Profile) -> Admission {
        let inner = Inner {
            profile,
            free_requests: Cell::new(limits.requests_max),
            free_bytes: Cell::new(limits.memory_bytes),
            free_body_bytes: Cell::new(limits.memory_bytes - limits.memory_bytes / UNWRITTEN_SHARE),
        };
        Admission { inner: Rc::new(inner) }
    }

    /// A place for a request with a body of `len_bytes`, `None` if that is not known.
    pub(crate) fn write(&self, len_bytes: Option<u64>) -> Result<Permit, OpError> {
        let len_bytes = len_bytes.unwrap_or(u64::MAX);
        let data_bytes = len_bytes.min(WRITE_DATA_MAX_BYTES);
        let Profile { k, m } = self.inner.profile;
        let with_parity_bytes = (data_bytes * (u64::from(k) + u64::from(m))).div_ceil(u64::from(k));
        let body_bytes = with_parity_bytes + len_bytes.min(SEALED_MAX_BYTES);
        let bytes = REQUEST_BYTES + body_bytes;
        self.take(bytes, if body_bytes > 0 { bytes } else { 0 })
    }

    /// A place for a reply of `len_bytes`.
    pub(crate) fn read(&self, len_bytes: u64) -> Result<Permit, OpError> {
        let body_bytes = len_bytes.min(READ_MAX_BYTES) + len_bytes.min(OPENED_MAX_BYTES);
        self.take(REQUEST_BYTES + body_bytes, 0)
    }

    /// `body_bytes`: of `bytes`, what counts against the share of bodies on their way in.
    fn take(&self, bytes: u64, body_bytes: u64) -> Result<Permit, OpError> {
        assert!(body_bytes <= bytes);
        let inner = &self.inner;
        let requests = inner.free_requests.get().checked_sub(1);
        let left_bytes = inner.free_bytes.get().checked_sub(bytes);
        let left_body_bytes = inner.free_body_bytes.get().checked_sub(body_bytes);
        let (Some(requests), Some(left_bytes), Some(left_body_bytes)) =
            (requests, left_bytes, left_body_bytes)
        else {
            return Err(OpError::SlowDown);
        };
        inner.free_requests.set(requests);
        inner.free_bytes.set(left_bytes);
        inner.free_body_bytes.set(left_body_bytes);
        Ok(Permit { inner: Rc::clone(inner), bytes, body_bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.inner;
        inner.free_requests.set(inner.free_requests.get() + 1);
        inner.free_bytes.set(inner.free_bytes.get() + self.bytes);
        inner.free_body_bytes.set(inner.free_body_bytes.get() + self.body_bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn admission(requests_max: u32, memory_bytes: u64) -> Admission {
        Admission::new(AdmissionLimits { requests_max, memory_bytes }, Profile { k: 4, m: 2 })
    }

    #[test]
    fn a_full_core_refuses_until_a_place_is_free() {
        let admission = admission(2, 1 << 30);
        let first = admission.read(0).unwrap();
        let _second = admission.write(Some(0)).unwrap();
        assert_eq!(admission.read(0).unwrap_err(), OpError::SlowDown);
        drop(first);
        assert!(admission.read(0).is_ok());
    }

    #[test]
    fn a_core_full_of_bodies_still_reads() {
        let admission = admission(10_000, 64 << 20);
        let mut permits = Vec::new();
        for len_bytes in [None, Some(1)] {
            while let Ok(permit) = admission.write(len_bytes) {
                permits.push(permit);
            }
        }
        for _ in 0..3 {
            permits.push(admission.read(5 << 30).unwrap());
        }
        assert!(admission.write(Some(0)).is_ok());
    }

    #[test]
    fn memory_does_not_follow_the_length_of_bodies() {
        let admission = admission(1_000, 256 << 20);
        let mut permits = Vec::new();
        while let Ok(permit) = admission.write(Some(5 << 30)) {
            permits.push(permit);
        }
        assert_eq!(permits.len(), 23);
        permits.clear();
        assert_eq!(admission.inner.free_body_bytes.get(), 224 << 20);
        while let Ok(permit) = admission.read(5 << 30) {
            permits.push(permit);
        }
        assert_eq!(permits.len(), 117);
        permits.clear();
        assert_eq!(admission.inner.free_bytes.get(), 256 << 20);
    }
}
