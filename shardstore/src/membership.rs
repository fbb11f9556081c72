//! Changing the members of a formed pool: what each drive is told, and what a drive that comes is asked.
//! Invariants: a drive that joins holds its identity, marked as forming, before anybody names it, and counts for nothing
//! until a member does; a change is committed in metadata before a member hears of it, unless metadata waits for the very
//! drive that joins (docs/why/replacing-the-last-log-drive.md); so the highest revision on any member is in force; a
//! directory becomes a drive only if it is empty.
//! Not here: who decides changes (`server`), moving shards off a drive (`repair`).

use futures_util::future::join_all;
use shardstore_format::{
    DriveId, DriveIdentity, FormatPhase, IDENTITY_MAX_BYTES, IdentityError, Membership, PoolId, Profile,
    VolumeId,
};
use shardstore_reactor::{Drive, Executor, IoError};

use crate::identity::MASTER_KEY_PATH;
use crate::media::Media;
use crate::place::remove_segment;
use crate::pool::{IDENTITY_DIR, IDENTITY_PATH, first_foreign_name};
use crate::table::{SEGMENTS_DIR, is_unfinished_name, parse_segment_name, segment_path};

/// Longer than a master key file.
const KEY_FILE_MAX_BYTES: usize = 4096;

/// What never changes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFacts {
    /// The deployment.
    pub id: PoolId,
    /// Redundancy of new volumes.
    pub profile: Profile,
    /// When it was made.
    pub created_unix_ms: u64,
}

/// What lies in a directory that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Nothing.
    Blank,
    /// A drive.
    Drive(Box<DriveIdentity>),
    /// Something else: a sentence.
    Other(String),
}

/// Why a drive that came back is not taken.
#[derive(Debug)]
pub enum ReceiveError {
    /// It holds a segment whose id metadata has not given out: it is ahead of the metadata.
    AheadOfMetadata {
        /// The file.
        file: String,
    },
    /// The drive refuses.
    Device(IoError),
}

impl std::fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReceiveError::AheadOfMetadata { file } => {
                write!(
                    f,
                    "it holds {file}, whose number metadata has not given out: it is a copy from elsewhere"
                )
            }
            ReceiveError::Device(source) => write!(f, "it cannot be read: {source}"),
        }
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReceiveError::Device(source) => Some(source),
            ReceiveError::AheadOfMetadata { .. } => None,
        }
    }
}

/// Looks at a directory that is to join or to come back.
///
/// # Errors
/// What the drive says.
pub async fn look_at<D: Drive>(drive: &D) -> Result<Offered, IoError> {
    match drive.read_small(IDENTITY_PATH, IDENTITY_MAX_BYTES).await {
        Ok(bytes) => Ok(match DriveIdentity::decode(&bytes) {
            Ok(identity) => Offered::Drive(Box::new(identity)),
            Err(IdentityError::FutureVersion(version)) => {
                Offered::Other(format!("a drive of a later version of basalt (identity version {version})"))
            }
            Err(IdentityError::Damaged) => Offered::Other("a damaged drive identity".to_owned()),
        }),
        Err(IoError::NotFound) => Ok(match first_foreign_name(drive).await? {
            None => Offered::Blank,
            Some(name) => Offered::Other(format!("{name:?}")),
        }),
        Err(error) => Err(error),
    }
}

/// Whether an identity was written for a drive that was to join and never did: nobody named it, so it holds nothing.
pub fn never_joined(identity: &DriveIdentity, membership: &Membership) -> bool {
    identity.phase == FormatPhase::Forming && membership.member(identity.drive).is_none()
}

