//! Users and keys over the model engine: what is asked, what every core then sees.
#![allow(clippy::unwrap_used, reason = "tests")]

use fdb_schema::MemoryEngine;
use fdb_schema::schema::{NewBucket, Outcomes};
use shardstore_reactor::Clock as _;
use shardstore_sim::{Sim, SimExecutor};

use super::*;
use crate::auth::Credentials;

type Model = MemoryEngine<SimExecutor>;

const ROOT_ID: AccountId = AccountId([7; 32]);

struct World {
    metadata: Metadata<Model, SimExecutor>,
    executor: SimExecutor,
    parts: IdentityParts,
    handle: IdentityHandle,
}

fn world<T>(body: impl AsyncFnOnce(World) -> T) -> T {
    let sim = Sim::new(1);
    let executor = sim.executor();
    sim.block_on(async move {
        let metadata = Metadata::open(MemoryEngine::new(executor.clone()), executor.clone(), Outcomes::Known);
        let metadata = metadata.await.unwrap();
        metadata.add_account(ROOT_ID, ROOT_NAME).await.unwrap();
        let root = RootCredentials { access_key: "ROOTKEY".into(), secret_key: "root secret".into() };
        let key = MasterKey::from_bytes([5; 32]);
        let table = account_table(&metadata, &key, ROOT_ID, &root).await.unwrap();
        let parts = IdentityParts { key, root, root_id: ROOT_ID, accounts: Accounts::new(table) };
        let (handle, answering) = identities(parts.clone(), metadata.clone(), executor.clone());
        executor.spawn(answering);
        body(World { metadata, executor, parts, handle }).await
    })
}

fn add_user(name: &str, keys: Option<(&str, &str)>) -> IdentityRequest {
    let wanted = keys.map(|(access_key, secret_key)| WantedKey {
        access_key: Some(access_key.to_owned()),
        secret_key: Some(secret_key.to_owned()),
    });
    IdentityRequest::AddUser(name.to_owned(), wanted.unwrap_or_default())
}

#[test]
fn every_core_sees_a_user_and_its_end_once_they_are_answered() {
    world(async |world| {
        let core = world.parts.accounts.on_core();
        let made = world.handle.ask(add_user("ann", None)).await.unwrap().key.unwrap();
        let found = core.find(&made.access_key).unwrap();
        assert_eq!((&*found.account.name, found.account.is_root), ("ann", false));
        assert_eq!(found.secret, crate::auth::Secret::new(&made.secret_key));
        let gone = world.handle.ask(IdentityRequest::RemoveUser("ann".into())).await.unwrap();
        assert!(core.find(&made.access_key).is_none());
        assert_eq!(gone.users.len(), 1);
        assert!(core.find("ROOTKEY").unwrap().account.is_root);
    });
}

#[test]
fn a_key_is_rotated_disabled_and_enabled_at_once() {
    world(async |world| {
        let (ask, core) = (|request| world.handle.ask(request), world.parts.accounts.on_core());
        ask(add_user("ann", Some(("ANNKEY", "first-secret")))).await.unwrap();
        let rotate = IdentityRequest::RotateKey("ANNKEY".into(), None);
        let made = ask(rotate).await.unwrap().key.unwrap();
        assert_eq!((made.user.as_str(), made.access_key.as_str()), ("ann", "ANNKEY"));
        assert_eq!(core.find("ANNKEY").unwrap().secret, crate::auth::Secret::new(&made.secret_key));
        let enable = |is_enabled| IdentityRequest::EnableKey("ANNKEY".into(), is_enabled);
        let shown = ask(enable(false)).await.unwrap();
        assert!(core.find("ANNKEY").is_none());
        assert!(!shown.users[1].keys[0].enabled);
        ask(enable(true)).await.unwrap();
        assert!(core.find("ANNKEY").is_some());
        let second = IdentityRequest::AddKey("ann".into(), WantedKey::default());
        let second = ask(second).await.unwrap().key.unwrap().access_key;
        ask(IdentityRequest::RemoveKey("ANNKEY".into())).await.unwrap();
        assert!(core.find("ANNKEY").is_none());
        assert_eq!(&*core.find(&second).unwrap().account.name, "ann");
    });
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing_behind() {
    world(async |world| {
        let ask = async |request| world.handle.ask(request).await.unwrap_err();
        world.handle.ask(add_user("ann", Some(("ANNKEY", "secret-of-ann")))).await.unwrap();
        let refused = |error| matches!(error, IdentityError::Refused(_));
        assert!(refused(ask(add_user("ann", None)).await));
        assert!(refused(ask(add_user("bob", Some(("ANNKEY", "secret-of-bob")))).await));
        assert!(refused(ask(add_user("bob", Some(("ROOTKEY", "secret-of-bob")))).await));
        assert!(refused(ask(IdentityRequest::RemoveUser("root".into())).await));
        assert!(refused(ask(IdentityRequest::RemoveKey("ROOTKEY".into())).await));
        let invalid = |error| matches!(error, IdentityError::Invalid(_));
        assert!(invalid(ask(add_user("a b", None)).await));
        assert!(invalid(ask(add_user("bob", Some(("K/1", "secret-of-bob")))).await));
        assert!(invalid(ask(add_user("bob", Some(("BOBKEY", "short")))).await));
        let missing = |error| matches!(error, IdentityError::NotFound(_));
        assert!(missing(ask(IdentityRequest::RemoveUser("bob".into())).await));
        assert!(missing(ask(IdentityRequest::RemoveKey("BOBKEY".into())).await));
        let id = world.metadata.accounts().await.unwrap().0.into_iter().find(|(id, _)| *id != ROOT_ID);
        world
            .metadata
            .create_bucket("anns", &id.unwrap().0.to_string(), &NewBucket::default())
            .await
            .unwrap();
        assert!(refused(ask(IdentityRequest::RemoveUser("ann".into())).await));
        let listed = world.handle.ask(IdentityRequest::List).await.unwrap();
        let names: Vec<_> = listed.users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["root", "ann"]);
    });
}

#[test]
fn users_and_the_last_use_of_their_keys_outlive_the_process_and_secrets_their_rows_alone() {
    world(async |world| {
        world.handle.ask(add_user("ann", Some(("ANNKEY", "secret-of-ann")))).await.unwrap();
        world.parts.accounts.on_core().find("ANNKEY").unwrap().account.note_use(90_000);
        world.executor.sleep(USES_INTERVAL * 2).await;
        let (_, keys) = world.metadata.accounts().await.unwrap();
        assert_eq!(keys[0].record.last_used_ms, 90_000);
        assert!(!keys[0].record.sealed.windows(6).any(|bytes| bytes == b"secret"));
        let parts = &world.parts;
        let again = account_table(&world.metadata, &parts.key, ROOT_ID, &parts.root).await.unwrap();
        let core = Accounts::new(again).on_core();
        assert_eq!(core.find("ANNKEY").unwrap().secret, crate::auth::Secret::new("secret-of-ann"));
        let other = MasterKey::from_bytes([6; 32]);
        let locked = account_table(&world.metadata, &other, ROOT_ID, &parts.root).await.unwrap();
        assert!(Accounts::new(locked).on_core().find("ANNKEY").is_none());
    });
}
