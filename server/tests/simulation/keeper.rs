//! Who watches the drives of a simulated process: what `server::drives::keeper` does, over simulated drives.
//! Invariants: as there; a drive that went is fenced before anybody is told, and comes back only under a new handle,
//! with what nobody names on it freed.
//! Not here: what is wrong with a drive (`world`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fdb_schema::engine::embedded::LogDrives;
use fdb_schema::schema::Metadata;
use futures_channel::oneshot;
use shardstore::{
    DriveState, Media, Offered, Pool, PoolFacts, StoreShared, look_at, prepare_to_join, tell_drives,
};
use shardstore_format::{DriveId, FormatPhase, Member, MemberPlan, Membership};
use shardstore_reactor::{Clock, Drive, Executor, FenceReason, timeout};
use shardstore_sim::SimExecutor;

use crate::drive::TestDrive;
use crate::process::Engine;
use crate::world::World;

/// As in the server.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
const ABSENT_LOOKS: u32 = 2;
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
const COMMIT_DEADLINE: Duration = Duration::from_secs(30);

/// The keeper of one process.
pub(crate) struct Keeper {
    world: Rc<World>,
    shared: Arc<StoreShared>,
    facts: PoolFacts,
    membership: RefCell<Membership>,
    log: LogDrives<TestDrive, SimExecutor>,
    media: Media<TestDrive, SimExecutor>,
    metadata: RefCell<Option<Metadata<Engine, SimExecutor>>>,
    /// Drives that can be opened, and which of the world's they are.
    usable: RefCell<BTreeMap<DriveId, TestDrive>>,
    places: RefCell<BTreeMap<DriveId, usize>>,
    absent_looks: RefCell<BTreeMap<DriveId, u32>>,
    /// One look or request at a time.
    is_looking: Cell<bool>,
    /// The member list was compared with that of metadata.
    is_ready: Cell<bool>,
    /// Metadata keeps this member list.
    is_settled: Cell<bool>,
    /// Changes that metadata has not answered yet.
    undecided: Rc<Cell<u32>>,
}

impl Keeper {
    pub(crate) fn new(
        world: &Rc<World>,
        shared: &Arc<StoreShared>,
        pool: &Pool<TestDrive>,
        log: LogDrives<TestDrive, SimExecutor>,
        media: Media<TestDrive, SimExecutor>,
    ) -> Rc<Keeper> {
        let there = pool.members().iter().filter_map(|member| Some((member.id, member.drive.clone()?)));
        let usable: BTreeMap<DriveId, TestDrive> = there.collect();
        let place = |label: &str| world.drives.borrow().iter().position(|drive| drive.label() == label);
        let places = pool.members().iter().filter_map(|member| Some((member.id, place(&member.label)?)));
        Rc::new(Keeper {
            world: Rc::clone(world),
            shared: Arc::clone(shared),
            facts: pool.facts(),
            membership: RefCell::new(pool.membership()),
            log,
            media,
            metadata: RefCell::default(),
            places: RefCell::new(places.collect()),
            usable: RefCell::new(usable),
            absent_looks: RefCell::default(),
            is_looking: Cell::new(false),
            is_ready: Cell::new(false),
            is_settled: Cell::new(false),
            undecided: Rc::default(),
        })
    }

    /// Begins to look.
    pub(crate) fn begin(self: &Rc<Keeper>, metadata: Metadata<Engine, SimExecutor>) {
        self.metadata.replace(Some(metadata));
        let keeper = Rc::clone(self);
        self.world.executor.spawn(async move {
            keeper.agree_with_metadata(COMMIT_DEADLINE).await;
            loop {
                keeper.look().await;
                keeper.world.executor.sleep(LOOK_INTERVAL).await;
            }
        });
    }

    /// Opens a core's handles of drives that came back.
    pub(crate) fn follow(self: &Rc<Keeper>, media: Media<TestDrive, SimExecutor>) {
        let keeper = Rc::clone(self);
        self.world.executor.spawn(async move {
            loop {
                media.let_go_of_drives();
                for id in media.drives_to_open() {
                    let drive = keeper.usable.borrow().get(&id).cloned();
                    if let Some(drive) = drive.filter(|drive| drive.fenced().is_none()) {
                        media.set_drive(id, drive);
                    }
                }
                keeper.world.executor.sleep(FOLLOW_INTERVAL).await;
            }
        });
    }

