//! Looks at the versions of a bucket at rest: what was acknowledged is there under its id, in order, and is current when
//! it is the newest; some are removed for good, and what they hid comes back; what is locked stays.
//! Invariants: nobody else works meanwhile; a plan without versions passes through untouched.
//! Not here: what clients do (`client`, `locks`), current objects (`check`).

use std::collections::BTreeMap;

use bytes::Bytes;
use server::ops::api::{
    BodyReader, DeleteEntry, ETag, ListVersions, OpError, OpenedObject, Operations, VersionId,
};
use shardstore_reactor::Clock;

use crate::client::key_of;
use crate::content::Content;
use crate::model::null_of;
use crate::plan::Keeping;
use crate::process::{Ops, Process, bucket};
use crate::world::World;

/// A version in a listing: its id, and its tag and length unless it is a delete marker.
type Listed = (VersionId, Option<(ETag, u64)>);

/// Versions of a page: few, so that listings take several.
const PAGE: usize = 7;
const BATCH: usize = 1_000;

/// Every acknowledged version reads back by its id, and rows and usage agree with the listing.
pub(crate) async fn check(world: &World, process: &Process) {
    if world.plan.keeping == Keeping::Nothing {
        return;
    }
    let core = &process.cores[0];
    let listed = list(core).await;
    check_nulls(world, core, &listed).await;
    check_locks(world, core).await;
    let acknowledged = world.model.borrow().versions.clone();
    for ((key, id), content) in &acknowledged {
        let version = VersionId::parse(id).expect("an id of ours");
        let found = listed.get(key).and_then(|all| all.iter().find(|(other, _)| *other == version));
        let expected = Some(Some((content.etag(), content.len_bytes())));
        assert_eq!(found.map(|(_, object)| *object), expected, "version {id} of {key}");
        read_back(core, key, version, content).await;
    }
    let objects: Vec<u64> = listed.values().flatten().filter_map(|(_, object)| Some((*object)?.1)).collect();
    let usage = core.metadata().usage(bucket().as_str()).await;
    let usage = usage.unwrap_or_else(|error| panic!("no usage: {error}"));
    let counted = (objects.len() as u64, objects.iter().sum::<u64>());
    assert_eq!((usage.objects, usage.bytes), counted, "usage of versions");
    let audit = core.metadata().audit();
    let mut begin = Some(Bytes::new());
    while let Some(from) = begin {
        let (broken, next) =
            audit.audit_histories(&from, BATCH).await.unwrap_or_else(|error| panic!("no audit: {error}"));
        assert!(broken.is_empty(), "{broken:?}");
        begin = next;
    }
}

/// The null version of every key is the last that was acknowledged, or one that was not answered.
async fn check_nulls(world: &World, core: &Ops, listed: &BTreeMap<String, Vec<Listed>>) {
    if world.plan.keeping != Keeping::AtTimes {
        return;
    }
    let keys = world.model.borrow().keys();
    for key in keys {
        let found = listed.get(&key).and_then(|all| all.iter().find(|(id, _)| *id == VersionId::Null));
        let tag = found.and_then(|(_, object)| Some((*object)?.0));
        let content = {
            let (mut model, name) = (world.model.borrow_mut(), null_of(&key));
            let now = model.moment();
            model.saw(&name, now, now + 1, tag).inspect(|content| model.settle(&name, Some(content.clone())))
        };
        match content {
            Some(content) => read_back(core, &key, VersionId::Null, &content).await,
            None => world.model.borrow_mut().settle(&null_of(&key), None),
        }
    }
}

/// What was locked is locked still. Locks are weighed as if no time had passed.
async fn check_locks(world: &World, core: &Ops) {
    let locked = world.model.borrow().locked.clone();
    for ((key, id), lock) in locked {
        let version = VersionId::parse(&id);
        let info = core.head_object(bucket(), key_of(&key), version).await;
        let found = info.unwrap_or_else(|error| panic!("locked version {id} of {key}: {error}")).lock;
        for bypass in [false, true] {
            let is_kept = lock.permits_removal(0, bypass) || !found.permits_removal(0, bypass);
            assert!(is_kept, "version {id} of {key} was locked by {lock:?} and is by {found:?}");
        }
    }
}

async fn read_back(core: &Ops, key: &str, version: VersionId, content: &Content) {
    let opened = core.open_object(bucket(), key_of(key), Some(version)).await;
    let mut opened =
        opened.unwrap_or_else(|error| panic!("version {version} of {key} cannot be opened: {error}"));
    opened.unlock(None).unwrap_or_else(|error| panic!("version {version} of {key} is not unlocked: {error}"));
    let (mut reader, mut got) = (opened.read(0..content.len_bytes()), Vec::new());
    while let Some(slices) = reader.next().await {
        let slices = slices.unwrap_or_else(|error| panic!("version {version} of {key} is not read: {error}"));
        slices.iter().for_each(|slice| got.extend_from_slice(slice));
    }
    assert!(got == content.bytes(), "version {version} of {key} does not read as it was written");
}

