//! An audit finds every row that contradicts another, and nothing in a keyspace that is whole or being worked on.

use std::time::Duration;

use shardstore_reactor::Clock;

use super::*;
use crate::Transaction;
use crate::schema::record::encode_owner;
use crate::schema::{BucketId, DataProblem, NameProblem, NameRow, OwnerProblem, Place, Reference};

/// Everything that an audit says is wrong, in words of the tests.
async fn problems(world: &World) -> Vec<String> {
    let audit = world.metadata.audit();
    let mut found = Vec::new();
    let (lost, buckets, next) = audit.audit_objects(&Bytes::new(), 1_000).await.unwrap();
    assert_eq!(next, None);
    found.extend(lost.iter().map(|name| format!("object {:?}", name.problem)));
    let known = audit.buckets().await.unwrap();
    found.extend(buckets.keys().filter(|id| !known.contains_key(id)).map(|id| format!("bucket {}", id.0)));
    for data in audit.data_ids(None, 1_000).await.unwrap() {
        found.extend(
            audit.audit_data(data).await.unwrap().0.iter().map(|problem| format!("data {problem:?}")),
        );
    }
    let mut from = VolumeId(0);
    while let Some(id) = audit.next_named_volume(from).await.unwrap() {
        from = VolumeId(id.0 + 1);
        let recount = audit.recount_volume(id).await.unwrap();
        if recount.record.is_none() {
            found.push(format!("volume {} has no record", id.0));
        }
        if u64::try_from(recount.live_bytes) != Ok(recount.owned_bytes) {
            found.push(format!("live {} {}", recount.live_bytes, recount.owned_bytes));
        }
        let owners = audit.audit_owners(id, (0, 0), 1_000).await.unwrap();
        assert_eq!(owners.len() as u64, recount.owners);
        found.extend(owners.iter().filter_map(|owner| Some(format!("owner {:?}", owner.problem.as_ref()?))));
    }
    let mut counts: BTreeMap<_, i64> = BTreeMap::new();
    let mut begin = Some(Bytes::new());
    while let Some(from) = begin {
        let (references, next) = audit.references(&from, 3).await.unwrap();
        begin = next;
        for reference in references {
            match reference {
                Reference::Held { data, count } => *counts.entry(data).or_default() += i64::from(count),
                Reference::Named { data, .. } => *counts.entry(data).or_default() -= 1,
                Reference::Unreadable { why, .. } => found.push(format!("row {why}")),
            }
        }
    }
    found.extend(counts.values().filter(|count| **count != 0).map(|count| format!("count {count}")));
    found
}

async fn change(world: &World, change: impl AsyncFn(&mut <Model as Engine>::Txn)) {
    let mut txn = world.engine.begin();
    change(&mut txn).await;
    txn.commit().await.unwrap();
}

/// Objects of every kind: inline, stored, copied, composed of parts, an upload under way, garbage.
async fn full_world(executor: SimExecutor) -> (World, ObjectRecord, UploadKey) {
    let world = World::new(executor, Outcomes::Known).await;
    world.put_inline(b"inline", b"abc").await;
    let stored = world.put_stored(b"stored", &[(0, 70_000), (1, 5_000)]).await;
    let many: Vec<(u64, u64)> = (0..200).map(|n| (n % VOLUMES, 1_000 + n)).collect();
    world.put_stored(b"many", &many).await;
    let whole = world.begin_upload(b"whole").await;
    let path = UploadPath { bucket: "b", key: b"whole", upload: whole };
    for part_number in 1..=3 {
        world.put_part(path, part_number, &[(0, 9_000)]).await;
    }
    let compose = |_: &UploadRecord, _: &[(u16, PartRecord)]| {
        Ok::<_, ()>(Composed { etag: ETag::whole([2; 16]), checksums: Vec::new() })
    };
    let done = world.metadata.complete_upload(path, &[1, 3], &WriteCondition::Always, compose).await;
    done.unwrap().unwrap();
    let upload = world.begin_upload(b"upload").await;
    let path = UploadPath { bucket: "b", key: b"upload", upload };
    world.put_part(path, 1, &[(1, 8_000), (2, 1_000)]).await;
    world.put_stored(b"deleted", &[(2, 6_000)]).await;
    world.metadata.delete_object("b", &delete(b"deleted")).await.unwrap();
    (world, stored, upload)
}

fn audited(body: impl AsyncFnOnce(World, ObjectRecord, UploadKey)) {
    let sim = Sim::new(7);
    let executor = sim.executor();
    sim.block_on(async move {
        let (world, stored, upload) = full_world(executor).await;
        assert_eq!(problems(&world).await, Vec::<String>::new());
        body(world, stored, upload).await;
    });
}

