//! What runs beside requests: sweeping and reclaim of the store, forgetting of what completions and renames answered.
//! Invariants: every core runs its store's upkeep, one of them also forgets; a failure is logged and tried again
//! later, never fatal.
//! Not here: the work itself (`shardstore`, `fdb_schema::schema`).

use std::time::Duration;

use fdb_schema::Engine;
use shardstore_reactor::{Drive, Executor};

use super::core::Core;

/// Completions are kept for a day: looking once an hour is often enough.
const COMPLETIONS_PERIOD: Duration = Duration::from_hours(1);

impl<D: Drive, E: Engine, X: Executor> Core<D, E, X> {
    /// Starts this core's background work, once. The store's ends with `StoreShared::stop`, the rest with the process.
    pub fn spawn_background(&self, is_first_core: bool) {
        let store = self.inner.store.clone();
        self.inner.executor.spawn(store.run_background());
        if is_first_core {
            self.inner.executor.spawn(self.clone().forget_completions());
        }
    }

    async fn forget_completions(self) {
        loop {
            let metadata = &self.inner.metadata;
            match (metadata.forget_completions().await, metadata.forget_renames().await) {
                (Ok(true), Ok(true)) => {}
                (Ok(_), Ok(_)) => continue,
                (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "old answers stay for now"),
            }
            self.inner.executor.sleep(COMPLETIONS_PERIOD).await;
        }
    }
}
