//! The master key and the root credentials, found or made at start.
//! Invariants: a key is made only for a pool that has sealed nothing yet; it is on every drive before it seals
//! anything; nothing is sealed under a key that does not open what the pool sealed before; both only change if the
//! operator says so; root credentials lie in metadata, sealed.
//! Not here: sealing (`keys`), who may do what (`auth`).

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use fdb_schema::EngineError;
use fdb_schema::schema::{AccountId, Failure, Metadata, Refusal};
use shardstore::{FoundMasterKey, Pool, read_master_key, write_master_key};
use shardstore_format::PoolId;
use shardstore_reactor::{Drive, Executor};

use super::{MasterKey, StartError, refused};
use crate::admin::{IdentityParts, ROOT_NAME, account_table, opens_access_keys};
use crate::auth::Accounts;
use crate::config::{Config, RootCredentials};
use crate::keys::random_name;

/// What the sealed form is bound to.
const ROOT_PURPOSE: &str = "root credentials";
const CHECK_PURPOSE: &str = "master key check";
/// 20 signs of 5 bits: as long as AWS's access keys.
const ACCESS_KEY_CHARS: usize = 20;
/// 40 signs of 5 bits: 200 bits.
const SECRET_KEY_CHARS: usize = 40;

/// What a start finds or makes.
pub(super) struct Settled {
    /// The root credentials that count from now on.
    pub(super) root: RootCredentials,
    /// Whether they were made just now.
    pub(super) is_new: bool,
    /// The key that secrets are sealed under.
    pub(super) key: MasterKey,
    /// What an operator should know of it.
    pub(super) note: Option<String>,
}

/// What a start says that took another key because it was told to.
const ACCEPTED: &str = "the master key is another from now on, as --accept-new-master-key says: access keys, and objects \
                        encrypted under SSE-S3, that were sealed under the former one do not open; leave the option out \
                        from the next start on";
/// And one that was told to and had the pool's.
const NOTHING_TO_ACCEPT: &str = "--accept-new-master-key does nothing, since the master key is the pool's: leave it out, or \
                                 a wrong key is taken too";

/// What metadata keeps under the master key for the server itself.
struct Stored {
    root: Option<Bytes>,
    /// What only the pool's key opens. Made with the key, so that credentials that are given at each start do not hide
    /// that the key is another.
    check: Option<Bytes>,
}

/// Finds or makes the root credentials and the key that they are sealed under.
pub(super) async fn settle<D: Drive, E: fdb_schema::Engine, X: Executor>(
    pool: &Pool<D>,
    metadata: &Metadata<E, X>,
    config: &Config,
) -> Result<Settled, StartError> {
    let root = metadata.root_credentials().await.map_err(unreadable)?;
    let stored = Stored { root, check: metadata.master_key_check().await.map_err(unreadable)? };
    let accepts = config.accept_new_master_key;
    let may_make = accepts || (stored.root.is_none() && stored.check.is_none());
    let found = find_key(pool, may_make).await?;
    let key = found.key();
    let whose = judge(&key, &stored, metadata, accepts).await?;
    match found {
        Found::InFile(_) => {}
        Found::OnDrives(copies) => copies.copy_to_lacking(pool).await.map_err(refused)?,
        Found::Made(made) => write_master_key(pool, made).await.map_err(refused)?,
    }
    settle_under(key, whose, stored, metadata, config.root.as_ref()).await
}

/// A key that a start may go on with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// It opens what the pool has sealed.
    Pools,
    /// So too, and the operator would have taken another one.
    PoolsThoughAnyWasAccepted,
    /// Another one, and the operator says that it counts from now on.
    Accepted,
}

/// Refuses a key that does not open what the pool has sealed, unless the operator says otherwise. Changes nothing.
async fn judge<E: fdb_schema::Engine, X: Executor>(
    key: &MasterKey,
    stored: &Stored,
    metadata: &Metadata<E, X>,
    accepts_new_key: bool,
) -> Result<Whose, StartError> {
    match (is_pools(key, stored, metadata).await?, accepts_new_key) {
        (true, false) => Ok(Whose::Pools),
        (true, true) => Ok(Whose::PoolsThoughAnyWasAccepted),
        (false, true) => Ok(Whose::Accepted),
        (false, false) => Err(not_the_pools()),
    }
}

