//! The members of the pool: the list that drives' identities are copies of.
//! Invariants: the revision goes up by one a change, so of two lists the higher revision is the later one; a change is
//! committed here before a drive is told, unless nothing can be committed without the drive that joins: then it is adopted
//! here afterwards, and leaves out one revision, which a change that is undecided meanwhile may have.
//! Not here: drives (`shardstore`), who decides (`server`).

use shardstore_format::Membership;
use shardstore_reactor::Executor;

use super::error::{Failure, damaged};
use super::keyspace;
use super::retry::Metadata;
use crate::{Engine, Isolation, Transaction};

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// The members, if they were ever kept here.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn members(&self) -> Result<Option<Membership>, Failure> {
        self.read(async |txn| {
            let value = txn.get(&keyspace::members(), Isolation::Snapshot).await?;
            value.map(|value| decode(&value)).transpose()
        })
        .await
    }

    /// Keeps `members`, which are in force on the drives already, in place of all older ones; false if those that are
    /// kept are as new.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn adopt_members(&self, members: &Membership) -> Result<bool, Failure> {
        self.set_members(members, |before| before < members.revision).await
    }

    /// Keeps `members` if theirs is the next revision, or the first that is kept; false if another change came first.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn change_members(&self, members: &Membership) -> Result<bool, Failure> {
        self.set_members(members, |before| before + 1 == members.revision).await
    }

    async fn set_members(
        &self,
        members: &Membership,
        may_follow: impl Fn(u64) -> bool,
    ) -> Result<bool, Failure> {
        let mut value = Vec::new();
        members.encode(&mut value);
        self.write(async |txn| {
            let row_key = keyspace::members();
            if let Some(before) = txn.get(&row_key, Isolation::Serializable).await?
                && !may_follow(decode(&before)?.revision)
            {
                return Ok(false);
            }
            txn.set(&row_key, &value);
            Ok(true)
        })
        .await
    }
}

fn decode(value: &[u8]) -> Result<Membership, Failure> {
    Membership::decode(value).map_err(|error| damaged(&format!("the row of the pool's members: {error}")))
}
