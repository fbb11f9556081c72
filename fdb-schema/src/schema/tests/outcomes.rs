//! Lost answers: an operation happens once and answers once, whether or not the unknown commit did.

use std::collections::BTreeSet;

use super::super::keyspace::Counter;
use super::super::record::decode_counter;
use super::*;

#[test]
fn a_lost_answer_is_found_again_whether_or_not_the_commit_happened() {
    for happens in [true, false] {
        let sim = Sim::new(1);
        let executor = sim.executor();
        sim.block_on(async {
            let world = World::new(executor, Outcomes::MayBeUnknown).await;
            world.put_stored(b"k", &[(0, 10)]).await;

            world.engine.inner.lose_next_answer(happens);
            let bytes = NewBytes::<Stored>::Inline(Bytes::from_static(b"new"));
            let created = world.metadata.put_object(new_object(b"n", WriteCondition::IfAbsent), bytes).await;
            assert!(created.is_ok(), "its own first attempt is not somebody else's object");

            world.engine.inner.lose_next_answer(happens);
            let deleted = world.metadata.delete_object("b", &delete(b"k")).await;
            assert!(deleted.unwrap().existed);

            world.engine.inner.lose_next_answer(happens);
            let first = world.metadata.allocate_volume_ids(10).await.unwrap();
            assert_eq!(first, VolumeId(VOLUMES));
            assert_eq!(world.metadata.next_volume_id().await.unwrap(), VolumeId(VOLUMES + 10));
            assert_eq!(world.usage().await, (1, 3));
        });
    }
}

#[test]
fn done_rows_of_ended_transactions_do_not_pile_up() {
    let sim = Sim::new(2);
    let executor = sim.executor();
    sim.block_on(async {
        let world = World::new(executor, Outcomes::MayBeUnknown).await;
        for _ in 0..5_000 {
            world.put_inline(b"k", b"").await;
        }
        let done = KeyRange { begin: vec![0x03], end: vec![0x04] };
        assert!(world.count(&done).await <= 2_000);
    });
}

#[test]
fn a_core_that_conflicts_without_end_gives_up_with_a_conflict() {
    let sim = Sim::new(3);
    let executor = sim.executor();
    sim.block_on(async {
        let world = World::new(executor, Outcomes::Known).await;
        let row_key = keyspace::identity(b"x");
        let mut attempts = 0u32;
        let attempts_seen = std::cell::RefCell::new(&mut attempts);
        let result: Result<(), Failure> = world
            .metadata
            .write(async |txn| {
                **attempts_seen.borrow_mut() += 1;
                crate::Transaction::get(txn, &row_key, Isolation::Serializable).await?;
                crate::Transaction::set(txn, &row_key, b"mine");
                let mut other = world.engine.begin();
                crate::Transaction::set(&mut other, &row_key, b"theirs");
                crate::Transaction::commit(other).await?;
                Ok(())
            })
            .await;
        assert_eq!(result, Err(Failure::Engine(EngineError::Conflict)));
        assert_eq!(attempts, 100);
    });
}

/// When metadata can be written again, all writes of a core that waited for it ask for the core's number at once.
#[test]
fn a_core_whose_writes_all_ask_for_its_first_number_at_once_takes_few_numbers() {
    let sim = Sim::new(4);
    let executor = sim.executor();
    sim.block_on(async {
        let world = World::new(executor.clone(), Outcomes::Known).await;
        let engine = &world.engine;
        engine.is_read_only.set(true);
        let late = Metadata::open(engine.clone(), executor, Outcomes::Known).await.unwrap();
        assert_eq!(late.writer(), None);
        assert_eq!(late.new_data_id().await, Err(Failure::Engine(EngineError::ReadOnly)));
        engine.is_read_only.set(false);
        let row_key = keyspace::counter(Counter::Writer);
        let taken = async || {
            let value =
                crate::Transaction::get(&engine.begin(), &row_key, Isolation::Snapshot).await.unwrap();
            decode_counter("counter", value.as_ref()).unwrap()
        };
        let before = taken().await;
        let ids = futures_util::future::join_all((0..1_000).map(|_| late.new_data_id())).await;
        let ids: BTreeSet<DataId> = ids.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(taken().await - before < 10, "{before} numbers before, {} now", taken().await);
    });
}
