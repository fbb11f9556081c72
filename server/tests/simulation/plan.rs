//! What one seed does: the machine, and the list of steps of each life of its process.
//! Invariants: a plan follows from its seed alone; every step stands on its own, so that any of them can be left out.
//! Not here: carrying steps out (`client`, `world`).

use server::ops::api::Encrypt;
use shardstore_format::Profile;

/// Redundancies and numbers of drives.
const POOLS: [(u8, u8, usize); 8] =
    [(1, 0, 1), (1, 1, 2), (2, 1, 3), (2, 2, 4), (2, 1, 5), (4, 2, 6), (3, 2, 5), (4, 2, 8)];
/// Clients that work side by side.
pub(crate) const CLIENTS: usize = 3;
/// Who breaks drives and asks for upkeep.
pub(crate) const OPERATOR: usize = CLIENTS;
/// Keys that clients share.
const KEYS: u32 = 14;
const MIB: u64 = 1024 * 1024;

/// All that a seed decides before anything runs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) keeping: Keeping,
    /// Whether half of the keys are of objects that are encrypted at rest.
    pub(crate) is_sealing: bool,
    pub(crate) profile: Profile,
    pub(crate) drives: usize,
    pub(crate) cores: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) growth_step_bytes: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) freeze_log_bytes: u64,
    pub(crate) lives: Vec<Life>,
}

/// What the bucket keeps of what was overwritten or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    Nothing,
    /// Versions from the beginning on.
    Versions,
    /// Versions at times: versioning is enabled and suspended while clients work.
    AtTimes,
    /// Versions, many of which are locked and must not go.
    Locked,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) end: End,
    pub(crate) steps: Vec<Step>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Power loss after so many polls, wherever they lead: start-up, work, a repair.
    Crash { polls: u64 },
    /// `kill -9` after so many polls.
    Kill { polls: u64 },
    /// When all is done; before that every drive is mended and every stripe made whole.
    Healed,
    /// When all is done.
    Stop,
}

/// What one client does next.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Unique within the plan: tags and choices of the step follow from it.
    pub(crate) id: u32,
    pub(crate) client: usize,
    pub(crate) pause_micros: u64,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Put {
        key: String,
        len_bytes: u64,
        hint: Hint,
        piece_len: usize,
        condition: Condition,
        client_is: Client,
    },
    Copy {
        from: String,
        to: String,
        client_is: Client,
    },
    Multipart {
        key: String,
        parts: Vec<u64>,
        again: bool,
        ending: Ending,
    },
    /// Ends the oldest upload that was left open.
    EndUpload {
        complete: bool,
    },
    Get {
        key: String,
        range_per_mille: Option<(u64, u64)>,
        is_slow: bool,
    },
    Delete {
        key: String,
        is_conditional: bool,
        client_is: Client,
    },
    DeleteMany {
        keys: Vec<String>,
    },
    List {
        prefix: String,
        delimiter: Option<char>,
        page: usize,
    },
    SetVersioning {
        is_enabled: bool,
    },
    /// Locks some version.
    Lock,
    /// Tries to remove or weaken what is locked.
    BreakLock,
    Seal,
    Scrub,
    Break {
        drive: usize,
        how: Breakage,
    },
    Mend {
        drive: usize,
    },
    /// If it is broken or may be.
    Replace {
        drive: usize,
    },
    /// Leaves so much room on every drive, for so long.
    Fill {
        free_bytes: u64,
        millis: u64,
    },
}

/// What a client says of a body's length before it sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hint {
    Exact,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    IfAbsent,
    /// With the tag that a look just before showed.
    IfMatch,
}

/// How much patience a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Patient,
    /// Goes away while it waits.
    GoneAfter {
        micros: u64,
    },
    /// Goes away in the middle of its body.
    CutsBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    Abort,
    Leave,
}

/// What becomes of a drive. Never more than m are broken before the others are whole again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Breakage {
    Vanish,
    Hang,
    FailWrite,
    FailReads { count: u32 },
    Flip { count: u32 },
    Lie,
    Slow,
}

impl Plan {
    /// Whether a drive can be lost at all: without parity nothing is there to fill another one from.
    pub(crate) fn can_replace(&self) -> bool {
        self.profile.m > 0
    }

