//! Volumes: ids, records, live bytes, owners, reclaim.
//! Invariants: a volume is reclaimed only by a transaction that saw it sealed, without live bytes and without owners;
//! every commit into a volume reads its record, so the two conflict.
//! Not here: files and pages (`shardstore`), what owns the bytes (`data`).

use bytes::Bytes;
use shardstore_format::{DataId, Extent, VolumeId, VolumeRecord, VolumeState};
use shardstore_reactor::Executor;

use super::data::decode_volume;
use super::error::{Failure, Refusal, damaged};
use super::keyspace::{self, Counter};
use super::record::{decode_counter, decode_owner};
use super::retry::{Metadata, rows, take};
use crate::{Direction, Engine, Isolation, RangeRead, Row, ShardMove, Transaction};

/// A volume with what decides its reclaim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveVolume {
    /// Its record.
    pub record: VolumeRecord,
    /// Sum of its owners' lengths.
    pub live_bytes: i64,
}

/// An extent and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Where.
    pub extent: Extent,
    /// Whose.
    pub data: DataId,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Takes `count` volume ids; returns the first.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn allocate_volume_ids(&self, count: u64) -> Result<VolumeId, Failure> {
        self.write(async |txn| Ok(VolumeId(take(txn, Counter::Volume, count).await?))).await
    }

    /// The next id that will be given out.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn next_volume_id(&self) -> Result<VolumeId, Failure> {
        self.read(async |txn| {
            let value = txn.get(&keyspace::counter(Counter::Volume), Isolation::Snapshot).await?;
            Ok(VolumeId(decode_counter("counter", value.as_ref())?))
        })
        .await
    }

    /// Commits the record of a new, open volume.
    ///
    /// # Errors
    /// [`Refusal::VolumeExists`], [`Failure::Engine`].
    pub async fn create_volume(&self, record: &VolumeRecord) -> Result<(), Failure> {
        assert_eq!(record.state, VolumeState::Open);
        let value = record.encode();
        self.write(async |txn| {
            let row_key = keyspace::volume(record.id);
            match txn.get(&row_key, Isolation::Serializable).await? {
                Some(_) => Err(Refusal::VolumeExists(record.id).into()),
                None => {
                    txn.set(&row_key, &value);
                    Ok(())
                }
            }
        })
        .await
    }

    /// Seals an open volume; a no-op if it is sealed or reclaimed already.
    ///
    /// # Errors
    /// [`Refusal::NoSuchVolume`], [`Failure::Engine`].
    pub async fn seal_volume(&self, volume: VolumeId, end_sector: u32) -> Result<(), Failure> {
        self.write(async |txn| {
            let mut record = existing(txn, volume).await?;
            if record.state == VolumeState::Open {
                record.state = VolumeState::Sealed { end_sector };
                txn.set(&keyspace::volume(volume), &record.encode());
            }
            Ok(())
        })
        .await
    }

    /// One volume's record.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn volume(&self, volume: VolumeId) -> Result<Option<VolumeRecord>, Failure> {
        self.read(async |txn| {
            let value = txn.get(&keyspace::volume(volume), Isolation::Snapshot).await?;
            value.map(|value| decode_volume(&value)).transpose()
        })
        .await
    }

    /// Up to `limit` volumes with ids from `from` up, in order.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn volumes(&self, from: VolumeId, limit: usize) -> Result<Vec<LiveVolume>, Failure> {
        self.read(async |txn| {
            let found = rows(txn, &keyspace::volumes_from(from), limit, Isolation::Snapshot).await?;
            let mut volumes = Vec::with_capacity(found.len());
            for row in found {
                let record = decode_volume(&row.value)?;
                let live_bytes = live_bytes(txn, record.id, Isolation::Snapshot).await?;
                volumes.push(LiveVolume { record, live_bytes });
            }
            Ok(volumes)
        })
        .await
    }

    /// The owner with the highest place in a volume.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn last_owner(&self, volume: VolumeId) -> Result<Option<Owner>, Failure> {
        self.read(async |txn| {
            let range = keyspace::owners(volume);
            let read = RangeRead {
                begin: Bytes::from(range.begin),
                end: Bytes::from(range.end),
                limit: 1,
                direction: Direction::Reverse,
                isolation: Isolation::Snapshot,
            };
            let found = txn.range(read).await?;
            found.first().map(owner_of_row).transpose()
        })
        .await
    }

    /// Owners in a volume whose place is `from`, a sector and a byte in its stripe, or after it, in order.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn owners(
        &self,
        volume: VolumeId,
        from: (u32, u32),
        limit: usize,
    ) -> Result<Vec<Owner>, Failure> {
        self.read(async |txn| {
            let mut range = keyspace::owners(volume);
            range.begin = keyspace::owner_from(volume, from.0, from.1);
            let found = rows(txn, &range, limit, Isolation::Snapshot).await?;
            found.iter().map(owner_of_row).collect()
        })
        .await
    }

    /// Says that a shard of a sealed volume lies on `moved.to`; false if it does not lie on `moved.from`, or the volume
    /// is not sealed or gone.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn move_shard(&self, moved: ShardMove) -> Result<bool, Failure> {
        self.write(async |txn| {
            let row_key = keyspace::volume(moved.volume);
            let Some(value) = txn.get(&row_key, Isolation::Serializable).await? else { return Ok(false) };
            let mut record = decode_volume(&value)?;
            let is_sealed = matches!(record.state, VolumeState::Sealed { .. });
            let is_twice = record.segments.contains(&moved.to);
            match record.segments.get_mut(usize::from(moved.shard)) {
                Some(segment) if *segment == moved.to => return Ok(true),
                Some(segment) if is_sealed && !is_twice && *segment == moved.from => *segment = moved.to,
                _ => return Ok(false),
            }
            txn.set(&row_key, &record.encode());
            Ok(true)
        })
        .await
    }

    /// Says that a shard of a metadata run lies on another drive; false if no run has it where `moved` says.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn move_run_shard(&self, moved: ShardMove) -> Result<bool, Failure> {
        Ok(self.engine.move_run_shard(moved).await?)
    }

    /// What [`Metadata::set_upkeep_mark`] kept.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn upkeep_mark(&self, name: &str) -> Result<Option<Bytes>, Failure> {
        self.read(async |txn| Ok(txn.get(&keyspace::upkeep(name.as_bytes()), Isolation::Snapshot).await?))
            .await
    }

    /// Keeps how far background work came.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn set_upkeep_mark(&self, name: &str, mark: &[u8]) -> Result<(), Failure> {
        self.write(async |txn| {
            txn.set(&keyspace::upkeep(name.as_bytes()), mark);
            Ok(())
        })
        .await
    }

    /// Marks a volume reclaimed if it is sealed and nothing in it is live; true if it is reclaimed now.
    ///
    /// # Errors
    /// [`Refusal::NoSuchVolume`], [`Failure::Engine`].
    pub async fn reclaim_volume(&self, volume: VolumeId) -> Result<bool, Failure> {
        self.write(async |txn| {
            let mut record = existing(txn, volume).await?;
            match record.state {
                VolumeState::Reclaimed => return Ok(true),
                VolumeState::Open => return Ok(false),
                VolumeState::Sealed { .. } => {}
            }
            if live_bytes(txn, volume, Isolation::Serializable).await? != 0 {
                return Ok(false);
            }
            let owners = keyspace::owners(volume);
            if !rows(txn, &owners, 1, Isolation::Serializable).await?.is_empty() {
                return Ok(false);
            }
            txn.add_read_conflict(&owners.begin, &owners.end);
            record.state = VolumeState::Reclaimed;
            txn.set(&keyspace::volume(volume), &record.encode());
            Ok(true)
        })
        .await
    }

    /// Removes the record of a reclaimed volume; a no-op if it is gone.
    ///
    /// # Errors
    /// [`Refusal::VolumeExists`] if it is not reclaimed, [`Failure::Engine`].
    pub async fn forget_volume(&self, volume: VolumeId) -> Result<(), Failure> {
        self.write(async |txn| {
            let value = txn.get(&keyspace::volume(volume), Isolation::Serializable).await?;
            let Some(value) = value else { return Ok(()) };
            if decode_volume(&value)?.state != VolumeState::Reclaimed {
                return Err(Refusal::VolumeExists(volume).into());
            }
            txn.clear(&keyspace::volume(volume));
            txn.clear(&keyspace::live(volume));
            Ok(())
        })
        .await
    }
}

fn owner_of_row(row: &Row) -> Result<Owner, Failure> {
    let (extent, data) = decode_owner(&row.value)?;
    if row.key != keyspace::owner(&extent) {
        return Err(damaged("an owner row's key and value differ"));
    }
    Ok(Owner { extent, data })
}

async fn existing<T: Transaction>(txn: &T, volume: VolumeId) -> Result<VolumeRecord, Failure> {
    let value = txn.get(&keyspace::volume(volume), Isolation::Serializable).await?;
    decode_volume(&value.ok_or(Refusal::NoSuchVolume(volume))?)
}

async fn live_bytes<T: Transaction>(txn: &T, volume: VolumeId, isolation: Isolation) -> Result<i64, Failure> {
    let value = txn.get(&keyspace::live(volume), isolation).await?;
    Ok(decode_counter("live", value.as_ref())?.cast_signed())
}
