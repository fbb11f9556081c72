//! Looks at the versions of a bucket at rest: what was acknowledged is there under its id, in order, and is current when
//! it is the newest; some are removed for good, and what they hid comes back.
//! Invariants: nobody else works meanwhile; a plan without versions passes through untouched.
//! Not here: what clients do (`client`), current objects (`check`).

use std::collections::BTreeMap;

use bytes::Bytes;
use server::ops::api::{BodyReader, DeleteEntry, ETag, ListVersions, OpenedObject, Operations, VersionId};

use crate::client::key_of;
use crate::process::{Ops, Process, bucket};
use crate::world::World;

/// A version in a listing: its id, and its tag unless it is a delete marker.
type Listed = (VersionId, Option<ETag>);

/// Versions of a page: few, so that listings take several.
const PAGE: usize = 7;
const BATCH: usize = 1_000;

/// Every acknowledged version reads back by its id, and rows and usage agree with the listing.
pub(crate) async fn check(world: &World, process: &Process) {
    if !world.plan.versions {
        return;
    }
    let core = &process.cores[0];
    let listed = list(core).await;
    let acknowledged = world.model.borrow().versions.clone();
    for ((key, id), content) in &acknowledged {
        let version = VersionId::parse(id).expect("an id of ours");
        let found = listed.get(key).and_then(|all| all.iter().find(|(other, _)| *other == version));
        assert_eq!(found.map(|(_, tag)| *tag), Some(Some(content.etag())), "version {id} of {key}");
        let opened = core.open_object(bucket(), key_of(key), Some(version)).await;
        let opened = opened.unwrap_or_else(|error| panic!("version {id} of {key} cannot be opened: {error}"));
        let (mut reader, mut got) = (opened.read(0..content.len_bytes()), Vec::new());
        while let Some(slices) = reader.next().await {
            let slices = slices.unwrap_or_else(|error| panic!("version {id} of {key} is not read: {error}"));
            slices.iter().for_each(|slice| got.extend_from_slice(slice));
        }
        assert!(got == content.bytes(), "version {id} of {key} does not read as it was written");
    }
    let objects = listed.values().flatten().filter(|(_, tag)| tag.is_some()).count() as u64;
    let usage = core.metadata().usage(bucket().as_str()).await;
    assert_eq!(
        usage.unwrap_or_else(|error| panic!("no usage: {error}")).objects,
        objects,
        "usage of versions"
    );
    let audit = core.metadata().audit();
    let mut begin = Some(Bytes::new());
    while let Some(from) = begin {
        let (broken, next) =
            audit.audit_histories(&from, BATCH).await.unwrap_or_else(|error| panic!("no audit: {error}"));
        assert!(broken.is_empty(), "{broken:?}");
        begin = next;
    }
}

/// Removes about a third of the versions; the newest of those that are left is current.
pub(crate) async fn remove_some(world: &World, process: &Process) {
    if !world.plan.versions {
        return;
    }
    let core = &process.cores[0];
    let mut rng = fastrand::Rng::with_seed(world.plan.seed ^ world.model.borrow().acknowledged);
    for (key, all) in list(core).await {
        let kept: Vec<Listed> = all.iter().copied().filter(|_| rng.u8(..3) > 0).collect();
        let content = match kept.first() {
            None | Some((_, None)) => None,
            Some((id, Some(_))) => {
                let known = world.model.borrow().versions.get(&(key.clone(), id.to_string())).cloned();
                // A version that was never acknowledged: what it holds is not known well enough to go on with.
                let Some(known) = known else { continue };
                Some(known)
            }
        };
        for (id, _) in all.iter().filter(|(id, _)| !kept.iter().any(|(other, _)| other == id)) {
            world.model.borrow_mut().versions.remove(&(key.clone(), id.to_string()));
            remove(core, &key, *id).await;
        }
        assert_eq!(list(core).await.get(&key).cloned().unwrap_or_default(), kept, "versions left of {key}");
        let current = core.head_object(bucket(), key_of(&key), None).await.ok().map(|info| info.etag);
        assert_eq!(current, content.as_ref().map(|content| content.etag()), "what is current of {key}");
        world.model.borrow_mut().settle(&key, content);
    }
}

/// Removes every version and marker.
pub(crate) async fn remove_all(world: &World, core: &Ops) {
    if !world.plan.versions {
        return;
    }
    world.model.borrow_mut().versions.clear();
    for (key, all) in list(core).await {
        for (id, _) in all {
            remove(core, &key, id).await;
        }
    }
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
        };
        let page = core.list_versions(list).await;
        let page = page.unwrap_or_else(|error| panic!("versions cannot be listed: {error}"));
        for entry in page.versions {
            let key = String::from_utf8(entry.key.to_vec()).expect("keys are text");
            let all = listed.entry(key).or_default();
            assert_eq!(entry.is_latest, all.is_empty(), "{entry:?}");
            let is_older = all.last().is_none_or(|(newer, _)| newer.to_string() < entry.version.to_string());
            assert!(is_older, "{entry:?} is listed after {all:?}");
            all.push((entry.version, entry.object.map(|object| object.etag)));
        }
        match page.next {
            Some(next) => (after_key, after_version) = next,
            None => return listed,
        }
    }
}
