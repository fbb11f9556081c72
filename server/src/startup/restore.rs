//! Metadata that is lost, restored from a dump onto the drives of a stopped server.
//! Invariants: the whole dump is read and found good before anything is changed; nothing that was stored is overwritten;
//! the drives are locked; one that was cut off goes on when it is run again, and no server starts on half of one.
//! Not here: the dump's bytes (`ops::dump`), rows (`fdb_schema::schema`).
//!
//! What it restores: every object as it was when the dump was made, as far as its bytes are on the drives still. Shards
//! that repair or a drain moved since are found where they lie now. Volumes that were compacted or reclaimed since are gone,
//! and what the dump names in them is lost; what was written since is in volumes that the dump does not name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fdb_schema::Row;
use fdb_schema::engine::embedded::{self, EmbeddedConfig, LogError, OpenError};
use fdb_schema::schema::{Restore, RestoreTarget, volume_counter_key, volume_of_row};
use futures_channel::oneshot;
use serde::Serialize;
use shardstore::{Media, Pool, StoreShared};
use shardstore_format::{DriveId, VolumeId, VolumeRecord, VolumeState};
use shardstore_reactor::{CoreExecutor, Executor, RealDrive, probe};

use super::budget::Budget;
use super::drives::{LockedDrives, lock_existing};
use super::offline::{formed_pool, log_drives, on_a_core};
use super::{Commits, Engine, StartError, refused};
use crate::config::Config;
use crate::ops::{DumpHead, DumpReader, MetadataRuns};

/// Volumes that a refusal names.
const VOLUMES_TOLD: usize = 3;

/// What is allowed to get lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Segment files that are newer than the dump.
    pub discard_newer: bool,
    /// Objects whose bytes are on no drive any more.
    pub accept_loss: bool,
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// When the dump was made, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Rows written.
    pub rows: u64,
    /// Volumes named.
    pub volumes: u64,
    /// Of their shards, those that lie on another drive than when the dump was made.
    pub shards_moved: u64,
    /// Shards whose file is on no drive: repair makes them anew.
    pub shards_missing: u64,
    /// Volumes with too few shards: what lies in them is lost.
    pub volumes_lost: u64,
    /// Segment files that are newer than the dump: the next start removes them.
    pub files_newer: u64,
}

impl RestoreReport {
    /// In lines of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl std::fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "metadata is restored: {} rows, {} volumes", self.rows, self.volumes)?;
        for (count, what) in [
            (self.shards_moved, "shards were found on another drive than the dump says"),
            (self.shards_missing, "shards are on no drive: repair makes them anew"),
            (self.volumes_lost, "volumes have too few shards: what lies in them is lost"),
            (self.files_newer, "segment files are newer than the dump: the start removes them"),
        ] {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        writeln!(f, "start the server, then prove it: basaltctl fsck; basaltctl census")
    }
}

/// Restores metadata from a dump.
///
/// # Errors
/// [`StartError`]: it says what was not there or would be overwritten.
pub fn import_metadata(
    config: Config,
    file: PathBuf,
    options: RestoreOptions,
) -> Result<RestoreReport, StartError> {
    probe().map_err(refused)?;
    let locked = lock_existing(&config.drives)?;
    on_a_core("import", async move |executor| import(&config, &file, options, &locked, executor).await)
}

async fn import(
    config: &Config,
    file: &Path,
    options: RestoreOptions,
    locked: &LockedDrives,
    executor: CoreExecutor,
) -> Result<RestoreReport, StartError> {
    let pool = formed_pool(locked, &executor).await?;
    let budget = Budget::new(config.memory_bytes, config.cpus.len());
    let shared = StoreShared::new(&pool, budget.store_options());
    let media = Media::new(Arc::clone(&shared), &pool, executor.clone(), 0);
    let files = SegmentFiles::list(&media).await?;
    // First to its end, so that a dump that is no good changes nothing.
    let head = *open(file)?.head();
    refuse_other_pool(&head, &pool)?;
    let plan = Plan::of(file, &head, &files)?;
    plan.refuse(&head, options)?;
    let anew = begins_anew(&pool, &media, &head, &budget, &executor).await?;
    let runs = MetadataRuns::new(media.clone());
    let mut engine_config = EmbeddedConfig::new(usize::from(pool.profile().m) + 1, volume_counter_key());
    engine_config.freeze_memory_bytes = budget.memtable_bytes;
    if anew {
        engine_config = engine_config.begin_anew();
    }
    let opened = embedded::open(
        engine_config,
        log_drives(&pool),
        pool.id(),
        runs.clone(),
        executor.clone(),
        budget.bufs(),
    );
    let (tree, commits, report) = opened.await.map_err(|error| lost_log(&error))?;
    if !report.writable {
        return Err(StartError("too few drives to log metadata: bring them back first".to_owned()));
    }
    let stopped = run_commits(commits, &executor);
    let restore = Restore::new(tree.handle(runs, executor.clone()), executor.clone());
    let done = write_rows(&restore, file, &head, &files, &plan).await;
    tree.stop();
    stopped.await.unwrap_or_default();
    done?;
    Ok(plan.report)
}

