//! Seeded drives, clock and executor in memory, with faults and crashes: the world that tests run in.
//! Invariants: one `u64` seed decides the order of tasks, every latency, every fault and what a crash leaves;
//! simulated time moves only when no task is ready; every panic on the thread prints `seed=`.
//! Not here: product code. Nothing of this crate is linked into the server.
//!
//! ```
//! use shardstore_reactor::{AlignedBuf, Drive, DriveFile, OpenMode};
//! let sim = shardstore_sim::Sim::new(7);
//! let drive = sim.drive("d0", 1 << 30);
//! let opened = drive.clone();
//! sim.block_on(async move {
//!     let file = opened.open("f", OpenMode::CreateNew).await.expect("new");
//!     file.write_durable(0, vec![AlignedBuf::zeroed(4096)]).await.result.expect("written");
//!     opened.sync_dir("").await.expect("the name is durable");
//! });
//! sim.crash();
//! let reopened = drive.reopen();
//! sim.block_on(async move { reopened.open("f", OpenMode::Read).await.expect("still there") });
//! ```

#![forbid(unsafe_code)]

mod contract;
mod disk;
mod drive;
mod executor;
mod faults;

pub use contract::{drive_contract, fence_contract, poll_then_drop};
pub use drive::{DriveImage, SimDrive, SimFile};
pub use executor::{Sim, SimExecutor, seeds};
pub use faults::Faults;
