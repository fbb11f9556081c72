//! Accounts and their access keys: add, change, remove; which buckets an account owns.
//! Invariants: a name and an access key belong to one account; an account is removed only with its keys and when it
//! owns no bucket, and a bucket that is created meanwhile conflicts with the removal.
//! Not here: sealing of secrets and who may ask (`server`), root's own credentials (`identity`).

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::codec::{DecodeError, Decoder, Encoder};
use super::error::{Failure, Refusal, damaged};
use super::keyspace::{self, KeyRange};
use super::retry::{Metadata, rows};
use crate::{Engine, Isolation, Row, Transaction};

const VERSION: u8 = 1;
/// Access keys of one account: a few per service that shares it.
pub const ACCESS_KEYS_MAX: usize = 100;
/// Accounts are read so many rows at a time.
const PAGE_ROWS: usize = 1_000;
/// Digits of an [`AccountId`].
const ID_DIGITS: usize = 64;

/// A canonical id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub [u8; 32]);

impl AccountId {
    /// Reads 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<AccountId> {
        let digits: &[u8; ID_DIGITS] = text.as_bytes().try_into().ok()?;
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(AccountId(id))
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl std::fmt::Display for AccountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its display name.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

impl AccountRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        out.text(self.name.as_bytes());
        out.number(self.created_ms);
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<AccountRecord, DecodeError> {
        let mut from = Decoder::new("account", VERSION, value)?;
        let record = AccountRecord { name: from.string()?, created_ms: from.number()? };
        from.finish()?;
        Ok(record)
    }
}

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeyRecord {
    /// The secret, sealed by the caller.
    pub sealed: Bytes,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Whether it opens anything.
    pub is_enabled: bool,
    /// When it was last used, in milliseconds since 1970, to within a minute or so; 0 if never.
    pub last_used_ms: u64,
}

impl AccessKeyRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        out.text(&self.sealed);
        out.number(self.created_ms);
        out.byte(u8::from(self.is_enabled));
        out.number(self.last_used_ms);
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<AccessKeyRecord, DecodeError> {
        let mut from = Decoder::new("access key", VERSION, value)?;
        let (sealed, created_ms) = (from.text()?, from.number()?);
        let is_enabled = match from.byte()? {
            0 => false,
            1 => true,
            _ => return Err(from.invalid()),
        };
        let record = AccessKeyRecord { sealed, created_ms, is_enabled, last_used_ms: from.number()? };
        from.finish()?;
        Ok(record)
    }
}

/// An access key with its name and its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAccessKey {
    /// Whose.
    pub account: AccountId,
    /// Its name.
    pub access_key: String,
    /// The rest.
    pub record: AccessKeyRecord,
}

