//! The directories of the drives: made, locked and opened before anything else looks at them.
//! Invariants: one process per drive, by flock; a directory is made only if its parent exists, so that a typing error
//! makes no tree of directories; a drive that is broken is set aside, and what the operator can put right at once is
//! refused.
//! Not here: whose drives they are, and whether it goes without those set aside (`shardstore::open_pool`).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use rustix::io::Errno;
use shardstore_reactor::{
    DriveOpenError, FileLock, LockError, RealDriveFactory, WRITE_DEADLINE, try_lock_exclusive,
};

use super::{StartError, refused};

/// What a device or its file system answers when it is broken, other than when somebody configured it wrongly. The file
/// systems report damage as EUCLEAN, and FUSE a server that went as ENOTCONN.
const BROKEN: [Errno; 9] = [
    Errno::IO,
    Errno::ROFS,
    Errno::NXIO,
    Errno::NODEV,
    Errno::UCLEAN,
    Errno::NOTCONN,
    Errno::SHUTDOWN,
    Errno::STALE,
    Errno::TIMEDOUT,
];

/// The drives of this process, locked until this is dropped.
pub(super) struct LockedDrives {
    factories: Vec<RealDriveFactory>,
    locks: Vec<(PathBuf, FileLock)>,
    set_aside: Vec<String>,
}

impl LockedDrives {
    /// To open the drives on any thread.
    pub(super) fn factories(&self) -> Vec<RealDriveFactory> {
        self.factories.clone()
    }

    /// A sentence for each drive that is broken.
    pub(super) fn set_aside(&self) -> &[String] {
        &self.set_aside
    }

    /// What is not broken; the rest is set aside.
    fn without_broken<T>(
        &mut self,
        results: Vec<(PathBuf, Result<T, NotOpened>)>,
    ) -> Result<Vec<(PathBuf, T)>, StartError> {
        let mut there = Vec::new();
        for (path, result) in results {
            match result {
                Ok(one) => there.push((path, one)),
                Err(NotOpened::Refused(error)) => return Err(error),
                Err(NotOpened::Broken(sentence)) => {
                    tracing::error!(drive = %path.display(), %sentence, "a drive cannot be used");
                    self.set_aside.push(sentence);
                }
            }
        }
        Ok(there)
    }

    /// The locks, for whoever keeps the drives while the process runs; they last until it lets go of them.
    pub(super) fn take_locks(&mut self) -> Vec<(PathBuf, FileLock)> {
        std::mem::take(&mut self.locks)
    }
}

/// Why a directory is no drive of this start.
enum NotOpened {
    /// The start is refused.
    Refused(StartError),
    /// The start goes on without it, if it can.
    Broken(String),
}

impl NotOpened {
    fn of(error: &(dyn std::error::Error + 'static)) -> NotOpened {
        let source = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(DriveOpenError::Device(_, source)), _) | (_, Some(LockError::Device(_, source))) => {
                Some(source)
            }
            _ => None,
        };
        match source {
            Some(source) => NotOpened::of_errno(source, error.to_string()),
            None => NotOpened::Refused(refused(error)),
        }
    }

    fn of_errno(source: &std::io::Error, sentence: String) -> NotOpened {
        match Errno::from_io_error(source) {
            Some(errno) if BROKEN.contains(&errno) => NotOpened::Broken(sentence),
            _ => NotOpened::Refused(StartError(sentence)),
        }
    }
}

/// Makes, locks and opens each directory.
pub(super) fn lock_drives(paths: &[PathBuf]) -> Result<LockedDrives, StartError> {
    let mut locked = LockedDrives { factories: Vec::new(), locks: Vec::new(), set_aside: Vec::new() };
    let made = locked.without_broken(on_threads(paths.to_vec(), |path| {
        make_directory(path)?;
        std::fs::canonicalize(path)
            .map_err(|source| NotOpened::of(&DriveOpenError::Device(path.into(), source)))
    }))?;
    refuse_same_directory(&made)?;
    let there = made.into_iter().map(|(path, _)| path).collect();
    let opened = locked.without_broken(on_threads(there, |path| {
        let factory = RealDriveFactory::open(path).map_err(|error| NotOpened::of(&error))?;
        let lock = try_lock_exclusive(path).map_err(|error| NotOpened::of(&error))?;
        Ok((factory, lock))
    }))?;
    if opened.is_empty() && !locked.set_aside.is_empty() {
        return Err(StartError(locked.set_aside.join("; ")));
    }
    for (path, (factory, lock)) in opened {
        locked.factories.push(factory);
        locked.locks.push((path, lock));
    }
    Ok(locked)
}

