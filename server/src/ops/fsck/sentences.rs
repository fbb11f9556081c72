//! fsck's findings in words: what, where, and what to do, one sentence each.
//! Invariants: a sentence names the thing as an operator knows it: bucket and key, drive and file.
//! Not here: finding (`fsck`).

use std::collections::BTreeMap;

use fdb_schema::schema::{
    BrokenHistory, BucketId, DataProblem, HistoryProblem, LostName, NameProblem, NameRow, Owner,
    OwnerProblem, UploadKey, Usage,
};
use shardstore::{ShardFile, ShardFileState};
use shardstore_format::{DataId, Extent, VolumeId};
use shardstore_reactor::IoError;

use super::bytes_of;

const LOST: &str = "it cannot be read: delete it, or restore metadata from a dump";
const KEPT: &str = "nothing is lost and its space stays taken: report it with `basaltctl support-bundle`";
const AT_RISK: &str =
    "its bytes may be reused while it is named: copy it elsewhere, and restore metadata from a dump";
const DAMAGED: &str = "metadata is damaged: restore it from a dump";

fn data_name(data: DataId) -> String {
    format!("{:08x}-{:016x}", data.writer.0, data.counter)
}

fn upload_name(upload: UploadKey) -> String {
    hex::encode(upload.0)
}

fn object_name(bucket: BucketId, key: &[u8], buckets: &BTreeMap<BucketId, String>) -> String {
    let key = String::from_utf8_lossy(key);
    match buckets.get(&bucket) {
        Some(name) => format!("{name}/{key}"),
        None => format!("{key} of bucket number {}", bucket.0),
    }
}

fn extent_name(extent: &Extent) -> String {
    format!(
        "{} bytes in volume {:016x} at sector {} byte {}",
        extent.len_bytes, extent.volume.0, extent.sector, extent.byte_in_stripe
    )
}

fn version_name(bucket: BucketId, key: &[u8], count: u64, buckets: &BTreeMap<BucketId, String>) -> String {
    format!("{} version {count}", object_name(bucket, key, buckets))
}

/// What is wrong with a key's versions.
pub(super) fn broken_history(broken: &BrokenHistory, buckets: &BTreeMap<BucketId, String>) -> String {
    let version = version_name(broken.bucket, &broken.key, broken.count, buckets);
    let why = match broken.problem {
        HistoryProblem::Misplaced => "says that it stands elsewhere",
        HistoryProblem::NotOlder => "is not older than the current object",
        HistoryProblem::NotCurrent => "is the newest of its key and not current",
        HistoryProblem::NullUnnamed => "is a null version that cannot be found by its id",
        HistoryProblem::NullNowhere => "is to be a null version and is not there",
    };
    format!("object {version} {why}; {DAMAGED}")
}

pub(super) fn lost_name(name: &LostName, buckets: &BTreeMap<BucketId, String>) -> String {
    let object = match name.hidden_count {
        None => object_name(name.bucket, &name.key, buckets),
        Some(count) => version_name(name.bucket, &name.key, count, buckets),
    };
    let data = data_name(name.data);
    match name.problem {
        NameProblem::NoData => format!("object {object} names bytes {data}, which have no rows; {LOST}"),
        NameProblem::Length { named_bytes, held_bytes } => format!(
            "object {object} is {named_bytes} bytes long by its name and {held_bytes} by its bytes {data}; {LOST}"
        ),
    }
}

pub(super) fn no_bucket(bucket: BucketId) -> String {
    format!("there are objects of bucket number {} and there is no such bucket; {KEPT}", bucket.0)
}

pub(super) fn usage(bucket: &str, (objects, bytes): (i64, i64), held: Usage) -> String {
    format!(
        "bucket {bucket} is said to hold {objects} objects of {bytes} bytes and holds {} of {}; its objects are not \
         concerned: report it with `basaltctl support-bundle`",
        held.objects, held.bytes
    )
}

