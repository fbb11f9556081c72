//! Bytes that compaction moved: their data rows, owner rows and live bytes change together.
//! Invariants: an extent is exchanged only if its owner row still says what the mover read, so a delete, a sweep or
//! another move that came first wins; the bytes are the same, so checksums stay; objects keep their hints, which point
//! into a volume that will be gone and then fall back to the data rows.
//! Not here: moving the bytes (`shardstore`).

use std::collections::BTreeMap;

use shardstore_format::{DataId, Durable, VolumeId};
use shardstore_reactor::Executor;

use super::data::{check_volume, header, row_items, signed};
use super::error::{Failure, Refusal};
use super::keyspace;
use super::record::{DataExtent, DataItems, HEADER_ITEMS_MAX, ROW_ITEMS_MAX, decode_owner, encode_owner};
use super::retry::Metadata;
use super::volume::Owner;
use crate::{Engine, EngineError, Isolation, Transaction};

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Exchanges extents for those of the evidence beside each, which hold the same bytes; returns how many were. Those
    /// whose owner row is another by now, or whose row would grow too long, are left as they are. The evidence is
    /// dropped when the outcome is known.
    ///
    /// Cost: one transaction, or several if the rows of large objects do not fit into one.
    ///
    /// # Errors
    /// [`Failure::Engine`]: what was exchanged before stays exchanged.
    pub async fn relocate<V: Durable>(&self, moves: Vec<(Owner, V)>) -> Result<usize, Failure> {
        let mut left = vec![moves];
        let mut made = 0;
        while let Some(mut moves) = left.pop() {
            match self.relocate_together(&moves).await {
                Ok(count) => made += count,
                // The target went: the mover tries again elsewhere.
                Err(Failure::Refused(Refusal::VolumeGone(_))) => {}
                Err(Failure::Engine(EngineError::TooLarge)) if moves.len() > 1 => {
                    let second = moves.split_off(moves.len() / 2);
                    left.extend([moves, second]);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(made)
    }

    async fn relocate_together<V: Durable>(&self, moves: &[(Owner, V)]) -> Result<usize, Failure> {
        let mut by_data: BTreeMap<DataId, Vec<&(Owner, V)>> = BTreeMap::new();
        for one in moves {
            let (owner, evidence) = one;
            let moved_bytes: u64 = evidence.extents().iter().map(|extent| extent.len_bytes).sum();
            assert_eq!(moved_bytes, owner.extent.len_bytes, "the same bytes");
            by_data.entry(owner.data).or_default().push(one);
        }
        self.write(async |txn| {
            let (mut made, mut live) = (0, BTreeMap::<VolumeId, i64>::new());
            for (data, moves) in &by_data {
                for (owner, evidence) in exchange(txn, *data, moves).await? {
                    made += 1;
                    *live.entry(owner.extent.volume).or_default() -= signed(owner.extent.len_bytes);
                    for extent in evidence.extents() {
                        *live.entry(extent.volume).or_default() += signed(extent.len_bytes);
                    }
                }
            }
            for (volume, delta_bytes) in live {
                if delta_bytes > 0 {
                    check_volume(txn, volume).await?;
                }
                txn.atomic_add(&keyspace::live(volume), delta_bytes);
            }
            Ok(made)
        })
        .await
    }
}

/// Exchanges extents of one byte sequence in its data and owner rows; returns those that were.
async fn exchange<'a, T: Transaction, V: Durable>(
    txn: &mut T,
    data: DataId,
    moves: &[&'a (Owner, V)],
) -> Result<Vec<&'a (Owner, V)>, Failure> {
    let mut pending = Vec::with_capacity(moves.len());
    for one in moves {
        let (owner, _) = one;
        let value = txn.get(&keyspace::owner(&owner.extent), Isolation::Serializable).await?;
        if let Some(value) = value
            && decode_owner(&value)? == (owner.extent, owner.data)
        {
            pending.push(*one);
        }
    }
    let Some(mut header) = header(txn, data, Isolation::Serializable).await? else { return Ok(Vec::new()) };
    let mut made = Vec::new();
    if header.row_starts.is_empty()
        && let Some(items) = exchange_in(&header.items, &mut pending, &mut made, HEADER_ITEMS_MAX)
    {
        header.items = items;
        txn.set(&keyspace::data(data, 0), &header.encode());
    }
    for row_index in 1..=header.row_starts.len() {
        if pending.is_empty() {
            break;
        }
        let items = row_items(txn, data, row_index).await?;
        if let Some(items) = exchange_in(&items, &mut pending, &mut made, ROW_ITEMS_MAX) {
            set_row(txn, data, row_index, &items);
        }
    }
    for (owner, evidence) in &made {
        txn.clear(&keyspace::owner(&owner.extent));
        for extent in evidence.extents() {
            txn.set(&keyspace::owner(extent), &encode_owner(extent, data));
        }
    }
    Ok(made)
}

/// Exchanges in one row what it holds of `pending`, which goes over to `made`; `None` if that is nothing.
fn exchange_in<'a, V: Durable>(
    items: &DataItems,
    pending: &mut Vec<&'a (Owner, V)>,
    made: &mut Vec<&'a (Owner, V)>,
    items_max: usize,
) -> Option<DataItems> {
    let made_before = made.len();
    let mut items = items.clone();
    pending.retain(|one| {
        let (owner, evidence) = one;
        match exchanged(&items, owner, evidence, items_max) {
            Some(now) => {
                items = now;
                made.push(*one);
                false
            }
            None => true,
        }
    });
    (made.len() > made_before).then_some(items)
}

fn set_row<T: Transaction>(txn: &mut T, data: DataId, row_index: usize, items: &DataItems) {
    let index = u32::try_from(row_index).expect("rows of an object are few");
    txn.set(&keyspace::data(data, index), &items.encode());
}

/// The items with the owner's extent exchanged; `None` if it is not among them or they would be too many.
fn exchanged(
    items: &DataItems,
    owner: &Owner,
    evidence: &impl Durable,
    items_max: usize,
) -> Option<DataItems> {
    let DataItems::Extents(extents) = items else { return None };
    let place = extents.iter().position(|item| item.extent == owner.extent)?;
    if extents.len() - 1 + evidence.extents().len() > items_max {
        return None;
    }
    // A checksum is that of one extent.
    let crc32c = extents[place].crc32c.filter(|_| evidence.extents().len() == 1);
    let moved = evidence.extents().iter().map(|extent| DataExtent { extent: *extent, crc32c });
    let mut exchanged = extents[..place].to_vec();
    exchanged.extend(moved);
    exchanged.extend_from_slice(&extents[place + 1..]);
    Some(DataItems::Extents(exchanged))
}
