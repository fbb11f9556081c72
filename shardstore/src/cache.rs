//! The page cache: verified bytes, shared by all cores, one budget for the process.
//! Invariants: what is in it was verified when it came from a drive; its weight stays within the budget; a page
//! read by many connections is held once; what it holds depends on nothing but the calls, so that one seed of the
//! simulator gives one run.
//! Not here: reading (`page_read`), buffers in flight (the buffer pool, which the cached pages came from).

use bytes::Bytes;
use foldhash::fast::FixedState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use shardstore_format::{Extent, VolumeId};

/// Set in `place` for extents that were verified by their own CRC32C.
const EXTENT: u32 = 1 << 31;
/// What an entry costs beside its bytes: key, slots of the cache, the shared owner of the bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 192;
/// Entries that the cache prepares for, as bytes per entry: a full cache of 4 KiB objects has four times as
/// many, which it grows into.
const BYTES_PER_ENTRY: u64 = 16 * 1024;
/// Parts with a lock each: few enough that a part holds many pages, so many that two cores seldom meet in one.
const SHARDS_A_CORE: usize = 4;

/// What is cached: a page's payload, or a whole extent with its own CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    volume: VolumeId,
    sector: u32,
    place: u32,
}

impl CacheKey {
    pub(crate) fn page(volume: VolumeId, sector: u32, shard: u8) -> CacheKey {
        CacheKey { volume, sector, place: u32::from(shard) }
    }

    pub(crate) fn extent(extent: &Extent) -> CacheKey {
        CacheKey { volume: extent.volume, sector: extent.sector, place: EXTENT | extent.byte_in_stripe }
    }
}

/// Verified bytes.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// The whole payload of a page, or an extent.
    pub(crate) bytes: Bytes,
    /// Data pages of the page's stripe; 0 for an extent.
    pub(crate) data_pages: u8,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<CacheKey, Verified> for ByBytes {
    fn weight(&self, _: &CacheKey, verified: &Verified) -> u64 {
        verified.bytes.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// The cache. Its keys are places that the store chose, so no client can make them collide.
pub(crate) struct PageCache(Cache<CacheKey, Verified, ByBytes, FixedState>);

impl PageCache {
    pub(crate) fn new(budget_bytes: u64, cores_max: usize) -> PageCache {
        let entries = usize::try_from(budget_bytes / BYTES_PER_ENTRY).unwrap_or(usize::MAX).max(16);
        let options = OptionsBuilder::new()
            .shards(cores_max.saturating_mul(SHARDS_A_CORE))
            .estimated_items_capacity(entries)
            .weight_capacity(budget_bytes)
            .build()
            .expect("both capacities are given");
        PageCache(Cache::with_options(options, ByBytes, FixedState::default(), DefaultLifecycle::default()))
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Verified> {
        self.0.get(key)
    }

    pub(crate) fn insert(&self, key: CacheKey, verified: Verified) {
        self.0.insert(key, verified);
    }

    pub(crate) fn weight_bytes(&self) -> u64 {
        self.0.weight()
    }
}
