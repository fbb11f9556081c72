//! Segments of a sealed body: each holds up to 64 KiB and is sealed on its own.
//! Invariants: the nonce of a segment is its number and whether it is the last, so one in another's place, one left
//! out, one too many and a body cut short at a segment do not open; a key seals one body.
//! Not here: keys (`keys`), where a body's bytes lie (`reader`). Bytes: docs/format.md.
//! Source: Hoang, Reyhanitabar, Rogaway, Vizar, "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", CRYPTO 2015 (STREAM).

use std::ops::Range;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use bytes::{Buf, Bytes};
use fdb_schema::schema::{SEGMENT_PLAIN_BYTES, SEGMENT_STORED_BYTES, SEGMENT_TAG_BYTES, opened_len};

use crate::ops::api::OpError;

/// The key of one body.
pub(crate) struct BodyKey {
    cipher: LessSafeKey,
}

impl BodyKey {
    pub(super) fn new(cipher: LessSafeKey) -> BodyKey {
        BodyKey { cipher }
    }

    /// Seals a segment where it lies; its tag goes to its end.
    pub(crate) fn seal(&self, segment_index: u32, is_last: bool, segment: &mut Vec<u8>) {
        let nonce = nonce(segment_index, is_last);
        let sealed = self.cipher.seal_in_place_append_tag(nonce, Aad::empty(), segment);
        sealed.expect("a segment is far below the cipher's limit of 64 GiB");
    }

    /// Opens a segment where it lies; `None`: it is not the one that was sealed there.
    pub(crate) fn open(&self, segment_index: u32, is_last: bool, segment: &mut Vec<u8>) -> Option<()> {
        let nonce = nonce(segment_index, is_last);
        let plain_len = self.cipher.open_in_place(nonce, Aad::empty(), segment).ok()?.len();
        segment.truncate(plain_len);
        Some(())
    }
}