#[test]
fn a_keyspace_that_is_whole_has_no_problem_before_during_and_after_a_sweep() {
    audited(async |world, _, _| {
        world.metadata.delete_object("b", &delete(b"many")).await.unwrap();
        world.metadata.delete_object("b", &delete(b"whole")).await.unwrap();
        loop {
            assert_eq!(problems(&world).await, Vec::<String>::new());
            let garbage = world.metadata.garbage(1).await.unwrap();
            let Some(data) = garbage.first() else { break };
            world.metadata.sweep(*data).await.unwrap();
        }
    });
}

#[test]
fn the_usage_that_is_kept_is_what_rows_hold_with_older_versions() {
    audited(async |world, _, _| {
        let keep = crate::schema::Versioning::Enabled;
        world.metadata.set_versioning("b", keep).await.unwrap();
        world.put_stored(b"stored", &[(0, 3_000)]).await;
        world.metadata.delete_object("b", &delete(b"inline")).await.unwrap();
        let audit = world.metadata.audit();
        let (_, held, _) = audit.audit_objects(&Bytes::new(), 1_000).await.unwrap();
        let kept = audit.usages().await.unwrap();
        assert_eq!((held.len(), kept.sums.len(), kept.unreadable.len()), (1, 1, 0));
        for (bucket, held) in held {
            assert_eq!(kept.sums[&bucket], (held.objects.cast_signed(), held.bytes.cast_signed()));
            assert_eq!(held, world.metadata.usage("b").await.unwrap());
            assert_eq!(held.objects, 5, "inline, two of stored, many, whole");
        }
    });
}

#[test]
fn an_owner_row_that_is_gone_or_another_is_found() {
    audited(async |world, stored, _| {
        let Place::Rows { hint } = &stored.place else { panic!("stored in volumes") };
        let extent = hint[0].extent;
        let owner = keyspace::owner(&extent);
        let before = world.engine.begin().get(&owner, Isolation::Snapshot).await.unwrap().unwrap();
        change(&world, async |txn| txn.clear(&owner)).await;
        let lost = format!("data {:?}", DataProblem::NoOwner(extent));
        let found = problems(&world).await;
        assert!(found.contains(&lost) && found.iter().any(|what| what.starts_with("live ")), "{found:?}");
        change(&world, async |txn| {
            let nobody = shardstore_format::DataId { counter: 999, ..stored.data };
            txn.set(&owner, &encode_owner(&extent, nobody));
        })
        .await;
        let other = format!("data {:?}", DataProblem::OtherOwner(extent));
        let nobody = format!("owner {:?}", OwnerProblem::NoData);
        assert_eq!(problems(&world).await, [other, nobody]);
        change(&world, async |txn| txn.set(&owner, &before)).await;
        assert_eq!(problems(&world).await, Vec::<String>::new());
    });
}

#[test]
fn an_owner_without_bytes_and_a_sum_that_is_wrong_are_found() {
    audited(async |world, stored, _| {
        let extent = world.extent(2, 4_000);
        change(&world, async |txn| {
            txn.set(&keyspace::owner(&extent), &encode_owner(&extent, stored.data));
            txn.atomic_add(&keyspace::live(VolumeId(2)), 4_000);
        })
        .await;
        assert_eq!(problems(&world).await, [format!("owner {:?}", OwnerProblem::NotInData)]);
        change(&world, async |txn| {
            txn.clear(&keyspace::owner(&extent));
            txn.clear(&keyspace::volume(VolumeId(1)));
        })
        .await;
        let found = problems(&world).await;
        assert!(found.contains(&"volume 1 has no record".to_owned()), "{found:?}");
        assert!(found.iter().any(|what| what.starts_with("live ")), "{found:?}");
    });
}

#[test]
fn names_without_bytes_and_bytes_without_names_are_found() {
    audited(async |world, stored, upload| {
        let object = keyspace::object(BucketId(0), b"stored");
        change(&world, async |txn| txn.clear(&object)).await;
        assert_eq!(problems(&world).await, ["count 1"]);
        change(&world, async |txn| txn.set(&object, &stored.encode())).await;
        let twin = keyspace::object(BucketId(0), b"twin");
        change(&world, async |txn| txn.set(&twin, &stored.encode())).await;
        assert_eq!(problems(&world).await, ["count -1"]);
        change(&world, async |txn| {
            txn.clear(&twin);
            txn.clear(&keyspace::part(upload, 1));
        })
        .await;
        assert_eq!(problems(&world).await, ["count 1"]);
        let audit = world.metadata.audit();
        assert_eq!(audit.uploads_with_parts(None, 10).await.unwrap(), Vec::new());
        let (uploads, next) = audit.upload_keys(&Bytes::new(), 10).await.unwrap();
        assert_eq!((uploads, next), (vec![upload], None));
    });
}

