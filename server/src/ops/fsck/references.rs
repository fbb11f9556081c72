//! How often bytes are named against how often their rows say that they are.
//! Invariants: one pass and a megabyte if all agrees; what does not is found in a bounded number of ids at a time.
//! Not here: rows (`fdb_schema::schema`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::{Audit, BucketId, Failure, NameRow, Reference};
use shardstore_format::DataId;
use shardstore_reactor::{Drive, Executor};

use super::{BATCH, Fsck, sentences};

/// Sums that ids are spread over: 16 bytes each.
const SUMS: usize = 65_536;
/// Ids whose names are counted one by one at a time: some 100 bytes each.
const COUNTED_AT_A_TIME: u64 = 65_536;
/// Names of one id that a sentence tells.
const NAMES_TOLD: usize = 3;

/// A sum of hashes, and how many rows went into it.
#[derive(Clone, Copy, Default)]
struct Sum {
    hashes: u64,
    rows: u64,
}

/// One id's counts.
#[derive(Debug, Default)]
struct Tally {
    held: Option<u32>,
    named: u64,
    names: Vec<NameRow>,
}

impl Tally {
    fn agrees(&self) -> bool {
        self.held.map_or(0, u64::from) == self.named
    }
}

fn hash_of(data: DataId) -> u64 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&data.writer.0.to_le_bytes());
    bytes[4..].copy_from_slice(&data.counter.to_le_bytes());
    // Odd, so that no count below 2^64 times it is zero.
    xxhash_rust::xxh3::xxh3_64(&bytes) | 1
}

/// The high bits: the lowest is always one.
fn sum_of(data: DataId) -> usize {
    usize::try_from(hash_of(data) >> 48).expect("16 bits")
}

impl<D: Drive, E: Engine, X: Executor> Fsck<'_, D, E, X> {
    pub(super) async fn references(
        &mut self,
        audit: &Audit<E>,
        buckets: &BTreeMap<BucketId, String>,
    ) -> Result<(), Failure> {
        let mut sums = vec![Sum::default(); SUMS];
        let mut begin = Some(Bytes::new());
        while let Some(from) = begin {
            let (references, next) = audit.references(&from, BATCH).await?;
            begin = next;
            for reference in &references {
                let (data, weight) = match reference {
                    Reference::Held { data, count } => (*data, u64::from(*count)),
                    Reference::Named { data, .. } => {
                        self.report.names += 1;
                        (*data, 1u64.wrapping_neg())
                    }
                    Reference::Unreadable { row_key, why } => {
                        self.note("row", sentences::unreadable_row(row_key, why));
                        continue;
                    }
                };
                let sum = &mut sums[sum_of(data)];
                sum.hashes = sum.hashes.wrapping_add(hash_of(data).wrapping_mul(weight));
                sum.rows += 1;
            }
            self.progress.add(references.len());
        }
        let (mut group, mut rows) = (BTreeSet::new(), 0);
        for (index, sum) in sums.iter().enumerate().filter(|(_, sum)| sum.hashes != 0) {
            group.insert(index);
            rows += sum.rows;
            if rows >= COUNTED_AT_A_TIME {
                self.count_names(audit, &std::mem::take(&mut group), buckets).await?;
                rows = 0;
            }
        }
        if group.is_empty() { Ok(()) } else { self.count_names(audit, &group, buckets).await }
    }

    /// Counts the names of every id in some sums, and reports those that do not agree.
    async fn count_names(
        &mut self,
        audit: &Audit<E>,
        group: &BTreeSet<usize>,
        buckets: &BTreeMap<BucketId, String>,
    ) -> Result<(), Failure> {
        let mut tallies: BTreeMap<DataId, Tally> = BTreeMap::new();
        let mut begin = Some(Bytes::new());
        while let Some(from) = begin {
            let (references, next) = audit.references(&from, BATCH).await?;
            begin = next;
            for reference in references {
                match reference {
                    Reference::Held { data, count } if group.contains(&sum_of(data)) => {
                        tallies.entry(data).or_default().held = Some(count);
                    }
                    Reference::Named { data, by } if group.contains(&sum_of(data)) => {
                        let tally = tallies.entry(data).or_default();
                        tally.named += 1;
                        if tally.names.len() < NAMES_TOLD {
                            tally.names.push(by);
                        }
                    }
                    _ => {}
                }
            }
        }
        for (data, tally) in tallies.iter().filter(|(_, tally)| !tally.agrees()) {
            let is_told = tally.held.is_none()
                && tally.names.len() as u64 == tally.named
                && tally
                    .names
                    .iter()
                    .all(|name| matches!(name, NameRow::Object { .. } | NameRow::Version { .. }));
            if !is_told {
                let Tally { held, named, names } = tally;
                self.note("references", sentences::references(*data, *held, *named, names, buckets));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardstore_format::WriterId;

    #[test]
    fn a_count_that_is_wrong_leaves_its_sum_not_zero() {
        for counter in 0..1_000 {
            let hash = hash_of(DataId { writer: WriterId(1), counter });
            for wrong in [1u64, 2, 1 << 31, u64::from(u32::MAX)] {
                assert_ne!(hash.wrapping_mul(wrong), 0);
            }
        }
    }
}
