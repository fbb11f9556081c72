//! The simulated drive keeps the contract of every drive, under many seeds.
#![allow(clippy::unwrap_used, reason = "tests")]

use shardstore_reactor::{
    AlignedBuf, Clock, Drive, DriveFile, Elapsed, FenceReason, IoError, OpenMode, timeout,
};
use shardstore_sim::{Sim, drive_contract, fence_contract, seeds};

#[test]
fn the_simulated_drive_keeps_the_contract() {
    for seed in seeds(20) {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", 256 << 20);
        sim.block_on(drive_contract(drive, sim.executor()));
    }
}

#[test]
fn a_failed_write_fences_the_simulated_drive() {
    let sim = Sim::new(1);
    let drive = sim.drive("d0", 16 << 20);
    let failing = drive.clone();
    sim.block_on(fence_contract(drive, move || {
        failing.fail_writes(1);
        0
    }));
}

#[test]
fn a_timeout_drops_what_takes_longer_and_returns_what_does_not() {
    let sim = Sim::new(1);
    let clock = sim.executor();
    sim.block_on(async {
        let second = std::time::Duration::from_secs(1);
        assert_eq!(timeout(&clock, second, clock.sleep(2 * second)).await, Err(Elapsed));
        assert_eq!(timeout(&clock, 2 * second, clock.sleep(second)).await, Ok(()));
        assert_eq!(clock.now().micros, 2_000_001);
    });
}

#[test]
fn a_fence_by_the_operator_is_kept() {
    let sim = Sim::new(1);
    let drive = sim.drive("d0", 16 << 20);
    sim.block_on(async {
        let file = drive.open("f", OpenMode::CreateNew).await.unwrap();
        drive.fence(FenceReason::Asked);
        assert_eq!(drive.fenced(), Some(FenceReason::Asked));
        let outcome = file.write_durable(0, vec![AlignedBuf::zeroed(4096)]).await;
        assert!(matches!(outcome.result, Err(IoError::Fenced)));
    });
}
