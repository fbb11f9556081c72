//! Segment files as they lie on the drives, beside what a record or nobody says of them: for fsck and gc.
//! Invariants: looking changes nothing; a file is removed only if no volume of this process has its number, none with
//! it is being made, and metadata has given the number out.
//! Not here: what metadata names (`server`), pages (`survey`).

use shardstore_format::{DriveId, VolumeId, VolumeRecord};
use shardstore_reactor::{Drive, DriveFile, Executor, IoError, OpenMode};

use crate::media::{Media, MediaInner};
use crate::place::remove_segment;
use crate::table::{SEGMENTS_DIR, is_unfinished_name, parse_segment_name, segment_path};

/// The file of a shard, where a record says that it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardFile {
    /// Which shard: data first.
    pub shard: u8,
    /// The drive's name, or its id if it is no member.
    pub drive: String,
    /// The file's path on the drive.
    pub path: String,
    /// What lies there.
    pub state: ShardFileState,
}

/// What lies where a shard's file should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardFileState {
    /// A file of so many bytes.
    There(u64),
    /// No file.
    Absent,
    /// The drive is a member and takes no part now.
    OutOfReach,
    /// The drive is no member.
    NoMember,
    /// The drive refuses: a sentence.
    Refused(String),
}

/// What lies in the directory of segments of one drive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriveFiles {
    /// Segment files: volume and shard.
    pub segments: Vec<(VolumeId, u8)>,
    /// Names that are no segment's.
    pub foreign: Vec<String>,
}

/// The path of a segment file on its drive.
pub fn segment_file(volume: VolumeId, shard: u8) -> String {
    segment_path(volume, usize::from(shard))
}

impl<D: Drive, X: Executor> Media<D, X> {
    /// The files of a volume where its record says that they lie. Cost: opens each.
    pub async fn shard_files(&self, record: &VolumeRecord) -> Vec<ShardFile> {
        let mut files = Vec::with_capacity(record.segments.len());
        for (shard, id) in (0u8..).zip(&record.segments) {
            let path = segment_file(record.id, shard);
            let Some(member) = self.inner.shared.drives.index_of(*id) else {
                let (drive, state) = (format!("{:032x}", id.0), ShardFileState::NoMember);
                files.push(ShardFile { shard, drive, path, state });
                continue;
            };
            let drive = self.inner.shared.drives.slot(member).label.clone();
            let state = match self.inner.drive(member) {
                None => ShardFileState::OutOfReach,
                Some(handle) => match self.inner.file_len(member, &handle, &path).await {
                    Ok(len_bytes) => ShardFileState::There(len_bytes),
                    Err(IoError::NotFound) => ShardFileState::Absent,
                    Err(error) => ShardFileState::Refused(error.to_string()),
                },
            };
            files.push(ShardFile { shard, drive, path, state });
        }
        files
    }

    /// What lies on a drive; `None` if it takes no part now.
    ///
    /// # Errors
    /// What the drive says.
    pub async fn drive_files(&self, id: DriveId) -> Result<Option<DriveFiles>, IoError> {
        let Some(member) = self.inner.shared.drives.index_of(id) else { return Ok(None) };
        let Some(drive) = self.inner.drive(member) else { return Ok(None) };
        let names = match self.inner.bounded(member, drive.list(SEGMENTS_DIR)).await {
            Ok(names) => names,
            Err(IoError::NotFound) => return Ok(Some(DriveFiles::default())),
            Err(error) => return Err(error),
        };
        let mut files = DriveFiles::default();
        for name in names {
            match parse_segment_name(&name) {
                Some((volume, shard)) => {
                    files.segments.push((volume, u8::try_from(shard).unwrap_or(u8::MAX)));
                }
                // A repair makes it now, or the next start removes it.
                None if is_unfinished_name(&name) => {}
                None => files.foreign.push(name),
            }
        }
        files.segments.sort_unstable();
        Ok(Some(files))
    }

    /// Whether this process knows a volume of that number, or makes one. Then its files are not unnamed.
    pub fn has_volume(&self, volume: VolumeId) -> bool {
        // In this order: a volume is known before it stops being made.
        self.inner.shared.opening.contains(volume) || self.inner.shared.volumes.contains(volume)
    }

    /// Whether files of that volume are being made, moved or made anew now: some may be unnamed, or not be there yet.
    pub fn is_in_the_making(&self, volume: VolumeId) -> bool {
        self.inner.shared.opening.contains(volume)
    }

    /// Bytes of a segment file; `None` if it is gone or its drive takes no part.
    pub async fn segment_len(&self, id: DriveId, volume: VolumeId, shard: u8) -> Option<u64> {
        let member = self.inner.shared.drives.index_of(id)?;
        let drive = self.inner.drive(member)?;
        self.inner.file_len(member, &drive, &segment_file(volume, shard)).await.ok()
    }

    /// Removes a segment file that nothing names; false if something does, or the number was not given out yet: `next`
    /// is the first such one.
    ///
    /// # Errors
    /// What the drive says.
    pub async fn remove_unnamed(
        &self,
        id: DriveId,
        volume: VolumeId,
        shard: u8,
        next: VolumeId,
    ) -> Result<bool, IoError> {
        let Some(member) = self.inner.shared.drives.index_of(id) else { return Ok(false) };
        let Some(drive) = self.inner.drive(member) else { return Ok(false) };
        if volume >= next || self.has_volume(volume) {
            return Ok(false);
        }
        self.inner.bounded(member, remove_segment(&drive, &segment_file(volume, shard))).await?;
        Ok(true)
    }
}

impl<D: Drive, X: Executor> MediaInner<D, X> {
    async fn file_len(&self, member: usize, drive: &D, path: &str) -> Result<u64, IoError> {
        let look = async { drive.open(path, OpenMode::Read).await?.len_bytes().await };
        self.bounded(member, look).await
    }
}
