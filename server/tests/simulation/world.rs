//! What outlives the processes of one seed: drives, what is wrong with them, and what clients know.
//! Invariants: no more than m drives are ever broken before all stripes were whole again and the metadata log began a
//! new term; a drive that is not broken answers every operation.
//! Not here: the process (`process`), its drives' comings and goings (`keeper`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use shardstore_reactor::{Clock, Drive};
use shardstore_sim::{Faults, Sim, SimExecutor};

use crate::drive::TestDrive;
use crate::keeper::Keeper;
use crate::model::Model;
use crate::mutation::Mutation;
use crate::plan::{Breakage, Keeping, Plan};

/// Room on every drive when nothing is full.
const DRIVE_BYTES: u64 = 1 << 30;

/// The machine without its processes.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) executor: SimExecutor,
    pub(crate) model: RefCell<Model>,
    pub(crate) drives: RefCell<Vec<TestDrive>>,
    /// Drives that may hold damage, or were away.
    bad: RefCell<BTreeSet<usize>>,
    /// Drives that are not there now.
    vanished: RefCell<BTreeSet<usize>>,
    /// Everything was seen whole; the next start begins a log on sound drives.
    is_healed: Cell<bool>,
    /// Nothing is in the way of writes in this life.
    pub(crate) is_calm: Cell<bool>,
    pub(crate) has_bucket: Cell<bool>,
}

impl World {
    pub(crate) fn new(sim: &Sim, plan: &Plan, mutation: Option<Mutation>) -> Rc<World> {
        let drives = (0..plan.drives).map(|index| {
            let drive = sim.drive(&format!("/d{index}"), DRIVE_BYTES);
            drive.set_volatile_cache(mutation == Some(Mutation::SkipFlush));
            TestDrive::new(drive, mutation, plan.profile.k)
        });
        Rc::new(World {
            plan: plan.clone(),
            mutation,
            executor: sim.executor(),
            model: RefCell::new(Model::new(plan.keeping == Keeping::AtTimes)),
            drives: RefCell::new(drives.collect()),
            bad: RefCell::default(),
            vanished: RefCell::default(),
            is_healed: Cell::new(false),
            is_calm: Cell::new(true),
            has_bucket: Cell::new(false),
        })
    }

    /// After a crash or a kill: handles of drives are new; what was wrong with a drive still is.
    pub(crate) fn restart(&self) {
        for drive in self.drives.borrow_mut().iter_mut() {
            *drive = drive.reopen();
            drive.sim.set_capacity(DRIVE_BYTES);
        }
    }

    /// A process has opened the metadata log: with sound drives beneath it, what was broken is history.
    pub(crate) fn began_term(&self) {
        if self.is_healed.replace(false) {
            self.bad.borrow_mut().clear();
        }
        self.is_calm.set(self.bad.borrow().is_empty());
    }

    pub(crate) fn healed(&self) {
        self.is_healed.set(true);
    }

    pub(crate) fn is_vanished(&self, drive: usize) -> bool {
        self.vanished.borrow().contains(&drive)
    }

    /// Breaks a drive, unless m others are broken already.
    pub(crate) async fn break_drive(&self, index: usize, how: Breakage, rng: &mut fastrand::Rng) {
        if !self.take_out(index) {
            return;
        }
        let drive = self.drives.borrow()[index].clone();
        match how {
            Breakage::Vanish => {
                self.vanished.borrow_mut().insert(index);
                drive.sim.vanish();
            }
            Breakage::Hang => drive.sim.hang(),
            Breakage::FailWrite => drive.sim.fail_writes(1),
            Breakage::FailReads { count } => drive.sim.fail_reads(count),
            Breakage::Flip { count } => {
                for _ in 0..count {
                    flip_somewhere(&drive, rng).await;
                }
            }
            Breakage::Lie => drive.sim.set_faults(Faults {
                read_error_per_mille: 20,
                bit_flip_per_mille: 50,
                // It may hit the drive's identity, and then another drive must take its place.
                misdirected_write_per_mille: if self.plan.can_replace() { 50 } else { 0 },
                lost_write_per_mille: 50,
                stall_per_mille: 20,
                ..Faults::default()
            }),
            Breakage::Slow => drive.sim.slow_by(1_000),
        }
    }

    /// The device is sound again; what it holds is what it held.
    pub(crate) fn mend_device(&self, index: usize) {
        let drive = self.drives.borrow()[index].clone();
        drive.sim.set_faults(Faults::default());
        drive.sim.fail_writes(0);
        drive.sim.fail_reads(0);
        drive.sim.slow_by(1);
        drive.sim.come_back();
        drive.sim.resume();
        self.vanished.borrow_mut().remove(&index);
    }

    /// Replaces a drive, unless m others are broken already.
    pub(crate) async fn replace_drive(&self, keeper: &Keeper, index: usize) {
        if self.plan.can_replace() && self.take_out(index) {
            keeper.replace(index).await;
        }
    }

    /// Counts a drive among the broken ones; false if that would be too many.
    fn take_out(&self, index: usize) -> bool {
        let m = usize::from(self.plan.profile.m);
        let mut bad = self.bad.borrow_mut();
        let may = bad.contains(&index) || bad.len() < m;
        if !may || !self.has_bucket.get() {
            return false;
        }
        bad.insert(index);
        self.is_healed.set(false);
        self.is_calm.set(false);
        true
    }

    /// A new device in the place of a broken one.
    pub(crate) fn empty_drive(&self, index: usize) -> TestDrive {
        self.mend_device(index);
        let mut drives = self.drives.borrow_mut();
        drives[index].sim.wipe();
        drives[index] = drives[index].reopen();
        drives[index].clone()
    }

    /// Leaves little room on every drive for a while.
    pub(crate) async fn fill(&self, free_bytes: u64, millis: u64) {
        self.is_calm.set(false);
        let drives = self.drives.borrow().clone();
        for drive in &drives {
            if let Ok(space) = drive.space().await {
                drive.sim.set_capacity(space.total_bytes - space.free_bytes + free_bytes);
            }
        }
        self.executor.sleep(std::time::Duration::from_millis(millis)).await;
        for drive in &drives {
            drive.sim.set_capacity(DRIVE_BYTES);
        }
    }
}

/// Flips a bit of a segment, mostly near its beginning, where it is written.
async fn flip_somewhere(drive: &TestDrive, rng: &mut fastrand::Rng) {
    let Ok(mut names) = drive.list("segments").await else { return };
    names.sort();
    let Some(name) = names.get(rng.usize(..names.len().max(1))) else { return };
    let reach = [4096, 65_536, 1 << 20][rng.usize(..3)];
    drive.sim.corrupt(&format!("segments/{name}"), rng.u64(..reach));
}