fn run_commits(commits: Commits, executor: &CoreExecutor) -> oneshot::Receiver<()> {
    let (ended, stopped) = oneshot::channel();
    executor.spawn(async move {
        commits.run().await;
        // Whoever waits may have gone.
        ended.send(()).unwrap_or_default();
    });
    stopped
}

async fn write_rows(
    restore: &Restore<Engine, CoreExecutor>,
    file: &Path,
    head: &DumpHead,
    files: &SegmentFiles,
    plan: &Plan,
) -> Result<(), StartError> {
    restore.begin(head.dump, plan.next_volume).await.map_err(refused)?;
    let mut reader = open(file)?;
    if reader.head() != head {
        return Err(StartError(format!("{} was exchanged meanwhile: run this again", file.display())));
    }
    while let Some(mut rows) = reader.next_group().map_err(|error| bad_file(file, &error))? {
        for row in &mut rows {
            if let Some(mut record) = volume_of_row(row) {
                files.place(&mut record);
                row.value = Bytes::from(record.encode());
            }
        }
        restore.put(&rows).await.map_err(refused)?;
    }
    restore.finish().await.map_err(refused)
}

fn bad_file(file: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError(format!("{} is refused: {error}", file.display()))
}

fn open(file: &Path) -> Result<DumpReader<BufReader<File>>, StartError> {
    #[expect(clippy::disallowed_methods, reason = "an operator's file, read before anything is served")]
    let opened = File::open(file).map_err(|error| bad_file(file, &error))?;
    DumpReader::open(BufReader::new(opened)).map_err(|error| bad_file(file, &error))
}

fn refuse_other_pool(head: &DumpHead, pool: &Pool<RealDrive>) -> Result<(), StartError> {
    if head.pool != pool.id() {
        return Err(StartError(format!(
            "the dump is of pool {:032x} and the drives are of pool {:032x}: use the drives that it was made on",
            head.pool.0,
            pool.id().0
        )));
    }
    Ok(())
}

/// Whether there is no log any more; refuses if there is one with anything of worth in it.
async fn begins_anew(
    pool: &Pool<RealDrive>,
    media: &Media<RealDrive, CoreExecutor>,
    head: &DumpHead,
    budget: &Budget,
    executor: &CoreExecutor,
) -> Result<bool, StartError> {
    let runs = MetadataRuns::new(media.clone());
    let looked =
        embedded::look(log_drives(pool), pool.id(), runs.clone(), executor.clone(), budget.bufs()).await;
    let tree = match looked {
        // Without any term, nothing says that what a missing drive holds is older.
        Ok((_, report)) if report.term == 0 && !pool.missing().is_empty() => {
            return Err(StartError(format!(
                "no drive says which term the metadata log was in, and a missing drive might bring an old one back: \
                 bring back {} first",
                pool.missing().join(", ")
            )));
        }
        Ok((tree, _)) => tree,
        Err(OpenError::Log(LogError::Damaged { .. })) => return Ok(true),
        Err(error) => return Err(lost_log(&error)),
    };
    let restore: Restore<Engine, CoreExecutor> =
        Restore::new(tree.handle(runs, executor.clone()), executor.clone());
    match restore.target().await.map_err(refused)? {
        RestoreTarget::Empty => Ok(false),
        RestoreTarget::CutOff(dump) if dump == head.dump => Ok(false),
        RestoreTarget::CutOff(_) => Err(StartError(
            "the import of another dump was cut off here: run it again, or move log/ and identity/term of every drive \
             away and begin with this one"
                .to_owned(),
        )),
        RestoreTarget::InUse => Err(StartError(
            "the drives hold metadata, which an import would overwrite: start the server. If it is beyond saving, move \
             log/ and identity/term of every drive away and run this again"
                .to_owned(),
        )),
    }
}

fn lost_log(error: &OpenError) -> StartError {
    StartError(format!(
        "{error}: what is left of the metadata would be overwritten. If it is beyond saving, move log/ and \
         identity/term of every drive away and run this again"
    ))
}

/// All segment files, by volume and shard, with the drives that they are on.
struct SegmentFiles {
    drives: BTreeMap<(VolumeId, u8), Vec<DriveId>>,
}

impl SegmentFiles {
    async fn list(media: &Media<RealDrive, CoreExecutor>) -> Result<SegmentFiles, StartError> {
        let mut drives: BTreeMap<(VolumeId, u8), Vec<DriveId>> = BTreeMap::new();
        for drive in media.shared().drives() {
            let listed = media.drive_files(drive.id).await;
            let listed = listed.map_err(|error| {
                StartError(format!("the segments of {} cannot be listed: {error}", drive.label))
            })?;
            for file in listed.unwrap_or_default().segments {
                drives.entry(file).or_default().push(drive.id);
            }
        }
        Ok(SegmentFiles { drives })
    }

