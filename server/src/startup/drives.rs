//! The directories of the drives: made, locked and opened before anything else looks at them.
//! Invariants: one process per drive, by flock; a directory is made only if its parent exists, so that a typing error
//! makes no tree of directories.
//! Not here: whose drives they are (`shardstore::open_pool`).

use std::path::{Path, PathBuf};

use shardstore_reactor::{FileLock, RealDriveFactory, try_lock_exclusive};

use super::{StartError, refused};

/// The drives of this process, locked until this is dropped.
pub(super) struct LockedDrives {
    factories: Vec<RealDriveFactory>,
    locks: Vec<(PathBuf, FileLock)>,
}

impl LockedDrives {
    /// To open the drives on any thread.
    pub(super) fn factories(&self) -> Vec<RealDriveFactory> {
        self.factories.clone()
    }

    /// The locks, for whoever keeps the drives while the process runs; they last until it lets go of them.
    pub(super) fn take_locks(&mut self) -> Vec<(PathBuf, FileLock)> {
        std::mem::take(&mut self.locks)
    }
}

/// Makes, locks and opens each directory.
pub(super) fn lock_drives(paths: &[PathBuf]) -> Result<LockedDrives, StartError> {
    let mut locks = Vec::new();
    let mut factories = Vec::new();
    for path in paths {
        make_directory(path)?;
    }
    refuse_same_directory(paths)?;
    for path in paths {
        factories.push(RealDriveFactory::open(path).map_err(refused)?);
        locks.push((path.clone(), try_lock_exclusive(path).map_err(refused)?));
    }
    Ok(LockedDrives { factories, locks })
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => {
            let what = match source.kind() {
                std::io::ErrorKind::NotFound => {
                    "its parent directory does not exist; create that or mount the drive first".to_owned()
                }
                std::io::ErrorKind::PermissionDenied => {
                    "this user may not write there; change the owner or choose another directory".to_owned()
                }
                _ => source.to_string(),
            };
            Err(StartError(format!("the drive directory {} cannot be made: {what}", path.display())))
        }
    }
}

fn refuse_same_directory(paths: &[PathBuf]) -> Result<(), StartError> {
    let mut seen = std::collections::BTreeMap::new();
    for path in paths {
        let real = std::fs::canonicalize(path).map_err(refused)?;
        if let Some(other) = seen.insert(real, path) {
            return Err(StartError(format!(
                "{} and {} are the same directory; each drive must be a directory of its own",
                other.display(),
                path.display()
            )));
        }
    }
    Ok(())
}
