//! The filter of a run: says of most absent keys that they are absent, without a read.
//! Invariants: no false "absent"; 10 bits a key, so about 1.2 % false "maybe"; one cache line a question.
//! It is a split block Bloom filter: a 256-bit group by the high half of the hash, one bit in each of its eight words.
//! Bytes: the words, u32 little-endian.

use xxhash_rust::xxh3::xxh3_64;

use super::codec::low_u32;

/// Bits a key.
const BITS_PER_KEY: usize = 10;
const GROUP_WORDS: usize = 8;
const GROUP_BITS: usize = GROUP_WORDS * 32;
/// Odd constants of the published split block Bloom filter (Parquet format, "Bloom filter").
const SALTS: [u32; GROUP_WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// The hash that a filter is asked with; computed once for all levels.
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// A set of hashes, with false positives.
pub(crate) struct Filter {
    groups: Vec<[u32; GROUP_WORDS]>,
}

impl Filter {
    /// An empty filter with room for `key_count` keys.
    pub(crate) fn for_keys(key_count: usize) -> Filter {
        let group_count = (key_count * BITS_PER_KEY).div_ceil(GROUP_BITS).max(1);
        Filter { groups: vec![[0; GROUP_WORDS]; group_count] }
    }

    pub(crate) fn insert(&mut self, hashes: &[u64]) {
        for &hash in hashes {
            let index = self.group_of(hash);
            for (word, mask) in self.groups[index].iter_mut().zip(masks(hash)) {
                *word |= mask;
            }
        }
    }

    /// False: surely absent.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let group = &self.groups[self.group_of(hash)];
        group.iter().zip(masks(hash)).all(|(word, mask)| word & mask != 0)
    }

    #[inline]
    fn group_of(&self, hash: u64) -> usize {
        // The high half scaled to the number of groups; under 2^32 groups, so the product fits.
        let scaled = ((hash >> 32) * self.groups.len() as u64) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.memory_bytes());
        for word in self.groups.as_flattened() {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// `None`: not whole groups.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Filter> {
        let (groups, rest) = bytes.as_chunks::<{ GROUP_WORDS * 4 }>();
        if groups.is_empty() || !rest.is_empty() {
            return None;
        }
        let decode_group = |group: &[u8; GROUP_WORDS * 4]| {
            let (words, _) = group.as_chunks::<4>();
            std::array::from_fn(|index| u32::from_le_bytes(words[index]))
        };
        Some(Filter { groups: groups.iter().map(decode_group).collect() })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.groups.len() * GROUP_WORDS * 4
    }
}

#[inline]
fn masks(hash: u64) -> [u32; GROUP_WORDS] {
    let low = low_u32(hash);
    SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn present_keys_always_pass_and_absent_ones_pass_one_time_in_fifty_at_most() {
        let hash = |n: u32| hash_key(&n.to_be_bytes());
        let hashes: Vec<u64> = (0..20_000).map(hash).collect();
        let mut filter = Filter::for_keys(hashes.len());
        filter.insert(&hashes);
        let mut bytes = Vec::new();
        filter.encode(&mut bytes);
        let filter = Filter::decode(&bytes).unwrap();
        assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
        let passed = (20_000..120_000).filter(|&n| filter.may_contain(hash(n))).count();
        assert!(passed < 2_000, "{passed} of 100000");
        assert!(Filter::decode(&bytes[1..]).is_none());
        assert!(Filter::decode(&[]).is_none());
    }
}