    /// The drives of a shard's file.
    fn of(&self, volume: VolumeId, shard: u8) -> &[DriveId] {
        self.drives.get(&(volume, shard)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Says of each shard where it lies now; how many moved, and how many are nowhere.
    fn place(&self, record: &mut VolumeRecord) -> (u64, u64) {
        let (mut moved, mut missing) = (0, 0);
        let id = record.id;
        for shard in 0..record.segments.len() {
            let found = u8::try_from(shard).map(|shard| self.of(id, shard)).unwrap_or_default();
            // A copy that repair had begun counts only where the other is gone: it was finished then.
            if found.contains(&record.segments[shard]) {
                continue;
            }
            match found.iter().find(|drive| !record.segments.contains(drive)) {
                Some(drive) => {
                    record.segments[shard] = *drive;
                    moved += 1;
                }
                None => missing += 1,
            }
        }
        (moved, missing)
    }
}

/// What an import will do, from a first reading of the dump.
struct Plan {
    report: RestoreReport,
    /// The first volume id that is free on the drives too.
    next_volume: VolumeId,
    lost: Vec<VolumeId>,
    newest: Option<VolumeId>,
}

impl Plan {
    fn of(file: &Path, head: &DumpHead, files: &SegmentFiles) -> Result<Plan, StartError> {
        let newer = files.drives.range((head.next_volume, 0)..);
        let files_newer = newer.map(|(_, drives)| drives.len() as u64).sum();
        let newest = files.drives.last_key_value().map(|((volume, _), _)| *volume);
        let next_volume = newest.map_or(head.next_volume, |id| head.next_volume.max(VolumeId(id.0 + 1)));
        let report =
            RestoreReport { made_unix_ms: head.made_unix_ms, files_newer, ..RestoreReport::default() };
        let mut plan = Plan { report, next_volume, lost: Vec::new(), newest };
        let mut reader = open(file)?;
        while let Some(rows) = reader.next_group().map_err(|error| bad_file(file, &error))? {
            rows.iter().for_each(|row| plan.note(row, files));
        }
        plan.report.rows = reader.rows();
        Ok(plan)
    }

    fn note(&mut self, row: &Row, files: &SegmentFiles) {
        let Some(mut record) = volume_of_row(row).filter(|record| record.state != VolumeState::Reclaimed)
        else {
            return;
        };
        self.report.volumes += 1;
        let (moved, missing) = files.place(&mut record);
        self.report.shards_moved += moved;
        self.report.shards_missing += missing;
        if missing > u64::from(record.profile.m) {
            self.report.volumes_lost += 1;
            self.lost.extend((self.lost.len() < VOLUMES_TOLD).then_some(record.id));
        }
    }

    fn refuse(&self, head: &DumpHead, options: RestoreOptions) -> Result<(), StartError> {
        if self.report.volumes_lost > 0 && !options.accept_loss {
            let told: Vec<String> = self.lost.iter().map(|id| format!("{:016x}", id.0)).collect();
            return Err(StartError(format!(
                "{} volumes of the dump have too few shards on these drives ({}): bring back missing drives, use a \
                 newer dump, or give --accept-loss and lose the objects in them",
                self.report.volumes_lost,
                told.join(", ")
            )));
        }
        if self.report.files_newer > 0 && !options.discard_newer {
            return Err(StartError(format!(
                "the drives hold {} segment files that are newer than the dump, up to volume {:016x} where it ends before \
                 {:016x}: use a newer dump, or give --discard-newer and lose what was written since",
                self.report.files_newer,
                self.newest.unwrap_or(head.next_volume).0,
                head.next_volume.0
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardstore_format::{Profile, VolumeClass};

    fn record() -> VolumeRecord {
        VolumeRecord {
            id: VolumeId(5),
            profile: Profile { k: 2, m: 1 },
            class: VolumeClass::Packed,
            state: VolumeState::Sealed { end_sector: 16 },
            segments: vec![DriveId(1), DriveId(2), DriveId(3)],
        }
    }

    fn files(found: &[(u8, u128)]) -> SegmentFiles {
        let mut drives: BTreeMap<(VolumeId, u8), Vec<DriveId>> = BTreeMap::new();
        for (shard, drive) in found {
            drives.entry((VolumeId(5), *shard)).or_default().push(DriveId(*drive));
        }
        SegmentFiles { drives }
    }

    #[test]
    fn a_shard_is_taken_where_it_lies_now() {
        let mut there = record();
        assert_eq!(files(&[(0, 1), (1, 2), (2, 3)]).place(&mut there), (0, 0));
        assert_eq!(there, record());
        let mut moved = record();
        assert_eq!(files(&[(0, 1), (1, 9), (2, 3)]).place(&mut moved), (1, 0));
        assert_eq!(moved.segments, [DriveId(1), DriveId(9), DriveId(3)]);
        // An unfinished copy beside the original.
        let mut copied = record();
        assert_eq!(files(&[(0, 1), (1, 9), (1, 2), (2, 3)]).place(&mut copied), (0, 0));
        assert_eq!(copied, record());
        let mut missing = record();
        assert_eq!(files(&[(0, 1), (2, 3)]).place(&mut missing), (0, 1));
        assert_eq!(missing, record());
        // A drive that holds another shard of the volume by its record cannot hold two.
        let mut twice = record();
        assert_eq!(files(&[(0, 1), (1, 3), (2, 3)]).place(&mut twice), (0, 1));
    }
}
