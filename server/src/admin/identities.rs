//! Users and access keys, for an operator: changes rows, then the table that every core verifies against.
//! Invariants: a change is committed, and every core sees it, before it is answered; a secret is shown once, in the answer
//! to the request that made it; each is sealed for its account and its access key, so that rows cannot be exchanged.
//! Not here: the wire form (`api`), the rows (`fdb_schema`), the table (`auth`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::{
    ACCESS_KEYS_MAX, AccessKeyChange, AccountId, AccountRecord, Failure, Metadata, NamedAccessKey, Refusal,
};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use serde::Serialize;
use shardstore_reactor::Executor;

use crate::auth::{AccountTable, Accounts};
use crate::config::RootCredentials;
use crate::keys::{MasterKey, random_bytes, random_name};

/// 20 signs of 5 bits: as long as AWS's access keys.
const ACCESS_KEY_CHARS: usize = 20;
/// 40 signs of 5 bits: 200 bits.
const SECRET_KEY_CHARS: usize = 40;
/// How often times of last use are kept. They are for a person who asks whether a key is in use: a minute is exact enough.
const USES_INTERVAL: Duration = Duration::from_secs(60);
/// Times of last use that one transaction keeps.
const USES_AT_A_TIME: usize = 500;

/// A key as an operator wants it; what is left out is made.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WantedKey {
    /// Its name.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<String>,
}

impl std::fmt::Debug for WantedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WantedKey({:?})", self.access_key)
    }
}

/// What an operator asks for.
#[derive(Debug)]
pub enum IdentityRequest {
    /// All users with their keys.
    List,
    /// A new user with a first key.
    AddUser(String, WantedKey),
    /// A user that owns no bucket goes, with its keys.
    RemoveUser(String),
    /// One more key of a user.
    AddKey(String, WantedKey),
    /// Another secret for the key of that name; made if it is left out.
    RotateKey(String, Option<String>),
    /// A key opens what it may, or nothing, from now on.
    EnableKey(String, bool),
    /// A key goes.
    RemoveKey(String),
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// The request cannot be carried out by anyone: a sentence.
    Invalid(String),
    /// There is no such user or key: a sentence.
    NotFound(String),
    /// As things are it cannot be done: a sentence.
    Refused(String),
    /// It was tried and failed: a sentence.
    Failed(String),
}

/// What is told of a request that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Identities {
    /// All users, root first, then by name.
    pub users: Vec<ShownUser>,
    /// The key that the request made or changed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<NewKey>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownUser {
    /// Its name.
    pub name: String,
    /// Its canonical id.
    pub id: String,
    /// The administrator.
    pub is_root: bool,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Its access keys.
    pub keys: Vec<ShownKey>,
}

/// An access key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownKey {
    /// Its name.
    pub access_key: String,
    /// Whether it opens anything.
    pub enabled: bool,
    /// Milliseconds since 1970; 0 for the one that the server was started with.
    pub created_ms: u64,
    /// Milliseconds since 1970; 0 if never.
    pub last_used_ms: u64,
}

/// A key with its secret, which is not shown again.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct NewKey {
    /// Whose.
    pub user: String,
    /// Its name.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewKey({})", self.access_key)
    }
}

type Answer = oneshot::Sender<Result<Identities, IdentityError>>;

/// The way to whoever carries out.
#[derive(Clone)]
pub struct IdentityHandle(mpsc::UnboundedSender<(IdentityRequest, Answer)>);