/// The root credentials under a key that was judged.
async fn settle_under<E: fdb_schema::Engine, X: Executor>(
    key: MasterKey,
    whose: Whose,
    stored: Stored,
    metadata: &Metadata<E, X>,
    chosen: Option<&RootCredentials>,
) -> Result<Settled, StartError> {
    if whose == Whose::Accepted {
        return accept(key, metadata, chosen).await;
    }
    if stored.check.is_none() {
        written(metadata.keep_master_key_check(check_of(&key)).await, "what tells the master key")?;
    }
    let note = (whose == Whose::PoolsThoughAnyWasAccepted).then(|| NOTHING_TO_ACCEPT.to_owned());
    let opened = stored.root.map(|sealed| open(&key, &sealed)).transpose();
    if let Some(chosen) = chosen {
        if !matches!(&opened, Ok(Some(stored)) if stored == chosen) {
            let sealed = seal(&key, chosen);
            // They count for this run in any case.
            written(metadata.set_root_credentials(sealed.into()).await, "the chosen root credentials")?;
        }
        return Ok(Settled { root: chosen.clone(), is_new: false, key, note });
    }
    if let Some(stored) = opened? {
        return Ok(Settled { root: stored, is_new: false, key, note });
    }
    let made = made_credentials();
    metadata.set_root_credentials(seal(&key, &made).into()).await.map_err(unreadable)?;
    Ok(Settled { root: made, is_new: true, key, note })
}

/// Whether `key` is the one that the pool's secrets are sealed under. Of a pool that was made before there was a row to
/// tell by, it is the one that opens every secret; one that has sealed nothing takes any.
async fn is_pools<E: fdb_schema::Engine, X: Executor>(
    key: &MasterKey,
    stored: &Stored,
    metadata: &Metadata<E, X>,
) -> Result<bool, StartError> {
    if let Some(check) = &stored.check {
        return Ok(key.open(CHECK_PURPOSE, check).is_ok());
    }
    let opens_root = stored.root.as_ref().is_none_or(|sealed| key.open(ROOT_PURPOSE, sealed).is_ok());
    Ok(opens_root && opens_access_keys(metadata, key).await.map_err(unreadable)?)
}

/// Takes `key` for the pool's from now on. The root credentials of before may be sealed under the former one.
async fn accept<E: fdb_schema::Engine, X: Executor>(
    key: MasterKey,
    metadata: &Metadata<E, X>,
    chosen: Option<&RootCredentials>,
) -> Result<Settled, StartError> {
    let root = chosen.cloned().unwrap_or_else(made_credentials);
    let replaced = metadata.replace_master_key(check_of(&key), seal(&key, &root).into()).await;
    replaced.map_err(|source| StartError(format!("the new master key cannot be accepted: {source}")))?;
    tracing::warn!("{ACCEPTED}");
    Ok(Settled { root, is_new: chosen.is_none(), key, note: Some(ACCEPTED.to_owned()) })
}

fn not_the_pools() -> StartError {
    StartError(
        "the master key is not the one that this pool's secrets are sealed under: give that one by BASALT_MASTER_KEY_FILE, \
         or, if it is kept on the drives, put it back as identity/master.key and leave the variable out; if it is lost for \
         good, start once with --accept-new-master-key, and every object under SSE-S3 and every access key of before is \
         lost with it"
            .to_owned(),
    )
}

fn unreadable(source: Failure) -> StartError {
    StartError(format!("the root credentials cannot be read from metadata: {source}"))
}

/// Where metadata is read-only, the next start that may write keeps what this one could not.
fn written(result: Result<(), Failure>, what: &str) -> Result<(), StartError> {
    match result {
        Err(Failure::Engine(EngineError::ReadOnly)) => {
            tracing::warn!("metadata is read-only: {what} could not be kept");
            Ok(())
        }
        other => other.map_err(unreadable),
    }
}

fn made_credentials() -> RootCredentials {
    RootCredentials { access_key: random_name(ACCESS_KEY_CHARS), secret_key: random_name(SECRET_KEY_CHARS) }
}

fn check_of(key: &MasterKey) -> Bytes {
    key.seal(CHECK_PURPOSE, b"").into()
}

