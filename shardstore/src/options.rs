//! Sizes and limits of the store, each with its arithmetic.
//! Invariants: memory follows from these figures, not from load or from the size of objects.
//! Not here: how the server divides its memory among them.

use std::time::Duration;

use shardstore_format::{GROWTH_STEP_BYTES, PAGE_MAX_BYTES, SECTOR_BYTES, SEGMENT_BYTES};
use shardstore_reactor::BufPool;

/// Objects from this size on are runs of whole stripes in a large volume; smaller ones share packed stripes.
pub const LARGE_MIN_BYTES: u64 = 1024 * 1024;
/// An extent up to this length carries a CRC32C of its own, so that reading it whole touches only its sectors.
pub const OWN_CRC_MAX_BYTES: u64 = 64 * 1024;

/// Data pages that a large object gathers before it writes them: 1 MiB of pages over all drives together, so
/// that each of k drives gets one write of 1 MiB / k, and no less than a page.
pub(crate) const RUN_PAGES: usize = 16;
/// Runs of one object in flight: with the run being filled, at most 5 x 1.25 MiB of data and its parity.
pub(crate) const RUNS_IN_FLIGHT_MAX: usize = 4;
/// A last run may be this much longer than [`RUN_PAGES`], so that an object of 1 MiB is one run.
pub(crate) const RUN_TAIL_PAGES: usize = RUN_PAGES / 4;

/// Payload that one flush of small objects takes at most: with [`FLUSHES_IN_FLIGHT_MAX`] and the items that
/// wait, a core's packed appends pin 4 x 2 MiB of pages; waiting items are the admission's to bound.
pub(crate) const FLUSH_MAX_BYTES: u64 = 2 * 1024 * 1024;
/// Flushes in flight per core. One leaves the device idle while the next batch forms; more than a few split
/// batches that could share stripes.
pub(crate) const FLUSHES_IN_FLIGHT_MAX: usize = 4;

/// Sectors of each shard that scrub and repair read at a time: 512 KiB, so that a walk over 12 shards holds 6 MiB, and
/// a drive that seeks reads longer than it seeks.
pub(crate) const WALK_WINDOW_SECTORS: u32 = 128;
/// One write of repair: as large as a window of two shards.
pub(crate) const REPAIR_WRITE_BYTES: usize = 1024 * 1024;
/// Segments made anew at a time: each holds 2 k windows of 512 KiB and two writes of 1 MiB, 40 MiB together at k = 8.
pub(crate) const REPAIRS_AT_ONCE: usize = 4;
/// Wait of background work for buffers, or for metadata that is busy.
pub(crate) const OVERLOAD_WAIT: Duration = Duration::from_millis(50);
/// Time from one full scrub to the next: a week, so that a page that went bad on m + 1 drives would have had to do so
/// within one.
pub const SCRUB_PERIOD: Duration = Duration::from_hours(7 * 24);
/// Bytes a second that scrub reads over all drives together: 64 MiB/s read 38 TB in that week.
pub const SCRUB_BYTES_PER_S: u64 = 64 * MIB;
/// Bytes a second that repair reads at most; it gives way to slow foreground reads before that.
pub const REPAIR_BYTES_PER_S: u64 = 4 * 1024 * MIB;
/// Live bytes a second that compaction moves at most: a tenth of what one NVMe drive writes, and it gives way to slow
/// foreground reads before that.
pub const COMPACT_BYTES_PER_S: u64 = 256 * MIB;
/// Bytes a second that evening out the drives reads at most, over all of them. Half of it is the shard that moves, the rest
/// a parity shard to know its stripes by: 64 MiB/s are 5.8 TB a day onto a drive that joined.
pub const BALANCE_BYTES_PER_S: u64 = 128 * MIB;
/// A drive that is missing so long does not come back by itself: longer than a reboot of the machine's shelf.
pub const REPAIR_DELAY: Duration = Duration::from_mins(15);
/// Stripes that readers found bad and nobody has mended yet; more are found again.
pub(crate) const SUSPECTS_MAX: usize = 1024;

/// Payload that a reader has under way or unread: 32 full pages.
pub(crate) const READ_AHEAD_BYTES: u64 = 2 * 1024 * 1024;
/// A page that takes longer than its drive's recent 99th percentile is rebuilt from the others while it is waited for,
/// but not before this: below it a rebuild of k pages wins nothing. One read in a hundred so costs k more at most.
pub(crate) const SLOW_READ_MIN: Duration = Duration::from_millis(2);
/// And at the latest after this, also on a drive that is always slow: 50 times a slow NVMe read.
pub(crate) const SLOW_READ_MAX: Duration = Duration::from_millis(50);
/// Rebuilds per core at a time that only slowness called for: x k pages of 64 KiB, 32 MiB at k = 8.
pub(crate) const HEDGES_MAX: usize = 64;
/// Open files per core for reading, beyond those of open volumes.
pub(crate) const OPEN_FILES_MAX: usize = 2048;