/// Seven zero bytes, the number, the flag: a body has at most 2^32 segments, and its key no other nonces.
fn nonce(segment_index: u32, is_last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[7..11].copy_from_slice(&segment_index.to_be_bytes());
    bytes[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

/// Opens the segments of one body that hold a range of it, as their bytes come. One segment is held at a time.
pub(crate) struct BodyOpener {
    key: BodyKey,
    /// Of the whole body.
    stored_bytes: u64,
    /// The segment that is gathered.
    segment_index: u32,
    gathered: Vec<u8>,
    /// Of the body, still to be returned.
    range: Range<u64>,
}

impl BodyOpener {
    /// For `range` of the body's plain bytes, which lies within it and is not empty.
    ///
    /// # Errors
    /// [`OpError::Damaged`]: no sealed body is `stored_bytes` long, or it has fewer bytes than that.
    pub(crate) fn new(key: BodyKey, stored_bytes: u64, range: Range<u64>) -> Result<BodyOpener, OpError> {
        assert!(range.start < range.end, "an empty range has no segments");
        if opened_len(stored_bytes).is_none_or(|plain_bytes| plain_bytes < range.end) {
            return Err(OpError::Damaged("sealed bytes are not as long as they should be".to_owned()));
        }
        let segment_index = u32::try_from(range.start / SEGMENT_PLAIN_BYTES)
            .map_err(|_| OpError::Damaged("a sealed body has too many segments".to_owned()))?;
        Ok(BodyOpener { key, stored_bytes, segment_index, gathered: Vec::new(), range })
    }

    /// Which stored bytes of the body [`BodyOpener::take`] is to be given: whole segments.
    pub(crate) fn needed(&self) -> Range<u64> {
        let begin = u64::from(self.segment_index) * SEGMENT_STORED_BYTES;
        let end = self.range.end.div_ceil(SEGMENT_PLAIN_BYTES) * SEGMENT_STORED_BYTES;
        begin..end.min(self.stored_bytes)
    }

    /// Whether all of the range was returned.
    pub(crate) fn is_done(&self) -> bool {
        self.range.start == self.range.end
    }

    /// Takes bytes, at most to the end of a segment; what of the range that segment holds, once it is whole.
    ///
    /// # Errors
    /// [`OpError::Damaged`]: the segment does not open.
    pub(crate) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>, OpError> {
        assert!(!self.is_done(), "nothing more was needed");
        let begin = u64::from(self.segment_index) * SEGMENT_STORED_BYTES;
        let end = (begin + SEGMENT_STORED_BYTES).min(self.stored_bytes);
        let segment_len = length(end - begin);
        if self.gathered.is_empty() {
            self.gathered.reserve_exact(segment_len);
        }
        let taken = bytes.len().min(segment_len - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        bytes.advance(taken);
        if self.gathered.len() < segment_len {
            return Ok(None);
        }
        let mut segment = std::mem::take(&mut self.gathered);
        let is_last = end == self.stored_bytes;
        let opened = self.key.open(self.segment_index, is_last, &mut segment);
        opened.ok_or_else(|| OpError::Damaged("a sealed segment does not open".to_owned()))?;
        let plain_begin = u64::from(self.segment_index) * SEGMENT_PLAIN_BYTES;
        let plain_end = plain_begin + SEGMENT_PLAIN_BYTES;
        let within = self.range.start - plain_begin..self.range.end.min(plain_end) - plain_begin;
        self.range.start = plain_begin + within.end;
        self.segment_index += 1;
        let within = length(within.start)..length(within.end);
        // Who does not read what is sent keeps it in memory: a little of a segment is not to keep all of it.
        if within.len() < segment.len() / 2 {
            return Ok(Some(Bytes::copy_from_slice(&segment[within])));
        }
        Ok(Some(Bytes::from(segment).slice(within)))
    }
}

/// Lengths within a segment.
pub(super) fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a segment is small")
}

const _: () = assert!(SEGMENT_STORED_BYTES == SEGMENT_PLAIN_BYTES + SEGMENT_TAG_BYTES);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::BodySealer;
    use super::*;
    use aws_lc_rs::aead::{AES_256_GCM, UnboundKey};
    use fdb_schema::schema::sealed_len;
    use proptest::prelude::*;

    fn key() -> BodyKey {
        BodyKey::new(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap()))
    }

    fn plain(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        fastrand::Rng::with_seed(len as u64).fill(&mut bytes);
        bytes
    }

    fn sealed(plain: &[u8], piece_len: usize) -> Vec<u8> {
        let mut sealer = BodySealer::new(key(), Some(plain.len() as u64));
        let mut sealed = Vec::new();
        for mut piece in plain.chunks(piece_len) {
            while !piece.is_empty() {
                sealer.take(&mut piece).inspect(|segment| sealed.extend_from_slice(segment));
            }
        }
        sealed.extend_from_slice(&sealer.finish());
        sealed
    }

    fn opened(stored: &[u8], range: Range<u64>, piece_len: usize) -> Result<Vec<u8>, OpError> {
        let mut opener = BodyOpener::new(key(), stored.len() as u64, range)?;
        let needed = opener.needed();
        let mut plain = Vec::new();
        for piece in stored[length(needed.start)..length(needed.end)].chunks(piece_len) {
            let mut piece = Bytes::copy_from_slice(piece);
            while !piece.is_empty() {
                opener.take(&mut piece)?.inspect(|bytes| plain.extend_from_slice(bytes));
            }
        }
        assert!(opener.is_done());
        Ok(plain)
    }

    fn is_damaged(stored: &[u8], range: Range<u64>) -> bool {
        matches!(opened(stored, range, 50_000), Err(OpError::Damaged(_)))
    }

    #[test]
    fn a_segment_is_aes_256_gcm_with_its_number_and_flag_as_the_nonce() {
        // Made with another implementation: key 07 x 32, nonce 00 x 11 01, no associated data.
        let stored = sealed(b"basalt", 3);
        assert_eq!(hex::encode(&stored), "5229ca015834a13a540cfb0a0d6fdd7d4164dbf2a367");
        // Two segments of `a`: the tags of both, nonces 00 x 12 and 00 x 10 01 01.
        let stored = sealed(&[b'a'; 65_537], 65_537);
        assert_eq!(hex::encode(&stored[65_536..65_552]), "cfe68f48fb9b6ceda718943af78fb5b2");
        assert_eq!(hex::encode(&stored[65_552..]), "4974566d4feb0c8a421427b385dc748d2e");
    }

    #[test]
    fn a_body_is_as_long_as_the_mapping_says_and_reads_back() {
        for len in [0usize, 1, 16, 65_535, 65_536, 65_537, 131_072, 200_000] {
            let bytes = plain(len);
            for piece_len in [1_000, 65_536, 300_000] {
                let stored = sealed(&bytes, piece_len);
                assert_eq!(stored.len() as u64, sealed_len(len as u64), "{len}");
                if len > 0 {
                    assert_eq!(opened(&stored, 0..len as u64, piece_len).unwrap(), bytes, "{len}");
                }
            }
        }
    }

    #[test]
    fn a_little_of_a_segment_does_not_keep_all_of_it() {
        let stored = sealed(&plain(65_536), 65_536);
        let taken = |range| {
            let mut opener = BodyOpener::new(key(), stored.len() as u64, range).unwrap();
            let taken = opener.take(&mut Bytes::copy_from_slice(&stored)).unwrap().unwrap();
            Vec::from(taken.try_into_mut().unwrap()).capacity()
        };
        assert!(taken(0..100) < 1_000);
        assert!(taken(0..60_000) >= 60_000);
    }

    #[test]
    fn segments_in_another_order_do_not_open() {
        let stored = sealed(&plain(200_000), 65_536);
        let segment = length(SEGMENT_STORED_BYTES);
        let swapped = [&stored[segment..2 * segment], &stored[..segment], &stored[2 * segment..]].concat();
        assert!(is_damaged(&swapped, 0..10));
        assert!(is_damaged(&swapped, 65_536..65_537));
        assert_eq!(opened(&swapped, 131_072..131_073, 99).unwrap().len(), 1, "this one is in its place");
    }

    #[test]
    fn a_body_that_lost_segments_or_gained_some_does_not_open_at_its_end() {
        let stored = sealed(&plain(200_000), 65_536);
        let segment = length(SEGMENT_STORED_BYTES);
        for count in 1..=3 {
            let cut = &stored[..count * segment];
            let last = (count as u64 - 1) * SEGMENT_PLAIN_BYTES;
            assert!(is_damaged(cut, last..last + 1), "cut after {count}");
        }
        let last = stored.len() / segment * segment;
        let longer = [&stored[..last], &stored[..segment], &stored[last..]].concat();
        assert!(is_damaged(&longer, 3 * SEGMENT_PLAIN_BYTES..3 * SEGMENT_PLAIN_BYTES + 1));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let stored = sealed(&plain(40), 40);
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(is_damaged(&bad, 0..40), "bit {bit}");
        }
    }

    #[test]
    fn a_length_that_no_sealed_body_has_is_damage() {
        for stored in [0, 5, 16, SEGMENT_STORED_BYTES + 3] {
            assert!(BodyOpener::new(key(), stored, 0..1).is_err(), "{stored}");
        }
        assert!(BodyOpener::new(key(), sealed_len(100), 0..101).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn no_stored_length_and_range_make_the_opener_panic(
            stored_bytes: u64, begin in 0..u64::MAX, len in 1..u64::MAX, bytes in any::<[u8; 40]>(),
        ) {
            for stored_bytes in [stored_bytes, stored_bytes % 100, stored_bytes % 200_000] {
                for begin in [begin, begin % 100, begin % 200_000] {
                    let range = begin..begin.saturating_add(len % 300_000);
                    if range.is_empty() {
                        continue;
                    }
                    let Ok(mut opener) = BodyOpener::new(key(), stored_bytes, range) else { continue };
                    let needed = opener.needed();
                    prop_assert!(needed.start < needed.end && needed.end <= stored_bytes);
                    prop_assert!(!matches!(opener.take(&mut Bytes::copy_from_slice(&bytes)), Ok(Some(_))));
                }
            }
        }

        #[test]
        fn any_range_reads_as_it_was_written(
            len in 1usize..300_000, piece_len in 1_000usize..100_000,
            begin in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(),
        ) {
            let bytes = plain(len);
            let stored = sealed(&bytes, piece_len);
            let begin = begin.index(len);
            let end = begin + 1 + end.index(len - begin);
            let opener = BodyOpener::new(key(), stored.len() as u64, begin as u64..end as u64).unwrap();
            let needed = opener.needed();
            prop_assert!(needed.end - needed.start <= (end - begin) as u64 + 2 * SEGMENT_STORED_BYTES);
            let read = opened(&stored, begin as u64..end as u64, piece_len).unwrap();
            prop_assert_eq!(read, &bytes[begin..end]);
        }
    }
}
