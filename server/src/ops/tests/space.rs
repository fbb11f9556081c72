//! Space and time: everything deleted comes back, and everything acknowledged outlives the process.

use std::time::Duration;

use futures_util::future::{Either, select};
use shardstore_reactor::Clock;

use super::objects::entry;
use super::*;

#[test]
fn after_random_work_deletes_and_sweeps_nothing_is_left() {
    for seed in 0..5 {
        machine(seed, 6, async |machine| {
            let mut numbers = fastrand::Rng::with_seed(seed);
            let mut model = std::collections::BTreeMap::new();
            for step in 0..60 {
                let name = format!("k{}", numbers.u8(..6));
                match numbers.u8(..4) {
                    0 => {
                        machine.core.delete_object(bucket(), entry(&name)).await.unwrap();
                        model.remove(&name);
                    }
                    _ => {
                        let len = [0, 700, 5_000, 90_000, 1_300_000][numbers.usize(..5)];
                        let bytes = noise(seed * 1_000 + step, len);
                        machine.put(&name, &bytes).await;
                        model.insert(name, bytes);
                    }
                }
                if numbers.u8(..10) == 0 {
                    machine.clean().await;
                }
            }
            for (name, bytes) in &model {
                assert!(machine.get_whole(name).await.unwrap() == *bytes, "seed={seed} {name}");
                machine.core.delete_object(bucket(), entry(name)).await.unwrap();
            }
            machine.clean().await;
            assert_eq!(machine.space().await, (0, 0), "seed={seed}");
            let usage = machine.core.metadata().usage("bucket").await.unwrap();
            assert_eq!((usage.objects, usage.bytes), (0, 0), "seed={seed}");
        });
    }
}

#[test]
fn a_client_that_vanishes_at_any_moment_leaves_all_or_nothing_and_no_space() {
    machine(1, 6, async |machine| {
        let mut numbers = fastrand::Rng::with_seed(1);
        let mut ended = [0, 0];
        for step in 0..60 {
            let bytes = noise(step, [900, 50_000, 2_500_000][numbers.usize(..3)]);
            let patience = machine.executor.sleep(Duration::from_micros(numbers.u64(..3_000)));
            let mut body = Body::whole(&bytes);
            let put = std::pin::pin!(machine.core.put_object(put("k", &bytes), &mut body));
            let is_done = matches!(select(put, std::pin::pin!(patience)).await, Either::Left(_));
            match machine.get_whole("k").await {
                Ok(got) => assert!(got == bytes, "step {step}"),
                Err(error) => {
                    assert_eq!(error, OpError::NoSuchKey);
                    assert!(!is_done, "step {step}: acknowledged and not there");
                }
            }
            ended[usize::from(is_done)] += 1;
            machine.core.delete_object(bucket(), entry("k")).await.unwrap();
        }
        assert!(ended.iter().all(|count| *count > 5), "both kinds are seen: {ended:?}");
        // Writes under way go on without their client.
        machine.executor.sleep(Duration::from_secs(1)).await;
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
    });
}

#[test]
fn background_work_gives_space_back_by_itself() {
    machine(2, 6, async |machine| {
        machine.core.spawn_background(true);
        machine.put("k", &noise(2, 2_000_000)).await;
        machine.core.delete_object(bucket(), entry("k")).await.unwrap();
        // Sweeping takes seconds; the open volume is sealed after ten minutes without an append.
        machine.executor.sleep(Duration::from_secs(10)).await;
        assert_eq!(machine.space().await.0, 0);
        machine.executor.sleep(Duration::from_secs(700)).await;
        assert_eq!(machine.space().await, (0, 0));
        machine.core.store().shared().stop();
    });
}

#[test]
fn what_was_acknowledged_reads_back_after_the_process_was_killed() {
    for seed in 0..10 {
        let sim = Sim::new(seed);
        let machine = sim.block_on(Machine::new(&sim, 6));
        let names: Vec<String> = (0..8).map(|index| format!("k{index}")).collect();
        let bytes: Vec<Vec<u8>> = (0..8).map(|index| noise(index, 1 << (2 * index + 6))).collect();
        let acknowledged = std::cell::Cell::new(0);
        let polls_max = 200 + 150 * seed;
        sim.run(
            async {
                for (name, bytes) in names.iter().zip(&bytes) {
                    machine.put(name, bytes).await;
                    acknowledged.set(acknowledged.get() + 1);
                }
            },
            polls_max,
        );
        sim.crash();
        let machine = sim.block_on(machine.restart());
        sim.block_on(async {
            for (index, (name, bytes)) in names.iter().zip(&bytes).enumerate() {
                match machine.get_whole(name).await {
                    Ok(got) => assert!(got == *bytes, "seed={seed} {name}"),
                    Err(error) => {
                        assert_eq!(error, OpError::NoSuchKey, "seed={seed} {name}");
                        assert!(index >= acknowledged.get(), "seed={seed}: {name} was acknowledged");
                    }
                }
                machine.put(name, b"again").await;
                machine.core.delete_object(bucket(), entry(name)).await.unwrap();
            }
            machine.clean().await;
            assert_eq!(machine.space().await, (0, 0), "seed={seed}");
        });
    }
}
