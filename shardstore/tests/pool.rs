//! The start rules of drives: what is formatted, what is recognised, what is refused and with which sentence.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::World;
use shardstore::{
    MasterKeyError, OpenError, Pool, PoolOptions, default_redundancy, open_pool, prepare_to_join,
    read_master_key, tell_drives, write_master_key,
};
use shardstore_format::{DriveId, DriveIdentity, FormatPhase, Member, MemberPlan, Membership, Profile};
use shardstore_reactor::{Drive, DriveFile, OpenMode};
use shardstore_sim::SimDrive;

async fn refusal(world: &World) -> String {
    match world.open_pool().await {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

async fn identity_of(drive: &SimDrive) -> DriveIdentity {
    DriveIdentity::decode(&drive.read_small("identity/drive", 1 << 20).await.unwrap()).unwrap()
}

#[test]
fn blank_drives_are_formatted_with_the_redundancy_of_their_number() {
    for (drives, k, m) in
        [(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 2, 2), (5, 3, 2), (6, 4, 2), (11, 4, 2), (12, 8, 4)]
    {
        let world = World::new(1, drives, None);
        world.sim.block_on(async {
            let pool = world.open_pool().await.unwrap();
            assert!(pool.is_new());
            assert_eq!(pool.profile(), Profile { k, m });
            assert_eq!(pool.profile(), default_redundancy(drives));
            let again = world.open_pool().await.unwrap();
            assert!(!again.is_new());
            assert_eq!((again.id(), again.profile()), (pool.id(), pool.profile()));
            let ids = |pool: &shardstore::Pool<SimDrive>| {
                pool.members().iter().map(|member| member.id).collect::<Vec<_>>()
            };
            assert_eq!(ids(&again), ids(&pool));
        });
    }
}

#[test]
fn drives_given_in_another_order_keep_their_places() {
    let mut world = World::new(2, 4, None);
    let before = world.sim.block_on(world.open_pool()).unwrap();
    world.drives.reverse();
    let after = world.sim.block_on(world.open_pool()).unwrap();
    for (left, right) in before.members().iter().zip(after.members()) {
        assert_eq!((left.id, &left.label), (right.id, &right.label));
    }
}

#[test]
fn up_to_m_drives_may_be_missing_and_are_named_and_more_are_refused() {
    let mut world = World::new(3, 6, None);
    world.sim.block_on(world.open_pool()).unwrap();
    world.drives.truncate(4);
    let pool = world.sim.block_on(world.open_pool()).unwrap();
    assert_eq!(pool.missing(), ["/d4", "/d5"]);
    world.drives.truncate(3);
    let sentence = world.sim.block_on(refusal(&world));
    assert_eq!(sentence, "3 drives are missing (/d3, /d4, /d5) and parity mends at most 2: bring them back");
}

#[test]
fn an_empty_directory_in_a_formed_pool_is_a_missing_drive_and_is_not_formatted() {
    let mut world = World::new(4, 6, None);
    world.sim.block_on(world.open_pool()).unwrap();
    wipe(&mut world, 2);
    let pool = world.sim.block_on(world.open_pool()).unwrap();
    assert_eq!(pool.missing(), ["/d2"]);
    assert!(pool.notes()[0].contains("/d2 is empty and counts as a missing drive"), "{:?}", pool.notes());
    assert!(world.sim.block_on(world.drives[2].list("")).unwrap().is_empty());
    wipe(&mut world, 3);
    wipe(&mut world, 4);
    let sentence = world.sim.block_on(refusal(&world));
    assert!(sentence.starts_with("3 drives are missing"), "{sentence}");
    assert!(sentence.contains("/d3 is empty: is it mounted?"), "{sentence}");
}

fn wipe(world: &mut World, index: usize) {
    world.drives[index].wipe();
    world.drives[index] = world.drives[index].reopen();
}

#[test]
fn a_damaged_or_unreadable_identity_counts_as_a_missing_drive() {
    let world = World::new(5, 4, None);
    world.sim.block_on(async {
        world.open_pool().await.unwrap();
        assert!(world.drives[0].corrupt("identity/drive", 30));
        world.drives[1].vanish();
        let pool = world.open_pool().await.unwrap();
        assert_eq!(pool.missing(), ["/d0", "/d1"]);
        assert_eq!(pool.notes().len(), 2);
        assert!(world.drives[2].corrupt("identity/drive", 30));
        assert!(matches!(world.open_pool().await.err(), Some(OpenError::TooManyMissing { .. })));
        assert!(world.drives[3].corrupt("identity/drive", 30));
        assert!(matches!(world.open_pool().await.err(), Some(OpenError::NothingReadable { .. })));
    });
}

/// Story: a drive whose file system had turned read-only after an I/O error could not be opened, and the whole server
/// refused to start, though it had parity for two such drives and had served without this one until the restart.
#[test]
fn a_drive_that_cannot_be_opened_counts_as_missing_but_forms_no_pool() {
    let world = World::new(7, 4, None);
    let open = |drives: &[SimDrive], set_aside: &[&str]| {
        let set_aside = set_aside.iter().map(|sentence| (*sentence).to_owned()).collect();
        let options = PoolOptions { set_aside, ..PoolOptions::default() };
        world.sim.block_on(open_pool(drives.to_vec(), options, &world.executor()))
    };
    let refused = open(&world.drives[..3], &["drive /d3: broken"]).err().unwrap();
    assert!(matches!(refused, OpenError::NothingReadable { .. }));
    assert!(refused.to_string().contains("drive /d3: broken"), "{refused}");
    open(&world.drives, &[]).unwrap();
    let pool = open(&world.drives[..3], &["drive /d3: broken"]).unwrap();
    assert_eq!((pool.missing(), pool.notes()), (vec!["/d3"], ["drive /d3: broken".to_owned()].as_slice()));
    let refused = open(&world.drives[..1], &["/d1 broken", "/d2 broken", "/d3 broken"]).err().unwrap();
    assert!(refused.to_string().starts_with("3 drives are missing"), "{refused}");
    assert!(refused.to_string().contains("/d2 broken"), "{refused}");
}

#[test]
fn drives_of_two_pools_are_refused() {
    let mut world = World::new(6, 2, None);
    world.sim.block_on(world.open_pool()).unwrap();
    let first = std::mem::replace(
        &mut world.drives,
        vec![world.sim.drive("/e0", 1 << 30), world.sim.drive("/e1", 1 << 30)],
    );
    world.sim.block_on(world.open_pool()).unwrap();
    world.drives[1] = first[1].clone();
    let sentence = world.sim.block_on(refusal(&world));
    assert_eq!(sentence, "/d1 belongs to another pool than /e0: start each pool with its own drives");
}

#[test]
fn the_same_drive_given_twice_is_refused() {
    let mut world = World::new(7, 2, None);
    world.sim.block_on(world.open_pool()).unwrap();
    world.drives[1] = world.drives[0].clone();
    let sentence = world.sim.block_on(refusal(&world));
    assert!(sentence.starts_with("/d0 and /d0 are the same drive"), "{sentence}");
}

#[test]
fn a_directory_with_something_else_in_it_is_never_formatted() {
    let world = World::new(8, 1, None);
    world.sim.block_on(async {
        world.drives[0].create_dir("lost+found").await.unwrap();
        let photos = world.drives[0].open("photos.tar", OpenMode::CreateNew).await.unwrap();
        photos.sync().await.unwrap();
        let sentence = refusal(&world).await;
        assert!(sentence.contains("is not empty (it holds \"photos.tar\")"), "{sentence}");
        world.drives[0].remove("photos.tar").await.unwrap();
        assert!(world.open_pool().await.unwrap().is_new());
    });
}

#[test]
fn a_version_from_the_future_is_refused_by_name() {
    let world = World::new(9, 1, None);
    world.sim.block_on(async {
        world.open_pool().await.unwrap();
        let mut bytes = identity_of(&world.drives[0]).await.encode();
        bytes.truncate(bytes.len() - 4);
        bytes[8] = 7;
        let crc = shardstore_erasure::checksum::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        world.drives[0].write_small("identity/drive", bytes).await.unwrap();
        let sentence = refusal(&world).await;
        assert!(sentence.contains("later version of basalt (identity version 7)"), "{sentence}");
    });
}

#[test]
fn redundancy_that_does_not_fit_or_differs_is_refused() {
    let mut world = World::new(10, 3, Some(Profile { k: 4, m: 2 }));
    let sentence = world.sim.block_on(refusal(&world));
    assert!(sentence.starts_with("redundancy 4+2 needs 6 drives"), "{sentence}");
    world.redundancy = Some(Profile { k: 1, m: 2 });
    world.sim.block_on(world.open_pool()).unwrap();
    world.redundancy = Some(Profile { k: 2, m: 1 });
    let sentence = world.sim.block_on(refusal(&world));
    assert!(sentence.contains("formed with redundancy 1+2 and 2+1 is asked for"), "{sentence}");
    world.redundancy = None;
    assert_eq!(world.sim.block_on(world.open_pool()).unwrap().profile(), Profile { k: 1, m: 2 });
}

#[test]
fn a_formatting_cut_off_at_any_point_is_resumed() {
    for seed in 0..60 {
        let mut world = World::new(seed, 6, None);
        let polls = 1 + seed * 7;
        drop(world.sim.run(async { world.open_pool().await.map(drop) }, polls));
        world.crash();
        world.sim.block_on(async {
            let pool = world.open_pool().await.unwrap_or_else(|error| panic!("seed={seed}: {error}"));
            assert_eq!(pool.members().len(), 6);
            assert!(pool.missing().is_empty(), "{:?}", pool.missing());
            for drive in &world.drives {
                assert_eq!(identity_of(drive).await.phase, FormatPhase::Ready);
            }
        });
    }
}

#[test]
fn a_formatting_cut_off_is_not_resumed_with_other_drives() {
    let mut world = World::new(11, 3, None);
    world.sim.block_on(async {
        world.open_pool().await.unwrap();
        for drive in &world.drives[..2] {
            let identity = DriveIdentity { phase: FormatPhase::Forming, ..identity_of(drive).await };
            drive.write_small("identity/drive", identity.encode()).await.unwrap();
        }
    });
    world.drives.truncate(2);
    let sentence = world.sim.block_on(refusal(&world));
    assert!(sentence.contains("began with /d0, /d1, /d2"), "{sentence}");
    world.drives.push(world.sim.drive("/d2", 1 << 30));
    assert!(world.sim.block_on(world.open_pool()).unwrap().missing().is_empty());
}

/// The members once another drive has taken the place of one of two.
fn replaced(pool: &Pool<SimDrive>, leaving: usize, joins: DriveId, label: &str) -> Membership {
    let mut next = pool.membership();
    next.revision += 2;
    next.members[leaving].plan = MemberPlan::Leave;
    next.members.push(Member { drive: joins, label: label.to_owned(), plan: MemberPlan::Stay });
    next
}

/// Story: the members were told of a drive that joins before it had an identity. With 1+1 and one drive dead, a crash in
/// between left a pool of three of which two were missing, which did not start any more.
#[test]
fn a_replacement_of_one_of_two_drives_may_be_cut_off_at_any_step() {
    for steps in 0..=3 {
        let world = World::new(20, 2, Some(Profile { k: 1, m: 1 }));
        world.sim.block_on(async {
            let pool = world.open_pool().await.unwrap();
            let (facts, joins, new) = (pool.facts(), DriveId(9), world.sim.drive("/new", 1 << 30));
            let next = replaced(&pool, 1, joins, "/new");
            if steps > 0 {
                prepare_to_join(&facts, &next, joins, &new).await.unwrap();
            }
            if steps > 1 {
                let survivor = [(pool.members()[0].id, world.drives[0].clone())];
                assert!(tell_drives(&facts, &next, &survivor).await.is_empty());
            }
            if steps > 2 {
                assert!(tell_drives(&facts, &next, &[(joins, new.clone())]).await.is_empty());
            }
            let started = vec![world.drives[0].clone(), new.clone()];
            let opened = open_pool(started, PoolOptions::default(), &world.executor()).await.unwrap();
            assert_eq!(opened.missing(), ["/d1"], "{steps} steps");
            let has_joined =
                opened.members().iter().any(|member| member.id == joins && member.drive.is_some());
            assert_eq!(has_joined, steps > 1, "{steps} steps");
            if steps == 1 {
                assert!(opened.notes()[0].contains("never did"), "{:?}", opened.notes());
            }
            if has_joined {
                assert_eq!(identity_of(&new).await.phase, FormatPhase::Ready);
            }
        });
    }
}

#[test]
fn halves_that_went_on_without_each_other_are_refused_and_each_opens_alone() {
    let world = World::new(21, 2, Some(Profile { k: 1, m: 1 }));
    world.sim.block_on(async {
        let pool = world.open_pool().await.unwrap();
        let facts = pool.facts();
        for (kept, leaving, joins, label) in [(0, 1, DriveId(8), "/e"), (1, 0, DriveId(9), "/f")] {
            let next = replaced(&pool, leaving, joins, label);
            let told = [(pool.members()[kept].id, world.drives[kept].clone())];
            assert!(tell_drives(&facts, &next, &told).await.is_empty());
            let new = world.sim.drive(label, 1 << 30);
            assert!(tell_drives(&facts, &next, &[(joins, new.clone())]).await.is_empty());
            let half = vec![world.drives[kept].clone(), new];
            let opened = open_pool(half, PoolOptions::default(), &world.executor()).await.unwrap();
            assert_eq!(opened.missing().len(), 1);
        }
        assert!(refusal(&world).await.contains("were parted"));
    });
}

#[test]
fn the_master_key_lies_on_every_drive_and_copies_must_agree() {
    let world = World::new(12, 3, None);
    world.sim.block_on(async {
        let pool = world.open_pool().await.unwrap();
        assert!(read_master_key(&pool).await.unwrap().is_none());
        write_master_key(&pool, [7; 32]).await.unwrap();
        world.drives[0].remove("identity/master.key").await.unwrap();
        assert!(world.drives[1].corrupt("identity/master.key", 40));
        let found = read_master_key(&pool).await.unwrap().unwrap();
        assert_eq!(found.key(), [7; 32]);
        // Not before the caller has found it to be the right one.
        assert!(world.drives[0].read_small("identity/master.key", 4096).await.is_err());
        found.copy_to_lacking(&pool).await.unwrap();
        for drive in &world.drives {
            let bytes = drive.read_small("identity/master.key", 4096).await.unwrap();
            assert_eq!(shardstore_format::MasterKeyFile::decode(&bytes).unwrap().key, [7; 32]);
            assert!(drive.corrupt("identity/master.key", 40));
        }
        let lost = read_master_key(&pool).await.err().unwrap();
        assert!(matches!(lost, MasterKeyError::Unreadable { .. }), "{lost}");
        write_master_key(&pool, [8; 32]).await.unwrap();
        let file = shardstore_format::MasterKeyFile { pool: pool.id(), key: [9; 32] };
        world.drives[2].write_small("identity/master.key", file.encode()).await.unwrap();
        let differ = read_master_key(&pool).await.err().unwrap();
        assert!(matches!(differ, MasterKeyError::Differ { .. }), "{differ}");
    });
}
