//! fsck: metadata and volumes agree, in both directions.
//! Invariants: changes nothing; all rows are compared at one snapshot, so nothing in flight is reported; what a file
//! contradicts is looked at again before it is reported; memory is a megabyte of sums, the numbers of buckets and
//! volumes, and a bounded list of findings, whatever the number of objects.
//! Not here: bytes of pages (`census`), the rows' own comparisons (`fdb_schema::schema`), wording (`sentences`).
//!
//! How often bytes are named is compared without a table of all of them: each data id is hashed; every row that holds
//! bytes adds its count times the hash to one of 65,536 sums, every name takes the hash away. A sum that is not zero at
//! the end leads to the ids behind it in one more pass.

mod references;
mod sentences;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use fdb_schema::schema::{
    Audit, BucketId, Failure, Metadata, Owner, OwnerProblem, UploadKey, Usage, VolumeRecount,
};
use fdb_schema::{Engine, RunVolume};
use serde::Serialize;
use shardstore::{Media, ShardFile, ShardFileState, segment_file};
use shardstore_format::{
    DataId, DriveId, Layout, Profile, SECTOR_BYTES, VolumeId, VolumeRecord, VolumeState, page_payload_bytes,
};
use shardstore_reactor::{Drive, Executor};

use super::progress::JobProgress;

/// Sentences that a report lists; more are counted.
const FINDINGS_MAX: usize = 1_000;
/// Rows read at a time.
const BATCH: usize = 1_000;
/// Uploads compared at a time: 16 bytes each.
const UPLOADS_AT_A_TIME: usize = 100_000;
/// A live server's files are looked at again so often before they are reported: a view holds a metadata run that was
/// merged away for five seconds, and files go a little later than their record.
const LOOKS_MAX: u32 = 3;
const LOOK_INTERVAL: Duration = Duration::from_secs(6);

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FsckFinding {
    /// Which rule it breaks, for scripts.
    pub kind: &'static str,
    /// What, where, and what to do: one sentence.
    pub what: String,
}

/// What an fsck found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FsckReport {
    /// Byte sequences compared.
    pub byte_sequences: u64,
    /// Their extents, each with its owner row.
    pub extents: u64,
    /// Owner rows, each with its byte sequence.
    pub owners: u64,
    /// Names counted: of objects, parts, and what waits to be swept.
    pub names: u64,
    /// Volumes compared, metadata runs included.
    pub volumes: u64,
    /// Segment files found.
    pub segment_files: u64,
    /// Shards whose drive takes no part now: their files were not looked at.
    pub shards_out_of_reach: u64,
    /// Findings in all.
    pub findings_count: u64,
    /// The first 1,000.
    pub findings: Vec<FsckFinding>,
    /// There is none.
    pub all_agree: bool,
}

impl FsckReport {
    /// As the admin API gives it, in lines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl std::fmt::Display for FsckReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{}: {}", finding.kind, finding.what)?;
        }
        let shown = self.findings.len() as u64;
        if self.findings_count > shown {
            writeln!(f, "and {} more", self.findings_count - shown)?;
        }
        writeln!(
            f,
            "{} names, {} byte sequences, {} extents, {} owners, {} volumes, {} segment files: {} findings",
            self.names,
            self.byte_sequences,
            self.extents,
            self.owners,
            self.volumes,
            self.segment_files,
            self.findings_count
        )?;
        match self.shards_out_of_reach {
            0 => Ok(()),
            shards => writeln!(f, "{shards} shards lie on drives that take no part: they were not looked at"),
        }
    }
}

/// What an fsck looks at.
pub struct FsckScope<'a, D: Drive, E: Engine, X: Executor> {
    /// The rows.
    pub metadata: &'a Metadata<E, X>,
    /// The drives.
    pub media: &'a Media<D, X>,
    /// The runs that the manifest names now.
    pub runs: &'a dyn Fn() -> Vec<RunVolume>,
    /// For waits.
    pub executor: &'a X,
    /// A server works on them meanwhile.
    pub is_live: bool,
}

/// Runs an fsck to its end.
///
/// # Errors
/// A sentence: metadata cannot be read.
pub async fn run_fsck<D: Drive, E: Engine, X: Executor>(
    scope: FsckScope<'_, D, E, X>,
    progress: &JobProgress<FsckReport>,
) -> Result<FsckReport, String> {
    let mut fsck = Fsck { scope, progress, report: FsckReport::default() };
    fsck.run().await.map_err(|failure| failure.to_string())?;
    fsck.report.all_agree = fsck.report.findings_count == 0;
    Ok(fsck.report)
}