    pub(crate) fn of_seed(seed: u64) -> Plan {
        // Spread, since neighbouring seeds of a small generator begin alike.
        let mut rng = fastrand::Rng::with_seed((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (k, m, drives) = POOLS[rng.usize(..POOLS.len())];
        let mut ids = 0;
        let life_count = rng.usize(2..=4);
        let lives = (0..life_count).map(|index| life(&mut rng, index + 1 == life_count, drives, &mut ids));
        let lives = lives.collect();
        Plan {
            seed,
            keeping: Keeping::Nothing,
            is_sealing: false,
            profile: Profile { k, m },
            drives,
            cores: rng.usize(1..=2),
            segment_bytes: [4 * MIB, 6 * MIB, 16 * MIB][rng.usize(..3)],
            growth_step_bytes: [64 * 1024, 256 * 1024][rng.usize(..2)],
            cache_bytes: [0, MIB, 16 * MIB][rng.usize(..3)],
            freeze_log_bytes: [16 * 1024, 64 * 1024, 256 * 1024, MIB][rng.usize(..4)],
            lives,
        }
    }

    /// The same plan with encryption at rest. Nothing is drawn for it, so every step is what it was.
    pub(crate) fn sealing(self) -> Plan {
        Plan { is_sealing: true, ..self }
    }

    /// How objects of this key are encrypted.
    pub(crate) fn encrypt(&self, key: &str) -> Option<Encrypt> {
        let of_key = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = key.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, of_key);
        (self.is_sealing && (hash >> 32) & 1 == 0).then_some(Encrypt::Managed)
    }

    /// The same plan in a bucket that keeps versions, with steps that only such a bucket has among the others.
    pub(crate) fn keeping(self, keeping: Keeping) -> Plan {
        let mut plan = Plan { keeping, ..self };
        let mut rng = fastrand::Rng::with_seed((plan.seed + 1).wrapping_mul(0xd1b5_4a32_d192_ed03));
        let mut ids = plan.lives.iter().flat_map(|life| &life.steps).map(|step| step.id).max().unwrap_or(0);
        for life in &mut plan.lives {
            let more = match keeping {
                Keeping::Nothing | Keeping::Versions => 0,
                Keeping::AtTimes => rng.usize(1..5),
                Keeping::Locked => rng.usize(4..12),
            };
            for _ in 0..more {
                let client = rng.usize(..CLIENTS);
                let step = step(&mut rng, &mut ids, client, |rng| match (keeping, rng.u8(..3)) {
                    (Keeping::AtTimes, choice) => Action::SetVersioning { is_enabled: choice > 0 },
                    (_, 0) => Action::Lock,
                    (_, _) => Action::BreakLock,
                });
                let place = rng.usize(..=life.steps.len());
                life.steps.insert(place, step);
            }
            if keeping == Keeping::AtTimes {
                // Which version of its source a copy took would have to be known to know what a null version holds.
                life.steps.retain(|step| !matches!(step.action, Action::Copy { .. }));
            }
        }
        plan
    }

    pub(crate) fn step_count(&self) -> usize {
        self.lives.iter().map(|life| life.steps.len()).sum()
    }

    /// The same plan without the steps that `keep` refuses.
    pub(crate) fn with_steps(&self, keep: impl Fn(u32) -> bool) -> Plan {
        let mut plan = self.clone();
        for life in &mut plan.lives {
            life.steps.retain(|step| keep(step.id));
        }
        plan
    }
}

fn life(rng: &mut fastrand::Rng, is_last: bool, drives: usize, ids: &mut u32) -> Life {
    let end = match rng.u8(..10) {
        _ if is_last => End::Healed,
        0..5 => End::Crash { polls: polls(rng) },
        5..7 => End::Kill { polls: polls(rng) },
        7..9 => End::Healed,
        _ => End::Stop,
    };
    let mut steps = Vec::new();
    for client in 0..CLIENTS {
        for _ in 0..rng.u32(4..14) {
            steps.push(step(rng, ids, client, client_action));
        }
    }
    let operator = |rng: &mut fastrand::Rng| operator_action(rng, drives);
    for _ in 0..rng.u32(0..6) {
        steps.push(step(rng, ids, OPERATOR, operator));
    }
    Life { end, steps }
}

/// Small numbers fall into start-up and the first writes.
fn polls(rng: &mut fastrand::Rng) -> u64 {
    match rng.u8(..4) {
        0 => rng.u64(50..1_500),
        1 => rng.u64(1_500..6_000),
        _ => rng.u64(3_000..25_000),
    }
}

fn step(
    rng: &mut fastrand::Rng,
    ids: &mut u32,
    client: usize,
    action: impl Fn(&mut fastrand::Rng) -> Action,
) -> Step {
    *ids += 1;
    let pause_micros = match rng.u8(..8) {
        0 => rng.u64(1_000_000..8_000_000),
        1..3 => rng.u64(..60_000),
        _ => rng.u64(..2_000),
    };
    Step { id: *ids, client, pause_micros, action: action(rng) }
}

fn key(rng: &mut fastrand::Rng) -> String {
    match rng.u32(..KEYS) {
        number @ 0..5 => format!("a/{number}"),
        number @ 5..9 => format!("b/{number}"),
        number => format!("c{number}"),
    }
}

fn len_bytes(rng: &mut fastrand::Rng) -> u64 {
    match rng.u8(..20) {
        0..5 => rng.u64(0..1_025),
        5..9 => rng.u64(1_025..20_000),
        9..13 => rng.u64(20_000..200_000),
        13 => rng.u64(200_000..MIB),
        14 => rng.u64(MIB..5 * MIB / 2),
        15 => [0, 1, 1_024, 1_025, 4_032, 4_033][rng.usize(..6)],
        16 => [65_472, 65_473, 65_536, 65_537, MIB - 1, MIB][rng.usize(..6)],
        _ => rng.u64(1_025..9_000),
    }
}

fn client_is(rng: &mut fastrand::Rng) -> Client {
    match rng.u8(..12) {
        0 => Client::GoneAfter { micros: rng.u64(..4_000) },
        1 => Client::CutsBody,
        _ => Client::Patient,
    }
}

fn client_action(rng: &mut fastrand::Rng) -> Action {
    match rng.u8(..26) {
        0..10 => Action::Put {
            key: key(rng),
            len_bytes: len_bytes(rng),
            hint: if rng.u8(..4) == 0 { Hint::Unknown } else { Hint::Exact },
            piece_len: rng.usize(1_000..200_000),
            condition: [Condition::Always, Condition::Always, Condition::IfAbsent, Condition::IfMatch]
                [rng.usize(..4)],
            client_is: client_is(rng),
        },
        10..12 => Action::Copy { from: key(rng), to: key(rng), client_is: client_is(rng) },
        12 => Action::Multipart {
            key: key(rng),
            parts: parts(rng),
            again: rng.bool(),
            ending: [Ending::Complete, Ending::Complete, Ending::Abort, Ending::Leave][rng.usize(..4)],
        },
        13 => Action::EndUpload { complete: rng.bool() },
        14..19 => Action::Get {
            key: key(rng),
            range_per_mille: rng.bool().then(|| {
                let begin = rng.u64(..=1_000);
                (begin, rng.u64(begin..=1_000))
            }),
            is_slow: rng.u8(..3) == 0,
        },
        19..22 => Action::Delete {
            key: key(rng),
            is_conditional: rng.u8(..4) == 0,
            client_is: if rng.u8(..8) == 0 {
                Client::GoneAfter { micros: rng.u64(..2_000) }
            } else {
                Client::Patient
            },
        },
        22 => Action::DeleteMany { keys: (0..rng.usize(1..8)).map(|_| key(rng)).collect() },
        _ => Action::List {
            prefix: ["", "a/", "b/", "c"][rng.usize(..4)].to_owned(),
            delimiter: rng.bool().then_some('/'),
            page: [1, 3, 1_000][rng.usize(..3)],
        },
    }
}

/// Mostly one small part: a part before the last one takes 5 MiB.
fn parts(rng: &mut fastrand::Rng) -> Vec<u64> {
    let mut parts: Vec<u64> = (0..rng.usize(..8) / 7).map(|_| 5 * MIB + rng.u64(..2) * 777).collect();
    parts.push(rng.u64(0..300_000));
    parts
}

fn operator_action(rng: &mut fastrand::Rng, drives: usize) -> Action {
    match rng.u8(..13) {
        12 => Action::Replace { drive: rng.usize(..drives) },
        0..6 => Action::Break { drive: rng.usize(..drives), how: breakage(rng) },
        6..9 => Action::Mend { drive: rng.usize(..drives) },
        9 => Action::Seal,
        10 => Action::Scrub,
        _ => Action::Fill { free_bytes: rng.u64(..3 * MIB), millis: rng.u64(1..8_000) },
    }
}

fn breakage(rng: &mut fastrand::Rng) -> Breakage {
    match rng.u8(..8) {
        0 => Breakage::Vanish,
        1 => Breakage::Hang,
        2 => Breakage::FailWrite,
        3 => Breakage::FailReads { count: rng.u32(1..50) },
        4 => Breakage::Flip { count: rng.u32(1..20) },
        5 | 6 => Breakage::Lie,
        _ => Breakage::Slow,
    }
}
