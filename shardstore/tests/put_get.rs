//! What is put is read back, whole and in ranges, from every redundancy.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use std::time::Duration;

use common::{World, content};
use shardstore_format::Profile;
use shardstore_reactor::timeout;

const PROFILES: [(usize, u8, u8); 5] = [(1, 1, 0), (2, 1, 1), (3, 2, 1), (6, 4, 2), (12, 8, 4)];

fn world(seed: u64, (drives, k, m): (usize, u8, u8)) -> World {
    World::new(seed, drives, Some(Profile { k, m }))
}

#[test]
fn objects_of_every_size_read_back_whole_and_in_ranges() {
    for profile in PROFILES {
        let world = world(1, profile);
        world.sim.block_on(async {
            let process = world.start(1).await;
            let sizes =
                [1, 100, 4032, 4033, 65_472, 65_473, 65_536, 300_000, 1_048_575, 1_048_576, 3_000_001];
            for (seed, len) in (0u64..).zip(sizes) {
                for hint in [Some(len), None] {
                    let stored = process.put_on(0, seed, len, hint, 70_000).await.unwrap();
                    let all = content(seed, len);
                    assert!(process.get(&stored).await.unwrap() == all, "{profile:?} {len}");
                    for (from, to) in [(0, 1), (len - 1, len), (len / 3, len / 2 + 1), (1, len), (0, len + 9)]
                    {
                        let got = process.get_on(0, &stored, from..to).await.unwrap();
                        assert!(
                            got == all[from as usize..to.min(len) as usize],
                            "{profile:?} {len} {from}..{to}"
                        );
                    }
                }
            }
        });
    }
}

/// A client that stopped reading held the pages that were under way for it, and every other reader of the object on
/// that core waited until its connection was given up.
#[test]
fn a_reader_that_stands_still_keeps_nobody_else_waiting() {
    const LEN: u64 = 6_000_000;
    for profile in PROFILES {
        let mut world = world(2, profile);
        let stored = world.sim.block_on(async { world.start(1).await.put(1, LEN).await.unwrap() });
        // What was put is in the cache; a new process has to read it.
        world.kill();
        world.sim.block_on(async {
            let process = world.start(1).await;
            let mut stalled = process.store().open_read(stored.extents.clone(), 0..LEN);
            let first = stalled.next().await.unwrap().unwrap();
            assert!(first.iter().map(|part| part.len() as u64).sum::<u64>() < LEN);
            let others = timeout(&world.executor(), Duration::from_secs(1), process.check(&stored)).await;
            assert!(
                others.is_ok(),
                "{profile:?}: the object cannot be read beside a reader that stands still"
            );
            drop(stalled);
        });
    }
}