/// Root's canonical id: the same for as long as the pool lives, whatever its access key is.
fn root_id(pool: PoolId) -> AccountId {
    let text = format!("basalt root account of pool {:032x}", pool.0);
    AccountId(digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 is 32 bytes"))
}

/// Root's account, which every pool has, and the table of all accounts.
pub(super) async fn identity_parts<E: fdb_schema::Engine, X: Executor>(
    pool: PoolId,
    metadata: &Metadata<E, X>,
    settled: &Settled,
) -> Result<IdentityParts, StartError> {
    let unreadable =
        |source: Failure| StartError(format!("the accounts cannot be read from metadata: {source}"));
    let (root_id, root, key) = (root_id(pool), settled.root.clone(), settled.key.clone());
    match metadata.add_account(root_id, ROOT_NAME).await {
        // Without it nothing could be created, and nothing can be where metadata is read-only.
        Ok(_) | Err(Failure::Refused(Refusal::AccountExists) | Failure::Engine(EngineError::ReadOnly)) => {}
        Err(source) => return Err(unreadable(source)),
    }
    let table = account_table(metadata, &key, root_id, &root).await.map_err(unreadable)?;
    Ok(IdentityParts { key, root, root_id, accounts: Accounts::new(table) })
}

fn seal(key: &MasterKey, credentials: &RootCredentials) -> Vec<u8> {
    let text = format!("{}\n{}", credentials.access_key, credentials.secret_key);
    key.seal(ROOT_PURPOSE, text.as_bytes())
}

fn open(key: &MasterKey, sealed: &[u8]) -> Result<RootCredentials, StartError> {
    let refusal = |what: &dyn std::fmt::Display| {
        StartError(format!(
            "the root credentials cannot be opened ({what}); give new ones by BASALT_ROOT_ACCESS_KEY and \
             BASALT_ROOT_SECRET_KEY"
        ))
    };
    let opened = key.open(ROOT_PURPOSE, sealed).map_err(|source| refusal(&source))?;
    let text = String::from_utf8(opened).map_err(|_| refusal(&"they are not text"))?;
    let (access_key, secret_key) = text.split_once('\n').ok_or_else(|| refusal(&"they are incomplete"))?;
    Ok(RootCredentials { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() })
}

/// Where the key comes from, and so what is left to do with it once it is known to be the right one.
enum Found<'p, D> {
    /// The operator keeps it.
    InFile(MasterKey),
    /// It lies on drives; those that lack it get a copy.
    OnDrives(FoundMasterKey<'p, D>),
    /// New; it is on no drive yet.
    Made([u8; 32]),
}

impl<D: Drive> Found<'_, D> {
    fn key(&self) -> MasterKey {
        match self {
            Found::InFile(key) => key.clone(),
            Found::OnDrives(copies) => MasterKey::from_bytes(copies.key()),
            Found::Made(made) => MasterKey::from_bytes(*made),
        }
    }
}

