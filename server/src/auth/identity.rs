//! Accounts, as S3 knows them: a canonical id, a display name, access keys and their secrets.
//! Invariants: a secret is never printed; an [`Account`] is that of one access key, so that who asks and by which key
//! travel together; what is not a canonical id was written before there were accounts, and is root's.
//! Not here: where accounts are kept (`fdb_schema`), the table of them (`accounts`), what they may do (`s3`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The canonical id under which AWS shows what an anonymous caller made.
pub const ANONYMOUS_ID: &str = "65a011a29cdf8ec533ec3d1ccaae921c";
/// Digits of a canonical id: 32 bytes in hex.
const CANONICAL_ID_DIGITS: usize = 64;
/// The time of last use is exact to a second, so that a busy key writes shared memory once a second and not with
/// every request.
const USE_GRAIN_MS: u64 = 1_000;

/// A secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: &str) -> Secret {
        Secret(Arc::from(secret))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Equal, with a reference count of its own.
    pub(super) fn own_copy(&self) -> Secret {
        Secret::new(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Whose access key a request was signed with.
#[derive(Clone, Debug)]
pub struct Account {
    /// The canonical id: 64 lower-case hex digits.
    pub id: Arc<str>,
    /// The display name.
    pub name: Arc<str>,
    /// The access key.
    pub access_key: Arc<str>,
    /// The deployment's administrator.
    pub is_root: bool,
    last_used_ms: Arc<AtomicU64>,
}

impl Account {
    /// An account by one of its access keys, not used yet.
    pub fn new(id: &str, name: &str, access_key: &str, is_root: bool) -> Account {
        Account {
            id: Arc::from(id),
            name: Arc::from(name),
            access_key: Arc::from(access_key),
            is_root,
            last_used_ms: Arc::default(),
        }
    }

    /// Whether a bucket with this owner is this account's.
    pub fn owns(&self, owner: &str) -> bool {
        *self.id == *owner || (self.is_root && !is_canonical_id(owner))
    }

    /// As S3 shows it.
    pub fn person(&self) -> Person {
        Person { id: self.id.to_string(), name: self.name.to_string() }
    }

    /// Equal, with reference counts of its own, but for the time of last use.
    pub(super) fn own_copy(&self) -> Account {
        let mut copy = Account::new(&self.id, &self.name, &self.access_key, self.is_root);
        copy.clone_use_of(self);
        copy
    }

    /// Shares the time of last use with an earlier copy of this account.
    pub(super) fn clone_use_of(&mut self, earlier: &Account) {
        self.last_used_ms = Arc::clone(&earlier.last_used_ms);
    }

    /// When the key was last used, in milliseconds since 1970; 0 if never since it was loaded.
    pub fn last_used_ms(&self) -> u64 {
        self.last_used_ms.load(Ordering::Relaxed)
    }

    /// Notes a use; shared by every core's copy of the account.
    pub fn note_use(&self, now_ms: u64) {
        if now_ms >= self.last_used_ms.load(Ordering::Relaxed).saturating_add(USE_GRAIN_MS) {
            self.last_used_ms.store(now_ms, Ordering::Relaxed);
        }
    }
}

/// Whether a text is a canonical id.
pub fn is_canonical_id(text: &str) -> bool {
    text.len() == CANONICAL_ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// An owner, an initiator or a grantee as S3 shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The canonical id.
    pub id: String,
    /// The display name; the id where the account is gone.
    pub name: String,
}

impl Person {
    /// Nobody that we know.
    pub fn anonymous() -> Person {
        Person { id: ANONYMOUS_ID.to_owned(), name: "anonymous".to_owned() }
    }
}

/// What an access key proves with, and whose it is.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The secret.
    pub secret: Secret,
    /// Whose.
    pub account: Arc<Account>,
}

/// The access keys and accounts of a deployment, in memory.
pub trait Credentials {
    /// The access key, if there is one and it is enabled.
    fn find(&self, access_key: &str) -> Option<Credential>;

    /// The display name of the account with this canonical id, if there is one.
    fn name_of(&self, id: &str) -> Option<Arc<str>>;

    /// The canonical id of root.
    fn root_id(&self) -> Arc<str>;

    /// How S3 shows an owner that is kept with a bucket or an upload.
    fn person(&self, owner: &str) -> Person {
        let id = if is_canonical_id(owner) || owner == ANONYMOUS_ID { owner } else { &self.root_id() };
        if id == ANONYMOUS_ID {
            return Person::anonymous();
        }
        let name = self.name_of(id).map_or_else(|| id.to_owned(), |name| name.to_string());
        Person { id: id.to_owned(), name }
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Identity {
    /// No one said.
    Anonymous,
    /// The holder of an access key's secret.
    Account(Arc<Account>),
}

impl Identity {
    /// The account, unless the caller is anonymous.
    pub fn account(&self) -> Option<&Arc<Account>> {
        match self {
            Identity::Anonymous => None,
            Identity::Account(account) => Some(account),
        }
    }

    /// The canonical id under which what the caller makes is kept.
    pub fn canonical_id(&self) -> &str {
        self.account().map_or(ANONYMOUS_ID, |account| &account.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_was_made_before_there_were_accounts_is_roots() {
        let root = Account::new(ID, "root", "AK", true);
        let user = Account::new(&ID.replace('0', "1"), "ann", "BK", false);
        assert!(root.owns("AKOLD") && root.owns(ID));
        assert!(!user.owns("AKOLD") && !user.owns(ID) && user.owns(&user.id));
        assert!(!root.owns(&user.id));
    }

    #[test]
    fn a_use_is_noted_once_a_second_and_seen_by_every_copy() {
        let account = Account::new(ID, "ann", "BK", false);
        let copy = account.clone();
        account.note_use(5_000);
        account.note_use(5_999);
        assert_eq!(copy.last_used_ms(), 5_000);
        account.note_use(6_000);
        assert_eq!(copy.last_used_ms(), 6_000);
    }
}
