//! The world as one core sees it: aligned buffers, and the `Drive`, `Clock`, `Executor` and `Net` traits.
//! Invariants: a buffer given to the kernel is owned by the operation until its completion; a storage write
//! is never cancelled; nothing here blocks a core.
//! Not here: stripes, volumes, HTTP, S3. The simulated world is the crate `shardstore-sim`.

mod buf;
mod clock;
mod drive;
mod error;
mod net;
mod small;

pub use buf::{AlignedBuf, BufPool, PoolExhausted, SECTOR_BYTES};
pub use clock::{Clock, Executor, MonotonicTime};
pub use drive::{
    Drive, DriveFile, DriveSpace, FenceReason, OpenMode, PendingWrite, WRITE_DEADLINE, WriteOutcome,
};
pub use error::IoError;
pub use net::{Listener, Net, Stream};
pub use small::{read_small_file, write_small_file};
