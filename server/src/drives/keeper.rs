//! Watches the drives and carries out what is asked of them.
//! Invariants: the member list changes only here, first in metadata and then on the drives, the other way round only
//! while metadata waits for the drive that joins; no commit is waited for longer than `COMMIT_DEADLINE`, and no drive that
//! hangs holds up the others; a drive that went is fenced before anybody is told, and comes back only under a new handle, with what nobody names on it freed.
//! Not here: moving shards (`shardstore`): a member that is to leave waits here until nothing lies on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fdb_schema::schema::{Failure, Metadata};
use fdb_schema::{Engine, EngineError};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use futures_util::future::{Either, join_all, select};
use shardstore::{
    DriveState, Media, Offered, PoolFacts, StoreShared, copy_master_key, look_at, never_joined,
    prepare_to_join, tell_drives,
};
use shardstore_format::{
    DriveId, DriveIdentity, FormatPhase, LABEL_MAX_BYTES, MEMBERS_MAX, Member, MemberPlan, Membership,
};
use shardstore_reactor::{
    Clock, CoreExecutor, Drive, DrivePlace, Executor, FileLock, IoError, MonotonicTime, RealDrive,
    RealDriveFactory, timeout, try_lock_off_core,
};

use super::forget::forget_pool;
use super::requests::{Answer, DriveHandle, DriveReport, DriveRequest, RequestError};
use super::set::{DriveSet, LogChanges};

/// How often every drive is looked at: a drive that was pulled is noticed within two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Looks in a row that must find nothing before a drive counts as gone: a remount may lie between two.
const ABSENT_LOOKS: u32 = 2;
/// A look that takes longer says nothing: writes have their own deadline.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// A drive that is to be told something and takes longer is told later: the others do not wait for it.
const TELL_DEADLINE: Duration = Duration::from_secs(10);
/// When that is: a drive that is only busy never goes, so it does not return either.
const TELL_AGAIN_INTERVAL: Duration = Duration::from_secs(60);

/// How long the keeper waits for metadata: as long as a hung write takes to fence its drive. A commit that too few drives
/// took waits for drives, and it is the keeper who brings them.
const COMMIT_DEADLINE: Duration = Duration::from_secs(30);

/// What a keeper begins with.
pub struct KeeperParts<E: Engine> {
    /// The store's view of the drives.
    pub shared: Arc<StoreShared>,
    /// The drives that can be opened.
    pub drives: Arc<DriveSet>,
    /// What never changes of the pool.
    pub facts: PoolFacts,
    /// The members as the drives told them.
    pub membership: Membership,
    /// The locks of the directories that are open, by path as it was given.
    pub locks: Vec<(PathBuf, FileLock)>,
    /// The metadata of this thread.
    pub metadata: Metadata<E, CoreExecutor>,
    /// The drives as this thread opened them.
    pub media: Media<RealDrive, CoreExecutor>,
    /// The way to the metadata log.
    pub log: LogChanges,
    /// This thread.
    pub executor: CoreExecutor,
}

/// The owner of the member list.
pub struct Keeper<E: Engine> {
    parts: KeeperParts<E>,
    locks: BTreeMap<PathBuf, FileLock>,
    requests: mpsc::UnboundedReceiver<(DriveRequest, Answer)>,
    /// Which directory each member is, or was.
    places: BTreeMap<DriveId, DrivePlace>,
    /// Looks in a row that did not find a drive.
    absent_looks: BTreeMap<DriveId, u32>,
    /// Why a drive did not come back, so that it is said once.
    refusals: BTreeMap<DriveId, String>,
    /// When a drive was last found that does not know this member list, or may not.
    untold_at: Option<MonotonicTime>,
    /// The highest revision that drives were told before metadata: some may know it, whatever they said.
    told_revision: u64,
    /// Metadata keeps this member list.
    is_settled: bool,
    /// A change that metadata has not answered yet.
    undecided: Option<Committing>,
}

type Committing = oneshot::Receiver<Result<bool, Failure>>;