    /// The device of a drive is sound: an operator takes it back, as with `basaltctl drive rejoin`.
    pub(crate) async fn mend(&self, index: usize) {
        self.world.mend_device(index);
        let id = self.places.borrow().iter().find(|(_, place)| **place == index).map(|(id, _)| *id);
        let Some(id) = id else { return };
        if self.state_of(id) == DriveState::Failed {
            self.shared.drive_went(id);
            self.let_go_of(id);
        }
        self.look().await;
    }

    /// Whether every member takes part, and none is leaving.
    pub(crate) fn all_are_healthy(&self) -> bool {
        let is_in =
            |drive: &shardstore::DriveInfo| matches!(drive.state, DriveState::Healthy | DriveState::Removed);
        self.shared.drives().iter().all(is_in)
    }

    /// Of the member lists of drives and metadata the newer one is in force; plans are taken up again.
    async fn agree_with_metadata(&self, deadline: Duration) {
        let Some(metadata) = self.metadata.borrow().clone() else { return };
        let known = self.membership.borrow().clone();
        match metadata.members().await {
            Ok(Some(kept)) if kept.revision > known.revision => {
                for member in kept.members.iter().filter(|member| known.member(member.drive).is_none()) {
                    self.shared.drive_joined(member.drive, &member.label);
                    self.shared.drive_went(member.drive);
                    self.place(member);
                }
                for member in known.members.iter().filter(|member| kept.member(member.drive).is_none()) {
                    self.shared.drive_removed(member.drive);
                }
                self.membership.replace(kept);
                self.is_settled.set(true);
            }
            Ok(Some(kept)) if kept.revision == known.revision => self.is_settled.set(true),
            Ok(_) => {
                let adopt = timeout(&self.world.executor, deadline, metadata.adopt_members(&known)).await;
                self.is_settled.set(matches!(adopt, Ok(Ok(_))));
            }
            Err(_) => {}
        }
        for member in self.membership.borrow().members.iter() {
            let is_draining = member.plan != MemberPlan::Stay;
            self.shared.set_draining(member.drive, is_draining);
            if is_draining {
                self.shared.repair_without(member.drive);
            }
        }
        self.tell_the_stale().await;
        self.is_ready.set(true);
    }

    fn place(&self, member: &Member) {
        let place = self.world.drives.borrow().iter().position(|drive| drive.label() == member.label);
        if let Some(place) = place {
            self.places.borrow_mut().insert(member.drive, place);
        }
    }

    /// Tells the drives that have an older member list.
    async fn tell_the_stale(&self) {
        let membership = self.membership.borrow().clone();
        let mut stale = Vec::new();
        for (id, drive) in self.usable() {
            if let Ok(Ok(Offered::Drive(identity))) =
                timeout(&self.world.executor, LOOK_DEADLINE, look_at(&drive)).await
                && identity.membership.revision < membership.revision
                && membership.member(id).is_some()
            {
                stale.push((id, drive));
            }
        }
        // Those that cannot be told are told when they return.
        drop(tell_drives(&self.facts, &membership, &stale).await);
    }

    fn usable(&self) -> Vec<(DriveId, TestDrive)> {
        let usable = self.usable.borrow();
        let unfenced = usable.iter().filter(|(_, drive)| drive.fenced().is_none());
        unfenced.map(|(id, drive)| (*id, drive.clone())).collect()
    }

    /// Commits a new member list and tells the drives; false if metadata refuses now.
    async fn change(&self, members: Vec<Member>) -> bool {
        let next = Membership { revision: self.membership.borrow().revision + 1, members };
        if !self.commit(&next).await {
            return false;
        }
        self.membership.replace(next.clone());
        let drives: Vec<_> = self.usable().into_iter().filter(|(id, _)| next.member(*id).is_some()).collect();
        drop(tell_drives(&self.facts, &next, &drives).await);
        true
    }

