//! Sweeping: what nothing points at gives its owner rows and live bytes back, in bounded idempotent steps.
//! Invariants: an item leaves the data rows in the transaction that clears its owner row and lowers its volume's live
//! bytes; the garbage row goes last; a composite's parts lose a reference when its own rows go.
//! Not here: when a data id may be swept (epochs and holds, `shardstore`).

use std::collections::BTreeMap;

use shardstore_format::{DataId, VolumeId};
use shardstore_reactor::Executor;

use super::data::{add_garbage, drop_data, header, row_items, signed};
use super::error::{Failure, damaged};
use super::keyspace;
use super::record::{DataExtent, DataItems};
use super::retry::{Metadata, rows};
use crate::{Engine, Isolation, Transaction};

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Up to `limit` data ids that wait to be swept, by writer and count: those of earlier starts first.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn garbage(&self, limit: usize) -> Result<Vec<DataId>, Failure> {
        self.read(async |txn| {
            let found = rows(txn, &keyspace::all_garbage(), limit, Isolation::Snapshot).await?;
            let malformed = || damaged("a garbage row has a malformed key");
            found.iter().map(|row| keyspace::data_id_of(&row.key).ok_or_else(malformed)).collect()
        })
        .await
    }

    /// One step of sweeping `data`: at most one row of 2,000 items. True when it is gone for good.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn sweep(&self, data: DataId) -> Result<bool, Failure> {
        let now_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let garbage = keyspace::garbage(data);
            if txn.get(&garbage, Isolation::Serializable).await?.is_none() {
                return Ok(true);
            }
            let Some(mut header) = header(txn, data, Isolation::Serializable).await? else {
                txn.clear(&garbage);
                return Ok(true);
            };
            if header.reference_count > 1 {
                return Err(damaged("garbage that objects point at"));
            }
            let row_index = header.row_starts.len();
            if row_index == 0 {
                release(txn, header.items, header.is_sharing, now_ms).await?;
                txn.clear(&keyspace::data(data, 0));
                txn.clear(&garbage);
                return Ok(true);
            }
            let items = row_items(txn, data, row_index).await?;
            release(txn, items, header.is_sharing, now_ms).await?;
            let index = u32::try_from(row_index).map_err(|_| damaged("a data header has too many rows"))?;
            txn.clear(&keyspace::data(data, index));
            header.row_starts.pop();
            txn.set(&keyspace::data(data, 0), &header.encode());
            Ok(false)
        })
        .await
    }
}

async fn release<T: Transaction>(
    txn: &mut T,
    items: DataItems,
    is_sharing: bool,
    now_ms: u64,
) -> Result<(), Failure> {
    match items {
        DataItems::Extents(items) => release_extents(txn, &items),
        DataItems::Parts(parts) if is_sharing => {
            for part in parts {
                drop_data(txn, part.data, now_ms).await?;
            }
        }
        DataItems::Parts(parts) => parts.iter().for_each(|part| add_garbage(txn, part.data, now_ms)),
    }
    Ok(())
}

fn release_extents<T: Transaction>(txn: &mut T, items: &[DataExtent]) {
    let mut live: BTreeMap<VolumeId, i64> = BTreeMap::new();
    for item in items {
        *live.entry(item.extent.volume).or_default() -= signed(item.extent.len_bytes);
        txn.clear(&keyspace::owner(&item.extent));
    }
    for (volume, delta_bytes) in live {
        txn.atomic_add(&keyspace::live(volume), delta_bytes);
    }
}