struct Fsck<'a, D: Drive, E: Engine, X: Executor> {
    scope: FsckScope<'a, D, E, X>,
    progress: &'a JobProgress<FsckReport>,
    report: FsckReport,
}

/// A file that contradicts what was read of metadata, for another look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suspect {
    /// A file of the volume is missing or too short.
    Volume(VolumeId),
    /// A file that no volume names.
    File(DriveId, VolumeId, u8),
}

impl<D: Drive, E: Engine, X: Executor> Fsck<'_, D, E, X> {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut suspects = BTreeSet::new();
        {
            let audit = self.scope.metadata.audit();
            let buckets = audit.buckets().await?;
            self.progress.enter("objects");
            self.objects(&audit, &buckets).await?;
            self.configurations(&audit, &buckets).await?;
            self.histories(&audit, &buckets).await?;
            self.parts_without_uploads(&audit).await?;
            self.progress.enter("byte sequences");
            self.byte_sequences(&audit).await?;
            self.progress.enter("volumes");
            self.volumes(&audit, &mut suspects).await?;
            self.progress.enter("references");
            self.references(&audit, &buckets).await?;
        }
        self.progress.enter("files");
        self.run_files(&mut suspects).await;
        self.drive_files(&mut suspects).await?;
        self.progress.enter("second look");
        self.settle(suspects).await
    }

    fn note(&mut self, kind: &'static str, what: String) {
        self.report.findings_count += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(FsckFinding { kind, what });
        }
    }

    async fn objects(
        &mut self,
        audit: &Audit<E>,
        buckets: &BTreeMap<BucketId, String>,
    ) -> Result<(), Failure> {
        let (mut begin, mut held) = (Bytes::new(), BTreeMap::<BucketId, Usage>::new());
        loop {
            let (lost, found_in, next) = audit.audit_objects(&begin, BATCH).await?;
            for name in lost {
                let what = sentences::lost_name(&name, buckets);
                self.note("object", what);
            }
            for (bucket, found) in found_in {
                if !buckets.contains_key(&bucket) && !held.contains_key(&bucket) {
                    self.note("bucket", sentences::no_bucket(bucket));
                }
                let held = held.entry(bucket).or_default();
                held.objects += found.objects;
                held.bytes = held.bytes.saturating_add(found.bytes);
            }
            self.progress.add(BATCH);
            match next {
                Some(next) => begin = next,
                None => return self.usages(audit, buckets, &held).await,
            }
        }
    }

    /// Compares what is kept of how much each bucket holds with what it holds.
    async fn usages(
        &mut self,
        audit: &Audit<E>,
        buckets: &BTreeMap<BucketId, String>,
        held: &BTreeMap<BucketId, Usage>,
    ) -> Result<(), Failure> {
        let kept = audit.usages().await?;
        for (row_key, why) in &kept.unreadable {
            self.note("usage", sentences::unreadable_row(row_key, why));
        }
        for (bucket, name) in buckets {
            let held = held.get(bucket).copied().unwrap_or_default();
            let (objects, bytes) = kept.sums.get(bucket).copied().unwrap_or_default();
            if u64::try_from(objects) != Ok(held.objects) || u64::try_from(bytes) != Ok(held.bytes) {
                self.note("usage", sentences::usage(name, (objects, bytes), held));
            }
        }
        for bucket in kept.sums.keys().filter(|bucket| !buckets.contains_key(bucket)) {
            self.note("usage", sentences::stray_usage(*bucket));
        }
        Ok(())
    }

    async fn configurations(
        &mut self,
        audit: &Audit<E>,
        buckets: &BTreeMap<BucketId, String>,
    ) -> Result<(), Failure> {
        let (mut begin, mut strays) = (Bytes::new(), BTreeSet::new());
        loop {
            let (found, next) = audit.audit_configs(&begin, BATCH).await?;
            for (bucket, problem) in found {
                if let Some(why) = problem {
                    self.note("configuration", sentences::bad_configuration(bucket, &why, buckets));
                } else if !buckets.contains_key(&bucket) && strays.insert(bucket) {
                    self.note("configuration", sentences::stray_configuration(bucket));
                }
            }
            match next {
                Some(next) => begin = next,
                None => return Ok(()),
            }
        }
    }

    async fn histories(
        &mut self,
        audit: &Audit<E>,
        buckets: &BTreeMap<BucketId, String>,
    ) -> Result<(), Failure> {
        let mut begin = Some(Bytes::new());
        while let Some(from) = begin {
            let (broken, next) = audit.audit_histories(&from, BATCH).await?;
            for found in &broken {
                self.note("version", sentences::broken_history(found, buckets));
            }
            self.progress.add(BATCH);
            begin = next;
        }
        Ok(())
    }

    async fn parts_without_uploads(&mut self, audit: &Audit<E>) -> Result<(), Failure> {
        let mut after: Option<UploadKey> = None;
        loop {
            let with_parts = audit.uploads_with_parts(after, UPLOADS_AT_A_TIME).await?;
            let Some(last) = with_parts.last() else { return Ok(()) };
            after = Some(*last);
            let mut left: BTreeSet<UploadKey> = with_parts.into_iter().collect();
            let mut begin = Bytes::new();
            while !left.is_empty() {
                let (uploads, next) = audit.upload_keys(&begin, BATCH).await?;
                for upload in &uploads {
                    left.remove(upload);
                }
                match next {
                    Some(next) => begin = next,
                    None => break,
                }
            }
            for upload in left {
                self.note("upload", sentences::no_upload(upload));
            }
        }
    }

    async fn byte_sequences(&mut self, audit: &Audit<E>) -> Result<(), Failure> {
        let mut after: Option<DataId> = None;
        loop {
            let ids = audit.data_ids(after, BATCH).await?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(*last);
            for data in &ids {
                let (problems, extents) = audit.audit_data(*data).await?;
                self.report.extents += extents;
                for problem in problems {
                    self.note("byte sequence", sentences::data_problem(*data, &problem));
                }
            }
            self.report.byte_sequences += ids.len() as u64;
            self.progress.add(ids.len());
        }
    }

    async fn volumes(&mut self, audit: &Audit<E>, suspects: &mut BTreeSet<Suspect>) -> Result<(), Failure> {
        let mut from = VolumeId(0);
        while let Some(id) = audit.next_named_volume(from).await? {
            from = VolumeId(id.0.saturating_add(1));
            let recount = audit.recount_volume(id).await?;
            self.sums(id, &recount);
            let record = recount.record.and_then(Result::ok);
            let needs = self.owners(audit, id, record.as_ref()).await?;
            if let Some(record) = record.filter(|record| record.state != VolumeState::Reclaimed) {
                let files = self.scope.media.shard_files(&record).await;
                let is_out = |file: &&ShardFile| is_out_of_reach(file);
                self.report.shards_out_of_reach += files.iter().filter(is_out).count() as u64;
                if files.iter().zip(&needs).any(|(file, need)| sentences::bad_file(file, *need).is_some()) {
                    suspects.insert(Suspect::Volume(id));
                }
            }
            self.report.volumes += 1;
            self.progress.add(1);
        }
        Ok(())
    }

    fn sums(&mut self, id: VolumeId, recount: &VolumeRecount) {
        let VolumeRecount { record, live_bytes, owned_bytes, owners } = recount;
        match record {
            Some(Err(why)) => self.note("volume", sentences::unreadable_volume(id, why)),
            None if *owners > 0 || *live_bytes != 0 => {
                self.note("volume", sentences::no_volume(id, *owners, *live_bytes));
            }
            Some(Ok(record)) if record.state == VolumeState::Reclaimed && *owners > 0 => {
                self.note("volume", sentences::reclaimed_with_owners(id, *owners));
            }
            _ => {}
        }
        if record.is_some() && u64::try_from(*live_bytes) != Ok(*owned_bytes) {
            self.note("live bytes", sentences::live_bytes(id, *live_bytes, *owned_bytes));
        }
    }

    /// Compares a volume's owner rows; one past the last sector that they need of each shard.
    async fn owners(
        &mut self,
        audit: &Audit<E>,
        id: VolumeId,
        record: Option<&VolumeRecord>,
    ) -> Result<Vec<u32>, Failure> {
        let mut needs = vec![0; record.map_or(0, |record| record.profile.shards())];
        let mut from = (0, 0);
        let mut reach: Option<(Owner, Reach)> = None;
        loop {
            let owners = audit.audit_owners(id, from, BATCH).await?;
            let Some(last) = owners.last() else { return Ok(needs) };
            let Some(next) = after_place(last.place) else { return Ok(needs) };
            from = next;
            for found in &owners {
                if let Some(problem) = &found.problem {
                    self.note(
                        "owner",
                        sentences::owner_problem(id, found.place, found.owner.as_ref(), problem),
                    );
                }
                let (Some(owner), Some(record)) = (found.owner, record) else { continue };
                let layout = Layout::of_extent(&owner.extent, record.profile.k);
                let end_sector = note_needs(&layout, record.profile, &mut needs);
                let is_inside = match (end_sector, record.state) {
                    (None, _) => false,
                    (Some(end), VolumeState::Sealed { end_sector }) => end <= end_sector,
                    (Some(_), VolumeState::Open | VolumeState::Reclaimed) => true,
                };
                if !is_inside {
                    let problem = OwnerProblem::Unreadable("it does not fit into its volume".to_owned());
                    self.note("owner", sentences::owner_problem(id, found.place, Some(&owner), &problem));
                }
                let Some(end) = Reach::of(&layout, record.profile) else { continue };
                if let Some((before, _)) = reach.filter(|(_, reach)| reach.covers(found.place)) {
                    self.note("overlap", sentences::overlap(&before, &owner));
                }
                if reach.is_none_or(|(_, reach)| end > reach) {
                    reach = Some((owner, end));
                }
            }
            self.report.owners += owners.len() as u64;
        }
    }

    /// What is wrong with a volume's files now; nothing if it is gone or to go, or repair is at it.
    async fn wrong_files(&mut self, id: VolumeId) -> Result<Vec<String>, Failure> {
        if self.scope.is_live && self.scope.media.is_in_the_making(id) {
            return Ok(Vec::new());
        }
        let run = (self.scope.runs)().into_iter().find(|run| run.record.id == id);
        let (record, needs) = match run {
            Some(run) => (run.record.clone(), needs_of_run(&run)),
            None => {
                let audit = self.scope.metadata.audit();
                let record = audit.volume(id).await?;
                let Some(record) = record.filter(|record| record.state != VolumeState::Reclaimed) else {
                    return Ok(Vec::new());
                };
                let needs = needs_of_owners(&audit, &record).await?;
                (record, needs)
            }
        };
        let files = self.scope.media.shard_files(&record).await;
        Ok(files.iter().zip(&needs).filter_map(|(file, need)| sentences::bad_file(file, *need)).collect())
    }

    async fn run_files(&mut self, suspects: &mut BTreeSet<Suspect>) {
        for run in (self.scope.runs)() {
            let files = self.scope.media.shard_files(&run.record).await;
            self.report.shards_out_of_reach +=
                files.iter().filter(|file| is_out_of_reach(file)).count() as u64;
            let needs = needs_of_run(&run);
            if files.iter().zip(&needs).any(|(file, need)| sentences::bad_file(file, *need).is_some()) {
                suspects.insert(Suspect::Volume(run.record.id));
            }
            self.report.volumes += 1;
            self.progress.add(1);
        }
    }

    async fn drive_files(&mut self, suspects: &mut BTreeSet<Suspect>) -> Result<(), Failure> {
        let runs = self.runs_now();
        let audit = self.scope.metadata.audit();
        for drive in self.scope.media.shared().drives() {
            let files = match self.scope.media.drive_files(drive.id).await {
                Ok(Some(files)) => files,
                Ok(None) => continue,
                Err(error) => {
                    self.note("drive", sentences::unlisted_drive(&drive.label, &error));
                    continue;
                }
            };
            for name in files.foreign {
                self.note("file", sentences::foreign_file(&drive.label, &name));
            }
            for (volume, shard) in files.segments {
                self.report.segment_files += 1;
                self.progress.add(1);
                if !self.is_named(&audit, &runs, drive.id, volume, shard).await? {
                    suspects.insert(Suspect::File(drive.id, volume, shard));
                }
            }
        }
        Ok(())
    }

    fn runs_now(&self) -> BTreeMap<VolumeId, VolumeRecord> {
        (self.scope.runs)().into_iter().map(|run| (run.record.id, run.record)).collect()
    }

    async fn is_named(
        &self,
        audit: &Audit<E>,
        runs: &BTreeMap<VolumeId, VolumeRecord>,
        drive: DriveId,
        volume: VolumeId,
        shard: u8,
    ) -> Result<bool, Failure> {
        let row = audit.volume(volume).await?;
        let named = row.as_ref().or_else(|| runs.get(&volume));
        Ok(named.is_some_and(|record| record.segments.get(usize::from(shard)) == Some(&drive)))
    }

    /// Looks at suspicious files again, and reports those that stay so.
    async fn settle(&mut self, mut suspects: BTreeSet<Suspect>) -> Result<(), Failure> {
        for look in 1..=LOOKS_MAX {
            let is_last = look == LOOKS_MAX || !self.scope.is_live;
            let (audit, runs) = (self.scope.metadata.audit(), self.runs_now());
            let mut left = BTreeSet::new();
            for suspect in suspects {
                let what: Vec<String> = match &suspect {
                    Suspect::Volume(id) => self.wrong_files(*id).await?,
                    Suspect::File(drive, volume, shard) => {
                        self.unnamed_file(&audit, &runs, *drive, *volume, *shard).await?.into_iter().collect()
                    }
                };
                self.progress.add(1);
                if !what.is_empty() && is_last {
                    what.into_iter().for_each(|what| self.note("file", what));
                } else if !what.is_empty() {
                    left.insert(suspect);
                }
            }
            suspects = left;
            if suspects.is_empty() {
                return Ok(());
            }
            self.scope.executor.sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn unnamed_file(
        &self,
        audit: &Audit<E>,
        runs: &BTreeMap<VolumeId, VolumeRecord>,
        drive: DriveId,
        volume: VolumeId,
        shard: u8,
    ) -> Result<Option<String>, Failure> {
        let media = self.scope.media;
        if media.segment_len(drive, volume, shard).await.is_none()
            || self.is_named(audit, runs, drive, volume, shard).await?
        {
            return Ok(None);
        }
        let is_known = audit.volume(volume).await?.is_some() || runs.contains_key(&volume);
        if self.scope.is_live {
            // A volume or a run that is newer than the snapshot, or a shard that moves.
            let is_newer = !is_known && media.has_volume(volume);
            if is_newer || media.is_in_the_making(volume) {
                return Ok(None);
            }
        }
        let next = audit.next_volume_id().await?;
        let drives = media.shared().drives();
        let label = drives.iter().find(|info| info.id == drive).map(|info| info.label.as_str());
        let file = segment_file(volume, shard);
        Ok(Some(sentences::unnamed_file(label.unwrap_or_default(), &file, volume >= next, is_known)))
    }
}

fn is_out_of_reach(file: &ShardFile) -> bool {
    matches!(file.state, ShardFileState::OutOfReach | ShardFileState::NoMember)
}

/// The first place after one.
fn after_place((sector, byte): (u32, u32)) -> Option<(u32, u32)> {
    byte.checked_add(1).map(|byte| (sector, byte)).or_else(|| Some((sector.checked_add(1)?, 0)))
}

async fn needs_of_owners<E: Engine>(audit: &Audit<E>, record: &VolumeRecord) -> Result<Vec<u32>, Failure> {
    let (mut needs, mut from) = (vec![0; record.profile.shards()], (0, 0));
    loop {
        let owners = audit.audit_owners(record.id, from, BATCH).await?;
        let Some(next) = owners.last().and_then(|last| after_place(last.place)) else { return Ok(needs) };
        from = next;
        for owner in owners.iter().filter_map(|found| found.owner) {
            note_needs(&Layout::of_extent(&owner.extent, record.profile.k), record.profile, &mut needs);
        }
    }
}

fn needs_of_run(run: &RunVolume) -> Vec<u32> {
    let profile = run.record.profile;
    let mut needs = vec![0; profile.shards()];
    if let Some(layout) = Layout::of_run(profile, run.len_bytes) {
        note_needs(&layout, profile, &mut needs);
    }
    needs
}

/// Raises, for each shard, one past the last sector that bytes need of it; one past their last sector in any shard, or
/// `None` if their place contradicts itself.
fn note_needs(layout: &Layout, profile: Profile, needs: &mut [u32]) -> Option<u32> {
    let (end_sector, stripes) = (layout.end_sector()?, layout.stripe_count()?);
    let last_sector = end_sector - u32::from(layout.last_page_len_sectors);
    let before_last = (stripes - 1).checked_mul(profile.stripe_payload_bytes())?;
    let in_last = (u64::from(layout.byte_in_stripe) + layout.len_bytes).checked_sub(before_last)?;
    let pages = in_last.div_ceil(page_payload_bytes(layout.last_page_len_sectors).max(1));
    for (shard, need) in needs.iter_mut().enumerate() {
        // A short stripe has no page on the data shards past its last byte.
        let has_page = shard >= usize::from(profile.k) || (shard as u64) < pages;
        let before = if stripes > 1 { last_sector } else { 0 };
        *need = (*need).max(if has_page { end_sector } else { before });
    }
    Some(end_sector)
}

/// Where bytes end in a volume: the first sector of their last stripe, the byte after them in it, and its last sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    last_stripe_sector: u32,
    end_byte: u64,
    end_sector: u32,
}

