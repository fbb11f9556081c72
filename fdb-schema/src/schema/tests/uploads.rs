//! Multipart uploads: parts, completion, abort, and the space they give back.

use super::*;

#[test]
fn a_completion_makes_one_object_of_the_listed_parts_and_garbage_of_the_others() {
    world(1, async |world| {
        let upload = world.begin_upload(b"k").await;
        let path = path(b"k", upload);
        for number in [1, 2, 3, 5] {
            world.put_part(path, number, &[(0, 1_000 * u64::from(number)), (1, 7)]).await;
        }
        world.put_part(path, 2, &[(2, 50)]).await;
        let (_, parts) = world.metadata.list_parts(path, 1, 2).await.unwrap();
        let listed: Vec<(u16, u64)> = parts.iter().map(|(number, part)| (*number, part.size_bytes)).collect();
        assert_eq!(listed, [(2, 50), (3, 3_007)]);

        let complete = async || {
            let condition = WriteCondition::Always;
            world.metadata.complete_upload(path, &[1, 2, 5], &condition, compose).await.unwrap().unwrap()
        };
        let completed = complete().await;
        assert_eq!((completed.size_bytes, completed.etag.part_count), (1_007 + 50 + 5_007, Some(3)));
        assert_eq!(complete().await, completed, "a repetition answers the same");
        assert_eq!(world.usage().await, (1, completed.size_bytes));

        world.sweep_all().await;
        let live = world.live().await;
        assert_eq!((live[&0], live[&1], live[&2]), (6_000, 14, 50), "unlisted and replaced parts are gone");

        let object = world.metadata.object("b", b"k", None).await.unwrap();
        let resolved = world.metadata.resolve(object.record.data, 1_006..1_058, 100).await.unwrap();
        let lens: Vec<u64> = resolved.extents.iter().map(|item| item.extent.len_bytes).collect();
        assert_eq!((resolved.start_bytes, lens), (1_000, vec![7, 50, 5_000]));
        assert_eq!(world.part(object.record.data, 2).await, (Some(1_007..1_057), 3));
        assert_eq!(world.part(object.record.data, 4).await, (None, 3));

        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        world.sweep_all().await;
        assert!(world.live().await.values().all(|live| *live == 0));
        assert_eq!((world.byte_rows().await, world.usage().await), (0, (0, 0)));
    });
}

#[test]
fn an_aborted_upload_gives_its_space_back_and_is_no_more() {
    world(2, async |world| {
        let upload = world.begin_upload(b"k").await;
        let path = path(b"k", upload);
        world.put_part(path, 1, &[(0, 500)]).await;
        world.put_part(path, 10_000, &[]).await;
        world.metadata.abort_upload(path).await.unwrap();
        assert_eq!(refused(world.metadata.abort_upload(path).await), Refusal::NoSuchUpload);
        let result = world.metadata.complete_upload(path, &[1], &WriteCondition::Always, compose).await;
        assert_eq!(refused(result), Refusal::NoSuchUpload);
        world.sweep_all().await;
        assert_eq!((world.live().await[&0], world.byte_rows().await), (0, 0));
    });
}

#[test]
fn an_upload_is_found_only_under_its_own_key() {
    world(3, async |world| {
        let upload = world.begin_upload(b"k").await;
        world.put_part(path(b"k", upload), 1, &[(0, 500)]).await;
        assert_eq!(refused(world.metadata.upload(path(b"other", upload)).await), Refusal::NoSuchUpload);
        let always = WriteCondition::Always;
        let other = world.metadata.complete_upload(path(b"other", upload), &[1], &always, compose).await;
        assert_eq!(refused(other), Refusal::NoSuchUpload);
        world.metadata.complete_upload(path(b"k", upload), &[1], &always, compose).await.unwrap().unwrap();
        let other = world.metadata.complete_upload(path(b"other", upload), &[1], &always, compose).await;
        assert_eq!(refused(other), Refusal::NoSuchUpload, "a repetition under another key is none");
    });
}

#[test]
fn a_refused_completion_leaves_the_upload_as_it_was() {
    world(4, async |world| {
        let upload = world.begin_upload(b"k").await;
        let path = path(b"k", upload);
        world.put_part(path, 1, &[(0, 500)]).await;
        let always = WriteCondition::Always;
        let missing = world.metadata.complete_upload(path, &[1, 2], &always, compose).await;
        assert_eq!(refused(missing), Refusal::InvalidPart { part_number: 2 });
        let composed = world.metadata.complete_upload(path, &[1], &always, |_, _| Err("no")).await.unwrap();
        assert_eq!(composed, Err("no"));
        world.put_inline(b"k", b"in the way").await;
        let absent = world.metadata.complete_upload(path, &[1], &WriteCondition::IfAbsent, compose).await;
        assert_eq!(refused(absent), Refusal::PreconditionFailed);
        assert_eq!(world.metadata.list_parts(path, 0, 10).await.unwrap().1.len(), 1);
        world.metadata.complete_upload(path, &[1], &always, compose).await.unwrap().unwrap();
        assert_eq!(world.usage().await, (1, 500));
    });
}

#[test]
fn an_upload_of_ten_thousand_parts_completes_resolves_and_sweeps() {
    world(5, async |world| {
        let upload = world.begin_upload(b"k").await;
        let path = path(b"k", upload);
        let numbers: Vec<u16> = (1..=10_000).collect();
        for number in &numbers {
            world.put_part(path, *number, &[(0, 10)]).await;
        }
        let completed =
            world.metadata.complete_upload(path, &numbers, &WriteCondition::Always, compose).await;
        assert_eq!(completed.unwrap().unwrap().size_bytes, 100_000);
        let object = world.metadata.object("b", b"k", None).await.unwrap();
        let mut at_bytes = 0;
        while at_bytes < 100_000 {
            at_bytes =
                world.metadata.resolve(object.record.data, at_bytes..100_000, 900).await.unwrap().end_bytes();
        }
        assert_eq!(at_bytes, 100_000);
        assert_eq!(world.part(object.record.data, 9_999).await, (Some(99_980..99_990), 10_000));
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        assert_eq!(world.sweep_all().await, 6 + 10_000);
        assert_eq!((world.live().await[&0], world.byte_rows().await), (0, 0));
    });
}

#[test]
fn completions_are_forgotten_after_a_day_and_not_before() {
    let sim = Sim::new(6);
    let executor = sim.executor();
    sim.block_on(async {
        let world = World::new(executor.clone(), Outcomes::Known).await;
        let upload = world.begin_upload(b"k").await;
        let path = path(b"k", upload);
        world.put_part(path, 1, &[(0, 500)]).await;
        let complete =
            async || world.metadata.complete_upload(path, &[1], &WriteCondition::Always, compose).await;
        let first = complete().await.unwrap();
        assert_eq!(world.metadata.forget_completions().await, Ok(true));
        assert_eq!(complete().await.unwrap(), first);
        shardstore_reactor::Clock::sleep(&executor, std::time::Duration::from_hours(25)).await;
        assert_eq!(world.metadata.forget_completions().await, Ok(true));
        assert_eq!(refused(complete().await), Refusal::NoSuchUpload);
    });
}