impl IdentityHandle {
    /// Asks, and waits until it is done.
    ///
    /// # Errors
    /// [`IdentityError`]: nothing was changed, unless it is `Failed`.
    pub async fn ask(&self, request: IdentityRequest) -> Result<Identities, IdentityError> {
        let gone = || IdentityError::Failed("the server is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        self.0.unbounded_send((request, answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// What identities are made of.
#[derive(Clone)]
pub struct IdentityParts {
    /// Seals secrets.
    pub key: MasterKey,
    /// The credentials that the server was started with.
    pub root: RootCredentials,
    /// Root's canonical id.
    pub root_id: AccountId,
    /// The table of every core.
    pub accounts: Arc<Accounts>,
}

/// The way to identities, and what carries out requests and keeps times of last use for as long as the process lives.
pub fn identities<E: Engine, X: Executor>(
    parts: IdentityParts,
    metadata: Metadata<E, X>,
    executor: X,
) -> (IdentityHandle, impl Future<Output = ()>) {
    let (sender, mut requests) = mpsc::unbounded::<(IdentityRequest, Answer)>();
    let keeper = Keeper { parts, metadata };
    let answering = async move {
        loop {
            match select(requests.next(), std::pin::pin!(executor.sleep(USES_INTERVAL))).await {
                Either::Left((Some((request, answer)), _)) => {
                    let done: Result<Identities, IdentityError> = keeper.carry_out(request).await;
                    // Who asked may have gone.
                    answer.send(done).ok();
                }
                Either::Left((None, _)) => return,
                Either::Right(_) => keeper.keep_uses().await,
            }
        }
    };
    (IdentityHandle(sender), answering)
}

/// Reads the table from metadata. A secret that cannot be opened is left out, and said.
///
/// # Errors
/// [`Failure::Engine`].
pub async fn account_table<E: Engine, X: Executor>(
    metadata: &Metadata<E, X>,
    key: &MasterKey,
    root_id: AccountId,
    root: &RootCredentials,
) -> Result<AccountTable, Failure> {
    let (users, keys) = metadata.accounts().await?;
    Ok(table_of(key, root_id, root, &users, &keys))
}

fn table_of(
    key: &MasterKey,
    root_id: AccountId,
    root: &RootCredentials,
    users: &[(AccountId, AccountRecord)],
    keys: &[NamedAccessKey],
) -> AccountTable {
    let mut table = AccountTable::new(&root_id.to_string(), ROOT_NAME);
    for (id, record) in users {
        table.add_account(&id.to_string(), &record.name);
    }
    for named in keys.iter().filter(|named| named.record.is_enabled) {
        let opened = key.open(&purpose(named.account, &named.access_key), &named.record.sealed);
        match opened.map(String::from_utf8) {
            Ok(Ok(secret)) => table.add_key(&named.account.to_string(), &named.access_key, &secret),
            _ => tracing::warn!(access_key = named.access_key, "its secret cannot be opened: rotate it"),
        }
    }
    // Last, so that no row can take the place of the operator's own.
    table.add_key(&root_id.to_string(), &root.access_key, &root.secret_key);
    table
}

/// Whether `key` opens the secret of every access key that there is.
///
/// # Errors
/// [`Failure::Engine`].
pub async fn opens_access_keys<E: Engine, X: Executor>(
    metadata: &Metadata<E, X>,
    key: &MasterKey,
) -> Result<bool, Failure> {
    let (_, keys) = metadata.accounts().await?;
    Ok(keys
        .iter()
        .all(|named| key.open(&purpose(named.account, &named.access_key), &named.record.sealed).is_ok()))
}

/// Root's display name.
pub const ROOT_NAME: &str = "root";

fn purpose(account: AccountId, access_key: &str) -> String {
    format!("access key {access_key} of account {account}")
}

struct Keeper<E: Engine, X: Executor> {
    parts: IdentityParts,
    metadata: Metadata<E, X>,
}

impl<E: Engine, X: Executor> Keeper<E, X> {
    async fn carry_out(&self, request: IdentityRequest) -> Result<Identities, IdentityError> {
        let (users, keys) = self.metadata.accounts().await.map_err(|failure| said(&failure))?;
        let made = match request {
            IdentityRequest::List => None,
            IdentityRequest::AddUser(name, wanted) => {
                check_name(&name)?;
                let key = self.new_key(&name, wanted)?;
                let id = AccountId(random_bytes());
                self.change(self.metadata.add_account(id, &name).await)?;
                let added = self.add_key(id, key).await;
                if added.is_err() {
                    // A user without the key that was asked for would be in the way of the next attempt.
                    self.change(self.metadata.remove_account(id).await)?;
                }
                Some(added?)
            }
            IdentityRequest::RemoveUser(name) => {
                let id = user_id(&users, &name)?;
                if id == self.parts.root_id {
                    return Err(IdentityError::Refused("root cannot be removed".to_owned()));
                }
                self.change(self.metadata.remove_account(id).await)?;
                None
            }
            IdentityRequest::AddKey(user, wanted) => {
                let id = user_id(&users, &user)?;
                let key = self.new_key(&user, wanted)?;
                Some(self.add_key(id, key).await?)
            }
            IdentityRequest::RotateKey(access_key, secret_key) => {
                let named = self.named(&keys, &access_key)?;
                let user = users.iter().find(|(id, _)| *id == named.account);
                let user = user.map(|(_, record)| record.name.as_str()).unwrap_or_default();
                let key = self.new_key(user, WantedKey { access_key: None, secret_key })?;
                let key = NewKey { access_key, ..key };
                let change = AccessKeyChange::Secret(self.seal(named.account, &key));
                self.change(self.metadata.change_access_key(named.account, &key.access_key, &change).await)?;
                Some(key)
            }
            IdentityRequest::EnableKey(access_key, is_enabled) => {
                let named = self.named(&keys, &access_key)?;
                let change = AccessKeyChange::Enabled(is_enabled);
                self.change(self.metadata.change_access_key(named.account, &access_key, &change).await)?;
                None
            }
            IdentityRequest::RemoveKey(access_key) => {
                let named = self.named(&keys, &access_key)?;
                self.change(self.metadata.remove_access_key(named.account, &access_key).await)?;
                None
            }
        };
        let shown = self.publish().await.map_err(|failure| said(&failure))?;
        Ok(Identities { users: shown, key: made })
    }

    fn change<T>(&self, result: Result<T, Failure>) -> Result<(), IdentityError> {
        result.map(drop).map_err(|failure| said(&failure))
    }

    async fn add_key(&self, id: AccountId, key: NewKey) -> Result<NewKey, IdentityError> {
        let sealed = self.seal(id, &key);
        self.change(self.metadata.add_access_key(id, &key.access_key, sealed).await)?;
        Ok(key)
    }

    fn seal(&self, id: AccountId, key: &NewKey) -> Bytes {
        self.parts.key.seal(&purpose(id, &key.access_key), key.secret_key.as_bytes()).into()
    }

    fn new_key(&self, user: &str, wanted: WantedKey) -> Result<NewKey, IdentityError> {
        let WantedKey { access_key, secret_key } = wanted;
        if access_key.as_deref() == Some(&self.parts.root.access_key) {
            return Err(IdentityError::Refused("the server was started with that access key".to_owned()));
        }
        let key = NewKey {
            user: user.to_owned(),
            access_key: access_key.unwrap_or_else(|| random_name(ACCESS_KEY_CHARS)),
            secret_key: secret_key.unwrap_or_else(|| random_name(SECRET_KEY_CHARS)),
        };
        check_key(&key)?;
        Ok(key)
    }

    fn named<'k>(
        &self,
        keys: &'k [NamedAccessKey],
        access_key: &str,
    ) -> Result<&'k NamedAccessKey, IdentityError> {
        if *access_key == *self.parts.root.access_key {
            let what = "the server was started with that key: change BASALT_ROOT_ACCESS_KEY and BASALT_ROOT_SECRET_KEY \
                        and start it again";
            return Err(IdentityError::Refused(what.to_owned()));
        }
        let found = keys.iter().find(|named| named.access_key == access_key);
        found.ok_or_else(|| IdentityError::NotFound(format!("there is no access key {access_key}")))
    }

    /// Gives every core the table as it is now; what it shows of it.
    async fn publish(&self) -> Result<Vec<ShownUser>, Failure> {
        let parts = &self.parts;
        let (users, keys) = self.metadata.accounts().await?;
        parts.accounts.replace(table_of(&parts.key, parts.root_id, &parts.root, &users, &keys));
        Ok(self.shown(users, keys))
    }

    fn shown(&self, users: Vec<(AccountId, AccountRecord)>, keys: Vec<NamedAccessKey>) -> Vec<ShownUser> {
        let parts = &self.parts;
        let uses: HashMap<String, u64> = parts.accounts.uses().into_iter().collect();
        let used = |access_key: &str| uses.get(access_key).copied().unwrap_or(0);
        let mut by_account: HashMap<AccountId, Vec<ShownKey>> = HashMap::new();
        let first = ShownKey {
            access_key: parts.root.access_key.clone(),
            enabled: true,
            created_ms: 0,
            last_used_ms: used(&parts.root.access_key),
        };
        by_account.insert(parts.root_id, vec![first]);
        for NamedAccessKey { account, access_key, record } in keys {
            by_account.entry(account).or_default().push(ShownKey {
                enabled: record.is_enabled,
                created_ms: record.created_ms,
                last_used_ms: used(&access_key).max(record.last_used_ms),
                access_key,
            });
        }
        let show = |(id, record): (AccountId, AccountRecord)| ShownUser {
            name: record.name,
            id: id.to_string(),
            is_root: id == parts.root_id,
            created_ms: record.created_ms,
            keys: by_account.remove(&id).unwrap_or_default(),
        };
        let mut shown: Vec<ShownUser> = users.into_iter().map(show).collect();
        shown.sort_by(|a, b| (!a.is_root, &a.name).cmp(&(!b.is_root, &b.name)));
        shown
    }

    /// Times of last use that are not kept yet go into their rows.
    async fn keep_uses(&self) {
        let kept: Result<(), Failure> = async {
            let (_, keys) = self.metadata.accounts().await?;
            let uses: HashMap<String, u64> = self.parts.accounts.uses().into_iter().collect();
            let news: Vec<(AccountId, String, u64)> = keys
                .into_iter()
                .filter_map(|named| {
                    let at_ms = *uses.get(&named.access_key)?;
                    (at_ms > named.record.last_used_ms).then_some((named.account, named.access_key, at_ms))
                })
                .collect();
            for some in news.chunks(USES_AT_A_TIME) {
                self.metadata.keep_uses(some).await?;
            }
            Ok(())
        }
        .await;
        if let Err(error) = kept {
            tracing::debug!(%error, "times of last use are kept later");
        }
    }
}

fn user_id(users: &[(AccountId, AccountRecord)], name: &str) -> Result<AccountId, IdentityError> {
    let found = users.iter().find(|(_, record)| record.name == name);
    found.map(|(id, _)| *id).ok_or_else(|| IdentityError::NotFound(format!("there is no user {name}")))
}

/// The names that IAM allows.
fn check_name(name: &str) -> Result<(), IdentityError> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
    if is_plain && (1..=64).contains(&name.len()) {
        return Ok(());
    }
    let what = "a user's name is 1 to 64 letters, digits and + = , . @ _ -";
    Err(IdentityError::Invalid(what.to_owned()))
}