/// From `BASALT_MASTER_KEY_FILE`, else from any drive, else new.
async fn find_key<D: Drive>(pool: &Pool<D>, may_make: bool) -> Result<Found<'_, D>, StartError> {
    if let Some(path) = std::env::var_os("BASALT_MASTER_KEY_FILE") {
        let name = std::path::Path::new(&path).display();
        let text = std::fs::read(&path).map_err(|source| {
            StartError(format!("BASALT_MASTER_KEY_FILE {name} cannot be read: {source}"))
        })?;
        let key = MasterKey::parse(&text)
            .map_err(|source| StartError(format!("BASALT_MASTER_KEY_FILE {name} is refused: {source}")))?;
        return Ok(Found::InFile(key));
    }
    if let Some(copies) = read_master_key(pool).await.map_err(refused)? {
        return Ok(Found::OnDrives(copies));
    }
    if !may_make {
        return Err(StartError(
            "no drive has the master key (identity/master.key) though secrets are sealed under it; restore the file on \
             one drive, or give the key by BASALT_MASTER_KEY_FILE; if it is lost for good, start once with \
             --accept-new-master-key, and every object under SSE-S3 and every access key of before is lost with it"
                .to_owned(),
        ));
    }
    Ok(Found::Made(crate::keys::random_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use fdb_schema::MemoryEngine;
    use fdb_schema::schema::Outcomes;
    use shardstore_sim::{Sim, SimExecutor};

    use super::*;

    type Rows = Metadata<MemoryEngine<SimExecutor>, SimExecutor>;

    const USER: AccountId = AccountId([7; 32]);

    fn with_rows(body: impl AsyncFnOnce(Rows)) {
        let sim = Sim::new(1);
        let executor = sim.executor();
        sim.block_on(async move {
            let engine = MemoryEngine::new(executor.clone());
            body(Metadata::open(engine, executor, Outcomes::Known).await.unwrap()).await;
        });
    }

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    fn chosen() -> RootCredentials {
        RootCredentials { access_key: "root".to_owned(), secret_key: "of the operator".to_owned() }
    }

    /// A start under the key of that byte.
    async fn start(
        rows: &Rows,
        byte: u8,
        chosen: Option<&RootCredentials>,
        accepts: bool,
    ) -> Result<Settled, StartError> {
        let stored = Stored {
            root: rows.root_credentials().await.unwrap(),
            check: rows.master_key_check().await.unwrap(),
        };
        let whose = judge(&key(byte), &stored, rows, accepts).await?;
        settle_under(key(byte), whose, stored, rows, chosen).await
    }

    fn refused(start: Result<Settled, StartError>) -> bool {
        start.is_err_and(|error| error.0.contains("start once with --accept-new-master-key"))
    }

    #[test]
    fn another_key_is_refused_at_every_start_and_leaves_all_as_it_was() {
        // With chosen credentials the first such start sealed them anew, and the second one saw nothing amiss.
        with_rows(async |rows| {
            for chosen in [Some(chosen()), None] {
                start(&rows, 1, chosen.as_ref(), false).await.unwrap();
                let before = (rows.root_credentials().await.unwrap(), rows.master_key_check().await.unwrap());
                assert!(before.1.is_some());
                for _ in 0..2 {
                    assert!(refused(start(&rows, 2, chosen.as_ref(), false).await));
                }
                assert!(refused(start(&rows, 2, Some(&chosen_otherwise()), false).await));
                let after = (rows.root_credentials().await.unwrap(), rows.master_key_check().await.unwrap());
                assert_eq!(before, after);
                let again = start(&rows, 1, chosen.as_ref(), false).await.unwrap();
                assert!(again.note.is_none() && !again.is_new);
            }
        });
    }

    fn chosen_otherwise() -> RootCredentials {
        RootCredentials { access_key: "other".to_owned(), ..chosen() }
    }

    #[test]
    fn who_says_so_takes_another_key_from_then_on() {
        with_rows(async |rows| {
            start(&rows, 1, Some(&chosen()), false).await.unwrap();
            let accepted = start(&rows, 2, Some(&chosen()), true).await.unwrap();
            assert!(accepted.note.unwrap().contains("do not open"));
            assert_eq!((accepted.root, accepted.is_new), (chosen(), false));
            assert!(start(&rows, 2, Some(&chosen()), false).await.unwrap().note.is_none());
            assert!(refused(start(&rows, 1, Some(&chosen()), false).await));
            // Left in, the option would take any key: each start says so.
            let idle = start(&rows, 2, Some(&chosen()), true).await.unwrap();
            assert!(idle.note.unwrap().contains("leave it out"));
            // Without chosen credentials new ones are made, since the old ones do not open.
            let made = start(&rows, 3, None, true).await.unwrap();
            assert!(made.is_new && made.root != chosen());
            assert_eq!(start(&rows, 3, None, false).await.unwrap().root, made.root);
        });
    }

    /// Rows as a start of before left them.
    async fn of_before(rows: &Rows, root: u8) {
        rows.set_root_credentials(seal(&key(root), &chosen()).into()).await.unwrap();
    }

    #[test]
    fn a_pool_of_before_takes_the_key_that_opens_what_it_has() {
        with_rows(async |rows| {
            of_before(&rows, 1).await;
            assert!(refused(start(&rows, 2, Some(&chosen()), false).await));
            assert_eq!(rows.master_key_check().await.unwrap(), None);
            start(&rows, 1, Some(&chosen()), false).await.unwrap();
            let check = rows.master_key_check().await.unwrap().unwrap();
            assert!(key(1).open(CHECK_PURPOSE, &check).is_ok());
            assert!(refused(start(&rows, 2, Some(&chosen()), false).await));
        });
    }

    #[test]
    fn a_pool_of_before_whose_root_was_sealed_anew_under_another_key_is_told_by_its_access_keys() {
        with_rows(async |rows| {
            of_before(&rows, 2).await;
            rows.add_account(USER, "ann").await.unwrap();
            let sealed = key(1).seal(&format!("access key ANNKEY of account {USER}"), b"secret of ann");
            rows.add_access_key(USER, "ANNKEY", sealed.into()).await.unwrap();
            assert!(refused(start(&rows, 2, Some(&chosen()), false).await));
            // The right key does not open the root row, which the wrong one sealed: the operator has to say.
            assert!(refused(start(&rows, 1, Some(&chosen()), false).await));
            start(&rows, 1, Some(&chosen()), true).await.unwrap();
            assert!(opens_access_keys(&rows, &key(1)).await.unwrap());
        });
    }

    #[test]
    fn credentials_that_are_damaged_are_replaced_by_those_that_are_given() {
        with_rows(async |rows| {
            start(&rows, 1, Some(&chosen()), false).await.unwrap();
            rows.set_root_credentials(Bytes::from_static(b"damaged")).await.unwrap();
            let told = start(&rows, 1, None, false).await.err().unwrap();
            assert!(told.0.contains("BASALT_ROOT_ACCESS_KEY"), "{told}");
            start(&rows, 1, Some(&chosen()), false).await.unwrap();
            assert_eq!(start(&rows, 1, None, false).await.unwrap().root, chosen());
        });
    }
}