/// Removes about a third of the versions that are not locked; the newest of those that are left is current.
pub(crate) async fn remove_some(world: &World, process: &Process) {
    if world.plan.keeping == Keeping::Nothing {
        return;
    }
    let core = &process.cores[0];
    let mut rng = fastrand::Rng::with_seed(world.plan.seed ^ world.model.borrow().acknowledged);
    for (key, all) in list(core).await {
        let mut kept: Vec<Listed> = Vec::new();
        for version in &all {
            if rng.u8(..3) > 0 || is_locked(world, core, &key, version).await {
                kept.push(*version);
            }
        }
        let content = match kept.first() {
            None | Some((_, None)) => None,
            Some((id, Some(_))) => {
                let known = world.model.borrow().content_of(&key, *id);
                // A version that was never acknowledged: what it holds is not known well enough to go on with.
                let Some(known) = known else { continue };
                Some(known)
            }
        };
        for (id, _) in all.iter().filter(|(id, _)| !kept.iter().any(|(other, _)| other == id)) {
            let removed = (key.clone(), id.to_string());
            assert!(!world.model.borrow().locked.contains_key(&removed), "{removed:?} is locked");
            world.model.borrow_mut().versions.remove(&removed);
            remove(core, &key, *id).await;
            if *id == VersionId::Null && world.plan.keeping == Keeping::AtTimes {
                world.model.borrow_mut().settle(&null_of(&key), None);
            }
        }
        assert_eq!(list(core).await.get(&key).cloned().unwrap_or_default(), kept, "versions left of {key}");
        let current = core.head_object(bucket(), key_of(&key), None).await.ok().map(|info| info.etag);
        assert_eq!(current, content.as_ref().map(|content| content.etag()), "what is current of {key}");
        world.model.borrow_mut().settle(&key, content);
    }
}

/// Removes every version and marker.
pub(crate) async fn remove_all(world: &World, core: &Ops) {
    if world.plan.keeping == Keeping::Nothing {
        return;
    }
    {
        let mut model = world.model.borrow_mut();
        model.versions.clear();
        model.locked.clear();
        if world.plan.keeping == Keeping::AtTimes {
            model.keys().iter().for_each(|key| model.settle(&null_of(key), None));
        }
    }
    for (key, all) in list(core).await {
        for (id, object) in all {
            if object.is_some() && world.plan.keeping == Keeping::Locked {
                let freed = core.put_legal_hold(bucket(), key_of(&key), Some(id), false).await;
                freed.unwrap_or_else(|error| panic!("the hold of {id} of {key} cannot be ended: {error}"));
            }
            remove(core, &key, id).await;
        }
    }
}

/// Whether a version is locked, which is so if it cannot be removed.
async fn is_locked(world: &World, core: &Ops, key: &str, (id, object): &Listed) -> bool {
    if object.is_none() {
        return false;
    }
    let info = core.head_object(bucket(), key_of(key), Some(*id)).await;
    let lock = info.unwrap_or_else(|error| panic!("version {id} of {key}: {error}")).lock;
    if lock.permits_removal(world.executor.unix_ms(), false) {
        return false;
    }
    let delete = DeleteEntry { version: Some(*id), ..DeleteEntry::current(key_of(key)) };
    let refused = core.delete_object(bucket(), delete).await;
    assert_eq!(refused, Err(OpError::ObjectLocked), "version {id} of {key} is locked by {lock:?}");
    true
}

async fn remove(core: &Ops, key: &str, id: VersionId) {
    let delete = DeleteEntry { version: Some(id), ..DeleteEntry::current(key_of(key)) };
    let deleted = core.delete_object(bucket(), delete).await;
    let deleted = deleted.unwrap_or_else(|error| panic!("version {id} of {key} cannot be removed: {error}"));
    assert!(deleted.existed, "version {id} of {key} was listed");
}

/// All versions by key, the newest first.
async fn list(core: &Ops) -> BTreeMap<String, Vec<Listed>> {
    let mut listed: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
    let (mut after_key, mut after_version) = (Bytes::new(), None);
    loop {
        let list = ListVersions {
            bucket: bucket(),
            prefix: Bytes::new(),
            delimiter: None,
            after_key,
            after_version,
            max_keys: PAGE,
            with_acl: false,
        };
        let page = core.list_versions(list).await;
        let page = page.unwrap_or_else(|error| panic!("versions cannot be listed: {error}"));
        for entry in page.versions {
            let key = String::from_utf8(entry.key.to_vec()).expect("keys are text");
            let all = listed.entry(key).or_default();
            assert_eq!(entry.is_latest, all.is_empty(), "{entry:?}");
            let named = |version: &VersionId| *version != VersionId::Null;
            let newer = all.iter().rev().map(|(id, _)| id).find(|id| named(id));
            let is_older = !named(&entry.version)
                || newer.is_none_or(|newer| newer.to_string() < entry.version.to_string());
            assert!(is_older, "{entry:?} is listed after {all:?}");
            all.push((entry.version, entry.object.map(|object| (object.etag, object.size_bytes))));
        }
        match page.next {
            Some(next) => (after_key, after_version) = next,
            None => return listed,
        }
    }
}