/// Why a change of the members was not committed.
enum Uncommitted {
    /// Too few drives take the metadata log. It may be committed once there are more.
    Waits,
    /// Another change came first.
    Superseded,
    /// Metadata says why not.
    Failed(Failure),
}

impl From<Uncommitted> for RequestError {
    fn from(why: Uncommitted) -> RequestError {
        match why {
            Uncommitted::Waits => RequestError::Failed(
                "metadata is read-only and waits for drives: bring drives back, replace them or add one, then look at \
                 the list and try again"
                    .to_owned(),
            ),
            Uncommitted::Superseded => RequestError::Refused(
                "another change of the members came first; look at the list and try again".to_owned(),
            ),
            Uncommitted::Failed(error) => {
                RequestError::Failed(format!("the change cannot be kept in metadata: {error}"))
            }
        }
    }
}

impl<E: Engine> Keeper<E> {
    /// A keeper, and the way to ask it.
    pub fn new(mut parts: KeeperParts<E>) -> (Keeper<E>, DriveHandle) {
        let (handle, requests) = DriveHandle::new();
        let locks = std::mem::take(&mut parts.locks).into_iter().collect();
        let places = parts.drives.usable().iter().map(|(id, factory)| (*id, factory.place())).collect();
        let keeper = Keeper {
            parts,
            locks,
            requests,
            places,
            absent_looks: BTreeMap::new(),
            refusals: BTreeMap::new(),
            untold_at: None,
            told_revision: 0,
            is_settled: false,
            undecided: None,
        };
        (keeper, handle)
    }

    /// Looks and answers until nobody can ask any more.
    pub async fn run(mut self) {
        self.agree_with_metadata(COMMIT_DEADLINE).await;
        let mut next_look = self.parts.executor.now();
        loop {
            let wait = LOOK_INTERVAL.saturating_sub(self.parts.executor.now().since(next_look));
            let look = std::pin::pin!(self.parts.executor.sleep(wait));
            match select(self.requests.next(), look).await {
                Either::Left((None, _)) => return,
                Either::Left((Some((request, answer)), _)) => {
                    let done = self.carry_out(request).await;
                    let reports = match done {
                        Ok(()) => Ok(self.reports().await),
                        Err(error) => Err(error),
                    };
                    // Whoever asked may have gone.
                    drop(answer.send(reports));
                }
                Either::Right(((), _)) => {
                    self.look().await;
                    next_look = self.parts.executor.now();
                }
            }
        }
    }

