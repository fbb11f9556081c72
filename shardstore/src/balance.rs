//! Evening out: shards move from the fullest drives to the emptiest, so that a drive that joined takes its part of the
//! bytes and of the reads, and no drive is full before the others.
//! Invariants: only while nothing is to be repaired, in the same task, so that no shard is made twice at once; one
//! shard at a time, at a pace of its own; a move makes two drives more alike and never swaps their places.
//! Not here: making the shard and saying so in metadata (`repair`), where new volumes go (`place`).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardstore_format::{VolumeClass, VolumeId, VolumeState};
use shardstore_reactor::{Drive, DriveSpace, Executor};

use crate::catalog::Catalog;
use crate::options::sector_offset_bytes;
use crate::place::Room;
use crate::repair::{Due, RepairError, RepairRounds, Tempo};
use crate::shared::count;
use crate::store::{Store, StoreInner};
use crate::table::Volume;

/// Parts of a drive, in thousandths, so that they are compared without floating point.
const PARTS: u64 = 1_000;
/// Evening out begins when the fullest drive is so much fuller than the emptiest: new volumes keep drives closer than
/// that by themselves.
const BEGIN_PARTS: u64 = 100;
/// And it ends here.
const END_PARTS: u64 = 50;
/// Seconds of the background between two looks at the drives.
const LOOK_ROUNDS: u32 = 15;

/// How far evening out is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalanceStatus {
    /// Shards that are planned to move and have not yet.
    pub shards_left: u64,
    /// A look at the drives as they are now, none joined or gone since, found nothing to move.
    pub is_even: bool,
}

/// The shared side of evening out.
#[derive(Default)]
pub(crate) struct BalanceControl {
    shards_left: AtomicU64,
    /// One more than the drives' generation that was found even; 0 if none was.
    even_at: AtomicU64,
}

impl BalanceControl {
    pub(crate) fn status(&self, generation: u64) -> BalanceStatus {
        BalanceStatus {
            shards_left: self.shards_left.load(Ordering::Relaxed),
            is_even: self.even_at.load(Ordering::Acquire) == generation + 1,
        }
    }

    fn note(&self, shards_left: usize, even_at: Option<u64>) {
        self.shards_left.store(shards_left as u64, Ordering::Relaxed);
        self.even_at.store(even_at.map_or(0, |generation| generation + 1), Ordering::Release);
    }
}

/// What one core remembers between rounds.
pub(crate) struct BalanceRounds {
    tempo: Tempo,
    round: Cell<u32>,
    /// Of the drives, at the last look that had nothing left to do.
    looked_at: Cell<Option<u64>>,
}

impl BalanceRounds {
    pub(crate) fn new(tempo: Tempo) -> BalanceRounds {
        BalanceRounds { tempo, round: Cell::new(0), looked_at: Cell::new(None) }
    }
}

/// A shard and the drive that is to have it.
struct Move {
    volume: Arc<Volume>,
    shard: u8,
    target: usize,
}

/// What became of a planned move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Moved,
    /// Its volume went, or its drives are not as they were planned.
    Moot,
    Failed,
}

/// The fill of the drives while moves are planned.
struct Fill(Vec<(usize, DriveSpace)>);

impl Fill {
    fn parts_of(space: DriveSpace) -> u64 {
        let used_bytes = space.total_bytes.saturating_sub(space.free_bytes);
        used_bytes.saturating_mul(PARTS) / space.total_bytes.max(1)
    }

    fn space(&self, member: usize) -> Option<DriveSpace> {
        self.0.iter().find(|(other, _)| *other == member).map(|(_, space)| *space)
    }

    /// How much fuller the fullest drive is than the emptiest.
    fn spread_parts(&self) -> u64 {
        let parts = || self.0.iter().map(|(_, space)| Fill::parts_of(*space));
        parts().max().unwrap_or(0).saturating_sub(parts().min().unwrap_or(0))
    }

    /// Both drives after a move of so many bytes, if it is worth it and leaves the source no emptier than the target.
    fn after(&self, source: usize, target: usize, len_bytes: u64) -> Option<(DriveSpace, DriveSpace)> {
        let (from, to) = (self.space(source)?, self.space(target)?);
        if Fill::parts_of(from) < Fill::parts_of(to) + END_PARTS || !Room::AboveReserve.holds(to, len_bytes) {
            return None;
        }
        let from = DriveSpace { free_bytes: from.free_bytes + len_bytes, ..from };
        let to = DriveSpace { free_bytes: to.free_bytes - len_bytes, ..to };
        (Fill::parts_of(from) >= Fill::parts_of(to)).then_some((from, to))
    }

    fn set(&mut self, member: usize, space: DriveSpace) {
        if let Some((_, known)) = self.0.iter_mut().find(|(other, _)| *other == member) {
            *known = space;
        }
    }

