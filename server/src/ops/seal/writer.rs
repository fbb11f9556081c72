//! A body on its way to be sealed: gathered to segments, each sealed where it lies.
//! Invariants: one segment is held, never more; the last one is sealed as the last, which is why a full one waits for
//! the byte after it; an empty body has no segment.
//! Not here: where the segments go (`write`).

use fdb_schema::schema::{SEGMENT_PLAIN_BYTES, SEGMENT_STORED_BYTES, sealed_len};

use super::BodyKey;
use super::segments::length;

/// Seals one body.
pub(crate) struct BodySealer {
    key: BodyKey,
    segment_index: u32,
    segment: Vec<u8>,
    /// What is in `segment` was returned: the next bytes begin another.
    is_sealed: bool,
}

impl BodySealer {
    /// `len_bytes`: that of the body, if it is known.
    pub(crate) fn new(key: BodyKey, len_bytes: Option<u64>) -> BodySealer {
        let stored = len_bytes.map_or(SEGMENT_STORED_BYTES, |len| sealed_len(len).min(SEGMENT_STORED_BYTES));
        let segment = Vec::with_capacity(length(stored));
        BodySealer { key, segment_index: 0, segment, is_sealed: false }
    }

    /// Takes bytes from the beginning of `bytes`, which is not empty; a sealed segment once it is known that another
    /// follows. To be called until nothing is left.
    pub(crate) fn take(&mut self, bytes: &mut &[u8]) -> Option<&[u8]> {
        let full = length(SEGMENT_PLAIN_BYTES);
        if self.is_sealed {
            self.segment.clear();
            self.is_sealed = false;
        }
        if self.segment.len() == full && !bytes.is_empty() {
            self.seal(false);
            return Some(&self.segment);
        }
        let (taken, rest) = bytes.split_at(bytes.len().min(full - self.segment.len()));
        self.segment.extend_from_slice(taken);
        *bytes = rest;
        None
    }

    /// The last segment; empty if the body is.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        assert!(!self.is_sealed, "a segment is sealed only when bytes follow");
        if !self.segment.is_empty() {
            self.seal(true);
        }
        self.segment
    }

    fn seal(&mut self, is_last: bool) {
        self.key.seal(self.segment_index, is_last, &mut self.segment);
        self.segment_index = self.segment_index.checked_add(1).expect("a body is at most 5 GiB");
        self.is_sealed = true;
    }
}
