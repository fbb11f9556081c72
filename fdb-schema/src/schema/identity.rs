//! Identity: the root account's credentials, sealed by the caller.
//! Invariants: the first start's credentials stay until they are replaced on purpose.
//! Not here: sealing (`server`), users and policies.

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::error::Failure;
use super::keyspace;
use super::retry::Metadata;
use crate::{Engine, Isolation, Transaction};

const ROOT: &[u8] = b"root";

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// The sealed root credentials, if there are any.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn root_credentials(&self) -> Result<Option<Bytes>, Failure> {
        self.read(async |txn| Ok(txn.get(&keyspace::identity(ROOT), Isolation::Snapshot).await?)).await
    }

    /// Keeps `sealed` unless there are root credentials already; returns those that count.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn root_credentials_or(&self, sealed: Bytes) -> Result<Bytes, Failure> {
        self.write(async |txn| {
            let row_key = keyspace::identity(ROOT);
            if let Some(earlier) = txn.get(&row_key, Isolation::Serializable).await? {
                return Ok(earlier);
            }
            txn.set(&row_key, &sealed);
            Ok(sealed.clone())
        })
        .await
    }

    /// Replaces the root credentials.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn set_root_credentials(&self, sealed: Bytes) -> Result<(), Failure> {
        self.write(async |txn| {
            txn.set(&keyspace::identity(ROOT), &sealed);
            Ok(())
        })
        .await
    }
}
