//! Runs a plan: the lives of its process one after the other, each checked when it begins and, if it gets there, ends.
//! Invariants: everything that happens follows from the plan and its seed.
//! Not here: choosing and shrinking plans (`main`, `shrink`).

use std::rc::Rc;
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use shardstore_reactor::{Clock, Executor, timeout};
use shardstore_sim::Sim;

use crate::check;
use crate::client::Worker;
use crate::mutation::Mutation;
use crate::plan::{End, Keeping, Life, OPERATOR, Plan};
use crate::process::Process;
use crate::versions;
use crate::world::World;

/// More polls than any life takes: beyond it something spins.
const POLLS_MAX: u64 = 30_000_000;
/// What a request that its client left may still do, is done by then.
const REST: Duration = Duration::from_secs(40);
/// The slowest operation of a drive, twice: 6 ms, a thousand times slower, stalled by a hundred. What began while it was
/// slow ends no sooner because it was mended, and the log sends a drive nothing else before.
const SLOWEST: Duration = Duration::from_mins(20);
/// Simulated time that the steps of a life take at most while drives answer: hung ones are fenced after 30 s.
const PATIENCE: Duration = Duration::from_mins(10);
/// By then every retention has ended.
const RETENTION_END_MS: u64 = 2 * 365 * 24 * 60 * 60 * 1_000;
/// As long as systemd waits before it kills.
const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// What a run was, for the test that looks at many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) digest: u64,
    pub(crate) acknowledged: u64,
    pub(crate) crashes: u64,
    pub(crate) flushes: u64,
    pub(crate) compactions: u64,
    pub(crate) repaired: u64,
    pub(crate) mended: u64,
}

/// Runs a plan to its end. Panics if a promise was broken.
pub(crate) fn run(plan: &Plan, mutation: Option<Mutation>) -> Ran {
    let sim = Sim::new(plan.seed);
    let world = World::new(&sim, plan, mutation);
    let mut ran = Ran::default();
    for life in &plan.lives {
        let (polls_max, is_cut) = match life.end {
            End::Crash { polls } | End::Kill { polls } => (polls, true),
            End::Healed | End::Stop => (POLLS_MAX, false),
        };
        let ended = sim.run(live(&world, life, &mut ran), polls_max);
        assert!(ended.is_some() || is_cut, "a life does not end");
        ran.crashes += u64::from(ended.is_none());
        match life.end {
            End::Crash { .. } => sim.crash(),
            End::Kill { .. } | End::Healed | End::Stop => sim.kill_process(),
        }
        world.restart();
    }
    finish(&sim, &world);
    ran.digest = sim.trace_digest();
    ran.acknowledged = world.model.borrow().acknowledged;
    ran
}

async fn live(world: &Rc<World>, life: &Life, ran: &mut Ran) {
    let process = Rc::new(Process::start(world).await);
    check::settle(world, &process).await;
    let (sender, working) = mpsc::unbounded::<()>();
    for client in 0..=OPERATOR {
        let steps = life.steps.iter().filter(|step| step.client == client).cloned().collect();
        let worker = Worker { world: Rc::clone(world), process: Rc::clone(&process) };
        let sender = sender.clone();
        world.executor.spawn(async move {
            worker.work(steps).await;
            drop(sender);
        });
    }
    drop(sender);
    until_done(world, &process, working).await;
    world.executor.sleep(REST).await;
    if process.factory.stats().read_only {
        // A commit that its client left may wait for drives, and nothing is at rest before it is decided.
        mend_all(world, &process).await;
        wait_until_writable(world, &process).await;
        if process.factory.stats().read_only {
            replace_all(world, &process).await;
            wait_until_writable(world, &process).await;
        }
        world.executor.sleep(REST).await;
        assert!(!process.factory.stats().read_only, "metadata stays read-only though every drive is there");
    }
    check::settle(world, &process).await;
    check::recount(&process).await;
    if life.end == End::Healed {
        check::heal(world, &process).await;
        check::settle(world, &process).await;
        versions::remove_some(world, &process).await;
        check::settle(world, &process).await;
    }
    let stats = process.factory.stats();
    ran.flushes += stats.flushes;
    ran.compactions += stats.compactions;
    let stats = process.shared.stats();
    ran.repaired += stats.shards_repaired;
    ran.mended += stats.pages_mended;
    // A stop waits for the seals of open volumes, and those for a log that too few drives are left for: whoever stops the
    // process loses patience then.
    if timeout(&world.executor, STOP_PATIENCE, process.stop()).await.is_err() {
        tracing::info!("the process is killed while it stops");
    }
}

async fn wait_until_writable(world: &World, process: &Process) {
    let begun = world.executor.now();
    while process.factory.stats().read_only && world.executor.now().since(begun) < SLOWEST {
        world.executor.sleep(REST).await;
    }
}

/// What an operator does about drives that requests wait for.
enum Remedy {
    Patience,
    Mend,
    Replace,
}

/// Waits until every client is done. A commit that too few drives are left for waits for them, so they come back, or
/// others take their place.
async fn until_done(world: &World, process: &Process, mut working: mpsc::UnboundedReceiver<()>) {
    let mut done = std::pin::pin!(async move { while working.next().await.is_some() {} });
    for remedy in [Remedy::Patience, Remedy::Mend, Remedy::Replace] {
        match remedy {
            Remedy::Patience => {}
            Remedy::Mend => mend_all(world, process).await,
            Remedy::Replace => replace_all(world, process).await,
        }
        let patience = std::pin::pin!(world.executor.sleep(PATIENCE));
        match select(done, patience).await {
            Either::Left(_) => return,
            Either::Right((_, still)) => done = still,
        }
    }
    panic!("requests do not end though every drive is there");
}

async fn mend_all(world: &World, process: &Process) {
    for drive in 0..world.plan.drives {
        process.keeper.mend(drive).await;
    }
}

/// What lies in the place of a drive whose identity is damaged is none, and the log may have no other.
async fn replace_all(world: &World, process: &Process) {
    for drive in 0..world.plan.drives {
        process.keeper.replace(drive).await;
    }
}

/// Makes all whole, deletes everything and waits until all space came back. Where drives are gone for good that the log
/// needs, others take their place first.
async fn give_all_back(world: &Rc<World>) {
    let process = Process::start(world).await;
    if process.started_read_only {
        replace_all(world, &process).await;
        wait_until_writable(world, &process).await;
    }
    check::settle(world, &process).await;
    check::recount(&process).await;
    check::heal(world, &process).await;
    check::settle(world, &process).await;
    check::give_back(world, &process).await;
    process.stop().await;
}

/// All drives come back, all is made whole, everything is deleted, and nothing is left.
fn finish(sim: &Sim, world: &Rc<World>) {
    for drive in 0..world.plan.drives {
        world.mend_device(drive);
    }
    if world.plan.keeping == Keeping::Locked {
        sim.set_unix_ms(world.executor.unix_ms() + RETENTION_END_MS);
    }
    let step = |name: &str, ended: Option<()>| assert!(ended.is_some(), "{name} does not end");
    step("giving everything back", sim.run(give_all_back(world), POLLS_MAX));
    sim.kill_process();
    world.restart();
    let empty = async {
        let process = Process::start(world).await;
        check::settle(world, &process).await;
        check::no_stray_files(world, &process).await;
    };
    step("the last look", sim.run(empty, POLLS_MAX));
    sim.kill_process();
}
