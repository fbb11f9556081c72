//! Erasure-coded volumes on drives: write, read, recover, reclaim.
//! Invariants: no byte is acknowledged before it is durable on every shard; no byte is returned unverified.
//! Not here: keys, buckets, HTTP, the metadata engines.
//!
//! From the top: [`open_pool`] recognises the drives; [`StoreShared`] is what all cores share; [`Media`] is one
//! core's drives, enough to read metadata runs; [`Store`] adds the [`Catalog`] and with it puts and reclaim.
#![forbid(unsafe_code)]

mod answers;
mod append;
mod balance;
mod cache;
mod catalog;
mod compact;
mod epoch;
mod gc;
mod health;
mod identity;
mod lane;
mod media;
mod membership;
mod mend;
mod open_volume;
mod options;
mod pace;
mod packed;
mod page_read;
mod place;
mod pool;
mod put;
mod read;
mod reclaim;
mod recover;
mod repair;
mod run;
mod runs;
mod scrub;
mod segments;
mod shared;
mod store;
mod survey;
mod table;
mod upkeep;
mod wait;
mod walk;

pub use balance::BalanceStatus;
pub use catalog::{Catalog, CatalogError, OwnerRow, VolumeUsage};
pub use compact::CompactionReport;
pub use epoch::{EpochGuard, HoldGuard};
pub use gc::{Freed, SpaceReport};
pub use health::{DriveInfo, DriveState};
pub use identity::{FoundMasterKey, MASTER_KEY_PATH, MasterKeyError, read_master_key, write_master_key};
pub use media::Media;
pub use membership::{
    Offered, PoolFacts, ReceiveError, copy_master_key, look_at, never_joined, prepare_to_join, tell_drives,
};
pub use options::{
    BALANCE_BYTES_PER_S, COMPACT_BYTES_PER_S, LARGE_MIN_BYTES, OWN_CRC_MAX_BYTES, REPAIR_BYTES_PER_S,
    REPAIR_DELAY, RESERVE_BYTES, SCRUB_BYTES_PER_S, SCRUB_PERIOD, StoreOptions, reserve_bytes,
};
pub use place::PutError;
pub use pool::{OpenError, Pool, PoolMember, PoolOptions, default_redundancy, open_pool};
pub use put::{Evidence, ObjectWriter};
pub use read::{ObjectReader, ReadError};
pub use reclaim::SweepReport;
pub use recover::{RecoverError, RecoveryReport};
pub use repair::RepairReport;
pub use runs::RunVolumeWriter;
pub use segments::{DriveFiles, ShardFile, ShardFileState, segment_file};
pub use shared::{StoreShared, StoreStats};
pub use store::Store;
pub use survey::{BadStripe, PageState, ShardState, SurveyPace, VolumeSurvey};
pub use upkeep::{RepairStatus, ScrubPhase, ScrubStatus};
