//! Looks at rest: what was acknowledged reads back, uploads are there, counts agree, nothing leaks, all is whole.
//! Invariants: nobody else works meanwhile; each look panics with what is wrong.
//! Not here: looks of clients among the work of others (`client`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use server::ops::api::{
    BodyReader, DeleteEntry, ETag, ListUploads, OpError, OpenedObject, Operations, UploadId,
};
use server::ops::{CensusProgress, take_census};
use shardstore_format::VolumeId;
use shardstore_reactor::{Clock, Drive};

use crate::client::{key_of, list};
use crate::content::{Content, crc64};
use crate::process::{Ops, Process, bucket};
use crate::versions;
use crate::world::World;

/// Rounds of scrub and repair until all is whole, and looks until all is swept, before it counts as never.
const ROUNDS_MAX: u32 = 40;
/// Rows read at a time.
const BATCH: usize = 1_000;

/// Every key reads back as the model says, in a listing too, and from now on nothing else is possible.
pub(crate) async fn settle(world: &World, process: &Process) {
    let keys = world.model.borrow().keys();
    let mut found = Vec::new();
    for key in &keys {
        found.push((key.clone(), read_whole(world, &process.cores[0], key).await));
    }
    list(world, &process.cores[0], "", None, BATCH).await;
    for (key, content) in found {
        world.model.borrow_mut().settle(&key, content);
    }
    settle_uploads(world, &process.cores[0]).await;
    versions::check(world, process).await;
}

async fn read_whole(world: &World, core: &Ops, key: &str) -> Option<Content> {
    let begun = world.model.borrow_mut().moment();
    let opened = match core.open_object(bucket(), key_of(key), None).await {
        Ok(opened) => Some(opened),
        Err(OpError::NoSuchKey | OpError::DeleteMarker { .. }) => None,
        Err(error) => panic!("{key} cannot be opened at rest: {error}"),
    };
    let tag = opened.as_ref().map(|opened| opened.info().etag);
    let content = {
        let mut model = world.model.borrow_mut();
        let ended = model.moment();
        model.saw(key, begun, ended, tag)
    };
    let (Some(mut opened), Some(content)) = (opened, content) else { return None };
    opened.unlock(None).unwrap_or_else(|error| panic!("{key} is not unlocked at rest: {error}"));
    let by = opened.info().encryption.as_ref().map(|encryption| encryption.by());
    assert_eq!(by, world.plan.encrypt(key).map(|encrypt| encrypt.by()), "{key}");
    let expected = content.bytes();
    let checksum = opened.info().checksums.first().map(|checksum| checksum.value.clone());
    assert_eq!(checksum.as_deref(), Some(&crc64(&expected).to_be_bytes()[..]), "{key}");
    let mut reader = opened.read(0..content.len_bytes());
    let mut got = Vec::new();
    while let Some(slices) = reader.next().await {
        let slices = slices.unwrap_or_else(|error| panic!("a read of {key} at rest fails: {error}"));
        slices.iter().for_each(|slice| got.extend_from_slice(slice));
    }
    assert!(got == expected, "{key} does not read as it was written");
    Some(content)
}

/// Every upload that clients know is there with its parts; those that were ending may be gone.
async fn settle_uploads(world: &World, core: &Ops) {
    let listed: BTreeSet<UploadId> = uploads(core).await.into_iter().map(|(_, id)| id).collect();
    let known = world.model.borrow().uploads.clone();
    let mut settled = Vec::new();
    for mut upload in known {
        if !listed.contains(&upload.id) {
            assert!(upload.is_ending, "an upload of {} is gone", upload.key);
            continue;
        }
        let page = core.list_parts(bucket(), key_of(&upload.key), upload.id, 0, BATCH).await;
        let page = page.unwrap_or_else(|error| panic!("parts of {} cannot be listed: {error}", upload.key));
        let tags: BTreeMap<u16, ETag> = page.parts.iter().map(|part| (part.part_number, part.etag)).collect();
        for (number, part) in &mut upload.parts {
            let tag = tags.get(number).copied();
            let candidates = part.acknowledged.iter().chain(&part.possible);
            let is = candidates.copied().find(|part| Some(ETag::whole(part.md5())) == tag);
            let may_be_absent = part.acknowledged.is_none();
            assert!(is.is_some() || (tag.is_none() && may_be_absent), "part {number} of {}", upload.key);
            part.acknowledged = is;
            part.possible.clear();
        }
        upload.parts.retain(|_, part| part.acknowledged.is_some());
        (upload.is_ending, upload.is_busy) = (false, false);
        settled.push(upload);
    }
    world.model.borrow_mut().uploads = settled;
}