pub(super) fn stray_usage(bucket: BucketId) -> String {
    format!("the usage of bucket number {} is kept and there is no such bucket; {KEPT}", bucket.0)
}

/// Two byte sequences in one place: what was written last is there.
pub(super) fn overlap(before: &Owner, owner: &Owner) -> String {
    format!(
        "bytes {} ({}) and bytes {} ({}) lie in the same place, so one of them is overwritten: read both, delete the one \
         that cannot be read, or restore metadata from a dump",
        data_name(before.data),
        extent_name(&before.extent),
        data_name(owner.data),
        extent_name(&owner.extent)
    )
}

pub(super) fn bad_configuration(bucket: BucketId, why: &str, buckets: &BTreeMap<BucketId, String>) -> String {
    let name = buckets.get(&bucket).map_or_else(|| format!("number {}", bucket.0), Clone::clone);
    format!("a row of the configuration of bucket {name} cannot be read: {why}; {DAMAGED}")
}

pub(super) fn stray_configuration(bucket: BucketId) -> String {
    format!("there is configuration of bucket number {} and there is no such bucket; {KEPT}", bucket.0)
}

pub(super) fn no_upload(upload: UploadKey) -> String {
    format!("there are parts of upload {} and there is no such upload; {KEPT}", upload_name(upload))
}

pub(super) fn data_problem(data: DataId, problem: &DataProblem) -> String {
    let data = data_name(data);
    match problem {
        DataProblem::NoHeader => format!("bytes {data} have rows of items and no header; {KEPT}"),
        DataProblem::RowMissing(index) => {
            format!("bytes {data} lack row {index}: the object that they are cannot be read whole; {DAMAGED}")
        }
        DataProblem::RowExtra(index) => format!("bytes {data} have a row {index} too many; {KEPT}"),
        DataProblem::Unreadable(why) => format!("a row of bytes {data} cannot be decoded ({why}); {DAMAGED}"),
        DataProblem::Length { said_bytes, items_bytes } => {
            format!("bytes {data} should be {said_bytes} long and their items are {items_bytes}; {DAMAGED}")
        }
        DataProblem::NoOwner(extent) => {
            format!("bytes {data} lie in {}, which has no owner row; {AT_RISK}", extent_name(extent))
        }
        DataProblem::OtherOwner(extent) => {
            format!("bytes {data} lie in {}, whose owner row says otherwise; {AT_RISK}", extent_name(extent))
        }
    }
}

pub(super) fn owner_problem(
    volume: VolumeId,
    (sector, byte): (u32, u32),
    owner: Option<&Owner>,
    problem: &OwnerProblem,
) -> String {
    let place = format!("the owner row of volume {:016x}, sector {sector}, byte {byte}", volume.0);
    let data = owner.map(|owner| data_name(owner.data)).unwrap_or_default();
    match problem {
        OwnerProblem::Unreadable(why) => format!("{place} cannot be used: {why}; {DAMAGED}"),
        OwnerProblem::NoData => format!("{place} belongs to bytes {data}, which have no rows; {KEPT}"),
        OwnerProblem::NotInData => {
            format!("{place} belongs to bytes {data}, which have no such extent; {KEPT}")
        }
    }
}

pub(super) fn unreadable_volume(volume: VolumeId, why: &str) -> String {
    format!("the record of volume {:016x} cannot be decoded ({why}); {DAMAGED}", volume.0)
}

pub(super) fn no_volume(volume: VolumeId, owners: u64, live_bytes: i64) -> String {
    format!(
        "volume {:016x} has no record, and {owners} owner rows and {live_bytes} live bytes; the objects in it cannot be \
         read: {DAMAGED}",
        volume.0
    )
}

pub(super) fn reclaimed_with_owners(volume: VolumeId, owners: u64) -> String {
    format!(
        "volume {:016x} is reclaimed and {owners} owner rows lie in it; the objects in it cannot be read: {DAMAGED}",
        volume.0
    )
}

