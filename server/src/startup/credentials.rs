//! The master key and the root credentials, found or made at start.
//! Invariants: a key is made only for a pool that has sealed nothing yet; it is on every drive before it seals
//! anything; root credentials lie in metadata, sealed.
//! Not here: sealing (`keys`), who may do what (`auth`).

use aws_lc_rs::digest::{SHA256, digest};
use fdb_schema::EngineError;
use fdb_schema::schema::{AccountId, Failure, Metadata, Refusal};
use shardstore::{Pool, read_master_key, write_master_key};
use shardstore_format::PoolId;
use shardstore_reactor::{Drive, Executor};

use super::{MasterKey, StartError, refused};
use crate::admin::{IdentityParts, ROOT_NAME, account_table};
use crate::auth::Accounts;
use crate::config::RootCredentials;
use crate::keys::random_name;

/// What the sealed form is bound to.
const ROOT_PURPOSE: &str = "root credentials";
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

/// Credentials that are given at each start hide that those of the last one do not open.
const OTHER_KEY: &str = "the master key is another than at the last start: access keys, and objects encrypted under \
                         SSE-S3, that were sealed under that one do not open; give it by BASALT_MASTER_KEY_FILE";

/// Finds or makes the root credentials.
pub(super) async fn settle<D: Drive, E: fdb_schema::Engine, X: Executor>(
    pool: &Pool<D>,
    metadata: &Metadata<E, X>,
    chosen: Option<&RootCredentials>,
) -> Result<Settled, StartError> {
    let unreadable = |source: &dyn std::fmt::Display| {
        StartError(format!("the root credentials cannot be read from metadata: {source}"))
    };
    let stored = metadata.root_credentials().await.map_err(|source| unreadable(&source))?;
    let key = master_key(pool, stored.is_some()).await?;
    let opened = stored.map(|sealed| open(&key, &sealed)).transpose();
    if let Some(chosen) = chosen {
        let is_same = matches!(&opened, Ok(Some(stored)) if stored == chosen);
        if !is_same {
            let sealed = seal(&key, chosen);
            match metadata.set_root_credentials(sealed.into()).await {
                Ok(()) => {}
                // They count for this run; the next start that may write keeps them.
                Err(Failure::Engine(EngineError::ReadOnly)) => {
                    tracing::warn!("metadata is read-only: the chosen root credentials are not kept");
                }
                Err(source) => return Err(unreadable(&source)),
            }
        }
        let note = opened.is_err().then(|| OTHER_KEY.to_owned());
        return Ok(Settled { root: chosen.clone(), is_new: false, key, note });
    }
    if let Some(stored) = opened? {
        return Ok(Settled { root: stored, is_new: false, key, note: None });
    }
    let made = RootCredentials {
        access_key: random_name(ACCESS_KEY_CHARS),
        secret_key: random_name(SECRET_KEY_CHARS),
    };
    let sealed = seal(&key, &made);
    metadata.set_root_credentials(sealed.into()).await.map_err(|source| unreadable(&source))?;
    Ok(Settled { root: made, is_new: true, key, note: None })
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
            "the root credentials cannot be opened ({what}); give the right key by BASALT_MASTER_KEY_FILE, or new \
             credentials by BASALT_ROOT_ACCESS_KEY and BASALT_ROOT_SECRET_KEY"
        ))
    };
    let opened = key.open(ROOT_PURPOSE, sealed).map_err(|source| refusal(&source))?;
    let text = String::from_utf8(opened).map_err(|_| refusal(&"they are not text"))?;
    let (access_key, secret_key) = text.split_once('\n').ok_or_else(|| refusal(&"they are incomplete"))?;
    Ok(RootCredentials { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() })
}

/// From `BASALT_MASTER_KEY_FILE`, else from any drive, else new; copied to every drive that lacks it unless the
/// operator keeps it in a file.
async fn master_key<D: Drive>(pool: &Pool<D>, has_sealed: bool) -> Result<MasterKey, StartError> {
    if let Some(path) = std::env::var_os("BASALT_MASTER_KEY_FILE") {
        let name = std::path::Path::new(&path).display();
        let text = std::fs::read(&path).map_err(|source| {
            StartError(format!("BASALT_MASTER_KEY_FILE {name} cannot be read: {source}"))
        })?;
        return MasterKey::parse(&text)
            .map_err(|source| StartError(format!("BASALT_MASTER_KEY_FILE {name} is refused: {source}")));
    }
    let found = read_master_key(pool).await.map_err(refused)?;
    if let Some(key) = found {
        return Ok(MasterKey::from_bytes(key));
    }
    if has_sealed {
        return Err(StartError(
            "no drive has the master key (identity/master.key) though secrets are sealed under it; restore the file on \
             one drive, or give the key by BASALT_MASTER_KEY_FILE"
                .to_owned(),
        ));
    }
    let key = crate::keys::random_bytes();
    write_master_key(pool, key).await.map_err(refused)?;
    Ok(MasterKey::from_bytes(key))
}
