//! Takes the pool's files off a drive that left.
//! Invariants: its copy of the master key goes first, durably; a drive that hangs is waited for no longer than twice
//! `FORGET_DEADLINE`. What cannot be removed stays and is logged: the drive is no member, and its identity says an older
//! revision.
//! Not here: segments, which went before it left (`shardstore` repair).

use std::time::Duration;

use shardstore::MASTER_KEY_PATH;
use shardstore_reactor::{Clock, Drive, IoError, timeout};

/// For the key, and once more for all else.
const FORGET_DEADLINE: Duration = Duration::from_secs(10);

/// Removes the key, the metadata log and the identity.
pub(super) async fn forget_pool<D: Drive>(drive: &D, clock: &impl Clock) {
    let why = match timeout(clock, FORGET_DEADLINE, forget_key(drive)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("it does not answer".to_owned()),
    };
    if let Some(why) = why {
        tracing::error!(
            drive = drive.label(),
            why,
            "a copy of the master key may stay on a drive that left: remove {MASTER_KEY_PATH} there, or destroy the drive"
        );
    }
    if timeout(clock, FORGET_DEADLINE, forget_files(drive)).await.is_err() {
        tracing::warn!(drive = drive.label(), "files stay on a drive that left: it does not answer");
    }
}

async fn forget_key<D: Drive>(drive: &D) -> Result<(), IoError> {
    match drive.remove(MASTER_KEY_PATH).await {
        Ok(()) => drive.sync_dir("identity").await,
        Err(IoError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn forget_files<D: Drive>(drive: &D) {
    for directory in ["log", "identity"] {
        let Ok(names) = drive.list(directory).await else { continue };
        for name in names {
            if let Err(error) = drive.remove(&format!("{directory}/{name}")).await {
                tracing::warn!(drive = drive.label(), %error, name, "a file stays on a drive that left");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use shardstore_sim::Sim;

    use super::*;

    #[test]
    fn from_a_drive_too_busy_to_give_up_all_its_files_the_master_key_goes() {
        let sim = Sim::new(1);
        let drive = sim.drive("/d", 1 << 30);
        sim.block_on(async {
            for directory in ["identity", "log"] {
                drive.create_dir(directory).await.unwrap();
            }
            drive.write_small(MASTER_KEY_PATH, vec![7; 64]).await.unwrap();
            for number in 0..60 {
                drive.write_small(&format!("log/{number}"), vec![1; 64]).await.unwrap();
            }
            // About a second for each operation.
            drive.slow_by(4_000);
            forget_pool(&drive, &sim.executor()).await;
            drive.slow_by(1);
            let key = drive.read_small(MASTER_KEY_PATH, 4_096).await;
            assert!(matches!(key, Err(IoError::NotFound)), "{key:?}");
            assert!(!drive.list("log").await.unwrap().is_empty(), "there was no time for all of them");
        });
    }
}