async fn uploads(core: &Ops) -> Vec<(String, UploadId)> {
    let mut found = Vec::new();
    let (mut after_key, mut after_upload) = (bytes::Bytes::new(), None);
    loop {
        let list = ListUploads {
            bucket: bucket(),
            prefix: bytes::Bytes::new(),
            delimiter: None,
            after_key,
            after_upload,
            max_uploads: 3,
        };
        let page = core.list_uploads(list).await;
        let page = page.unwrap_or_else(|error| panic!("uploads cannot be listed: {error}"));
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("keys are text");
        found.extend(page.uploads.iter().map(|upload| (text(&upload.key), upload.upload)));
        match page.next {
            Some(next) => (after_key, after_upload) = next,
            None => return found,
        }
    }
}

/// Live bytes of every volume are the sum of its owners' lengths.
pub(crate) async fn recount(process: &Process) {
    let metadata = process.cores[0].metadata();
    let mut from = VolumeId(0);
    loop {
        let volumes = metadata.volumes(from, BATCH).await;
        let volumes = volumes.unwrap_or_else(|error| panic!("volumes cannot be read: {error}"));
        let Some(last) = volumes.last() else { return };
        from = VolumeId(last.record.id.0 + 1);
        for volume in volumes {
            let id = volume.record.id;
            let owners = metadata.owners(id, (0, 0), 100 * BATCH).await;
            let owners = owners.unwrap_or_else(|error| panic!("owners cannot be read: {error}"));
            let owned_bytes: u64 = owners.iter().map(|owner| owner.extent.len_bytes).sum();
            let live_bytes = u64::try_from(volume.live_bytes).ok();
            assert_eq!(live_bytes, Some(owned_bytes), "live bytes of volume {}: {owners:?}", id.0);
        }
    }
}

/// Mends every drive and waits until every stripe of every volume is whole.
pub(crate) async fn heal(world: &World, process: &Process) {
    let drive_count = world.drives.borrow().len();
    for drive in 0..drive_count {
        process.keeper.mend(drive).await;
    }
    // A drive whose identity is damaged is noticed within two looks.
    world.executor.sleep(Duration::from_secs(6)).await;
    for round in 0..ROUNDS_MAX {
        if process.keeper.all_are_healthy() {
            break;
        }
        if round > 3 {
            // What lies there is no drive of this pool any more: its identity is damaged.
            for drive in 0..drive_count {
                process.keeper.replace(drive).await;
            }
        }
        world.executor.sleep(Duration::from_secs(2)).await;
    }
    if !process.keeper.all_are_healthy() {
        let (drives, found) = (process.shared.drives(), what_is_bad(process).await);
        panic!("drives stay out: {drives:#?} {:?} {found:#?}", process.shared.repair_status());
    }
    // Every core opens its handles of drives that came back.
    world.executor.sleep(Duration::from_secs(3)).await;
    let store = process.cores[0].store();
    let mut last = None;
    for _ in 0..ROUNDS_MAX {
        if let Err(error) = store.scrub_now().await {
            tracing::info!(%error, "a scrub is cut off");
        }
        store.repair_now().await;
        let metadata = process.cores[0].metadata();
        let census = take_census(metadata, &store.media(), &CensusProgress::default()).await;
        let census = census.unwrap_or_else(|error| panic!("no census: {error}"));
        if census.all_whole {
            return world.healed();
        }
        last = Some(census);
        world.executor.sleep(Duration::from_secs(5)).await;
    }
    let found = what_is_bad(process).await;
    panic!("not whole after all rounds: {last:#?} {:?} {found:#?}", process.shared.repair_status());
}