    async fn commit(&self, next: &Membership) -> bool {
        let Some(metadata) = self.metadata.borrow().clone() else { return false };
        if self.undecided.get() > 0 {
            return false;
        }
        self.undecided.set(1);
        let (sender, answer) = oneshot::channel();
        let (members, undecided) = (next.clone(), Rc::clone(&self.undecided));
        self.world.executor.spawn(async move {
            let result = metadata.change_members(&members).await;
            undecided.set(0);
            // The keeper may wait no more.
            drop(sender.send(result));
        });
        let answered = timeout(&self.world.executor, COMMIT_DEADLINE, answer).await;
        let is_kept = matches!(answered, Ok(Ok(Ok(true))));
        if !is_kept {
            self.is_settled.set(false);
        }
        is_kept
    }

    /// Another change came first.
    async fn is_superseded(&self) -> bool {
        let Some(metadata) = self.metadata.borrow().clone() else { return true };
        let kept = metadata.members().await;
        kept.is_ok_and(|kept| kept.is_some_and(|kept| kept.revision > self.membership.borrow().revision))
    }

    /// Puts a member list in force that has a drive more; if metadata waits for drives, on the drives first.
    async fn bring_in(&self, members: Vec<Member>, id: DriveId, drive: &TestDrive) -> bool {
        let mut next =
            Membership { revision: self.membership.borrow().revision + 1, members: members.clone() };
        if prepare_to_join(&self.facts, &next, id, drive).await.is_err() {
            return false;
        }
        if self.change(members).await {
            return true;
        }
        if self.is_superseded().await {
            return false;
        }
        next.revision += 1;
        if prepare_to_join(&self.facts, &next, id, drive).await.is_err() {
            return false;
        }
        let drives: Vec<_> = self.usable().into_iter().filter(|(id, _)| next.member(*id).is_some()).collect();
        if tell_drives(&self.facts, &next, &drives).await.len() == drives.len() {
            return false;
        }
        self.membership.replace(next);
        self.is_settled.set(false);
        true
    }

    /// Puts a new, empty drive in the place of one that is out of use, as with `basaltctl drive replace`.
    pub(crate) async fn replace(&self, index: usize) {
        if self.is_looking.replace(true) {
            return;
        }
        self.replace_alone(index).await;
        self.is_looking.set(false);
    }

    async fn replace_alone(&self, index: usize) {
        let label = self.world.drives.borrow()[index].label().to_owned();
        let mut members = self.membership.borrow().members.clone();
        let is_out = |member: &Member| {
            member.label == label
                && matches!(self.state_of(member.drive), DriveState::Failed | DriveState::Missing)
        };
        let leaving: Vec<DriveId> =
            members.iter().filter(|member| is_out(member)).map(|member| member.drive).collect();
        if leaving.is_empty() || members.iter().any(|member| member.label == label && !is_out(member)) {
            return;
        }
        for id in &leaving {
            self.shared.drive_went(*id);
            self.let_go_of(*id);
        }
        let drive = self.world.empty_drive(index);
        let random = || u128::from(self.world.executor.random_u64());
        let id = DriveId(random() << 64 | random());
        for member in members.iter_mut().filter(|member| leaving.contains(&member.drive)) {
            member.plan = MemberPlan::Leave;
        }
        members.push(Member { drive: id, label: label.clone(), plan: MemberPlan::Stay });
        if !self.bring_in(members, id, &drive).await {
            return;
        }
        let membership = self.membership.borrow().clone();
        let untold = tell_drives(&self.facts, &membership, &[(id, drive.clone())]).await;
        self.places.borrow_mut().insert(id, index);
        self.shared.drive_joined(id, &label);
        if !untold.is_empty() {
            self.shared.drive_went(id);
            return;
        }
        self.usable.borrow_mut().insert(id, drive.clone());
        for id in leaving {
            self.places.borrow_mut().remove(&id);
            self.shared.set_draining(id, true);
            self.shared.repair_without(id);
        }
        self.media.set_drive(id, drive);
        self.tell_log();
    }

    /// Members that are to leave and hold nothing any more are no members any more.
    async fn let_go(&self) {
        let members = self.membership.borrow().members.clone();
        for member in members {
            if member.plan != MemberPlan::Leave || self.shared.shards_on(member.drive) > 0 {
                continue;
            }
            let mut left = self.membership.borrow().members.clone();
            left.retain(|other| other.drive != member.drive);
            if !self.change(left).await {
                continue;
            }
            self.shared.drive_removed(member.drive);
            self.usable.borrow_mut().remove(&member.drive);
            self.tell_log();
            self.places.borrow_mut().remove(&member.drive);
        }
    }