/// Prepares a drive that is to join by `membership`: if the process ends before a member was told of it, it is none;
/// if it ends after, the next start finds it where the members say.
///
/// # Errors
/// What the drive says; nothing has changed then.
pub async fn prepare_to_join<D: Drive>(
    facts: &PoolFacts,
    membership: &Membership,
    id: DriveId,
    drive: &D,
) -> Result<(), IoError> {
    let prepared = write_identities(facts, membership, FormatPhase::Forming, &[(id, drive.clone())]).await;
    prepared.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// Tells drives of the members; returns those that could not be told.
pub async fn tell_drives<D: Drive>(
    facts: &PoolFacts,
    membership: &Membership,
    drives: &[(DriveId, D)],
) -> Vec<(DriveId, IoError)> {
    write_identities(facts, membership, FormatPhase::Ready, drives).await
}

async fn write_identities<D: Drive>(
    facts: &PoolFacts,
    membership: &Membership,
    phase: FormatPhase,
    drives: &[(DriveId, D)],
) -> Vec<(DriveId, IoError)> {
    let told = drives.iter().map(|(id, drive)| async move {
        let identity = DriveIdentity {
            phase,
            pool: facts.id,
            drive: *id,
            profile: facts.profile,
            created_unix_ms: facts.created_unix_ms,
            membership: membership.clone(),
        };
        let write = async {
            drive.create_dir(IDENTITY_DIR).await?;
            drive.create_dir(SEGMENTS_DIR).await?;
            drive.sync_dir("").await?;
            drive.write_small(IDENTITY_PATH, identity.encode()).await
        };
        write.await.err().map(|error| (*id, error))
    });
    join_all(told).await.into_iter().flatten().collect()
}

/// Gives a drive that joins its copy of the master key, from the first of `sources` that has one.
///
/// # Errors
/// What the drives say: the sources' if none has a key, else the target's.
pub async fn copy_master_key<D: Drive>(sources: &[D], target: &D) -> Result<(), IoError> {
    let mut failure = IoError::NotFound;
    for source in sources {
        match source.read_small(MASTER_KEY_PATH, KEY_FILE_MAX_BYTES).await {
            Ok(bytes) => {
                target.create_dir(IDENTITY_DIR).await?;
                return target.write_small(MASTER_KEY_PATH, bytes).await;
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

impl<D: Drive, X: Executor> Media<D, X> {
    /// Frees what no volume names on a drive that comes back, before anything is written to it again. `next` is the
    /// first volume id that metadata has not given out. Returns how many files went.
    ///
    /// # Errors
    /// [`ReceiveError`]: nothing was removed that is named, and the drive must not come back.
    pub async fn free_unnamed(&self, id: DriveId, drive: &D, next: VolumeId) -> Result<usize, ReceiveError> {
        let shared = &self.inner.shared;
        let names = match self.inner.in_time(drive.list(SEGMENTS_DIR)).await {
            Ok(names) => names,
            Err(IoError::NotFound) => return Ok(0),
            Err(error) => return Err(ReceiveError::Device(error)),
        };
        let is_named = |volume: VolumeId, shard: usize| {
            let known = shared.volumes.get(volume);
            known.is_some_and(|known| known.member(shard) == shared.drives.index_of(id))
        };
        let found: Vec<(VolumeId, usize)> =
            names.iter().filter_map(|name| parse_segment_name(name)).collect();
        if let Some((volume, shard)) = found.iter().find(|(volume, _)| *volume >= next) {
            return Err(ReceiveError::AheadOfMetadata { file: segment_path(*volume, *shard) });
        }
        let mut freed = 0;
        for name in names.iter().filter(|name| is_unfinished_name(name)) {
            let path = format!("{SEGMENTS_DIR}/{name}");
            let removed = self.inner.in_time(remove_segment(drive, &path)).await;
            removed.map_err(ReceiveError::Device)?;
            freed += 1;
        }
        for (volume, shard) in found.into_iter().filter(|(volume, shard)| !is_named(*volume, *shard)) {
            let path = segment_path(volume, shard);
            let removed = self.inner.in_time(remove_segment(drive, &path)).await;
            removed.map_err(ReceiveError::Device)?;
            freed += 1;
        }
        Ok(freed)
    }
}
