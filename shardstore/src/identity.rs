//! The master key as files on the drives: one copy in every identity folder.
//! Invariants: copies agree, or it is an error; a drive without a readable copy gets one once the caller has found the key
//! to be the right one.
//! Not here: making the key, file permissions (`server`).

use futures_util::future::join_all;
use shardstore_format::MasterKeyFile;
use shardstore_reactor::{Drive, IoError};

use crate::pool::{IDENTITY_DIR, Pool};

/// Where the key lies on every drive.
pub const MASTER_KEY_PATH: &str = "identity/master.key";
/// Longest file that is looked at.
const KEY_FILE_MAX_BYTES: usize = 4096;

/// Why the master key cannot be had: one sentence each.
#[derive(Debug)]
pub enum MasterKeyError {
    /// Two drives hold different keys.
    Differ {
        /// Labels of the two.
        labels: [String; 2],
    },
    /// Copies exist, and none can be read.
    Unreadable {
        /// What is wrong with each.
        notes: Vec<String>,
    },
    /// A copy could not be written.
    Write {
        /// Where.
        label: String,
        /// Why.
        source: IoError,
    },
}

impl std::fmt::Display for MasterKeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MasterKeyError::Differ { labels: [first, second] } => write!(
                f,
                "{first} and {second} hold different master keys in {MASTER_KEY_PATH}: remove the wrong one"
            ),
            MasterKeyError::Unreadable { notes } => write!(
                f,
                "no copy of the master key can be read ({}): restore {MASTER_KEY_PATH} on one drive",
                notes.join("; ")
            ),
            MasterKeyError::Write { label, source } => {
                write!(f, "the master key cannot be copied to {label} ({source}): check the drive")
            }
        }
    }
}

impl std::error::Error for MasterKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MasterKeyError::Write { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The key as it lies on the drives.
pub struct FoundMasterKey<'p, D> {
    key: [u8; 32],
    lacking: Vec<&'p D>,
}

impl<D: Drive> FoundMasterKey<'_, D> {
    /// The key.
    pub fn key(&self) -> [u8; 32] {
        self.key
    }

    /// Gives a copy to the drives that have none.
    ///
    /// # Errors
    /// [`MasterKeyError::Write`] for the first drive that refuses.
    pub async fn copy_to_lacking(&self, pool: &Pool<D>) -> Result<(), MasterKeyError> {
        copy_to(&self.lacking, pool, self.key).await
    }
}

/// Reads the key from the drives; `None` if no drive has one.
///
/// # Errors
/// [`MasterKeyError`]: its text is the sentence for the operator.
pub async fn read_master_key<D: Drive>(
    pool: &Pool<D>,
) -> Result<Option<FoundMasterKey<'_, D>>, MasterKeyError> {
    let drives: Vec<&D> = pool.members().iter().filter_map(|member| member.drive.as_ref()).collect();
    let read =
        join_all(drives.iter().map(|drive| drive.read_small(MASTER_KEY_PATH, KEY_FILE_MAX_BYTES))).await;
    let mut found: Option<(&str, [u8; 32])> = None;
    let (mut lacking, mut notes) = (Vec::new(), Vec::new());
    for (drive, bytes) in drives.into_iter().zip(read) {
        let label = drive.label();
        let decoded = match bytes {
            Ok(bytes) => MasterKeyFile::decode(&bytes).map_err(|error| error.to_string()),
            Err(IoError::NotFound) => {
                lacking.push(drive);
                continue;
            }
            Err(error) => Err(error.to_string()),
        };
        match decoded {
            Ok(file) if file.pool == pool.id() => match found {
                Some((other, key)) if key != file.key => {
                    return Err(MasterKeyError::Differ { labels: [other.to_owned(), label.to_owned()] });
                }
                _ => found = Some((label, file.key)),
            },
            Ok(_) => notes.push(format!("{label}: it is the key of another pool")),
            Err(error) => {
                lacking.push(drive);
                notes.push(format!("{label}: {error}"));
            }
        }
    }
    match found {
        Some((_, key)) => Ok(Some(FoundMasterKey { key, lacking })),
        None if notes.is_empty() => Ok(None),
        None => Err(MasterKeyError::Unreadable { notes }),
    }
}

/// Writes the key to every drive that is there.
///
/// # Errors
/// [`MasterKeyError::Write`] for the first drive that refuses.
pub async fn write_master_key<D: Drive>(pool: &Pool<D>, key: [u8; 32]) -> Result<(), MasterKeyError> {
    let drives: Vec<&D> = pool.members().iter().filter_map(|member| member.drive.as_ref()).collect();
    copy_to(&drives, pool, key).await
}

async fn copy_to<D: Drive>(drives: &[&D], pool: &Pool<D>, key: [u8; 32]) -> Result<(), MasterKeyError> {
    let bytes = MasterKeyFile { pool: pool.id(), key }.encode();
    let writes = drives.iter().map(|drive| async {
        let write = async {
            drive.create_dir(IDENTITY_DIR).await?;
            drive.write_small(MASTER_KEY_PATH, bytes.clone()).await
        };
        write.await.map_err(|source| MasterKeyError::Write { label: drive.label().to_owned(), source })
    });
    join_all(writes).await.into_iter().collect()
}
