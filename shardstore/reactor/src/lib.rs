//! The world as one core sees it: aligned buffers, and the `Drive`, `Clock`, `Executor` and `Net` traits.
//! Invariants: a buffer given to the kernel is owned by the operation until its completion; a storage write
//! is never cancelled; nothing here blocks a core.
//! Not here: stripes, volumes, HTTP, S3. The simulated world is the crate `shardstore-sim`.

mod buf;
mod clock;
mod cores;
mod drive;
mod error;
mod latency;
mod lock;
mod net;
mod permits;
mod real_drive;
mod real_file;
mod real_net;
mod ring;
mod small;

pub use buf::{AlignedBuf, BufPool, PoolExhausted, SECTOR_BYTES};
pub use clock::{Clock, Elapsed, Executor, MonotonicTime, timeout};
pub use cores::{CoreConfig, CoreError, CoreExecutor, CoreHandle, RING_ENTRIES, spawn_core};
pub use drive::{
    Drive, DriveFile, DriveSpace, FenceReason, OpenMode, PendingWrite, WRITE_DEADLINE, WriteOutcome,
};
pub use error::IoError;
pub use latency::RecentLatency;
pub use lock::{FileLock, LockError, try_lock_exclusive, try_lock_off_core};
pub use net::{Listener, Net, Seal, Stream};
pub use real_drive::{
    BLOCKING_OPS_MAX, DriveOpenError, DrivePlace, INFLIGHT_OPS_MAX, RealDrive, RealDriveFactory,
};
pub use real_file::RealFile;
pub use real_net::{RealListener, RealNet, RealStream};
pub use ring::{RingError, RingFlags, flags_in_use, probe};
pub use small::{read_small_file, write_small_file};
