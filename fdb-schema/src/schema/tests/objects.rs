//! Objects and buckets: conditions, copies, deletes, races, exact usage.

use super::super::{Copy, DeleteCondition, Deleted, Header, Place};
use super::*;
use crate::schema::{ACL_HEADER, REDIRECT_HEADER, TAGGING_HEADER};

async fn copy_all(world: &World, source: &[u8], target: &[u8]) -> ObjectRecord {
    world.metadata.copy_object(copy(source, target), same_seal).await.unwrap().unwrap().target.record
}

#[test]
fn an_object_reads_back_as_it_was_put_and_usage_is_exact() {
    world(1, async |world| {
        world.put_inline(b"small", b"hello").await;
        let large = world.put_stored(b"large", &[(0, 70_000), (1, 1_000)]).await;
        let (found, bytes) = world.metadata.object_and_inline("b", b"small", None).await.unwrap();
        assert_eq!(bytes.as_deref(), Some(b"hello".as_slice()));
        assert_eq!((found.record.place, found.version), (Place::Inline, None));
        assert_eq!(world.metadata.object("b", b"large", None).await.unwrap().record, large);
        assert_eq!(world.usage().await, (2, 71_005));
        world.put_inline(b"large", b"now small").await;
        assert_eq!(world.usage().await, (2, 14));
        assert!(world.metadata.delete_object("b", &delete(b"small")).await.unwrap().existed);
        assert_eq!(world.usage().await, (1, 9));
        assert_eq!(refused(world.metadata.object("b", b"small", None).await), Refusal::NoSuchKey);
        assert_eq!(refused(world.metadata.object("c", b"small", None).await), Refusal::NoSuchBucket);
    });
}

#[test]
fn write_conditions_are_decided_by_what_is_there() {
    world(2, async |world| {
        let put = async |condition| {
            let bytes = NewBytes::<Stored>::Inline(Bytes::new());
            world.metadata.put_object(new_object(b"k", condition), bytes).await.map(|_| ())
        };
        let tag = ETag::whole([1; 16]).to_string();
        assert_eq!(refused(put(WriteCondition::IfMatch(tag.clone())).await), Refusal::NoSuchKey);
        assert_eq!(put(WriteCondition::IfAbsent).await, Ok(()));
        assert_eq!(refused(put(WriteCondition::IfAbsent).await), Refusal::PreconditionFailed);
        assert_eq!(put(WriteCondition::IfMatch(tag)).await, Ok(()));
        assert_eq!(put(WriteCondition::IfMatch("*".into())).await, Ok(()));
        let other = ETag::whole([2; 16]).to_string();
        assert_eq!(refused(put(WriteCondition::IfMatch(other)).await), Refusal::PreconditionFailed);
    });
}

#[test]
fn delete_conditions_hold_for_an_absent_object_but_not_for_a_different_one() {
    world(3, async |world| {
        let delete = async |condition: DeleteCondition| {
            let delete = Delete { condition, ..delete(b"k") };
            world.metadata.delete_object("b", &delete).await.map(|deleted| deleted.existed)
        };
        let tagged = |tag: &str| DeleteCondition { if_match: Some(tag.into()), ..Default::default() };
        assert_eq!(refused(delete(tagged("x")).await), Refusal::NoSuchKey);
        assert_eq!(refused(delete(tagged("*")).await), Refusal::NoSuchKey);
        world.put_inline(b"k", b"12345").await;
        assert_eq!(refused(delete(tagged("x")).await), Refusal::PreconditionFailed);
        let sized = |size| DeleteCondition { size_bytes: Some(size), ..Default::default() };
        assert_eq!(refused(delete(sized(4)).await), Refusal::PreconditionFailed);
        assert_eq!(delete(sized(5)).await, Ok(true));
    });
}

