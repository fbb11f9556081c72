//! Random histories: appends, rolls, failing and hanging drives, crashes at any instant, restarts with drives missing.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::future::join_all;
use shardstore_sim::Faults;

use super::*;

/// What the test knows of the log.
#[derive(Default)]
struct Model {
    /// Records acknowledged or read at a start, by number from 1.
    fixed: Vec<String>,
    /// Submitted and not answered, in order.
    open: Vec<String>,
    /// Rolls that a start may find: (manifest, keep-from). The last confirmed one first.
    rolls: Vec<(Option<Bytes>, u64)>,
    submitted: u64,
}

type Shared = Rc<RefCell<Model>>;

impl Model {
    fn answered(&mut self, payload: &str, answer: Result<u64, LogError>) {
        match answer {
            Ok(sequence) => {
                self.open.retain(|other| other != payload);
                // Answers arrive in any order of tasks; numbers tell the order.
                let index = usize::try_from(sequence).unwrap() - 1;
                if self.fixed.len() <= index {
                    self.fixed.resize(index + 1, String::new());
                }
                assert_eq!(self.fixed[index], "", "number {sequence} is given once");
                self.fixed[index] = payload.into();
            }
            Err(LogError::ReadOnly | LogError::NoSpace) => self.open.retain(|other| other != payload),
            Err(LogError::Stopped) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Compares with what a start found, and fixes what was found beyond what was acknowledged.
    fn check(&mut self, recovered: &Recovered) {
        let roll = (recovered.manifest.clone(), recovered.next_sequence - recovered.records.len() as u64);
        assert!(self.rolls.contains(&roll), "{roll:?} is none of {:?}", self.rolls);
        let fixed_next = self.fixed.len() as u64 + 1;
        assert!(recovered.next_sequence >= fixed_next, "lost {}..{fixed_next}", recovered.next_sequence);
        for (sequence, (number, payload)) in (roll.1..).zip(payloads(recovered)) {
            assert_eq!(number, sequence);
            let index = usize::try_from(number).unwrap() - 1;
            if let Some(fixed) = self.fixed.get(index).filter(|fixed| !fixed.is_empty()) {
                assert_eq!(*fixed, payload, "record {number}");
                continue;
            }
            let place = self.open.iter().position(|open| *open == payload);
            let place = place
                .unwrap_or_else(|| panic!("record {number}, {payload}, was never submitted or out of order"));
            self.open.drain(..=place);
            if index == self.fixed.len() {
                self.fixed.push(payload);
            } else {
                self.fixed[index] = payload;
            }
        }
        assert!(self.fixed.iter().skip(usize::try_from(roll.1).unwrap() - 1).all(|fixed| !fixed.is_empty()));
        self.rolls = vec![roll];
        self.open.clear();
    }
}

/// One life of the process: random operations until they are done or the crash comes.
async fn life(
    log: SimLog,
    model: Shared,
    drives: Vec<(DriveId, SimDrive)>,
    lying: Option<usize>,
    mut rng: fastrand::Rng,
) {
    for _ in 0..rng.usize(1..60) {
        match rng.u8(..12) {
            0..8 => {
                let appends =
                    (0..rng.usize(1..5)).map(|_| append(&log, &model, &mut rng)).collect::<Vec<_>>();
                join_all(appends).await;
            }
            8 | 9 => roll(&log, &model, &mut rng).await,
            10 => disturb(&drives, lying, &mut rng),
            _ => {
                let returned = drives.iter().map(|(id, drive)| {
                    drive.resume();
                    drive.come_back();
                    (*id, drive.reopen())
                });
                log.set_drives(returned.collect());
            }
        }
    }
}

fn append(log: &SimLog, model: &Shared, rng: &mut fastrand::Rng) -> impl Future<Output = ()> + use<> {
    let payload = {
        let mut model = model.borrow_mut();
        model.submitted += 1;
        let len = if rng.u8(..20) == 0 { rng.usize(..300_000) } else { rng.usize(..9_000) };
        format!("{} {}", model.submitted, "x".repeat(len))
    };
    model.borrow_mut().open.push(payload.clone());
    let answer = log.append(vec![Bytes::from(payload.clone())]);
    let model = Rc::clone(model);
    async move {
        let answer = answer.await;
        model.borrow_mut().answered(&payload, answer);
    }
}

async fn roll(log: &SimLog, model: &Shared, rng: &mut fastrand::Rng) {
    let (manifest, keep_from) = {
        let mut model = model.borrow_mut();
        let keep_min = model.rolls.iter().map(|roll| roll.1).max().unwrap();
        let keep_from = rng.u64(keep_min..=model.fixed.len() as u64 + 1);
        let manifest = Bytes::from(vec![rng.u8(..); rng.usize(..20_000)]);
        model.rolls.push((Some(manifest.clone()), keep_from));
        (manifest, keep_from)
    };
    let answer = log.roll(manifest.clone(), keep_from).await;
    let mut model = model.borrow_mut();
    match answer {
        Ok(()) => model.rolls = vec![(Some(manifest), keep_from)],
        Err(LogError::NoSpace) => {
            model.rolls.pop();
        }
        Err(LogError::ReadOnly | LogError::Stopped) => {}
        Err(error) => panic!("{error}"),
    }
}

fn disturb(drives: &[(DriveId, SimDrive)], lying: Option<usize>, rng: &mut fastrand::Rng) {
    let drive = &drives[rng.usize(..drives.len())].1;
    match rng.u8(..8) {
        5 => drive.set_faults(Faults {
            meta_error_per_mille: 30,
            no_space_per_mille: 100,
            stall_per_mille: 10,
            read_error_per_mille: 20,
            write_error_per_mille: 5,
            ..Faults::default()
        }),
        6 => drive.set_faults(Faults::default()),
        0 => drive.hang(),
        1 => drive.resume(),
        2 => drive.fail_writes(1),
        3 => drive.vanish(),
        4 => drive.slow_by(rng.u64(1..30)),
        _ => {
            let lying = drives.iter().find(|(drive, _)| lying.is_some_and(|lying| *drive == id(lying)));
            if let Some((_, lying)) = lying {
                lying.set_faults(Faults {
                    bit_flip_per_mille: 100,
                    lost_write_per_mille: 50,
                    misdirected_write_per_mille: 20,
                    ..Faults::default()
                });
            }
        }
    }
}

fn history(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let set_size = rng.usize(1..4);
    let drive_count = set_size + rng.usize(..3);
    let mut world = World::new(seed, drive_count, set_size);
    let lying = (set_size > 1 && rng.bool()).then(|| rng.usize(..drive_count));
    let model = Shared::default();
    model.borrow_mut().rolls = vec![(None, 1)];
    // Drives that alone hold what was served, until a full set does.
    let mut fragile: Vec<usize> = Vec::new();
    // Drives that were wiped since the log was last on a full set: they are lost as long.
    let mut wiped: Vec<usize> = Vec::new();
    for _ in 0..rng.usize(2..6) {
        // Up to m drives are lost; one that lies is one of them.
        let lost_max = set_size - 1 - usize::from(lying.is_some()) - wiped.len();
        let keep = |drive: &usize| fragile.contains(drive) || wiped.contains(drive) || lying == Some(*drive);
        let mut lost: Vec<usize> = world.all().into_iter().filter(|drive| !keep(drive)).collect();
        rng.shuffle(&mut lost);
        lost.truncate(if fragile.is_empty() { rng.usize(..=lost_max) } else { 0 });
        let mut present = world.all();
        if rng.bool() {
            lost.iter().for_each(|&drive| world.drives[drive].wipe());
            world.reopen();
            wiped.extend(lost);
        } else {
            present.retain(|drive| !lost.contains(drive));
        }
        let listed = world.listed(&present);
        // A crash may come while it opens as well.
        let opening = open(listed.clone(), set_size, world.sim.executor());
        let opened = world.sim.run(opening, if rng.u8(..3) == 0 { rng.u64(..400) } else { u64::MAX });
        if let Some(opened) = opened {
            let (log, recovered) = opened.unwrap();
            model.borrow_mut().check(&recovered);
            fragile = if recovered.writable { Vec::new() } else { present.clone() };
            if recovered.writable {
                wiped.clear();
            }
            let life = life(log, Rc::clone(&model), listed, lying, rng.fork());
            let polls_max = rng.u64(..4_000);
            world.sim.run(life, polls_max);
        }
        for drive in &world.drives {
            drive.set_faults(Faults::default());
            drive.fail_writes(0);
            drive.slow_by(1);
            drive.resume();
            drive.come_back();
        }
        if rng.bool() {
            world.crash();
        } else {
            world.sim.kill_process();
            world.reopen();
        }
    }
    let (_, recovered) = world.open(&world.all());
    model.borrow_mut().check(&recovered);
}

#[test]
fn no_history_of_crashes_and_failing_drives_loses_an_acknowledged_or_served_record() {
    let seeds = std::env::var("BASALT_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    let first = std::env::var("BASALT_SIM_FIRST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        history(seed);
    }
}
