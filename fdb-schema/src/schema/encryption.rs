//! What is kept of an encrypted body: under whose key its data key is sealed, and the lengths of sealed bytes.
//! Invariants: a body of n plain bytes is stored as ceil(n / 64 KiB) segments, each 16 bytes longer than what it
//! holds; the mapping of lengths is pure and goes both ways; only the sealed form of a data key is kept.
//! Not here: keys and ciphers (`server/src/ops/seal`). Reasons: docs/why/encryption.md.

use bytes::Bytes;

/// Plain bytes of a segment, all but the last: a page's worth, so that a small range opens little.
pub const SEGMENT_PLAIN_BYTES: u64 = 64 * 1024;
/// What sealing adds to each segment: the tag of AES-256-GCM.
pub const SEGMENT_TAG_BYTES: u64 = 16;
/// A full segment as it is stored.
pub const SEGMENT_STORED_BYTES: u64 = SEGMENT_PLAIN_BYTES + SEGMENT_TAG_BYTES;

/// Who holds the key under which a body's data key is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptedBy {
    /// The pool: its master key.
    Managed,
    /// The customer, who sends it with each request.
    Customer,
}

/// How the body of an object or of an upload's parts is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    by: EncryptedBy,
    sealed_key: Bytes,
}

impl Encryption {
    /// Of a data key, sealed.
    pub fn new(by: EncryptedBy, sealed_key: Bytes) -> Encryption {
        Encryption { by, sealed_key }
    }

    /// Who holds the key that opens it.
    pub fn by(&self) -> EncryptedBy {
        self.by
    }

    /// The sealed data key.
    pub fn sealed_key(&self) -> &Bytes {
        &self.sealed_key
    }
}

/// How long `plain_bytes` are when sealed.
pub fn sealed_len(plain_bytes: u64) -> u64 {
    plain_bytes + plain_bytes.div_ceil(SEGMENT_PLAIN_BYTES) * SEGMENT_TAG_BYTES
}

/// How many plain bytes a sealed body of `stored_bytes` holds; `None`: no body is that long when sealed.
pub fn opened_len(stored_bytes: u64) -> Option<u64> {
    let (full, rest) = (stored_bytes / SEGMENT_STORED_BYTES, stored_bytes % SEGMENT_STORED_BYTES);
    let plain_rest = match rest {
        0 => 0,
        rest => rest.checked_sub(SEGMENT_TAG_BYTES).filter(|plain| *plain > 0)?,
    };
    Some(full * SEGMENT_PLAIN_BYTES + plain_rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_map_both_ways() {
        let at_edges = [0, 1, 2].map(|n| n * SEGMENT_PLAIN_BYTES);
        let around = at_edges.into_iter().flat_map(|edge| edge.saturating_sub(2)..edge + 3);
        for plain in around.chain([5 << 30, (5 << 40) + 17]) {
            assert_eq!(opened_len(sealed_len(plain)), Some(plain), "{plain}");
        }
        assert_eq!((sealed_len(0), sealed_len(1), sealed_len(65_536)), (0, 17, 65_552));
        assert_eq!(sealed_len(65_537), 65_552 + 17);
    }

    #[test]
    fn a_segment_of_a_tag_alone_is_no_length_of_a_sealed_body() {
        for stored in (1..=16).chain(65_553..=65_568) {
            assert_eq!(opened_len(stored), None, "{stored}");
        }
    }
}