#[test]
fn objects_of_another_length_or_no_bucket_and_rows_of_garbage_are_found() {
    audited(async |world, stored, _| {
        let object = keyspace::object(BucketId(0), b"stored");
        let mut longer = stored.clone();
        longer.listed.size_bytes += 1;
        change(&world, async |txn| txn.set(&object, &longer.encode())).await;
        let problem = NameProblem::Length { named_bytes: 75_001, held_bytes: 75_000 };
        assert_eq!(problems(&world).await, [format!("object {problem:?}")]);
        let elsewhere = keyspace::object(BucketId(77), b"stored");
        change(&world, async |txn| {
            txn.clear(&object);
            txn.set(&elsewhere, &stored.encode());
        })
        .await;
        assert_eq!(problems(&world).await, ["bucket 77"]);
        change(&world, async |txn| {
            txn.clear(&elsewhere);
            txn.set(&object, b"\x09garbage");
        })
        .await;
        assert_eq!(problems(&world).await, ["row object row has unknown version 9", "count 1"]);
    });
}

#[test]
fn rows_of_a_long_object_that_are_missing_or_too_many_are_found() {
    audited(async |world, _, _| {
        let many = world.metadata.object("b", b"many", None).await.unwrap().record.data;
        let row = keyspace::data(many, 1);
        let value = world.engine.begin().get(&row, Isolation::Snapshot).await.unwrap().unwrap();
        change(&world, async |txn| txn.clear(&row)).await;
        let found = problems(&world).await;
        assert!(found.contains(&format!("data {:?}", DataProblem::RowMissing(1))), "{found:?}");
        assert!(found.contains(&format!("owner {:?}", OwnerProblem::NotInData)), "{found:?}");
        change(&world, async |txn| {
            txn.set(&row, &value);
            txn.set(&keyspace::data(many, 9), &value);
        })
        .await;
        assert!(problems(&world).await.contains(&format!("data {:?}", DataProblem::RowExtra(9))));
        change(&world, async |txn| {
            txn.clear(&keyspace::data(many, 9));
            txn.clear(&keyspace::data(many, 0));
        })
        .await;
        let found = problems(&world).await;
        assert!(found.contains(&format!("object {:?}", NameProblem::NoData)), "{found:?}");
        assert!(found.contains(&format!("data {:?}", DataProblem::NoHeader)), "{found:?}");
    });
}

#[test]
fn names_are_told_by_what_they_are() {
    audited(async |world, stored, upload| {
        let (references, _) = world.metadata.audit().references(&Bytes::new(), 1_000).await.unwrap();
        let by = NameRow::Object { bucket: BucketId(0), key: Bytes::from_static(b"stored") };
        assert!(references.contains(&Reference::Named { data: stored.data, by }), "{references:?}");
        let mut begin = Some(Bytes::new());
        let mut kinds = [0, 0, 0];
        while let Some(from) = begin {
            let (references, next) = world.metadata.audit().references(&from, 7).await.unwrap();
            begin = next;
            for reference in references {
                match reference {
                    Reference::Named { by: NameRow::Part { upload: of, part_number: 1 }, .. }
                        if of == upload =>
                    {
                        kinds[0] += 1;
                    }
                    Reference::Named { by: NameRow::Whole(_), .. } => kinds[1] += 1,
                    Reference::Named { by: NameRow::Garbage, .. } => kinds[2] += 1,
                    _ => {}
                }
            }
        }
        // One part under way, two parts of the whole, a deleted object and a part that was not listed.
        assert_eq!(kinds, [1, 2, 2]);
    });
}

#[test]
fn an_audit_sees_one_moment_however_long_it_takes() {
    audited(async |world, stored, _| {
        let audit = world.metadata.audit();
        world.metadata.executor.sleep(Duration::from_secs(60)).await;
        for n in 0..20u8 {
            world.put_stored(&[n], &[(0, 100)]).await;
        }
        world.metadata.delete_object("b", &delete(b"stored")).await.unwrap();
        world.sweep_all().await;
        world.metadata.executor.sleep(Duration::from_secs(60)).await;
        assert_eq!(audit.audit_data(stored.data).await.unwrap(), (Vec::new(), 2));
        assert_eq!(audit.data_ids(None, 1_000).await.unwrap().len(), 8);
    });
}