impl Reach {
    /// `None` if their place contradicts itself.
    fn of(layout: &Layout, profile: Profile) -> Option<Reach> {
        let end_sector = layout.end_sector()?;
        let before_last = (layout.stripe_count()? - 1).checked_mul(profile.stripe_payload_bytes())?;
        Some(Reach {
            last_stripe_sector: end_sector - u32::from(layout.last_page_len_sectors),
            end_byte: (u64::from(layout.byte_in_stripe) + layout.len_bytes).checked_sub(before_last)?,
            end_sector,
        })
    }

    /// Whether bytes that begin at a place, not before these, lie where these do.
    fn covers(&self, (sector, byte): (u32, u32)) -> bool {
        if sector == self.last_stripe_sector {
            return u64::from(byte) < self.end_byte;
        }
        sector < self.end_sector
    }
}

/// Bytes of so many sectors.
fn bytes_of(sectors: u32) -> u64 {
    u64::from(sectors) * SECTOR_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_stripe_needs_nothing_of_the_shards_that_it_has_no_page_on() {
        let profile = Profile { k: 4, m: 2 };
        let layout =
            Layout { sector: 16, byte_in_stripe: 0, len_bytes: 5_000, last_page_len_sectors: 2, k: 4 };
        let mut needs = vec![0; 6];
        assert_eq!(note_needs(&layout, profile, &mut needs), Some(18));
        assert_eq!(needs, [18, 0, 0, 0, 18, 18]);
        // A full stripe, then one of two pages.
        let len_bytes = profile.stripe_payload_bytes() + 2 * page_payload_bytes(3);
        let layout = Layout { sector: 0, byte_in_stripe: 0, len_bytes, last_page_len_sectors: 3, k: 4 };
        let mut needs = vec![0; 6];
        assert_eq!(note_needs(&layout, profile, &mut needs), Some(19));
        assert_eq!(needs, [19, 19, 16, 16, 19, 19]);
    }

    #[test]
    fn bytes_that_follow_each_other_in_one_stripe_or_the_next_do_not_overlap() {
        let profile = Profile { k: 4, m: 2 };
        let layout = |sector, byte_in_stripe, len_bytes, last_page_len_sectors| Layout {
            sector,
            byte_in_stripe,
            len_bytes,
            last_page_len_sectors,
            k: 4,
        };
        let reach = Reach::of(&layout(16, 700, 5_000, 2), profile).expect("it fits");
        assert!(reach.covers((16, 700)) && reach.covers((16, 5_699)) && reach.covers((17, 0)));
        assert!(!reach.covers((16, 5_700)) && !reach.covers((18, 0)));
        // A full stripe, and the begin of another that other bytes share.
        let two =
            Reach::of(&layout(0, 0, profile.stripe_payload_bytes() + 100, 3), profile).expect("it fits");
        assert!(two.covers((0, 5)) && two.covers((15, 0)) && two.covers((16, 99)));
        assert!(!two.covers((16, 100)) && !two.covers((19, 0)));
        assert!(two < reach, "what ends later is what the next is compared with");
    }

    #[test]
    fn places_follow_each_other_to_the_last() {
        assert_eq!(after_place((1, 7)), Some((1, 8)));
        assert_eq!(after_place((1, u32::MAX)), Some((2, 0)));
        assert_eq!(after_place((u32::MAX, u32::MAX)), None);
    }
}