    /// The best move of a shard of this volume: from the fullest of its drives to the emptiest of the others.
    fn plan(&mut self, volume: &Arc<Volume>) -> Option<Move> {
        let members = volume.members();
        let parts = |member: usize| self.space(member).map(Fill::parts_of);
        let held =
            (0u8..).zip(&members).filter_map(|(shard, member)| Some((parts((*member)?)?, shard, (*member)?)));
        let (_, shard, source) = held.max_by_key(|(parts, _, _)| *parts)?;
        let others = self.0.iter().filter(|(member, _)| !members.contains(&Some(*member)));
        let (target, _) = *others.min_by_key(|(_, space)| Fill::parts_of(*space))?;
        let len_bytes = sector_offset_bytes(volume.frontier_sector());
        let (from, to) = self.after(source, target, len_bytes)?;
        self.set(source, from);
        self.set(target, to);
        Some(Move { volume: Arc::clone(volume), shard, target })
    }
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// Evens the drives out now, if they are further apart than a background round would leave them, as fast as they
    /// allow; the number of shards moved.
    ///
    /// Cost: for each shard two sequential reads and one sequential write of its segment.
    pub async fn balance_now(&self) -> usize {
        let pace = crate::pace::Pace::new(self.inner.media.executor.now());
        let tempo = Tempo { pace, bytes_per_s: None };
        let mut moved = 0;
        for planned in self.inner.plan_moves(END_PARTS).await.0 {
            moved += usize::from(self.inner.carry_out(planned, &tempo).await == Outcome::Moved);
        }
        moved
    }
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    /// From time to time, and soon after drives joined or went: looks at the drives, and moves what is planned until
    /// something is to be repaired.
    pub(crate) async fn balance_round(self: &Rc<Self>, repair: &RepairRounds, rounds: &BalanceRounds) {
        let round = rounds.round.get().wrapping_add(1);
        rounds.round.set(round);
        let shared = &self.media.shared;
        let generation = shared.drives.generation();
        if rounds.looked_at.get() == Some(generation) && !round.is_multiple_of(LOOK_ROUNDS) {
            return;
        }
        let (planned, all_told) = self.plan_moves(BEGIN_PARTS).await;
        let (mut left, mut moved, mut failed) = (planned.len(), 0, 0);
        let is_even = planned.is_empty() && all_told;
        rounds.looked_at.set(is_even.then_some(generation));
        shared.balance.note(left, is_even.then_some(generation));
        for planned in planned {
            if shared.stopping.load(Ordering::SeqCst) || !self.due(repair).is_empty() {
                break;
            }
            match self.carry_out(planned, &rounds.tempo).await {
                Outcome::Moved => moved += 1,
                Outcome::Moot => {}
                Outcome::Failed => {
                    failed += 1;
                    continue;
                }
            }
            left -= 1;
            shared.balance.note(left, None);
        }
        if moved > 0 {
            tracing::info!(shards = moved, "moved from fuller drives to emptier ones");
        }
        if failed > 0 || (moved == 0 && left > 0) {
            // What cannot move now is not tried every second.
            rounds.looked_at.set(Some(generation));
        }
    }

    /// What to move if the drives are less alike than `begin_parts`, and whether all of them told how full they are: this
    /// core may not have opened one yet. Cost: one look at every drive and volume.
    async fn plan_moves(&self, begin_parts: u64) -> (Vec<Move>, bool) {
        let shared = &self.media.shared;
        let healthy = shared.drives.healthy();
        let mut fill = Fill(self.media.spaces_of(&healthy).await);
        let all_told = fill.0.len() == healthy.len();
        let mut moves = Vec::new();
        if fill.spread_parts() < begin_parts {
            return (moves, all_told);
        }
        for volume in shared.volumes.from(VolumeId(0)) {
            let is_sealed = matches!(volume.state(), VolumeState::Sealed { .. });
            // Runs are short-lived: their successors go where there is room.
            if is_sealed && volume.class != VolumeClass::Run {
                moves.extend(fill.plan(&volume));
            }
        }
        (moves, all_told)
    }

    /// Moves one shard, if its volume is still there and its drives are as they were planned.
    async fn carry_out(self: &Rc<Self>, planned: Move, tempo: &Tempo) -> Outcome {
        let Move { volume, shard, target } = planned;
        let healthy = self.media.shared.drives.healthy();
        let source = volume.member(usize::from(shard));
        let is_as_planned = healthy.contains(&target)
            && source.is_some_and(|source| healthy.contains(&source))
            && !volume.members().contains(&Some(target));
        if !is_as_planned || self.media.is_gone(&volume) {
            return Outcome::Moot;
        }
        let id = volume.id.0;
        let due = Due { volume, shard, is_copy: true, in_place: None };
        let why = match self.repair_shard(&due, target, tempo).await {
            Ok(()) => {
                count(&self.media.shared.counts.shards_balanced, 1);
                return Outcome::Moved;
            }
            Err(RepairError::Gone) => return Outcome::Moot,
            Err(RepairError::Lost) => "too little of its volume is left".to_owned(),
            Err(RepairError::Target) => "the drive that was to take it failed or is full".to_owned(),
            Err(RepairError::Metadata(error)) => format!("metadata: {error}"),
        };
        tracing::warn!(volume = id, shard, why, "a shard cannot move to an emptier drive; it is tried again");
        Outcome::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drives(used: &[u64]) -> Fill {
        let space = |used: &u64| DriveSpace { total_bytes: 1_000, free_bytes: 1_000 - used };
        Fill(used.iter().map(space).enumerate().collect())
    }

    #[test]
    fn a_move_is_worth_it_until_the_drives_are_nearly_alike_and_never_swaps_them() {
        let fill = drives(&[500, 100, 460]);
        assert_eq!(fill.spread_parts(), 400);
        let (from, to) = fill.after(0, 1, 50).expect("worth it");
        assert_eq!((Fill::parts_of(from), Fill::parts_of(to)), (450, 150));
        assert!(fill.after(0, 1, 201).is_none(), "it would swap them");
        assert!(fill.after(0, 2, 10).is_none(), "alike enough");
        assert!(fill.after(1, 0, 10).is_none(), "from the emptier to the fuller");
        assert!(fill.after(0, 7, 10).is_none(), "no such drive");
        let full = Fill(vec![
            (0, DriveSpace { total_bytes: 1_000, free_bytes: 10 }),
            (1, DriveSpace { total_bytes: 1_000, free_bytes: 80 }),
        ]);
        assert!(full.after(0, 1, 20).is_none(), "the reserve stays");
    }
}