/// The stripes that are not whole, shard by shard, for whoever reads the failure.
async fn what_is_bad(process: &Process) -> Vec<String> {
    let media = process.cores[0].store().media();
    let records = process.cores[0].metadata().volumes(VolumeId(0), BATCH).await;
    let mut found = vec![format!("{records:?}")];
    for (volume, class, _) in media.known_volumes() {
        let Some(survey) = media.survey_volume(volume, &media.survey_pace()).await else { continue };
        for bad in survey.bad {
            let states = media.stripe_states(volume, bad.sector).await;
            let owners = process.cores[0].metadata().owners(volume, (0, 0), BATCH).await;
            found.push(format!("volume {} {class:?} {bad:?}: {states:?}, owned: {owners:?}", volume.0));
        }
    }
    found
}

/// Deletes everything; all space comes back.
pub(crate) async fn give_back(world: &World, process: &Process) {
    let core = &process.cores[0];
    for (key, upload) in uploads(core).await {
        let aborted = core.abort_upload(bucket(), key_of(&key), upload).await;
        aborted.unwrap_or_else(|error| panic!("an upload of {key} cannot be aborted: {error}"));
    }
    world.model.borrow_mut().uploads.clear();
    let keys = world.model.borrow().keys();
    for key in keys {
        let entry = DeleteEntry::current(key_of(&key));
        let deleted = core.delete_object(bucket(), entry).await;
        deleted.unwrap_or_else(|error| panic!("{key} cannot be deleted: {error}"));
        world.model.borrow_mut().settle(&key, None);
    }
    versions::remove_all(world, core).await;
    let metadata = core.metadata();
    for _ in 0..ROUNDS_MAX {
        // Again each time: compaction opens volumes too.
        for core in &process.cores {
            core.store().seal_open().await;
        }
        let volumes = metadata.volumes(VolumeId(0), BATCH).await;
        let garbage = metadata.garbage(BATCH).await;
        if volumes.is_ok_and(|volumes| volumes.is_empty()) && garbage.is_ok_and(|garbage| garbage.is_empty())
        {
            let usage = metadata.usage(bucket().as_str()).await;
            let usage = usage.unwrap_or_else(|error| panic!("usage cannot be read: {error}"));
            assert_eq!((usage.objects, usage.bytes), (0, 0), "usage of an empty bucket");
            return;
        }
        world.executor.sleep(Duration::from_secs(5)).await;
    }
    let volumes = metadata.volumes(VolumeId(0), BATCH).await;
    let garbage = metadata.garbage(BATCH).await;
    panic!("space is not given back: {volumes:?}, garbage {garbage:?}");
}

/// Every segment file belongs to a metadata run that the manifest names; called when there is no object.
pub(crate) async fn no_stray_files(world: &World, process: &Process) {
    let mut stray = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        stray.clear();
        let runs = process.factory.run_volumes();
        let named: BTreeSet<String> = runs
            .iter()
            .flat_map(|run| {
                let id = run.record.id.0;
                (0..run.record.segments.len()).map(move |shard| format!("{id:016x}.{shard:02x}"))
            })
            .collect();
        let drives = world.drives.borrow().clone();
        for drive in drives {
            let files = drive.list("segments").await;
            let files = files.unwrap_or_else(|error| panic!("{} cannot be listed: {error}", drive.label()));
            stray.extend(files.into_iter().filter(|file| !named.contains(file)));
        }
        if stray.is_empty() {
            return;
        }
        // A flush or a merge may be under way, and merged runs wait for their readers.
        world.executor.sleep(Duration::from_secs(5)).await;
    }
    panic!("files that nothing names: {stray:?}");
}