/// What an access key's change is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessKeyChange {
    /// Another secret, sealed.
    Secret(Bytes),
    /// It opens what it may, or nothing.
    Enabled(bool),
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Every account and every access key, at one snapshot.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn accounts(&self) -> Result<(Vec<(AccountId, AccountRecord)>, Vec<NamedAccessKey>), Failure> {
        self.read(async |txn| {
            let mut accounts = Vec::new();
            for row in all_rows(txn, keyspace::accounts()).await? {
                let id = keyspace::account_of(&row.key).ok_or_else(|| damaged("an account's key"))?;
                accounts.push((id, AccountRecord::decode(&row.value)?));
            }
            let mut keys = Vec::new();
            for row in all_rows(txn, keyspace::all_access_keys()).await? {
                keys.push(named_key(&row)?);
            }
            Ok((accounts, keys))
        })
        .await
    }

    /// Adds an account.
    ///
    /// # Errors
    /// [`Refusal::AccountExists`] if its name is taken, [`Failure::Engine`].
    pub async fn add_account(&self, id: AccountId, name: &str) -> Result<AccountRecord, Failure> {
        let record = AccountRecord { name: name.to_owned(), created_ms: self.executor.unix_ms() };
        self.write(async |txn| {
            let name_row = keyspace::account_name(name.as_bytes());
            if txn.get(&name_row, Isolation::Serializable).await?.is_some() {
                return Err(Refusal::AccountExists.into());
            }
            txn.set(&name_row, &id.0);
            txn.set(&keyspace::account(id), &record.encode());
            Ok(record.clone())
        })
        .await
    }

    /// Removes an account that owns no bucket, and its access keys.
    ///
    /// # Errors
    /// [`Refusal::NoSuchAccount`], [`Refusal::AccountOwnsBuckets`], [`Failure::Engine`].
    pub async fn remove_account(&self, id: AccountId) -> Result<(), Failure> {
        self.write(async |txn| {
            let record = account(txn, id).await?;
            if !rows(txn, &keyspace::owned_buckets(id, b""), 1, Isolation::Serializable).await?.is_empty() {
                return Err(Refusal::AccountOwnsBuckets.into());
            }
            for row in keys_of(txn, id).await? {
                let key = named_key(&row)?;
                txn.clear(&keyspace::access_key_owner(key.access_key.as_bytes()));
                txn.clear(&row.key);
            }
            txn.clear(&keyspace::account_name(record.name.as_bytes()));
            txn.clear(&keyspace::account(id));
            Ok(())
        })
        .await
    }

    /// Adds an access key, enabled.
    ///
    /// # Errors
    /// [`Refusal::NoSuchAccount`], [`Refusal::AccessKeyExists`], [`Refusal::TooManyAccessKeys`], [`Failure::Engine`].
    pub async fn add_access_key(
        &self,
        id: AccountId,
        access_key: &str,
        sealed: Bytes,
    ) -> Result<(), Failure> {
        let created_ms = self.executor.unix_ms();
        let record = AccessKeyRecord { sealed, created_ms, is_enabled: true, last_used_ms: 0 };
        self.write(async |txn| {
            account(txn, id).await?;
            let owner_row = keyspace::access_key_owner(access_key.as_bytes());
            if txn.get(&owner_row, Isolation::Serializable).await?.is_some() {
                return Err(Refusal::AccessKeyExists.into());
            }
            if keys_of(txn, id).await?.len() >= ACCESS_KEYS_MAX {
                return Err(Refusal::TooManyAccessKeys.into());
            }
            txn.set(&owner_row, &id.0);
            txn.set(&keyspace::access_key(id, access_key.as_bytes()), &record.encode());
            Ok(())
        })
        .await
    }

    /// Changes an access key.
    ///
    /// # Errors
    /// [`Refusal::NoSuchAccessKey`], [`Failure::Engine`].
    pub async fn change_access_key(
        &self,
        id: AccountId,
        access_key: &str,
        change: &AccessKeyChange,
    ) -> Result<(), Failure> {
        self.write(async |txn| {
            let row_key = keyspace::access_key(id, access_key.as_bytes());
            let value = txn.get(&row_key, Isolation::Serializable).await?;
            let mut record = AccessKeyRecord::decode(&value.ok_or(Refusal::NoSuchAccessKey)?)?;
            match change {
                AccessKeyChange::Secret(sealed) => record.sealed = sealed.clone(),
                AccessKeyChange::Enabled(is_enabled) => record.is_enabled = *is_enabled,
            }
            txn.set(&row_key, &record.encode());
            Ok(())
        })
        .await
    }

    /// Removes an access key.
    ///
    /// # Errors
    /// [`Refusal::NoSuchAccessKey`], [`Failure::Engine`].
    pub async fn remove_access_key(&self, id: AccountId, access_key: &str) -> Result<(), Failure> {
        self.write(async |txn| {
            let row_key = keyspace::access_key(id, access_key.as_bytes());
            if txn.get(&row_key, Isolation::Serializable).await?.is_none() {
                return Err(Refusal::NoSuchAccessKey.into());
            }
            txn.clear(&row_key);
            txn.clear(&keyspace::access_key_owner(access_key.as_bytes()));
            Ok(())
        })
        .await
    }

    /// Keeps when access keys were last used; those that are gone meanwhile are passed over.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn keep_uses(&self, uses: &[(AccountId, String, u64)]) -> Result<(), Failure> {
        self.write(async |txn| {
            for (id, access_key, at_ms) in uses {
                let row_key = keyspace::access_key(*id, access_key.as_bytes());
                let Some(value) = txn.get(&row_key, Isolation::Serializable).await? else { continue };
                let mut record = AccessKeyRecord::decode(&value)?;
                record.last_used_ms = record.last_used_ms.max(*at_ms);
                txn.set(&row_key, &record.encode());
            }
            Ok(())
        })
        .await
    }
}

/// An account's row, read so that its removal conflicts with the reader.
pub(crate) async fn account<T: Transaction>(txn: &T, id: AccountId) -> Result<AccountRecord, Failure> {
    let value = txn.get(&keyspace::account(id), Isolation::Serializable).await?;
    Ok(AccountRecord::decode(&value.ok_or(Refusal::NoSuchAccount)?)?)
}

async fn keys_of<T: Transaction>(txn: &T, id: AccountId) -> Result<Vec<Row>, Failure> {
    Ok(rows(txn, &keyspace::access_keys_of(id), ACCESS_KEYS_MAX, Isolation::Serializable).await?)
}

fn named_key(row: &Row) -> Result<NamedAccessKey, Failure> {
    let (account, access_key) =
        keyspace::access_key_of(&row.key).ok_or_else(|| damaged("the key of an access key"))?;
    let access_key = String::from_utf8(access_key).map_err(|_| damaged("an access key is no text"))?;
    Ok(NamedAccessKey { account, access_key, record: AccessKeyRecord::decode(&row.value)? })
}

async fn all_rows<T: Transaction>(txn: &T, mut range: KeyRange) -> Result<Vec<Row>, Failure> {
    let mut all = Vec::new();
    loop {
        let page = rows(txn, &range, PAGE_ROWS, Isolation::Snapshot).await?;
        let is_last = page.len() < PAGE_ROWS;
        if let Some(row) = page.last() {
            range.begin = super::bucket::successor(row.key.to_vec());
        }
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}
