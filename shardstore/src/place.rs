//! Where a new volume lies: choosing drives, and making its files.
//! Invariants: the drives of a volume are distinct and healthy; the files and their names are durable before
//! this returns; a volume that could not be made leaves no files on drives that answer.
//! Not here: the volume's record, growth (`append`), runs (`runs`).

use futures_util::future::join_all;
use shardstore_format::{Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState};
use shardstore_reactor::{Drive, DriveFile, DriveSpace, Executor, IoError, OpenMode};

use crate::catalog::CatalogError;
use crate::media::MediaInner;
use crate::options::{FLUSH_MAX_BYTES, reserve_bytes};
use crate::table::{SEGMENTS_DIR, segment_path};

/// Why bytes could not be stored, by what the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutError {
    /// Drives are at their reserve: answer 507; deleting helps.
    NoSpace,
    /// Too few healthy drives for a volume with its parity: refuse writes until drives are back.
    TooFewDrives {
        /// Drives that can be written.
        healthy: usize,
        /// Drives that the smallest volume needs: m + 1.
        needed: usize,
    },
    /// Drives failed again and again under the write: try again.
    DrivesLost,
    /// No buffer: answer `SlowDown`.
    Overloaded,
    /// The catalog refused: as it says.
    Metadata(CatalogError),
}

impl std::fmt::Display for PutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PutError::NoSpace => f.write_str("the drives are full up to their reserve"),
            PutError::TooFewDrives { healthy, needed } => {
                write!(f, "{healthy} healthy drives, and a write with its parity needs {needed}")
            }
            PutError::DrivesLost => f.write_str("drives failed under the write"),
            PutError::Overloaded => f.write_str("the buffer budget is spent"),
            PutError::Metadata(source) => write!(f, "volume metadata: {source}"),
        }
    }
}

impl std::error::Error for PutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PutError::Metadata(source) => Some(source),
            _ => None,
        }
    }
}

impl From<CatalogError> for PutError {
    fn from(error: CatalogError) -> PutError {
        PutError::Metadata(error)
    }
}

/// Whether a volume may take from the reserve of its drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Objects: the reserve stays.
    AboveReserve,
    /// Compaction: it gives back more than it takes, so it may take three quarters of the reserve: on a small drive, where
    /// a segment is as long as the reserve, what lives in a volume that is 75 % live.
    ForMoves,
    /// Metadata runs: the reserve is for them.
    All,
}

impl Room {
    /// Whether a drive has room for so much more.
    pub(crate) fn holds(self, space: DriveSpace, len_bytes: u64) -> bool {
        let kept = match self {
            Room::AboveReserve => reserve_bytes(space.total_bytes),
            Room::ForMoves => reserve_bytes(space.total_bytes) / 4,
            Room::All => 0,
        };
        space.free_bytes >= kept + len_bytes
    }
}

/// Drives for a new volume.
pub(crate) struct Placement {
    pub(crate) profile: Profile,
    /// Member index of each shard.
    pub(crate) members: Vec<usize>,
    /// Health when they were chosen.
    pub(crate) generation: u64,
    /// How long a segment may grow: on small drives no longer than their reserve, so that a full pool can be compacted
    /// within it.
    pub(crate) segment_bytes: u64,
}

/// A volume whose files are there.
pub(crate) struct MadeFiles<F> {
    pub(crate) record: VolumeRecord,
    /// By shard.
    pub(crate) files: Vec<F>,
}

/// Drives within this fraction of each other's free room count as equally free.
const FREE_BUCKETS: u64 = 32;

impl<D: Drive, X: Executor> MediaInner<D, X> {
    /// Chooses drives for a volume whose first growth takes `first_bytes` on each.
    ///
    /// With drives missing, k shrinks and m stays.
    pub(crate) async fn place(&self, room: Room, first_bytes: u64) -> Result<Placement, PutError> {
        self.notice_fenced();
        let spaces = self.spaces().await;
        let generation = self.generation();
        let wanted = self.shared.profile;
        let (m, healthy) = (usize::from(wanted.m), spaces.len());
        let k = usize::from(wanted.k).min(healthy.saturating_sub(m));
        if k == 0 {
            return Err(PutError::TooFewDrives { healthy, needed: m + 1 });
        }
        let shortest_bytes = spaces.iter().map(|(_, space)| reserve_bytes(space.total_bytes)).min();
        let options = &self.shared.options;
        let segment_bytes = options.segment_bytes.min(shortest_bytes.unwrap_or(0).max(2 * FLUSH_MAX_BYTES));
        let segment_bytes = segment_bytes.next_multiple_of(options.growth_step_bytes);
        let mut roomy: Vec<(u64, u64, usize)> = spaces
            .into_iter()
            .filter(|(_, space)| room.holds(*space, first_bytes))
            .map(|(member, space)| {
                let bucket = space.free_bytes / (space.total_bytes / FREE_BUCKETS).max(1);
                (bucket, self.executor.random_u64(), member)
            })
            .collect();
        if roomy.len() < k + m {
            return Err(PutError::NoSpace);
        }
        // The freest first; among equals by chance, so that data and parity go round.
        roomy.sort_unstable_by(|left, right| right.cmp(left));
        let mut members: Vec<usize> = roomy.into_iter().take(k + m).map(|(_, _, member)| member).collect();
        let turn = self.executor.random_u64() % (members.len() as u64);
        members.rotate_left(usize::try_from(turn).unwrap_or(0));
        let profile = Profile { k: u8::try_from(k).expect("at most 32"), m: wanted.m };
        Ok(Placement { profile, members, generation, segment_bytes })
    }

