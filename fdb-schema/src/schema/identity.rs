//! Identity: the root account's credentials, and what tells the pool's master key from others; sealed by the caller.
//! Invariants: the first start's credentials stay until they are replaced on purpose; what tells the key is written once,
//! and replaced only together with the credentials, by who says that the key is another from now on.
//! Not here: sealing (`server`), users and policies.

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::error::Failure;
use super::keyspace;
use super::retry::Metadata;
use crate::{Engine, Isolation, Transaction};

const ROOT: &[u8] = b"root";
const MASTER_KEY_CHECK: &[u8] = b"master key check";

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// The sealed root credentials, if there are any.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn root_credentials(&self) -> Result<Option<Bytes>, Failure> {
        self.read(async |txn| Ok(txn.get(&keyspace::identity(ROOT), Isolation::Snapshot).await?)).await
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

    /// What only the pool's master key opens, if it is kept already.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn master_key_check(&self) -> Result<Option<Bytes>, Failure> {
        self.read(async |txn| Ok(txn.get(&keyspace::identity(MASTER_KEY_CHECK), Isolation::Snapshot).await?))
            .await
    }

    /// Keeps what only the pool's master key opens, unless there is such a row already.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn keep_master_key_check(&self, sealed: Bytes) -> Result<(), Failure> {
        self.write(async |txn| {
            let row_key = keyspace::identity(MASTER_KEY_CHECK);
            if txn.get(&row_key, Isolation::Serializable).await?.is_none() {
                txn.set(&row_key, &sealed);
            }
            Ok(())
        })
        .await
    }

    /// From now on another master key counts: what only it opens, and the root credentials sealed under it.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn replace_master_key(&self, check: Bytes, root: Bytes) -> Result<(), Failure> {
        self.write(async |txn| {
            txn.set(&keyspace::identity(MASTER_KEY_CHECK), &check);
            txn.set(&keyspace::identity(ROOT), &root);
            Ok(())
        })
        .await
    }
}
