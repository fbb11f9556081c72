//! The row of the pool's members: which change may follow which.

use shardstore_format::{DriveId, Member, MemberPlan, Membership};
use shardstore_sim::Sim;

use super::World;
use crate::schema::Outcomes;

fn members(revision: u64, drives: u128) -> Membership {
    let member =
        |drive| Member { drive: DriveId(drive), label: format!("/d{drive}"), plan: MemberPlan::Stay };
    Membership { revision, members: (0..drives).map(member).collect() }
}

#[test]
fn changes_follow_one_another_and_what_is_in_force_on_drives_replaces_all_that_is_older() {
    let sim = Sim::new(1);
    let executor = sim.executor();
    sim.block_on(async move {
        let metadata = World::new(executor, Outcomes::Known).await.metadata;
        assert!(metadata.adopt_members(&members(1, 2)).await.unwrap(), "the first");
        assert!(metadata.change_members(&members(2, 3)).await.unwrap());
        assert!(!metadata.change_members(&members(2, 4)).await.unwrap(), "another came first");
        assert!(!metadata.change_members(&members(4, 4)).await.unwrap(), "one is left out");
        assert!(!metadata.adopt_members(&members(2, 4)).await.unwrap(), "no newer");
        assert_eq!(metadata.members().await.unwrap(), Some(members(2, 3)));
        assert!(metadata.adopt_members(&members(4, 5)).await.unwrap());
        assert!(!metadata.change_members(&members(3, 4)).await.unwrap(), "undecided until now, and too late");
        assert_eq!(metadata.members().await.unwrap(), Some(members(4, 5)));
    });
}