    /// Room on every drive that can be written; one that does not even say is taken out.
    async fn spaces(&self) -> Vec<(usize, DriveSpace)> {
        let drives = self.healthy_drives();
        let asked = drives
            .iter()
            .map(|(member, drive)| async { (*member, self.bounded(*member, drive.space()).await) });
        let mut spaces = Vec::new();
        for (member, space) in join_all(asked).await {
            match space {
                Ok(space) => spaces.push((member, space)),
                Err(error) => self.fence(member, &error),
            }
        }
        spaces
    }

    /// Makes the files of a volume, durable with their names.
    pub(crate) async fn make_files(
        &self,
        volume: VolumeId,
        class: VolumeClass,
        placement: &Placement,
    ) -> Result<MadeFiles<D::File>, PutError> {
        let making = placement.members.iter().enumerate();
        let made = join_all(
            making.map(|(shard, member)| self.bounded(*member, self.make_file(volume, shard, *member))),
        )
        .await;
        let mut files = Vec::with_capacity(made.len());
        // What was not made here is not removed here: a file that exists already may be worth something.
        let mut made_on = vec![None; placement.members.len()];
        let mut failure = None;
        for (shard, (result, member)) in made.into_iter().zip(&placement.members).enumerate() {
            match result {
                Ok(file) => {
                    files.push(file);
                    made_on[shard] = Some(*member);
                }
                Err(IoError::NoSpace) => failure = Some(PutError::NoSpace),
                Err(IoError::AlreadyExists) => {
                    let drive = &self.shared.drives.slot(*member).label;
                    tracing::error!(%drive, volume = volume.0, "a file of a new volume exists already");
                    failure = Some(PutError::DrivesLost);
                }
                Err(error) => {
                    self.fence(*member, &error);
                    failure = Some(PutError::DrivesLost);
                }
            }
        }
        if let Some(error) = failure {
            drop(files);
            self.remove_files(volume, &made_on).await;
            return Err(error);
        }
        let segments = placement.members.iter().map(|member| self.shared.drives.slot(*member).id).collect();
        let (profile, state) = (placement.profile, VolumeState::Open);
        Ok(MadeFiles { record: VolumeRecord { id: volume, profile, class, state, segments }, files })
    }

    /// Makes the file of one shard, durable with its name.
    async fn make_file(&self, volume: VolumeId, shard: usize, member: usize) -> Result<D::File, IoError> {
        self.make_file_at(&segment_path(volume, shard), member).await
    }

    /// Makes a file among a drive's segments, durable with its name.
    pub(crate) async fn make_file_at(&self, path: &str, member: usize) -> Result<D::File, IoError> {
        let drive = self.drive(member).ok_or(IoError::Fenced)?;
        let file = match drive.open(path, OpenMode::CreateNew).await {
            Err(IoError::NotFound) => {
                drive.create_dir(SEGMENTS_DIR).await?;
                drive.sync_dir("").await?;
                drive.open(path, OpenMode::CreateNew).await?
            }
            opened => opened?,
        };
        file.sync().await?;
        drive.sync_dir(SEGMENTS_DIR).await?;
        Ok(file)
    }

    /// Removes a volume's files from the drives that answer; `false` if one of those failed.
    ///
    /// They are emptied first: another core may still have one open, and its space comes back all the same.
    pub(crate) async fn remove_files(&self, volume: VolumeId, members: &[Option<usize>]) -> bool {
        let removals = members.iter().enumerate().map(|(shard, member)| async move {
            let Some(member) = *member else { return true };
            let Some(drive) = self.drive(member) else { return true };
            self.bounded(member, remove_segment(&drive, &segment_path(volume, shard))).await.is_ok()
        });
        join_all(removals).await.into_iter().all(|removed| removed)
    }
}

/// Empties and removes a segment file; fine if there is none.
pub(crate) async fn remove_segment<D: Drive>(drive: &D, path: &str) -> Result<(), IoError> {
    match drive.open(path, OpenMode::ReadWrite).await {
        Ok(file) => file.set_len(0).await?,
        Err(IoError::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    }
    match drive.remove(path).await {
        Ok(()) | Err(IoError::NotFound) => {}
        Err(error) => return Err(error),
    }
    drive.sync_dir(SEGMENTS_DIR).await
}
