//! What clients do about versions: they lock them, try to get rid of what is locked, and suspend versioning.
//! Invariants: what the model says is locked stays, whoever asks for what; locks only get stronger while clients work.
//! Not here: looks at rest (`versions`).

use server::ops::api::{
    DeleteEntry, ObjectLock, OpError, Operations, RenameObject, Retention, RetentionMode, VersionId,
    Versioning,
};
use shardstore_reactor::Clock;

use crate::client::{Doing, key_of};
use crate::plan::Keeping;
use crate::process::bucket;

/// Longer than any run.
const RETAINED_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

impl Doing<'_> {
    /// What a new version gets: in a bucket with locks a third of them is locked at once.
    pub(crate) fn lock_of_new(&mut self) -> ObjectLock {
        if self.world.plan.keeping != Keeping::Locked {
            return ObjectLock::NONE;
        }
        match self.rng.u8(..9) {
            0 => ObjectLock { retention: self.retention(RetentionMode::Governance), legal_hold: None },
            1 => ObjectLock { retention: self.retention(RetentionMode::Compliance), legal_hold: None },
            2 => ObjectLock { retention: None, legal_hold: Some(true) },
            _ => ObjectLock::NONE,
        }
    }

    fn retention(&self, mode: RetentionMode) -> Option<Retention> {
        Some(Retention { mode, until_ms: self.world.executor.unix_ms() + RETAINED_MS })
    }

    pub(crate) async fn set_versioning(&self, is_enabled: bool) {
        let versioning = if is_enabled { Versioning::Enabled } else { Versioning::Suspended };
        if let Err(error) = self.core.set_versioning(bucket(), versioning).await {
            self.check_refusal(&error);
        }
    }

    /// Locks a version that is known, or locks it better.
    pub(crate) async fn lock(&mut self) {
        let known: Vec<(String, String)> = self.world.model.borrow().versions.keys().cloned().collect();
        let Some(chosen) = self.rng.choice(known) else { return };
        let (key, version) = (key_of(&chosen.0), VersionId::parse(&chosen.1));
        let before = self.world.model.borrow().locked.get(&chosen).copied();
        let mut lock = before.unwrap_or(ObjectLock::NONE);
        let set = if self.rng.bool() {
            lock.legal_hold = Some(true);
            self.core.put_legal_hold(bucket(), key, version, true).await
        } else {
            let modes = [RetentionMode::Governance, RetentionMode::Compliance];
            let mode = modes[self.rng.usize(..2)];
            lock.retention = self.retention(mode);
            self.core.put_retention(bucket(), key, version, lock.retention, false).await
        };
        match set {
            Ok(_) => {
                self.world.model.borrow_mut().locked.insert(chosen, lock);
            }
            // It has another mode, which only someone who may bypass it changes.
            Err(OpError::ObjectLocked) => {}
            Err(error) => self.check_refusal(&error),
        }
    }

    /// Tries every way to get rid of a version that is locked.
    pub(crate) async fn break_lock(&mut self) {
        let known: Vec<_> =
            self.world.model.borrow().locked.iter().map(|(version, lock)| (version.clone(), *lock)).collect();
        let Some((chosen, lock)) = self.rng.choice(known) else { return };
        let (key, version) = (key_of(&chosen.0), VersionId::parse(&chosen.1));
        let bypass_governance = !lock.permits_removal(0, true) && self.rng.bool();
        let entry = DeleteEntry { version, bypass_governance, ..DeleteEntry::current(key.clone()) };
        let refused = match self.rng.u8(..5) {
            0 => {
                self.core.delete_objects(bucket(), vec![entry]).await.and_then(|mut all| all.remove(0)).err()
            }
            1 if lock.retention.is_some() => {
                self.core.put_retention(bucket(), key, version, None, false).await.err()
            }
            2 => self.core.delete_bucket(bucket()).await.err(),
            3 => {
                let rename =
                    RenameObject { bucket: bucket(), source_key: key, key: key_of("renamed"), token: None };
                self.core.rename_object(rename, |_, _| Ok(())).await.err()
            }
            _ => self.core.delete_object(bucket(), entry).await.err(),
        };
        match refused {
            None => panic!("version {} of {} is locked by {lock:?} and was not kept", chosen.1, chosen.0),
            Some(OpError::ObjectLocked | OpError::BucketNotEmpty | OpError::KeepsVersions) => {}
            Some(error) => self.check_refusal(&error),
        }
    }
}