    /// Of the member lists of drives and metadata the newer one is in force: a change that was cut off between them is
    /// finished; plans are taken up again.
    async fn agree_with_metadata(&mut self, deadline: Duration) {
        let mine = self.parts.membership.revision;
        match self.parts.metadata.members().await {
            Ok(Some(kept)) if kept.revision > mine => {
                tracing::info!(revision = kept.revision, "a change of the pool's members is finished");
                self.take_over(kept);
                self.is_settled = true;
            }
            Ok(Some(kept)) if kept.revision == mine => self.is_settled = true,
            Ok(_) => {
                let adopt = self.parts.metadata.adopt_members(&self.parts.membership);
                match timeout(&self.parts.executor, deadline, adopt).await {
                    Ok(Ok(_)) => self.is_settled = true,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "the pool's members are not kept in metadata yet");
                    }
                    Err(_) => tracing::debug!("the pool's members may not be kept in metadata yet"),
                }
            }
            Err(error) => tracing::warn!(%error, "the pool's members cannot be read from metadata"),
        }
        for member in &self.parts.membership.members {
            let draining = member.plan != MemberPlan::Stay;
            self.parts.shared.set_draining(member.drive, draining);
            if draining {
                self.parts.shared.repair_without(member.drive);
            }
        }
        self.tell_the_stale().await;
    }

    /// Takes a newer member list from metadata. Where a drive is now is what the command line says.
    fn take_over(&mut self, kept: Membership) {
        for member in &kept.members {
            if self.parts.membership.member(member.drive).is_none() {
                self.parts.shared.drive_joined(member.drive, &member.label);
                self.parts.shared.drive_went(member.drive);
            }
        }
        for member in &self.parts.membership.members {
            if kept.member(member.drive).is_none() {
                self.parts.shared.drive_removed(member.drive);
            }
        }
        let known = std::mem::replace(&mut self.parts.membership, kept);
        for member in &mut self.parts.membership.members {
            if let Some(here) = known.member(member.drive) {
                member.label.clone_from(&here.label);
            }
        }
    }

    /// Takes up again what metadata left open when it was last asked.
    async fn settle(&mut self) {
        if let Some(undecided) = &mut self.undecided {
            if let Ok(None) = undecided.try_recv() {
                return;
            }
            self.undecided = None;
            self.is_settled = false;
        }
        if !self.is_settled {
            self.agree_with_metadata(LOOK_DEADLINE).await;
        }
    }

    /// Tells the drives that have an older member list.
    async fn tell_the_stale(&mut self) {
        let mut stale = Vec::new();
        self.untold_at = None;
        for (id, factory) in self.parts.drives.usable() {
            let drive = factory.on_core();
            match timeout(&self.parts.executor, LOOK_DEADLINE, look_at(&drive)).await {
                Ok(Ok(Offered::Drive(identity)))
                    if identity.membership.revision < self.parts.membership.revision =>
                {
                    stale.push((id, drive));
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => self.untold_at = Some(self.parts.executor.now()),
            }
        }
        self.tell(&stale).await;
    }

    async fn tell(&mut self, drives: &[(DriveId, RealDrive)]) {
        let members = &self.parts.membership;
        let drives: Vec<_> = drives.iter().filter(|(id, _)| members.member(*id).is_some()).cloned().collect();
        let untold = self.tell_each(members, &drives).await;
        for (id, error) in &untold {
            let drive = self.label_of(*id);
            tracing::warn!(%drive, %error, "a drive was not told of the pool's members; it is told later");
        }
        if !untold.is_empty() {
            self.untold_at = Some(self.parts.executor.now());
        }
    }

    /// Those that could not be told in time.
    async fn tell_each(
        &self,
        members: &Membership,
        drives: &[(DriveId, RealDrive)],
    ) -> Vec<(DriveId, IoError)> {
        let told = drives.iter().map(|drive| async move {
            let told = tell_drives(&self.parts.facts, members, std::slice::from_ref(drive));
            let hangs = |_| vec![(drive.0, IoError::Device(std::io::ErrorKind::TimedOut.into()))];
            timeout(&self.parts.executor, TELL_DEADLINE, told).await.unwrap_or_else(hangs)
        });
        join_all(told).await.into_iter().flatten().collect()
    }

    fn label_of(&self, id: DriveId) -> String {
        self.parts
            .membership
            .member(id)
            .map_or_else(|| format!("{:032x}", id.0), |member| member.label.clone())
    }

    fn state_of(&self, id: DriveId) -> DriveState {
        let drives = self.parts.shared.drives();
        drives.iter().find(|drive| drive.id == id).map_or(DriveState::Removed, |drive| drive.state)
    }

    async fn look(&mut self) {
        self.parts.media.notice_fenced();
        self.settle().await;
        let is_due = |at| self.parts.executor.now().since(at) >= TELL_AGAIN_INTERVAL;
        if self.untold_at.is_some_and(is_due) {
            self.tell_the_stale().await;
        }
        for member in self.parts.membership.members.clone() {
            match self.state_of(member.drive) {
                DriveState::Healthy | DriveState::Draining => self.look_whether_gone(&member).await,
                DriveState::Failed => {
                    // Whoever mends it may have to unmount it first.
                    self.let_go_of(&member);
                    self.look_whether_gone(&member).await;
                }
                DriveState::Missing => self.look_for_return(&member).await,
                DriveState::Removed => {}
            }
        }
        self.let_go().await;
    }

    async fn look_whether_gone(&mut self, member: &Member) {
        if self.is_there(member).await {
            self.absent_looks.remove(&member.drive);
            return;
        }
        let looks = self.absent_looks.entry(member.drive).or_default();
        *looks += 1;
        if *looks < ABSENT_LOOKS {
            return;
        }
        self.absent_looks.remove(&member.drive);
        if self.parts.shared.drive_went(member.drive) {
            tracing::error!(drive = %member.label, "drive is gone: nothing is written to it, its shards are rebuilt while reading");
        }
        self.let_go_of(member);
    }

    /// Fences a drive that takes no part any more and lets go of it: directory, lock, log; cores follow.
    fn let_go_of(&mut self, member: &Member) {
        let Some(factory) = self.parts.drives.get(member.drive) else { return };
        factory.let_go();
        self.parts.drives.take(member.drive);
        self.parts.media.let_go_of_drives();
        self.unlock(member);
        self.parts.log.tell(&self.parts.drives);
    }

    /// Gives up the lock of a drive, unless another member is at the same path.
    fn unlock(&mut self, member: &Member) {
        let members = &self.parts.membership.members;
        let is_shared =
            members.iter().any(|other| other.drive != member.drive && other.label == member.label);
        if !is_shared {
            self.locks.remove(Path::new(&member.label));
        }
    }

    /// Whether a drive is where it was. What cannot be told counts as there: reads and writes judge for themselves.
    async fn is_there(&self, member: &Member) -> bool {
        let path = PathBuf::from(&member.label);
        let look = async {
            let Some(place) = self.places.get(&member.drive) else { return false };
            if !place.is_at(path).await {
                return false;
            }
            let Some(factory) = self.parts.drives.get(member.drive) else {
                // It was let go of, and is where it was.
                return true;
            };
            if factory.fenced().is_some() {
                // It can be asked nothing more.
                return true;
            }
            match look_at(&factory.on_core()).await {
                Ok(Offered::Drive(identity)) => identity.drive == member.drive,
                Ok(Offered::Blank | Offered::Other(_)) => false,
                Err(_) => true,
            }
        };
        timeout(&self.parts.executor, LOOK_DEADLINE, look).await.unwrap_or(true)
    }

    async fn look_for_return(&mut self, member: &Member) {
        let path = PathBuf::from(&member.label);
        let look = async {
            let factory = RealDriveFactory::open_off_core(path.clone()).await.ok()?;
            match look_at(&factory.on_core()).await {
                Ok(Offered::Drive(identity)) => Some((factory, *identity)),
                _ => None,
            }
        };
        let found = timeout(&self.parts.executor, LOOK_DEADLINE, look).await.ok().flatten();
        let Some((factory, identity)) = found else { return };
        if identity.pool != self.parts.facts.id || identity.drive != member.drive {
            return;
        }
        match self.receive(member, &path, &factory, &identity).await {
            Ok(()) => {
                self.refusals.remove(&member.drive);
                tracing::info!(drive = %member.label, "drive is back");
            }
            Err(why) => {
                if self.refusals.get(&member.drive) != Some(&why) {
                    tracing::error!(drive = %member.label, why, "drive is there again and cannot be taken");
                    self.refusals.insert(member.drive, why);
                }
            }
        }
    }

    /// Takes a member back into use under a new handle.
    async fn receive(
        &mut self,
        member: &Member,
        path: &Path,
        factory: &RealDriveFactory,
        identity: &DriveIdentity,
    ) -> Result<(), String> {
        // The lock of the handle before: if this is the same directory, it would be in the way.
        self.locks.remove(path);
        let locked =
            timeout(&self.parts.executor, LOOK_DEADLINE, try_lock_off_core(path.to_path_buf())).await;
        let lock = locked.map_err(|_| "it does not answer".to_owned())?.map_err(|error| error.to_string())?;
        let drive = factory.on_core();
        let next = self.parts.metadata.next_volume_id().await.map_err(|error| error.to_string())?;
        let freed = self.parts.media.free_unnamed(member.drive, &drive, next).await;
        let freed = freed.map_err(|error| error.to_string())?;
        let is_told = identity.phase == FormatPhase::Ready;
        if !is_told || identity.membership.revision < self.parts.membership.revision {
            self.tell(&[(member.drive, drive.clone())]).await;
        }
        if freed > 0 {
            tracing::info!(drive = %member.label, freed, "segments that were rebuilt elsewhere are removed");
        }
        self.locks.insert(path.to_path_buf(), lock);
        self.places.insert(member.drive, factory.place());
        self.parts.drives.put(member.drive, factory);
        self.parts.shared.drive_came_back(member.drive);
        self.parts.shared.set_draining(member.drive, member.plan != MemberPlan::Stay);
        self.parts.media.set_drive(member.drive, drive);
        self.parts.log.tell(&self.parts.drives);
        Ok(())
    }

    /// Members that are to leave and hold nothing any more are no members any more.
    async fn let_go(&mut self) {
        for member in self.parts.membership.members.clone() {
            if member.plan != MemberPlan::Leave || self.parts.shared.shards_on(member.drive) > 0 {
                continue;
            }
            let mut members = self.parts.membership.members.clone();
            members.retain(|other| other.drive != member.drive);
            if let Err(error) = self.change(members).await {
                tracing::warn!(drive = %member.label, %error, "an emptied drive stays a member for now");
                continue;
            }
            self.parts.shared.drive_removed(member.drive);
            let factory = self.parts.drives.get(member.drive).filter(|factory| factory.fenced().is_none());
            self.parts.drives.take(member.drive);
            // The log leaves it before its files go.
            self.parts.log.tell(&self.parts.drives);
            if let Some(factory) = factory {
                forget_pool(&factory.on_core(), &self.parts.executor).await;
                factory.let_go();
            }
            self.unlock(&member);
            self.places.remove(&member.drive);
            tracing::info!(drive = %member.label, "drive holds nothing any more and is no member any more");
        }
    }

    /// Commits a new member list and tells the drives.
    async fn change(&mut self, members: Vec<Member>) -> Result<(), RequestError> {
        let next = Membership { revision: self.parts.membership.revision + 1, members };
        self.commit(&next).await?;
        self.put_in_force(next).await;
        Ok(())
    }

    async fn commit(&mut self, next: &Membership) -> Result<(), Uncommitted> {
        if self.undecided.is_some() {
            return Err(Uncommitted::Waits);
        }
        let (sender, mut answer) = oneshot::channel();
        let (metadata, members) = (self.parts.metadata.clone(), next.clone());
        self.parts.executor.spawn(async move {
            // The keeper may have ended.
            drop(sender.send(metadata.change_members(&members).await));
        });
        let Ok(answered) = timeout(&self.parts.executor, COMMIT_DEADLINE, &mut answer).await else {
            self.undecided = Some(answer);
            return Err(Uncommitted::Waits);
        };
        match answered.unwrap_or(Err(Failure::Engine(EngineError::Stopped))) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.is_settled = false;
                Err(Uncommitted::Superseded)
            }
            Err(Failure::Engine(EngineError::ReadOnly)) => Err(Uncommitted::Waits),
            Err(error) => {
                self.is_settled = false;
                Err(Uncommitted::Failed(error))
            }
        }
    }

    async fn put_in_force(&mut self, next: Membership) {
        self.parts.membership = next;
        let members = self.usable();
        self.tell(&members).await;
    }

    fn usable(&self) -> Vec<(DriveId, RealDrive)> {
        let usable = self.parts.drives.usable();
        usable.into_iter().map(|(id, factory)| (id, factory.on_core())).collect()
    }

    /// Puts a member list in force that has a drive more.
    async fn bring_in(
        &mut self,
        members: Vec<Member>,
        id: DriveId,
        drive: &RealDrive,
    ) -> Result<(), RequestError> {
        let mut next = Membership { revision: self.parts.membership.revision + 1, members };
        self.prepare(&next, id, drive).await?;
        match self.commit(&next).await {
            Ok(()) => {
                self.put_in_force(next).await;
                return Ok(());
            }
            Err(Uncommitted::Waits) => {}
            Err(why) => return Err(why.into()),
        }
        // It may be this drive that metadata waits for. So the members hear of it first, and metadata follows once its log
        // has the drive. One revision is left out: a change that is undecided may still be committed with it. So are those
        // that were told in vain: no two lists of one revision may be out there.
        next.revision = self.told_revision.max(next.revision) + 1;
        self.prepare(&next, id, drive).await?;
        self.told_revision = next.revision;
        let members = self.usable();
        let untold = self.tell_each(&next, &members).await;
        // A drive that did not answer in time may know it all the same: what was begun there happens.
        let may_be_known = untold.len() < members.len() || untold.iter().any(|(_, error)| is_late(error));
        if !may_be_known {
            let what = "no drive of the pool could be told of the change, so nothing has changed";
            return Err(RequestError::Failed(what.to_owned()));
        }
        tracing::warn!(revision = next.revision, "a drive joins before metadata can be written");
        self.parts.membership = next;
        self.is_settled = false;
        Ok(())
    }

    async fn prepare(&self, next: &Membership, id: DriveId, drive: &RealDrive) -> Result<(), RequestError> {
        let label = drive.label();
        let prepared = prepare_to_join(&self.parts.facts, next, id, drive);
        self.in_time(label, prepared)
            .await?
            .map_err(|error| RequestError::Failed(format!("{label} cannot be written: {error}")))
    }

    /// What a directory that an operator named says, unless it hangs.
    async fn in_time<T>(&self, label: &str, asked: impl Future<Output = T>) -> Result<T, RequestError> {
        let answered = timeout(&self.parts.executor, TELL_DEADLINE, asked).await;
        answered.map_err(|_| RequestError::Failed(format!("{label} does not answer")))
    }

    async fn carry_out(&mut self, request: DriveRequest) -> Result<(), RequestError> {
        match request {
            DriveRequest::List => Ok(()),
            DriveRequest::Add(path) => self.add(&path, None).await,
            DriveRequest::Replace { old, new } => {
                let old = self.find(&old)?;
                if old.plan == MemberPlan::Leave {
                    let label = old.label;
                    return Err(RequestError::Refused(format!(
                        "{label} is being removed or replaced already"
                    )));
                }
                self.add(&new, Some(old.drive)).await
            }
            DriveRequest::Drain(name) => self.plan(&name, MemberPlan::Drain).await,
            DriveRequest::Undrain(name) => self.plan(&name, MemberPlan::Stay).await,
            DriveRequest::Remove(name) => self.plan(&name, MemberPlan::Leave).await,
            DriveRequest::Rejoin(name) => self.rejoin(&name).await,
        }
    }

    fn find(&self, name: &str) -> Result<Member, RequestError> {
        let members = &self.parts.membership.members;
        let matches = |member: &&Member| member.label == name || format!("{:032x}", member.drive.0) == name;
        // Of a drive and the one that takes its place at the same path, the one that leaves is not meant.
        let found = members.iter().filter(matches).min_by_key(|member| member.plan == MemberPlan::Leave);
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = members.iter().map(|member| member.label.as_str()).collect();
            RequestError::Refused(format!(
                "{name} is no drive of this pool; its drives are {}",
                known.join(", ")
            ))
        })
    }

    /// Makes an empty directory a member; the member `leaving` is to leave by the same change.
    async fn add(&mut self, path: &Path, leaving: Option<DriveId>) -> Result<(), RequestError> {
        let label = self.label_for(path)?;
        if self.parts.membership.members.len() >= MEMBERS_MAX {
            return Err(RequestError::Refused(format!("a pool has at most {MEMBERS_MAX} drives")));
        }
        let refused = |what: &dyn std::fmt::Display| RequestError::Refused(what.to_string());
        let opened = self.in_time(&label, RealDriveFactory::open_off_core(path.to_path_buf())).await?;
        let factory = opened.map_err(|error| refused(&error))?;
        let drive = factory.on_core();
        match self.in_time(&label, look_at(&drive)).await? {
            Ok(Offered::Blank) => {}
            // An attempt before this one ended before anybody was told.
            Ok(Offered::Drive(identity))
                if identity.pool == self.parts.facts.id
                    && never_joined(&identity, &self.parts.membership) => {}
            Ok(Offered::Drive(identity)) if identity.pool == self.parts.facts.id => {
                return Err(RequestError::Refused(format!("{label} is a drive of this pool already")));
            }
            Ok(Offered::Drive(_)) => {
                let what = format!("{label} is a drive of another pool: give an empty directory");
                return Err(RequestError::Refused(what));
            }
            Ok(Offered::Other(found)) => {
                let what = format!("{label} is not empty (it holds {found}): give an empty directory");
                return Err(RequestError::Refused(what));
            }
            Err(error) => return Err(RequestError::Failed(format!("{label} cannot be read: {error}"))),
        }
        self.locks.remove(path);
        let locked = self.in_time(&label, try_lock_off_core(path.to_path_buf())).await?;
        let lock = locked.map_err(|error| refused(&error))?;
        self.copy_key_to(&drive, &label).await?;
        let id = DriveId(u128::from(self.random()) << 64 | u128::from(self.random()));
        let mut members = self.parts.membership.members.clone();
        for member in members.iter_mut().filter(|member| Some(member.drive) == leaving) {
            member.plan = MemberPlan::Leave;
        }
        members.push(Member { drive: id, label: label.clone(), plan: MemberPlan::Stay });
        self.bring_in(members, id, &drive).await?;
        let told = [(id, drive.clone())];
        if let Some((_, error)) = self.tell_each(&self.parts.membership, &told).await.pop() {
            let what = format!(
                "{label} is a member now and its identity cannot be written ({error}): mend it, then \
                                remove it"
            );
            self.parts.shared.drive_joined(id, &label);
            self.parts.shared.drive_went(id);
            return Err(RequestError::Failed(what));
        }
        self.locks.insert(path.to_path_buf(), lock);
        self.places.insert(id, factory.place());
        self.parts.drives.put(id, &factory);
        self.parts.shared.drive_joined(id, &label);
        if let Some(leaving) = leaving {
            self.parts.shared.set_draining(leaving, true);
            self.parts.shared.repair_without(leaving);
        }
        self.parts.media.set_drive(id, drive);
        self.parts.log.tell(&self.parts.drives);
        tracing::info!(drive = %label, "drive joined the pool");
        Ok(())
    }

    fn random(&self) -> u64 {
        self.parts.executor.random_u64()
    }

    fn label_for(&self, path: &Path) -> Result<String, RequestError> {
        let label = path.to_str().unwrap_or_default().to_owned();
        if !path.is_absolute() || label.len() > LABEL_MAX_BYTES {
            let what = format!(
                "{}: give an absolute path in UTF-8 of at most {LABEL_MAX_BYTES} bytes",
                path.display()
            );
            return Err(RequestError::Refused(what));
        }
        let same = self.parts.membership.members.iter().find(|member| member.label == label);
        match same.map(|member| self.state_of(member.drive)) {
            Some(DriveState::Healthy | DriveState::Draining) => {
                Err(RequestError::Refused(format!("{label} is a drive of this pool already")))
            }
            _ => Ok(label),
        }
    }

    /// Every drive has a copy of the master key, unless the operator keeps it in a file.
    async fn copy_key_to(&self, drive: &RealDrive, label: &str) -> Result<(), RequestError> {
        let sources: Vec<RealDrive> =
            self.parts.drives.usable().into_iter().map(|(_, factory)| factory.on_core()).collect();
        let mut failure = None;
        for source in &sources {
            let copied = copy_master_key(std::slice::from_ref(source), drive);
            match timeout(&self.parts.executor, TELL_DEADLINE, copied).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(IoError::NotFound)) => {}
                Ok(Err(error)) => failure = Some(error.to_string()),
                Err(_) => failure = Some("a drive does not answer".to_owned()),
            }
        }
        // Without a failure no drive has one.
        let refused =
            |error| RequestError::Failed(format!("the master key cannot be copied to {label}: {error}"));
        failure.map_or(Ok(()), |error| Err(refused(error)))
    }

    async fn plan(&mut self, name: &str, plan: MemberPlan) -> Result<(), RequestError> {
        let member = self.find(name)?;
        if plan == MemberPlan::Leave {
            let staying = self.parts.membership.members.iter();
            let staying =
                staying.filter(|other| other.plan == MemberPlan::Stay && other.drive != member.drive);
            let (left, needed) = (staying.count(), self.parts.facts.profile.shards());
            if left < needed {
                return Err(RequestError::Refused(format!(
                    "without {} the pool has {left} drives and {} needs {needed}: add a drive first, or replace it",
                    member.label, self.parts.facts.profile
                )));
            }
        }
        let mut members = self.parts.membership.members.clone();
        for other in members.iter_mut().filter(|other| other.drive == member.drive) {
            other.plan = plan;
        }
        self.change(members).await?;
        self.parts.shared.set_draining(member.drive, plan != MemberPlan::Stay);
        if plan != MemberPlan::Stay {
            self.parts.shared.repair_without(member.drive);
        }
        Ok(())
    }

    /// Takes a fenced drive back: as one that went and returned.
    async fn rejoin(&mut self, name: &str) -> Result<(), RequestError> {
        let member = self.find(name)?;
        match self.state_of(member.drive) {
            DriveState::Failed => {
                self.parts.shared.drive_went(member.drive);
            }
            DriveState::Missing => {}
            DriveState::Healthy | DriveState::Draining | DriveState::Removed => {
                return Err(RequestError::Refused(format!("{} is not out of use", member.label)));
            }
        }
        self.refusals.remove(&member.drive);
        self.look_for_return(&member).await;
        if self.state_of(member.drive) == DriveState::Missing {
            let path = &member.label;
            let why = self.refusals.get(&member.drive).cloned();
            let why = why.unwrap_or_else(|| format!("{path} does not lead to the drive: mount it there"));
            return Err(RequestError::Refused(format!("{path} stays out of use: {why}")));
        }
        Ok(())
    }

    async fn reports(&self) -> Vec<DriveReport> {
        let mut reports = Vec::new();
        for member in &self.parts.membership.members {
            let room = match self.parts.drives.get(member.drive) {
                Some(factory) if factory.fenced().is_none() => {
                    let drive = factory.on_core();
                    timeout(&self.parts.executor, LOOK_DEADLINE, drive.space())
                        .await
                        .ok()
                        .and_then(Result::ok)
                }
                _ => None,
            };
            reports.push(DriveReport {
                id: format!("{:032x}", member.drive.0),
                path: member.label.clone(),
                state: match self.state_of(member.drive) {
                    DriveState::Healthy => "healthy",
                    DriveState::Draining => "draining",
                    DriveState::Missing => "missing",
                    DriveState::Failed => "failed",
                    DriveState::Removed => "removed",
                },
                plan: match member.plan {
                    MemberPlan::Stay => "stay",
                    MemberPlan::Drain => "drain",
                    MemberPlan::Leave => "leave",
                },
                shards: self.parts.shared.shards_on(member.drive),
                total_bytes: room.map(|room| room.total_bytes),
                free_bytes: room.map(|room| room.free_bytes),
            });
        }
        reports
    }
}

/// Whether a drive only did not answer in time.
fn is_late(error: &IoError) -> bool {
    matches!(error, IoError::Device(source) if source.kind() == std::io::ErrorKind::TimedOut)
}
