//! The table of accounts and access keys that every core verifies against.
//! Invariants: a core sees a new table with its first request after [`Accounts::replace`] returned; lookups take no
//! lock and touch no storage; a core's copy of a key is its own, so that cores share no reference count.
//! Not here: the rows (`fdb_schema`), who changes them (`admin`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::identity::{Account, Credential, Credentials, Secret};

/// All accounts at one moment. Its size is that of the deployment's list of keys, about 400 bytes each.
#[derive(Debug, Default)]
pub struct AccountTable {
    /// Enabled access keys.
    keys: HashMap<Arc<str>, (Secret, Account)>,
    /// Display names by canonical id.
    names: HashMap<Arc<str>, Arc<str>>,
    root_id: Arc<str>,
}

impl AccountTable {
    /// A table with root's account and no key.
    pub fn new(root_id: &str, root_name: &str) -> AccountTable {
        let mut table = AccountTable { root_id: Arc::from(root_id), ..AccountTable::default() };
        table.add_account(root_id, root_name);
        table
    }

    /// Adds an account.
    pub fn add_account(&mut self, id: &str, name: &str) {
        self.names.insert(Arc::from(id), Arc::from(name));
    }

    /// Adds an access key of an account that was added.
    pub fn add_key(&mut self, id: &str, access_key: &str, secret: &str) {
        let Some(name) = self.names.get(id) else { return };
        let account = Account::new(id, name, access_key, *self.root_id == *id);
        self.keys.insert(Arc::clone(&account.access_key), (Secret::new(secret), account));
    }
}

/// The table, shared by all threads.
#[derive(Debug)]
pub struct Accounts {
    table: ArcSwap<AccountTable>,
    /// Goes up after each exchange of the table.
    generation: AtomicU64,
}

impl Accounts {
    /// Begins with a table.
    pub fn new(table: AccountTable) -> Arc<Accounts> {
        Arc::new(Accounts { table: ArcSwap::from_pointee(table), generation: AtomicU64::new(1) })
    }

    /// Exchanges the table; every core reads the new one from its next request on. Keys keep their time of last use.
    pub fn replace(&self, mut table: AccountTable) {
        let before = self.table.load();
        for (access_key, (_, account)) in &mut table.keys {
            if let Some((_, earlier)) = before.keys.get(access_key)
                && earlier.id == account.id
            {
                account.clone_use_of(earlier);
            }
        }
        self.table.store(Arc::new(table));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// When each enabled key was last used, in milliseconds since 1970, since it was loaded; those that were.
    pub fn uses(&self) -> Vec<(String, u64)> {
        let table = self.table.load();
        let used = table.keys.iter().map(|(key, (_, account))| (key.to_string(), account.last_used_ms()));
        used.filter(|(_, at_ms)| *at_ms > 0).collect()
    }

    /// A core's view.
    pub fn on_core(self: &Arc<Accounts>) -> CoreAccounts {
        CoreAccounts { shared: Arc::clone(self), generation: Cell::new(0), copies: RefCell::default() }
    }
}

/// One core's view of the accounts.
#[derive(Debug)]
pub struct CoreAccounts {
    shared: Arc<Accounts>,
    /// Of the table that `copies` were made from, or of one before it.
    generation: Cell<u64>,
    copies: RefCell<HashMap<Arc<str>, Credential>>,
}

impl Credentials for CoreAccounts {
    fn find(&self, access_key: &str) -> Option<Credential> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let mut copies = self.copies.borrow_mut();
        if self.generation.replace(generation) != generation {
            copies.clear();
        }
        if let Some(copy) = copies.get(access_key) {
            return Some(copy.clone());
        }
        let table = self.shared.table.load();
        let (secret, account) = table.keys.get(access_key)?;
        let copy = Credential { secret: secret.own_copy(), account: Arc::new(account.own_copy()) };
        copies.insert(Arc::clone(&copy.account.access_key), copy.clone());
        Some(copy)
    }

    fn name_of(&self, id: &str) -> Option<Arc<str>> {
        self.shared.table.load().names.get(id).cloned()
    }

    fn root_id(&self) -> Arc<str> {
        Arc::clone(&self.shared.table.load().root_id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn id(digit: &str) -> String {
        digit.repeat(64)
    }

    fn table(keys: &[(&str, &str)]) -> AccountTable {
        let mut table = AccountTable::new(&id("0"), "root");
        table.add_account(&id("a"), "ann");
        keys.iter().for_each(|(key, secret)| table.add_key(&id("a"), key, secret));
        table
    }

    #[test]
    fn a_core_sees_a_change_with_its_next_lookup() {
        let accounts = Accounts::new(table(&[("K1", "s1"), ("K2", "s2")]));
        let core = accounts.on_core();
        let found = core.find("K1").unwrap();
        assert_eq!((&*found.account.name, found.account.is_root), ("ann", false));
        assert!(core.find("K3").is_none());
        accounts.replace(table(&[("K1", "new"), ("K3", "s3")]));
        assert_eq!(core.find("K1").unwrap().secret, Secret::new("new"));
        assert!(core.find("K2").is_none());
        assert!(core.find("K3").is_some());
    }

    #[test]
    fn the_time_of_last_use_outlives_a_change_and_is_seen_from_every_core() {
        let accounts = Accounts::new(table(&[("K1", "s1")]));
        let (one, other) = (accounts.on_core(), accounts.on_core());
        one.find("K1").unwrap().account.note_use(7_000);
        accounts.replace(table(&[("K1", "s1"), ("K2", "s2")]));
        assert_eq!(other.find("K1").unwrap().account.last_used_ms(), 7_000);
        other.find("K1").unwrap().account.note_use(9_000);
        assert_eq!(accounts.uses(), [("K1".to_owned(), 9_000)]);
    }

    #[test]
    fn owners_are_shown_by_name_and_old_ones_as_root() {
        let core = Accounts::new(table(&[])).on_core();
        assert_eq!(core.person(&id("a")).name, "ann");
        assert_eq!(core.person("AKIAOLD").id, id("0"));
        assert_eq!(core.person(&id("f")).name, id("f"));
    }
}