    fn state_of(&self, id: DriveId) -> DriveState {
        let drives = self.shared.drives();
        drives.iter().find(|drive| drive.id == id).map_or(DriveState::Removed, |drive| drive.state)
    }

    async fn look(&self) {
        if !self.is_ready.get() || self.is_looking.replace(true) {
            return;
        }
        self.media.notice_fenced();
        if !self.is_settled.get() && self.undecided.get() == 0 {
            self.agree_with_metadata(LOOK_DEADLINE).await;
        }
        let members = self.membership.borrow().members.clone();
        for id in members.into_iter().map(|member| member.drive) {
            let Some(place) = self.places.borrow().get(&id).copied() else { continue };
            match self.state_of(id) {
                DriveState::Healthy | DriveState::Draining => self.look_whether_gone(id, place).await,
                DriveState::Failed => {
                    self.let_go_of(id);
                    self.look_whether_gone(id, place).await;
                }
                DriveState::Missing if !self.world.is_vanished(place) => {
                    self.look_for_return(id, place).await
                }
                DriveState::Missing | DriveState::Removed => {}
            }
        }
        self.let_go().await;
        self.is_looking.set(false);
    }

    /// Whether a drive is where it was. What cannot be told counts as there.
    async fn is_there(&self, id: DriveId, place: usize) -> bool {
        if self.world.is_vanished(place) {
            return false;
        }
        let drive = self.usable.borrow().get(&id).cloned();
        let Some(drive) = drive.filter(|drive| drive.fenced().is_none()) else { return true };
        match timeout(&self.world.executor, LOOK_DEADLINE, look_at(&drive)).await {
            Ok(Ok(Offered::Drive(identity))) => identity.drive == id,
            Ok(Ok(Offered::Blank | Offered::Other(_))) => false,
            Ok(Err(_)) | Err(_) => true,
        }
    }

    async fn look_whether_gone(&self, id: DriveId, place: usize) {
        if self.is_there(id, place).await {
            self.absent_looks.borrow_mut().remove(&id);
            return;
        }
        let looks = {
            let mut absent_looks = self.absent_looks.borrow_mut();
            let looks = absent_looks.entry(id).or_default();
            *looks += 1;
            *looks
        };
        if looks >= ABSENT_LOOKS {
            self.absent_looks.borrow_mut().remove(&id);
            self.shared.drive_went(id);
            self.let_go_of(id);
        }
    }

    fn let_go_of(&self, id: DriveId) {
        let Some(drive) = self.usable.borrow_mut().remove(&id) else { return };
        drive.fence(FenceReason::Asked);
        self.media.let_go_of_drives();
        self.tell_log();
    }

    fn tell_log(&self) {
        self.log.set_drives(self.usable());
    }

    /// Takes a member back into use under a new handle; a drive that refuses stays out.
    async fn look_for_return(&self, id: DriveId, place: usize) {
        let drive = self.world.drives.borrow()[place].reopen();
        let looked = timeout(&self.world.executor, LOOK_DEADLINE, look_at(&drive)).await;
        let Ok(Ok(Offered::Drive(identity))) = looked else { return };
        if identity.pool != self.facts.id || identity.drive != id {
            return;
        }
        let Some(metadata) = self.metadata.borrow().clone() else { return };
        let Ok(next) = metadata.next_volume_id().await else { return };
        if self.media.free_unnamed(id, &drive, next).await.is_err() {
            return;
        }
        let membership = self.membership.borrow().clone();
        let is_told = identity.phase == FormatPhase::Ready;
        if !is_told || identity.membership.revision < membership.revision {
            drop(tell_drives(&self.facts, &membership, &[(id, drive.clone())]).await);
        }
        self.world.drives.borrow_mut()[place] = drive.clone();
        self.usable.borrow_mut().insert(id, drive.clone());
        self.shared.drive_came_back(id);
        let plan = membership.member(id).map(|member| member.plan);
        self.shared.set_draining(id, plan != Some(MemberPlan::Stay));
        self.media.set_drive(id, drive);
        self.tell_log();
    }
}