/// A volume with dead bytes and no append for this long is sealed.
pub(crate) const IDLE_SEAL: Duration = Duration::from_secs(600);
/// How often background work looks for something to do.
pub(crate) const BACKGROUND_PERIOD: Duration = Duration::from_secs(1);
/// How often all volume rows are read for dead ones while data ids are swept or volumes sealed: at 100,000
/// volumes a walk is 400 range reads.
pub(crate) const WALK_PERIOD: Duration = Duration::from_secs(5);
/// And otherwise.
pub(crate) const WALK_IDLE_PERIOD: Duration = Duration::from_secs(60);
/// Data ids that a sweep takes at a time.
pub(crate) const SWEEP_BATCH: usize = 256;
/// Volume records that are read at a time.
pub(crate) const VOLUMES_BATCH: usize = 256;
/// Zeros written by one operation ahead of a packed volume's append point; x (k + m) drives x 1 growth per core.
pub(crate) const ZERO_WRITE_BYTES: u64 = 512 * 1024;
/// Growth of a large volume doubles with its length up to this much.
pub(crate) const LARGE_GROWTH_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Room on each drive that PUT never takes: two logs of 64 MiB being trimmed, runs in the making (a flush of
/// 64 MiB and a compaction of 256 MiB), and two segments for compaction.
pub const RESERVE_BYTES: u64 = 2 * 64 * MIB + (64 + 256) * MIB + 2 * SEGMENT_BYTES;
/// On a small drive the reserve is this fraction of it.
const RESERVE_DIVISOR: u64 = 16;
const MIB: u64 = 1024 * 1024;

/// The reserve of a drive of so many bytes: [`RESERVE_BYTES`] or a sixteenth of the drive, whichever is less.
pub fn reserve_bytes(drive_total_bytes: u64) -> u64 {
    RESERVE_BYTES.min(drive_total_bytes / RESERVE_DIVISOR)
}

/// What the process decides about its store.
#[derive(Clone)]
pub struct StoreOptions {
    /// Aligned buffers for everything in flight and for cached pages: at least `cache_bytes` more than what
    /// requests need (a PUT of any size needs at most 5 x 1.25 MiB x (k + m) / k, a GET 2 MiB).
    pub bufs: BufPool,
    /// Verified pages kept in memory.
    pub cache_bytes: u64,
    /// Cores that will open the store.
    pub cores_max: usize,
    /// Full length of a segment; [`SEGMENT_BYTES`] but in tests.
    pub segment_bytes: u64,
    /// Growth of a segment; [`GROWTH_STEP_BYTES`] but in tests.
    pub growth_step_bytes: u64,
    /// Time between full scrubs.
    pub scrub_period: Duration,
    /// Pace of scrub over all drives.
    pub scrub_bytes_per_s: u64,
    /// How long a missing drive is waited for.
    pub repair_delay: Duration,
    /// Pace of repair.
    pub repair_bytes_per_s: u64,
    /// Pace of compaction, in live bytes moved.
    pub compact_bytes_per_s: u64,
    /// Pace of evening out the drives.
    pub balance_bytes_per_s: u64,
}

impl StoreOptions {
    /// The sizes of the format, with these buffers and this much cache.
    pub fn new(bufs: BufPool, cache_bytes: u64, cores_max: usize) -> StoreOptions {
        let (segment_bytes, growth_step_bytes) = (SEGMENT_BYTES, GROWTH_STEP_BYTES);
        StoreOptions {
            bufs,
            cache_bytes,
            cores_max,
            segment_bytes,
            growth_step_bytes,
            scrub_period: SCRUB_PERIOD,
            scrub_bytes_per_s: SCRUB_BYTES_PER_S,
            repair_delay: REPAIR_DELAY,
            repair_bytes_per_s: REPAIR_BYTES_PER_S,
            balance_bytes_per_s: BALANCE_BYTES_PER_S,
            compact_bytes_per_s: COMPACT_BYTES_PER_S,
        }
    }

    /// Asserts what the arithmetic of appends relies on.
    pub(crate) fn check(&self) {
        assert!(self.cores_max > 0);
        assert!(self.segment_bytes >= 2 * FLUSH_MAX_BYTES, "the longest run fits into a segment of k = 1");
        assert!(self.segment_bytes <= SEGMENT_BYTES);
        assert!(self.segment_bytes.is_multiple_of(self.growth_step_bytes));
        assert!(self.growth_step_bytes.is_multiple_of(PAGE_MAX_BYTES));
    }
}

/// Sectors in so many bytes, rounded down.
pub(crate) fn sectors_in(len_bytes: u64) -> u32 {
    u32::try_from(len_bytes / SECTOR_BYTES).expect("segments are far below 16 TiB")
}

/// Offset of a sector in its file.
pub(crate) fn sector_offset_bytes(sector: u32) -> u64 {
    u64::from(sector) * SECTOR_BYTES
}

/// A length in memory.
pub(crate) fn in_memory(len_bytes: u64) -> usize {
    usize::try_from(len_bytes).expect("lengths in memory fit 64 bits")
}
