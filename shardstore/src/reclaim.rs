//! Space coming back: sweeping deleted data ids, dropping dead volumes, sealing idle ones.
//! Invariants: a data id is swept when all cores left the epoch of its delete and none holds it; a volume's
//! files go when its reclaim is committed and all cores left that epoch; a pinned volume is left alone.
//! Not here: emptying sparse volumes (`compact`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use shardstore_format::{VolumeId, VolumeState};
use shardstore_reactor::{Drive, Executor, MonotonicTime};

use crate::catalog::{Catalog, CatalogError, VolumeUsage};
use crate::gc::{Freed, device_bytes};
use crate::lane::Lane;
use crate::options::{
    BACKGROUND_PERIOD, IDLE_SEAL, SWEEP_BATCH, VOLUMES_BATCH, WALK_IDLE_PERIOD, WALK_PERIOD,
};
use crate::shared::count;
use crate::store::{Store, StoreInner};

/// How often a sweeper looks whether all cores have left an epoch: epochs last one read, so this is a few looks.
const EPOCH_POLL: Duration = Duration::from_millis(2);
/// Steps of one sweep before others get their turn: a step is one transaction of bounded size.
const SWEEP_STEPS_MAX: usize = 10_000;

/// When volumes were last looked through for dead ones, and what had been swept and sealed by then.
struct LastWalk {
    at: MonotonicTime,
    changes: u64,
}

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Data ids gone for good.
    pub swept: usize,
    /// Data ids that somebody reads.
    pub held: usize,
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// Sweeps what is garbage now, once.
    ///
    /// # Errors
    /// [`CatalogError`]: what is left is swept another time.
    pub async fn sweep_now(&self) -> Result<SweepReport, CatalogError> {
        let mut report = SweepReport::default();
        loop {
            let batch = self.inner.sweep_batch().await?;
            report.swept += batch.swept;
            report.held = report.held.max(batch.held);
            if batch.swept == 0 {
                return Ok(report);
            }
        }
    }

    /// Drops sealed volumes with nothing live; returns how many.
    ///
    /// # Errors
    /// [`CatalogError`]: what is left is dropped another time.
    pub async fn reclaim_now(&self) -> Result<usize, CatalogError> {
        let freed = self.inner.reclaim().await?;
        Ok(usize::try_from(freed.count).unwrap_or(usize::MAX))
    }

    /// This core's upkeep until [`crate::StoreShared::stop`]; the first core that calls it sweeps and reclaims
    /// for all. Spawn it once a core.
    pub async fn run_background(self) {
        let is_sweeper = !self.shared().sweeper_taken.swap(true, Ordering::SeqCst);
        if is_sweeper {
            self.inner.media.executor.spawn(self.clone().run_scrub());
            self.inner.media.executor.spawn(self.clone().run_repair());
            self.inner.media.executor.spawn(self.clone().run_compaction());
        }
        self.inner.media.executor.spawn(self.clone().watch_drives());
        let mut last_walk = LastWalk { at: self.inner.media.executor.now(), changes: 0 };
        while !self.shared().stopping.load(Ordering::SeqCst) {
            self.inner.media.executor.sleep(BACKGROUND_PERIOD).await;
            if let Err(error) = self.upkeep(is_sweeper, &mut last_walk).await {
                tracing::debug!(%error, "upkeep was put off");
            }
        }
    }

    /// Takes drives out of use that were fenced, by whoever. A task of its own: a commit that waits for drives holds upkeep
    /// up, and until the one that failed is named nobody brings it back.
    async fn watch_drives(self) {
        while !self.shared().stopping.load(Ordering::SeqCst) {
            self.inner.media.executor.sleep(BACKGROUND_PERIOD).await;
            self.inner.media.notice_fenced();
        }
    }

    async fn upkeep(&self, is_sweeper: bool, last_walk: &mut LastWalk) -> Result<(), CatalogError> {
        self.inner.media.close_stale_files();
        self.inner.seal_idle().await?;
        if !is_sweeper {
            return Ok(());
        }
        self.inner.mend_suspects().await;
        self.sweep_now().await?;
        let now = self.inner.media.executor.now();
        let counts = &self.shared().counts;
        let changes =
            counts.data_ids_swept.load(Ordering::Relaxed) + counts.volumes_sealed.load(Ordering::Relaxed);
        let is_due = if changes == last_walk.changes { WALK_IDLE_PERIOD } else { WALK_PERIOD };
        if now.since(last_walk.at) >= is_due {
            self.reclaim_now().await?;
            *last_walk = LastWalk { at: now, changes };
        }
        Ok(())
    }
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    async fn sweep_batch(&self) -> Result<SweepReport, CatalogError> {
        let garbage = self.catalog.garbage(SWEEP_BATCH).await?;
        let mut report = SweepReport::default();
        if garbage.is_empty() {
            return Ok(report);
        }
        // Those deletes are committed: whoever enters an epoch from now on does not see the names.
        self.leave_epochs().await;
        for data_id in garbage {
            if self.media.shared.holds.is_held(data_id) {
                report.held += 1;
                continue;
            }
            let mut steps = 0;
            while steps < SWEEP_STEPS_MAX && !self.catalog.sweep(data_id).await? {
                steps += 1;
            }
            if steps < SWEEP_STEPS_MAX {
                report.swept += 1;
                count(&self.media.shared.counts.data_ids_swept, 1);
            }
        }
        Ok(report)
    }

    /// Returns once every core has left all epochs that it may be in now.
    pub(crate) async fn leave_epochs(&self) {
        let epoch = self.media.shared.epochs.advance();
        while !self.media.shared.epochs.all_left_before(epoch) {
            self.media.executor.sleep(EPOCH_POLL).await;
        }
    }

    /// Drops sealed volumes with nothing live: how many, and the bytes of their segments.
    pub(crate) async fn reclaim(&self) -> Result<Freed, CatalogError> {
        let mut from = VolumeId(0);
        let mut reclaimed = Freed::default();
        loop {
            let usages = self.catalog.volumes(from, VOLUMES_BATCH).await?;
            let Some(last) = usages.last() else { return Ok(reclaimed) };
            from = VolumeId(last.record.id.0 + 1);
            let mut dead = Vec::new();
            for usage in usages {
                if self.is_dead(&usage) && self.mark_reclaimed(&usage).await? {
                    dead.push(usage);
                }
            }
            if dead.is_empty() {
                continue;
            }
            self.leave_epochs().await;
            for usage in dead {
                self.drop_volume(&usage).await?;
                reclaimed.add(device_bytes(&usage.record));
            }
        }
    }

    /// Whether a transaction of reclaim is worth trying. A sealed volume gets no new pins.
    pub(crate) fn is_dead(&self, usage: &VolumeUsage) -> bool {
        match usage.record.state {
            VolumeState::Open => false,
            VolumeState::Reclaimed => true,
            VolumeState::Sealed { .. } => {
                let known = self.media.shared.volumes.get(usage.record.id);
                let is_settled = known.is_none_or(|volume| {
                    // Sealed in metadata a moment before its core says so: later.
                    volume.state() != VolumeState::Open && volume.pins() == 0
                });
                usage.live_bytes == 0 && is_settled
            }
        }
    }

    async fn mark_reclaimed(&self, usage: &VolumeUsage) -> Result<bool, CatalogError> {
        let is_reclaimed = usage.record.state == VolumeState::Reclaimed
            || self.catalog.reclaim_volume(usage.record.id).await?;
        if is_reclaimed && let Some(volume) = self.media.shared.volumes.get(usage.record.id) {
            volume.set_state(VolumeState::Reclaimed);
        }
        Ok(is_reclaimed)
    }

    async fn drop_volume(&self, usage: &VolumeUsage) -> Result<(), CatalogError> {
        let id = usage.record.id;
        // A shard may have moved since the record was read.
        let known = self.media.shared.volumes.get(id);
        let members = known.map_or_else(|| self.media.members_of(&usage.record), |volume| volume.members());
        self.media.shared.volumes.remove(id);
        // Files on drives that are missing now are freed as orphans when those return.
        if self.media.remove_files(id, &members).await {
            self.catalog.forget_volume(id).await?;
            count(&self.media.shared.counts.volumes_reclaimed, 1);
        }
        self.media.close_stale_files();
        Ok(())
    }

    /// Seals this core's open volumes that hold dead bytes and were left alone for a while, or lie on drives that
    /// changed.
    async fn seal_idle(self: &std::rc::Rc<Self>) -> Result<(), CatalogError> {
        for lane in Lane::ALL {
            self.seal_stale_prepared(lane);
            let Some(open) = self.appender(lane).current() else { continue };
            if !self.is_usable(&open) {
                // Drives came or went: what is open lies on the wrong ones, also if nothing is appended any more.
                self.seal(&open);
                continue;
            }
            let (appended_bytes, last_append) = open.appended();
            if self.media.executor.now().since(last_append) < IDLE_SEAL || open.volume.pins() > 0 {
                continue;
            }
            let usage = self.catalog.volumes(open.volume.id, 1).await?;
            let live_bytes = usage
                .iter()
                .find(|usage| usage.record.id == open.volume.id)
                .map_or(0, |usage| u64::try_from(usage.live_bytes).unwrap_or(0));
            let (appended_now, _) = open.appended();
            if live_bytes < appended_bytes && appended_now == appended_bytes {
                self.seal(&open);
            }
        }
        Ok(())
    }
}