/// As [`lock_drives`], and makes nothing: a directory that is not there counts as a missing drive.
pub(super) fn lock_existing(paths: &[PathBuf]) -> Result<LockedDrives, StartError> {
    let there: Vec<PathBuf> = paths.iter().filter(|path| path.is_dir()).cloned().collect();
    if there.is_empty() {
        return Err(StartError("none of the drive directories exists: mount the drives first".to_owned()));
    }
    lock_drives(&there)
}

/// Calls `call` for each path on a thread of its own: mounts that hang hold this up for [`WRITE_DEADLINE`] together, and
/// are broken drives, which are not called for again.
fn on_threads<T: Send + 'static>(
    paths: Vec<PathBuf>,
    call: impl Fn(&Path) -> Result<T, NotOpened> + Copy + Send + 'static,
) -> Vec<(PathBuf, Result<T, NotOpened>)> {
    #[expect(clippy::disallowed_methods, reason = "no core runs yet, and this waits for the kernel")]
    let begun = Instant::now();
    let begin = |path: PathBuf| {
        let (sender, receiver) = mpsc::sync_channel(1);
        let of_thread = path.clone();
        let thread = std::thread::Builder::new().name("open-drive".to_owned()).spawn(move || {
            // After the deadline nobody listens any more.
            drop(sender.send(call(&of_thread)));
        });
        (path, receiver, thread)
    };
    let begun_calls: Vec<_> = paths.into_iter().map(begin).collect();
    let end = |(path, receiver, thread): (PathBuf, mpsc::Receiver<_>, std::io::Result<_>)| {
        let result = match thread {
            Err(source) => Err(NotOpened::Refused(refused(source))),
            Ok(_) => {
                let left = WRITE_DEADLINE.saturating_sub(begun.elapsed());
                receiver.recv_timeout(left).unwrap_or_else(|_| {
                    Err(NotOpened::Broken(format!("drive {}: does not answer", path.display())))
                })
            }
        };
        (path, result)
    };
    begun_calls.into_iter().map(end).collect()
}

fn make_directory(path: &Path) -> Result<(), NotOpened> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => {
            let what = match source.kind() {
                ErrorKind::NotFound => {
                    "its parent directory does not exist; create that or mount the drive first".to_owned()
                }
                ErrorKind::PermissionDenied => {
                    "this user may not write there; change the owner or choose another directory".to_owned()
                }
                _ => source.to_string(),
            };
            let sentence = format!("the drive directory {} cannot be made: {what}", path.display());
            Err(NotOpened::of_errno(&source, sentence))
        }
    }
}

fn refuse_same_directory(made: &[(PathBuf, PathBuf)]) -> Result<(), StartError> {
    let mut seen = BTreeMap::new();
    for (path, real) in made {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_device_is_set_aside_and_a_wrong_directory_is_refused() {
        let of = |errno: Errno| NotOpened::of(&DriveOpenError::Device("/d1".into(), errno.into()));
        for errno in [Errno::IO, Errno::ROFS, Errno::UCLEAN] {
            assert!(matches!(of(errno), NotOpened::Broken(sentence) if sentence.contains("/d1")));
        }
        for errno in [Errno::ACCESS, Errno::PERM, Errno::MFILE] {
            assert!(matches!(of(errno), NotOpened::Refused(_)));
        }
        assert!(matches!(NotOpened::of(&LockError::Held("/d1".into())), NotOpened::Refused(_)));
    }

    #[test]
    fn a_directory_given_twice_is_refused_by_name() {
        let root = std::env::temp_dir().join(format!("basalt-start-drives-{}", std::process::id()));
        std::fs::create_dir(&root).expect("a new directory");
        let (one, again) = (root.join("a"), root.join("b/../a"));
        std::fs::create_dir(root.join("b")).expect("a new directory");
        let Err(StartError(text)) = lock_drives(&[one, again]) else { panic!("one directory twice") };
        assert!(text.contains("are the same directory"), "{text}");
        let Err(StartError(text)) = lock_drives(&[root.join("c/d")]) else { panic!("no parent") };
        assert!(text.contains("its parent directory does not exist"), "{text}");
        std::fs::remove_dir_all(&root).expect("ours");
    }
}
