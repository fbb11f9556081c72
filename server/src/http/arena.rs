//! What every response of a core shares: the buffer heads are formatted into, the date, request ids.
//! Invariants: the date text is rendered once a second; an id is unique within a core's life and not guessable
//! from its predecessor's secret seed.
//! Not here: what a response says (`response`).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use shardstore_reactor::Seal;
use time::OffsetDateTime;

/// Heads are 300 to 600 bytes, so one allocation serves about 40 of them; a client that stalls pins one.
const ARENA_BYTES: usize = 16 * 1024;

/// A buffer from which response heads are split.
#[derive(Debug, Default)]
pub struct OutputArena {
    buf: RefCell<BytesMut>,
}

impl OutputArena {
    /// Formats at most about `len_hint` bytes through `write` and returns them.
    pub fn format(&self, len_hint: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut buf = self.buf.borrow_mut();
        if buf.capacity() < len_hint {
            buf.reserve(len_hint.max(ARENA_BYTES));
        }
        write(&mut buf);
        buf.split().freeze()
    }
}

/// The text of a `Date` header, rendered once a second.
#[derive(Debug)]
pub struct HttpDate {
    second: Cell<u64>,
    text: Cell<[u8; 29]>,
}

impl Default for HttpDate {
    fn default() -> HttpDate {
        HttpDate { second: Cell::new(u64::MAX), text: Cell::new([b' '; 29]) }
    }
}

impl HttpDate {
    /// The text for `unix_ms`.
    pub fn text(&self, unix_ms: u64) -> [u8; 29] {
        let second = unix_ms / 1000;
        if self.second.replace(second) != second {
            self.text.set(format_http_date(second));
        }
        self.text.get()
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn format_http_date(unix_s: u64) -> [u8; 29] {
    const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let at = i64::try_from(unix_s)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut text = *b"Mon, 00 Jan 0000 00:00:00 GMT";
    text[0..3].copy_from_slice(DAYS[usize::from(at.weekday().number_days_from_monday())]);
    put_digits(&mut text[5..7], u32::from(at.day()));
    text[8..11].copy_from_slice(MONTHS[usize::from(u8::from(at.month())) - 1]);
    put_digits(&mut text[12..16], at.year().unsigned_abs());
    put_digits(&mut text[17..19], u32::from(at.hour()));
    put_digits(&mut text[20..22], u32::from(at.minute()));
    put_digits(&mut text[23..25], u32::from(at.second()));
    text
}

fn put_digits(target: &mut [u8], mut value: u32) {
    for digit in target.iter_mut().rev() {
        *digit = b"0123456789"[(value % 10) as usize];
        value /= 10;
    }
}

/// The ids of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestIds {
    request_id: [u8; 16],
    host_id: [u8; 64],
    /// The client.
    pub peer: SocketAddr,
    /// How the connection is sealed, if by TLS.
    pub seal: Option<Seal>,
}

impl RequestIds {
    /// `x-amz-request-id`: 16 upper-case hex digits.
    pub fn request_id(&self) -> &str {
        std::str::from_utf8(&self.request_id).unwrap_or_default()
    }

    /// Ids of no real request.
    #[cfg(test)]
    pub(crate) fn for_tests() -> RequestIds {
        IdSource::new(|| 1).next(SocketAddr::from(([127, 0, 0, 1], 1)), None)
    }

    /// `x-amz-id-2`: names this core of this process for as long as it runs.
    pub fn host_id(&self) -> &str {
        std::str::from_utf8(&self.host_id).unwrap_or_default()
    }
}

/// Makes [`RequestIds`].
#[derive(Debug)]
pub(super) struct IdSource {
    next: Cell<u64>,
    host_id: [u8; 64],
}

impl IdSource {
    pub(super) fn new(mut random_u64: impl FnMut() -> u64) -> IdSource {
        let mut host_id = [0; 64];
        for part in host_id.chunks_exact_mut(16) {
            part.copy_from_slice(&hex_upper(random_u64()));
        }
        IdSource { next: Cell::new(random_u64()), host_id }
    }

    pub(super) fn next(&self, peer: SocketAddr, seal: Option<Seal>) -> RequestIds {
        let id = self.next.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.next.set(id);
        RequestIds { request_id: hex_upper(splitmix(id)), host_id: self.host_id, peer, seal }
    }
}

/// The output function of SplitMix64: a bijection, so ids repeat only after 2^64 requests.
fn splitmix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn hex_upper(value: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789ABCDEF"[(value >> (60 - 4 * at) & 15) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rfc_7231_and_follow_the_clock() {
        let date = HttpDate::default();
        assert_eq!(&date.text(784_111_777_500), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date.text(784_111_778_000), b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(&date.text(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn ids_differ_and_are_hex() {
        let source = IdSource::new(|| 7);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let (a, b) = (source.next(peer, None), source.next(peer, None));
        assert_ne!(a.request_id(), b.request_id());
        assert_eq!(a.host_id(), b.host_id());
        assert!(a.request_id().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