pub(super) fn live_bytes(volume: VolumeId, live_bytes: i64, owned_bytes: u64) -> String {
    let what = if u64::try_from(live_bytes).is_ok_and(|live_bytes| live_bytes > owned_bytes) {
        KEPT
    } else {
        "it may be taken for empty too early, though never while something owns a place in it: report it"
    };
    format!(
        "volume {:016x} counts {live_bytes} live bytes and its owners have {owned_bytes}; {what}",
        volume.0
    )
}

pub(super) fn unreadable_row(row_key: &[u8], why: &str) -> String {
    format!("the row {} cannot be decoded ({why}); {DAMAGED}", hex::encode(row_key))
}

pub(super) fn references(
    data: DataId,
    held: Option<u32>,
    named: u64,
    names: &[NameRow],
    buckets: &BTreeMap<BucketId, String>,
) -> String {
    let names: Vec<String> = names.iter().map(|name| name_of(name, buckets)).collect();
    let by = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let data = data_name(data);
    match held {
        None => format!("bytes {data} have no rows and are named {named} times{by}; {LOST}"),
        Some(held) if u64::from(held) > named => {
            format!("bytes {data} count {held} names and have {named}{by}; {KEPT}")
        }
        Some(held) => format!("bytes {data} count {held} names and have {named}{by}; {AT_RISK}"),
    }
}

fn name_of(name: &NameRow, buckets: &BTreeMap<BucketId, String>) -> String {
    match name {
        NameRow::Object { bucket, key } => object_name(*bucket, key, buckets),
        NameRow::Version { bucket, key, count } => version_name(*bucket, key, *count, buckets),
        NameRow::Part { upload, part_number } => {
            format!("part {part_number} of upload {}", upload_name(*upload))
        }
        NameRow::Whole(whole) => format!("a part of bytes {}", data_name(*whole)),
        NameRow::Garbage => "what is to be swept".to_owned(),
    }
}

/// What is wrong with the file of a shard that should have so many sectors.
pub(super) fn bad_file(file: &ShardFile, needed_sectors: u32) -> Option<String> {
    let ShardFile { drive, path, state, .. } = file;
    let rebuilt = "a scrub finds it and repair makes it anew: `basaltctl scrub start --wait`";
    match state {
        ShardFileState::There(len_bytes) if *len_bytes >= bytes_of(needed_sectors) => None,
        ShardFileState::There(len_bytes) => Some(format!(
            "{drive}/{path} is {len_bytes} bytes long and {} of them are named; {rebuilt}",
            bytes_of(needed_sectors)
        )),
        ShardFileState::Absent => Some(format!("{drive}/{path} is named and not there; {rebuilt}")),
        ShardFileState::Refused(why) => Some(format!(
            "{drive}/{path} cannot be opened ({why}); look at the kernel's log, then replace the drive"
        )),
        // Counted: the drive is missing, which `drive list` tells.
        ShardFileState::OutOfReach | ShardFileState::NoMember => None,
    }
}

pub(super) fn unlisted_drive(drive: &str, error: &IoError) -> String {
    format!(
        "the segments of {drive} cannot be listed ({error}); look at the kernel's log, then replace the drive"
    )
}

pub(super) fn foreign_file(drive: &str, name: &str) -> String {
    format!("{drive}/segments/{name} is no segment file; move it away, Basalt does not touch it")
}

pub(super) fn unnamed_file(drive: &str, file: &str, is_beyond: bool, is_known: bool) -> String {
    if is_beyond {
        return format!(
            "{drive}/{file} has a number that metadata has not given out: metadata went back to an older state, or the \
             file is a copy from elsewhere; bring back the newest drives of the metadata log"
        );
    }
    let what = if is_known { "its shard lies on another drive" } else { "no volume names it" };
    let todo = if is_known { "the next start removes it" } else { "`basaltctl gc` removes it" };
    format!("{drive}/{file} is left over, {what}; {todo}")
}
