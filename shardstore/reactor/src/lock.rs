//! One process per drive: an exclusive flock on its directory, which leaves no trace there, or on a file.
//! Invariants: the kernel lets go when the process ends, however it ends; a lock is never waited for.
//! Not here: what the file holds. Blocks; for start-up, or off the core.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::cores::run_off_core;

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it: stop that one first.
    Held(PathBuf),
    /// The file cannot be opened or locked.
    Device(PathBuf, std::io::Error),
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Held(path) => {
                write!(f, "{} is locked: another process uses this drive; stop it first", path.display())
            }
            LockError::Device(path, source) => write!(f, "cannot lock {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Held(_) => None,
            LockError::Device(_, source) => Some(source),
        }
    }
}

/// A lock that lasts until this is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    #[expect(dead_code, reason = "the open file is the lock")]
    fd: OwnedFd,
}

/// Locks `path`: a directory as it is, a file that is created if it is missing.
///
/// # Errors
/// [`LockError`], whose text tells the operator what to do.
pub fn try_lock_exclusive(path: &Path) -> Result<FileLock, LockError> {
    let device = |errno: Errno| LockError::Device(path.into(), errno.into());
    let kind = if path.is_dir() { OFlags::DIRECTORY } else { OFlags::RDWR | OFlags::CREATE };
    let flags = kind | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(device)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(FileLock { fd }),
        Err(Errno::WOULDBLOCK) => Err(LockError::Held(path.into())),
        Err(errno) => Err(device(errno)),
    }
}

/// As [`try_lock_exclusive`], on a thread of the core's pool.
///
/// # Errors
/// [`LockError`], whose text tells the operator what to do.
pub async fn try_lock_off_core(path: PathBuf) -> Result<FileLock, LockError> {
    run_off_core(move || try_lock_exclusive(&path)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_holds_nothing_new() {
        let path = std::env::temp_dir().join(format!("basalt-lock-dir-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        let first = try_lock_exclusive(&path).expect("nobody holds it");
        assert!(try_lock_exclusive(&path).is_err());
        assert_eq!(std::fs::read_dir(&path).expect("it is there").count(), 0);
        drop(first);
        std::fs::remove_dir(&path).expect("it is empty");
    }

    #[test]
    fn the_second_holder_is_refused_until_the_first_lets_go() {
        let path = std::env::temp_dir().join(format!("basalt-lock-{}", std::process::id()));
        let first = try_lock_exclusive(&path).expect("nobody holds it");
        let refused = try_lock_exclusive(&path).expect_err("held");
        assert!(refused.to_string().contains("another process uses this drive"));
        drop(first);
        drop(try_lock_exclusive(&path).expect("free again"));
        std::fs::remove_file(&path).expect("it is there");
    }
}