#[test]
fn of_racing_exclusive_creates_exactly_one_wins() {
    let sim = Sim::new(4);
    let executor = sim.executor();
    let wins = sim.block_on(async {
        let world = World::new(executor, Outcomes::Known).await;
        let race = (0..20).map(async |_| {
            let bytes = NewBytes::<Stored>::Inline(Bytes::new());
            world.metadata.put_object(new_object(b"k", WriteCondition::IfAbsent), bytes).await.is_ok()
        });
        futures_util::future::join_all(race).await.into_iter().filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
}

#[test]
fn copies_share_bytes_until_the_last_is_deleted_in_either_order() {
    for first in [b"a".as_slice(), b"c"] {
        world(5, async |world| {
            world.put_stored(b"a", &[(0, 5_000)]).await;
            assert_eq!(
                copy_all(&world, b"a", b"c").await.data,
                world.metadata.object("b", b"a", None).await.unwrap().record.data
            );
            assert_eq!(world.usage().await, (2, 10_000));
            let delete = async |key: &[u8]| {
                world.metadata.delete_object("b", &delete(key)).await.unwrap();
            };
            delete(first).await;
            assert_eq!(world.sweep_all().await, 0, "one name is left");
            assert_eq!(world.live().await[&0], 5_000);
            delete(if first == b"a" { b"c" } else { b"a" }).await;
            assert_eq!(world.sweep_all().await, 1);
            assert_eq!(world.live().await[&0], 0);
            assert_eq!(world.byte_rows().await, 0);
        });
    }
}

#[test]
fn copying_again_onto_a_copy_keeps_the_bytes() {
    world(6, async |world| {
        world.put_stored(b"a", &[(0, 5_000)]).await;
        copy_all(&world, b"a", b"c").await;
        copy_all(&world, b"a", b"c").await;
        for key in [b"a", b"c"] {
            world.metadata.delete_object("b", &delete(key)).await.unwrap();
        }
        world.sweep_all().await;
        assert_eq!((world.live().await[&0], world.byte_rows().await), (0, 0));
    });
}

#[test]
fn a_copy_onto_itself_needs_a_change_and_replaces_headers() {
    world(7, async |world| {
        world.put_stored(b"a", &[(0, 5_000)]).await;
        let result = world.metadata.copy_object(copy(b"a", b"a"), same_seal).await;
        assert_eq!(refused(result), Refusal::CopyOntoItself);
        let header = Header { name: "x-amz-meta-a".into(), value: Bytes::from_static(b"1") };
        let replace = Copy { replace_headers: Some(vec![header.clone()]), ..copy(b"a", b"a") };
        let record = world.metadata.copy_object(replace, same_seal).await.unwrap().unwrap().target.record;
        assert_eq!(record.headers, [header]);
        assert_eq!(world.sweep_all().await, 0);
        assert_eq!((world.live().await[&0], world.usage().await), (5_000, (1, 5_000)));
    });
}

#[test]
fn a_list_changes_by_itself_and_is_not_taken_along_by_a_copy() {
    world(13, async |world| {
        let before = world.put_stored(b"a", &[(0, 5_000)]).await;
        let acl = |value: &'static str| Some(Bytes::from_static(value.as_bytes()));
        world.metadata.put_acl("b", b"a", None, acl("o;READ=x")).await.unwrap();
        world.metadata.put_acl("b", b"a", None, acl("o;WRITE=x")).await.unwrap();
        let listed = world.metadata.object("b", b"a", None).await.unwrap().record;
        assert_eq!((listed.listed, listed.data), (before.listed, before.data));
        assert_eq!(
            listed.headers,
            [Header { name: ACL_HEADER.into(), value: Bytes::from_static(b"o;WRITE=x") }]
        );
        let copied = world.metadata.copy_object(copy(b"a", b"c"), same_seal).await.unwrap().unwrap();
        assert_eq!(copied.target.record.headers, []);
        world.metadata.put_acl("b", b"a", None, None).await.unwrap();
        assert_eq!(world.metadata.object("b", b"a", None).await.unwrap().record.headers, []);
        assert_eq!(refused(world.metadata.put_acl("b", b"none", None, None).await), Refusal::NoSuchKey);
    });
}

#[test]
fn tags_change_by_themselves_and_follow_a_rule_of_their_own_in_copies() {
    world(12, async |world| {
        let before = world.put_stored(b"a", &[(0, 5_000)]).await;
        let tagging = |value: &'static str| Some(Bytes::from_static(value.as_bytes()));
        world.metadata.put_tagging("b", b"a", None, tagging("k=1")).await.unwrap();
        world.metadata.put_tagging("b", b"a", None, tagging("k=2")).await.unwrap();
        let tags = |record: &ObjectRecord| {
            let kept: Vec<_> =
                record.headers.iter().filter(|header| header.name == TAGGING_HEADER).cloned().collect();
            assert!(kept.len() <= 1);
            kept.first().map(|header| header.value.clone())
        };
        let tagged = world.metadata.object("b", b"a", None).await.unwrap().record;
        assert_eq!((tagged.listed.clone(), tagged.data), (before.listed, before.data));
        assert_eq!(tags(&tagged), tagging("k=2"));
        let header = Header { name: "x-amz-meta-a".into(), value: Bytes::from_static(b"1") };
        let with =
            |replace_headers, replace_tagging| Copy { replace_headers, replace_tagging, ..copy(b"a", b"c") };
        for (replace, wanted) in [
            (with(None, None), tagging("k=2")),
            (with(Some(vec![header.clone()]), None), tagging("k=2")),
            (with(None, Some(tagging("z="))), tagging("z=")),
            (with(Some(vec![header.clone()]), Some(None)), None),
        ] {
            let keeps_header = replace.replace_headers.is_some();
            let copied = world.metadata.copy_object(replace, same_seal).await.unwrap().unwrap().target.record;
            assert_eq!(tags(&copied), wanted);
            assert_eq!(copied.headers.contains(&header), keeps_header);
        }
        world.metadata.put_tagging("b", b"a", None, None).await.unwrap();
        assert_eq!(world.metadata.object("b", b"a", None).await.unwrap().record.headers, []);
        assert_eq!(refused(world.metadata.put_tagging("b", b"none", None, None).await), Refusal::NoSuchKey);
        assert_eq!(world.usage().await, (2, 10_000));
    });
}

#[test]
fn a_refused_source_condition_changes_nothing() {
    world(8, async |world| {
        world.put_stored(b"a", &[(0, 5_000)]).await;
        let result = world.metadata.copy_object(copy(b"a", b"c"), |_| Err("no")).await.unwrap();
        assert_eq!(result, Err("no"));
        assert_eq!(refused(world.metadata.object("b", b"c", None).await), Refusal::NoSuchKey);
    });
}

#[test]
fn a_small_copy_has_bytes_of_its_own() {
    world(9, async |world| {
        world.put_inline(b"a", b"tiny").await;
        copy_all(&world, b"a", b"c").await;
        world.metadata.delete_object("b", &delete(b"a")).await.unwrap();
        let (_, bytes) = world.metadata.object_and_inline("b", b"c", None).await.unwrap();
        assert_eq!(bytes.as_deref(), Some(b"tiny".as_slice()));
        world.metadata.delete_object("b", &delete(b"c")).await.unwrap();
        assert_eq!(world.byte_rows().await, 0, "small objects leave no garbage");
    });
}

#[test]
fn a_bulk_delete_answers_for_each_key() {
    world(10, async |world| {
        for number in 0..250 {
            world.put_inline(format!("k{number}").as_bytes(), b"").await;
        }
        let no_match = DeleteCondition { if_match: Some("other".into()), ..Default::default() };
        let keys: Vec<String> = (0..250).map(|n| format!("k{n}")).collect();
        let mut deletes: Vec<Delete<'_>> = keys.iter().map(|key| delete(key.as_bytes())).collect();
        deletes[120].condition = no_match;
        deletes.push(delete(b"absent"));
        let results = world.metadata.delete_objects("b", &deletes).await.unwrap();
        assert_eq!(results.len(), 251);
        assert_eq!(results[120], Err(Refusal::PreconditionFailed.into()));
        let existed = |result: &Result<Deleted, Failure>| result.as_ref().is_ok_and(|done| done.existed);
        assert!(results[250].is_ok() && !existed(&results[250]));
        assert_eq!(results.iter().filter(|result| existed(result)).count(), 249);
        assert_eq!(world.usage().await, (1, 0));
    });
}

#[test]
fn a_bucket_is_deleted_only_when_it_is_empty() {
    world(11, async |world| {
        world.put_inline(b"k", b"").await;
        assert_eq!(refused(world.metadata.delete_bucket("b").await), Refusal::BucketNotEmpty);
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        let upload = world.begin_upload(b"u").await;
        assert_eq!(refused(world.metadata.delete_bucket("b").await), Refusal::BucketHasUploads);
        world.metadata.abort_upload(path(b"u", upload)).await.unwrap();
        let id = world.metadata.bucket("b").await.unwrap().id;
        world.metadata.delete_bucket("b").await.unwrap();
        assert_eq!(refused(world.metadata.delete_bucket("b").await), Refusal::NoSuchBucket);
        let again = world.metadata.create_bucket("b", "root", &NewBucket::default()).await.unwrap();
        assert_ne!(again.id, id);
        let owner = "root".to_owned();
        assert_eq!(
            refused(world.metadata.create_bucket("b", "x", &NewBucket::default()).await),
            Refusal::BucketExists { owner }
        );
    });
}

#[test]
fn a_put_that_races_the_deletion_of_its_bucket_never_leaves_an_object_without_one() {
    let mut deleted_count = 0;
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let executor = sim.executor();
        deleted_count += sim.block_on(async {
            let world = World::new(executor, Outcomes::Known).await;
            let bytes = NewBytes::<Stored>::Inline(Bytes::new());
            let put = world.metadata.put_object(new_object(b"k", WriteCondition::Always), bytes);
            let delete = world.metadata.delete_bucket("b");
            match futures_util::future::join(put, delete).await {
                (Ok(_), Err(Failure::Refused(Refusal::BucketNotEmpty))) => 0,
                (Err(Failure::Refused(Refusal::NoSuchBucket)), Ok(())) => 1,
                other => panic!("seed={seed}: {other:?}"),
            }
        });
    }
    assert!((1..50).contains(&deleted_count), "both ways are seen: {deleted_count}");
}

#[test]
fn a_redirect_stays_with_its_name_and_a_copy_onto_itself_may_change_it() {
    world(20, async |world| {
        let redirect = |to: &'static str| Header {
            name: REDIRECT_HEADER.to_owned(),
            value: Bytes::from_static(to.as_bytes()),
        };
        let kept = Header { name: "content-type".to_owned(), value: Bytes::from_static(b"a/b") };
        let mut new = new_object(b"a", WriteCondition::Always);
        new.headers = vec![kept.clone(), redirect("/x")];
        world.metadata.put_object(new, NewBytes::<Stored>::Inline(Bytes::new())).await.unwrap();
        assert_eq!(copy_all(&world, b"a", b"b").await.headers, std::slice::from_ref(&kept));
        let onto = Copy { redirect: Some(Bytes::from_static(b"/y")), ..copy(b"a", b"a") };
        let changed = world.metadata.copy_object(onto, same_seal).await.unwrap().unwrap();
        assert_eq!(changed.target.record.headers, [kept, redirect("/y")]);
        let same = world.metadata.copy_object(copy(b"a", b"a"), same_seal).await;
        assert_eq!(refused(same), Refusal::CopyOntoItself);
    });
}