/// What fits into headers, scopes and lists as it is.
fn check_key(key: &NewKey) -> Result<(), IdentityError> {
    let is_plain = key.access_key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_plain || !(3..=128).contains(&key.access_key.len()) {
        let what = "an access key is 3 to 128 letters, digits and . _ -";
        return Err(IdentityError::Invalid(what.to_owned()));
    }
    let is_visible = key.secret_key.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_visible || !(8..=128).contains(&key.secret_key.len()) {
        let what = "a secret key is 8 to 128 visible ASCII characters";
        return Err(IdentityError::Invalid(what.to_owned()));
    }
    Ok(())
}

fn said(failure: &Failure) -> IdentityError {
    let refused = |what: &str| IdentityError::Refused(what.to_owned());
    match failure {
        Failure::Refused(Refusal::AccountExists) => refused("there is such a user already"),
        Failure::Refused(Refusal::AccountOwnsBuckets) => {
            refused("the user owns buckets: remove them first, then the user")
        }
        Failure::Refused(Refusal::AccessKeyExists) => refused("there is such an access key already"),
        Failure::Refused(Refusal::TooManyAccessKeys) => IdentityError::Refused(format!(
            "a user has at most {ACCESS_KEYS_MAX} access keys: remove those that are not used"
        )),
        Failure::Refused(Refusal::NoSuchAccount | Refusal::NoSuchAccessKey) => {
            IdentityError::NotFound("it was removed meanwhile".to_owned())
        }
        other => IdentityError::Failed(format!("metadata cannot be written: {other}")),
    }
}

#[cfg(test)]
mod tests;
