//! From a checked configuration to a serving process, and back down again.
//! Invariants: no core serves before recovery ended; every refusal is one [`StartError`] sentence; a stop seals what is
//! open and finishes what is under way, within `STOP_DEADLINE`.
//! Order: ports, directories, locks, drives, metadata, root credentials, recovery, cores, screen.
//! Not here: what a core does for a request (`s3`, `ops`); drives' rules (`shardstore::open_pool`).

mod budget;
mod credentials;
mod drives;
mod gauges;
mod offline;
mod restore;
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use fdb_schema::engine::embedded::{self, Embedded, EmbeddedConfig, EmbeddedFactory, OpenReport};
use fdb_schema::schema::{Metadata, Outcomes, volume_counter_key};
use futures_channel::oneshot;
use futures_util::future::join_all;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use shardstore::{Media, Pool, PoolOptions, Store, StoreShared, open_pool};
use shardstore_reactor::{
    Clock, CoreConfig, CoreExecutor, CoreHandle, Drive, Executor, FileLock, Net, RealDrive, RealDriveFactory,
    RealListener, RealNet, flags_in_use, probe, spawn_core, timeout,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::budget::Budget;
use self::drives::{LockedDrives, lock_drives};
use self::gauges::Gauges;
use self::support::support_facts;
use crate::admin::{
    AdminApi, AdminService, IdentityHandle, IdentityParts, InspectorHandle, Phase, Status, identities,
    inspector, keep_metrics,
};
use crate::auth::{Accounts, Credentials as _};
use crate::banner::{Screen, facts_from_text, facts_to_text};
use crate::config::{CertificateSource, Config, ListenAddress, RootCredentials};
use crate::drives::{DriveHandle, DriveSet, Keeper, KeeperParts, LogChanges, follow_drives, log_changes};
use crate::http::{AcceptLimits, ConnectionLimits, CoreContext, Protection, TlsAcceptor, serve_listener};
use crate::keys::MasterKey;
use crate::ops::{Admission, Core, Exports, GcHandle, MetadataRuns, StoreCatalog, collector};
use crate::s3::access_log::{AccessLog, Delivery};
use crate::s3::handlers::{S3Config, S3Service};
use crate::s3::lifecycle_pass::LifecyclePass;
use crate::tls::TlsRenewal;

pub use self::offline::fsck;
pub use self::restore::{RestoreOptions, RestoreReport, import_metadata};

/// A stop waits this long for requests under way; then it ends anyway, and they were not acknowledged.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// And so long for the last access logs.
const LOG_DEADLINE: Duration = Duration::from_secs(10);
/// And so long for the seals of what is open: they wait for a metadata log that too few drives are left for.
const SEAL_DEADLINE: Duration = Duration::from_secs(10);
/// The kernel takes down the io_uring of a process that ended a little later than the process, and its listeners with
/// it: 6 ms were seen after an idle server, above 100 ms after one that was removing files. A port is given 4 s before it
/// counts as taken.
const PORT_TRIES: u32 = 200;
const PORT_TRY_INTERVAL: Duration = Duration::from_millis(20);
/// Where the facts of the last start lie on a drive.
const STARTED_PATH: &str = "identity/started";
/// The facts are ten short lines.
const STARTED_MAX_BYTES: usize = 16 * 1024;

/// Why the process did not start: one sentence for the operator.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

fn refused(source: impl std::fmt::Display) -> StartError {
    StartError(source.to_string())
}

type Engine = Embedded<MetadataRuns<RealDrive, CoreExecutor>, CoreExecutor>;
type CoreOps = Core<RealDrive, Engine, CoreExecutor>;

/// What the metadata thread found and every core needs.
#[derive(Clone)]
struct Booted {
    pool: Pool<RealDriveFactory>,
    shared: Arc<StoreShared>,
    drives: Arc<DriveSet>,
    log: LogChanges,
    metadata: EmbeddedFactory,
    report: OpenReport,
    before: Vec<(String, String)>,
}

/// What a core is given.
#[derive(Clone)]
struct CorePlan {
    index: usize,
    config: Config,
    budget: Budget,
    booted: Booted,
    /// Where an address of the listener is https.
    tls: Option<TlsAcceptor>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`]: nothing was served.
pub fn serve(mut config: Config) -> Result<(), StartError> {
    probe().map_err(refused)?;
    confine_to(&config.cpus)?;
    raise_file_limit();
    for listen in &mut config.listen {
        listen.address = free_port("listen", listen.address)?;
    }
    config.admin_listen = free_port("admin-listen", config.admin_listen)?;
    let renewal = TlsRenewal::start(&config).map_err(refused)?;
    let mut locked = lock_drives(&config.drives)?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|source| StartError(format!("metrics cannot be set up: {source}")))?;
    let status = Arc::new(Status::default());
    let budget = Budget::new(config.memory_bytes, config.cpus.len());
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|source| StartError(format!("signals cannot be caught: {source}")))?;
    spawn_admin(&config, Arc::clone(&status), metrics, renewal.clone())?;

    let (metadata_thread, booted) = boot(&config, &budget, &locked)?;
    status.set_live(Gauges::new(Arc::clone(&booted.shared), booted.metadata.clone(), budget.bufs()));
    let mut running = Running { cores: Vec::new(), metadata_thread, booted: booted.clone() };
    let tls = renewal.as_ref().map(|renewal| TlsAcceptor::new(renewal.current()));
    let plan = CorePlan { index: 0, config: config.clone(), budget, booted: booted.clone(), tls };
    let first = spawn_first_core(plan.clone(), &mut running)?;
    for index in 1..config.cpus.len() {
        spawn_other_core(CorePlan { index, ..plan.clone() }, &first.identities, &mut running)?;
    }
    let (drives, inspector, identities) = spawn_keeper(plan, first.identities.clone(), locked.take_locks())?;
    status.set_api(AdminApi {
        accounts: Arc::clone(&first.identities.accounts),
        region: config.region.clone(),
        drives,
        store: Arc::clone(&booted.shared),
        inspector,
        gc: first.gc.clone(),
        identities,
        facts: support_facts(&config, &booted),
    });
    status.enter(Phase::Ready);
    print_screen(&config, &booted, &first);

    let signal = wait_for_stop(&mut signals, renewal.as_deref());
    tracing::info!(signal, "stopping: finishing what is under way");
    status.enter(Phase::Stopping);
    running.stop();
    Ok(())
}

/// Reads certificates again at each SIGHUP, and returns the signal that ends the process.
fn wait_for_stop(signals: &mut Signals, renewal: Option<&TlsRenewal>) -> Option<i32> {
    signals.forever().find(|&signal| {
        if signal == SIGHUP {
            match renewal {
                Some(renewal) => renewal.reload(),
                None => tracing::info!("SIGHUP: there is no certificate to read again"),
            }
        }
        signal != SIGHUP
    })
}

/// The threads of the process and how to end them.
struct Running {
    cores: Vec<(CoreHandle<()>, oneshot::Sender<()>)>,
    metadata_thread: CoreHandle<()>,
    booted: Booted,
}

impl Running {
    fn stop(self) {
        let (handles, stops): (Vec<_>, Vec<_>) = self.cores.into_iter().unzip();
        for stop in stops {
            // A core that ended already needs no telling.
            stop.send(()).unwrap_or_default();
        }
        handles.into_iter().for_each(CoreHandle::join);
        self.booted.shared.stop();
        self.booted.metadata.stop();
        self.metadata_thread.join();
    }
}

fn confine_to(cpus: &[usize]) -> Result<(), StartError> {
    let mut set = rustix::thread::CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|source| StartError(format!("this process cannot be confined to its --cores: {source}")))
}

/// Connections and segments are file descriptors: takes what the hard limit allows.
fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(source) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
        tracing::warn!(%source, "the limit of open files stays as it is");
    }
}

/// Every core listens on the same port with SO_REUSEPORT, which would join another server's port in silence: binding
/// it alone first shows whether somebody has it.
fn free_port(option: &str, address: SocketAddr) -> Result<SocketAddr, StartError> {
    let mut bound = TcpListener::bind(address);
    for _ in 0..PORT_TRIES {
        match &bound {
            Err(source) if source.kind() == std::io::ErrorKind::AddrInUse => {}
            _ => break,
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "no core runs yet, and nothing tells when a port is free"
        )]
        std::thread::sleep(PORT_TRY_INTERVAL);
        bound = TcpListener::bind(address);
    }
    bound.and_then(|listener| listener.local_addr()).map_err(|source| {
        let reason = match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process listens there; stop it or choose another".to_owned()
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "no interface has that address; choose one of this machine's".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE".to_owned(),
            _ => source.to_string(),
        };
        StartError(format!("cannot listen on --{option} {address}: {reason}"))
    })
}

fn spawn_admin(
    config: &Config,
    status: Arc<Status>,
    metrics: PrometheusHandle,
    renewal: Option<Arc<TlsRenewal>>,
) -> Result<(), StartError> {
    let address = config.admin_listen;
    let (sender, receiver) = mpsc::channel();
    let thread = spawn_core(CoreConfig::new(None, "admin"), move |executor| async move {
        let listening = RealNet.listen(address).await;
        let listener = match listening {
            Ok(listener) => listener,
            Err(source) => return drop(sender.send(Err(source))),
        };
        drop(sender.send(Ok(())));
        executor.spawn(keep_metrics(executor.clone(), metrics.clone()));
        if let Some(renewal) = renewal {
            executor.spawn(renewal.watch(executor.clone()));
        }
        let service = AdminService::new(status, metrics, executor.clone());
        let context = CoreContext::new(executor, ConnectionLimits::default(), AcceptLimits::default());
        serve_listener(listener, Protection::Plain, context, service).await;
    });
    thread.map_err(refused)?;
    match receiver.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(StartError(format!("cannot listen on --admin-listen {address}: {source}"))),
        Err(_) => Err(StartError("the admin thread ended at its start".to_owned())),
    }
}

/// Starts the metadata thread, which recognises the drives, opens the engine and then runs its commits.
fn boot(
    config: &Config,
    budget: &Budget,
    locked: &LockedDrives,
) -> Result<(CoreHandle<()>, Booted), StartError> {
    let (sender, receiver) = mpsc::channel();
    let (config, budget, factories) = (config.clone(), budget.clone(), locked.factories());
    let set_aside = locked.set_aside().to_vec();
    // With one core the thread shares its CPU; with more it goes where there is room.
    let cpu = (config.cpus.len() == 1).then(|| config.cpus[0]);
    let thread = spawn_core(CoreConfig::new(cpu, "metadata"), move |executor| async move {
        match open_everything(&config, &budget, &factories, set_aside, &executor).await {
            Ok((booted, commits)) => {
                drop(sender.send(Ok(booted)));
                commits.run().await;
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    })
    .map_err(refused)?;
    let booted =
        receiver.recv().map_err(|_| StartError("the metadata thread ended at its start".to_owned()))??;
    Ok((thread, booted))
}

/// Starts the thread that keeps the drives; the locks on their directories are its own from now on.
fn spawn_keeper(
    plan: CorePlan,
    identities: IdentityParts,
    locks: Vec<(PathBuf, FileLock)>,
) -> Result<(DriveHandle, InspectorHandle, IdentityHandle), StartError> {
    let (sender, receiver) = mpsc::channel();
    let thread = spawn_core(CoreConfig::new(None, "drives"), move |executor| async move {
        match keeper(&plan, identities, locks, &executor).await {
            Ok((keeper, handle, inspector, identities)) => {
                drop(sender.send(Ok((handle, inspector, identities))));
                keeper.run().await;
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    });
    thread.map_err(refused)?;
    receiver.recv().map_err(|_| StartError("the thread of the drives ended at its start".to_owned()))?
}

async fn keeper(
    plan: &CorePlan,
    parts: IdentityParts,
    locks: Vec<(PathBuf, FileLock)>,
    executor: &CoreExecutor,
) -> Result<(Keeper<Engine>, DriveHandle, InspectorHandle, IdentityHandle), StartError> {
    let booted = &plan.booted;
    let pool = booted.pool.with_drives(|factory| Some(factory.on_core()));
    let index = plan.config.cpus.len() + 1;
    let media = Media::new(Arc::clone(&booted.shared), &pool, executor.clone(), index);
    let engine = booted.metadata.handle(MetadataRuns::new(media.clone()), executor.clone());
    let metadata = open_metadata(engine, executor).await?;
    executor.spawn(follow_drives(media.clone(), Arc::clone(&booted.drives), executor.clone()));
    let tree = booted.metadata.clone();
    let runs = move || tree.run_volumes();
    let (pool_id, profile) = (booted.pool.id(), booted.pool.profile());
    let exports = Exports::new(metadata.clone(), executor.clone(), pool_id, profile);
    let (inspector, answering) = inspector(metadata.clone(), media.clone(), runs, exports, executor.clone());
    executor.spawn(answering);
    let (identities, answering) = identities(parts, metadata.clone(), executor.clone());
    executor.spawn(answering);
    let (keeper, handle) = Keeper::new(KeeperParts {
        shared: Arc::clone(&booted.shared),
        drives: Arc::clone(&booted.drives),
        facts: booted.pool.facts(),
        membership: booted.pool.membership(),
        locks,
        metadata,
        media,
        log: booted.log.clone(),
        executor: executor.clone(),
    });
    Ok((keeper, handle, inspector, identities))
}

async fn open_metadata(
    engine: Engine,
    executor: &CoreExecutor,
) -> Result<Metadata<Engine, CoreExecutor>, StartError> {
    let opened = Metadata::open(engine, executor.clone(), Outcomes::Known).await;
    opened.map_err(|source| StartError(format!("metadata cannot be written: {source}")))
}

type Commits = embedded::EmbeddedCore<RealDrive, MetadataRuns<RealDrive, CoreExecutor>, CoreExecutor>;

async fn open_everything(
    config: &Config,
    budget: &Budget,
    factories: &[RealDriveFactory],
    set_aside: Vec<String>,
    executor: &CoreExecutor,
) -> Result<(Booted, Commits), StartError> {
    let drives: Vec<RealDrive> = factories.iter().map(RealDriveFactory::on_core).collect();
    let options = PoolOptions { redundancy: config.redundancy, set_aside };
    let pool = open_pool(drives, options, executor).await.map_err(refused)?;
    if let Some((class, other)) =
        config.storage_classes.iter().find(|(_, profile)| *profile != pool.profile())
    {
        let profile = pool.profile();
        return Err(StartError(format!(
            "--storage-classes {class}={other}: this pool has the redundancy {profile} and no other; write {class}={profile}"
        )));
    }
    let shared = StoreShared::new(&pool, budget.store_options());
    let media = Media::new(Arc::clone(&shared), &pool, executor.clone(), config.cpus.len());
    let runs = MetadataRuns::new(media.clone());
    let log_drives: Vec<_> =
        pool.members().iter().filter_map(|member| Some((member.id, member.drive.clone()?))).collect();
    let log_members = usize::from(pool.profile().m) + 1;
    let mut engine_config = EmbeddedConfig::new(log_members, volume_counter_key());
    engine_config.freeze_memory_bytes = budget.memtable_bytes;
    let before = facts_of_last_start(&pool).await;
    let (metadata, commits, report) =
        embedded::open(engine_config, log_drives, pool.id(), runs, executor.clone(), budget.bufs())
            .await
            .map_err(|error| match error {
                embedded::OpenError::Log(embedded::LogError::Damaged { .. }) => StartError(format!(
                    "{error}; bring those drives back, or restore a dump with `basalt import-metadata`"
                )),
                other => refused(other),
            })?;
    let find = |drive: &RealDrive| factories.iter().find(|factory| factory.label() == drive.label()).cloned();
    let pool = pool.with_drives(find);
    let drives = DriveSet::new(&pool);
    let (log, changes) = log_changes(commits.log_drives());
    executor.spawn(changes);
    executor.spawn(follow_drives(media, Arc::clone(&drives), executor.clone()));
    let booted = Booted { pool, shared, drives, log, metadata, report, before };
    Ok((booted, commits))
}

async fn facts_of_last_start(pool: &Pool<RealDrive>) -> Vec<(String, String)> {
    for drive in pool.members().iter().filter_map(|member| member.drive.as_ref()) {
        if let Ok(text) = drive.read_small(STARTED_PATH, STARTED_MAX_BYTES).await {
            return facts_from_text(&text);
        }
    }
    Vec::new()
}

/// What the first core tells of its start.
struct First {
    credentials: RootCredentials,
    made_credentials: bool,
    identities: IdentityParts,
    notes: Vec<String>,
    gc: GcHandle,
}

fn spawn_first_core(plan: CorePlan, running: &mut Running) -> Result<First, StartError> {
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let config = CoreConfig::new(Some(plan.config.cpus[plan.index]), "core-0");
    let handle = spawn_core(config, move |executor| async move {
        match first_start(&plan, &executor).await {
            Ok((ops, first)) => {
                let accounts = Arc::clone(&first.identities.accounts);
                serve_core(&plan, ops, &accounts, stopped, executor, |listening| {
                    drop(sender.send(listening.map(|()| first)));
                })
                .await;
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    })
    .map_err(refused)?;
    let first = receiver.recv().map_err(|_| StartError("core 0 ended at its start".to_owned()))??;
    running.cores.push((handle, stop));
    Ok(first)
}

fn spawn_other_core(
    plan: CorePlan,
    identities: &IdentityParts,
    running: &mut Running,
) -> Result<(), StartError> {
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (accounts, key) = (Arc::clone(&identities.accounts), identities.key.clone());
    let config = CoreConfig::new(Some(plan.config.cpus[plan.index]), &format!("core-{}", plan.index));
    let handle = spawn_core(config, move |executor| async move {
        match core_parts(&plan, &executor).await {
            Ok(parts) => {
                let ops = parts.with_key(key);
                serve_core(&plan, ops, &accounts, stopped, executor, |listening| {
                    drop(sender.send(listening));
                })
                .await;
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    })
    .map_err(refused)?;
    receiver.recv().map_err(|_| StartError("a core ended at its start".to_owned()))??;
    running.cores.push((handle, stop));
    Ok(())
}

/// A core before the master key is known.
struct CoreParts {
    metadata: Metadata<Engine, CoreExecutor>,
    store: Store<RealDrive, CoreExecutor, StoreCatalog<Engine, CoreExecutor>>,
    executor: CoreExecutor,
    admission: Admission,
}

impl CoreParts {
    fn with_key(self, key: MasterKey) -> CoreOps {
        Core::new(self.metadata, self.store, self.executor, self.admission, key)
    }
}

async fn core_parts(plan: &CorePlan, executor: &CoreExecutor) -> Result<CoreParts, StartError> {
    let pool = plan.booted.pool.with_drives(|factory| Some(factory.on_core()));
    let media = Media::new(Arc::clone(&plan.booted.shared), &pool, executor.clone(), plan.index);
    let engine = plan.booted.metadata.handle(MetadataRuns::new(media.clone()), executor.clone());
    let metadata = open_metadata(engine, executor).await?;
    executor.spawn(follow_drives(media.clone(), Arc::clone(&plan.booted.drives), executor.clone()));
    let store = Store::new(&media, StoreCatalog::new(metadata.clone()));
    let admission = Admission::new(plan.budget.admission(), pool.profile());
    Ok(CoreParts { metadata, store, executor: executor.clone(), admission })
}

/// What one core does for all: credentials, then recovery of the volumes.
async fn first_start(plan: &CorePlan, executor: &CoreExecutor) -> Result<(CoreOps, First), StartError> {
    let parts = core_parts(plan, executor).await?;
    if parts.metadata.is_restore_cut_off().await.map_err(refused)? {
        let what = "an import of metadata was cut off: run `basalt import-metadata` with the same dump again";
        return Err(StartError(what.to_owned()));
    }
    let pool = plan.booted.pool.with_drives(|factory| Some(factory.on_core()));
    let settled = credentials::settle(&pool, &parts.metadata, &plan.config).await?;
    let identities = credentials::identity_parts(pool.id(), &parts.metadata, &settled).await?;
    let ops = parts.with_key(settled.key.clone());
    let runs: Vec<_> = plan.booted.metadata.run_volumes().into_iter().map(|run| run.record).collect();
    let report = ops.store().recover(&runs).await.map_err(refused)?;
    tracing::info!(
        volumes = report.volumes,
        sealed = report.sealed,
        removed = report.removed,
        orphans = report.orphans,
        replayed_records = plan.booted.report.replayed_records,
        replayed_bytes = plan.booted.report.replayed_bytes,
        term = plan.booted.report.term,
        "recovered"
    );
    let mut notes: Vec<String> = pool.notes().to_vec();
    notes.extend(plan.booted.report.notes.iter().cloned());
    notes.extend(settled.note);
    let before = &plan.booted.before;
    let (gc, collecting) = collector(ops.clone());
    executor.spawn(collecting);
    let first = First { credentials: settled.root, made_credentials: settled.is_new, identities, notes, gc };
    let screen = screen(&plan.config, &plan.booted, &first);
    remember(&pool, &screen, before).await;
    Ok((ops, first))
}

/// Keeps the facts of this start on every drive, for the next one to compare with.
async fn remember(pool: &Pool<RealDrive>, screen: &Screen, before: &[(String, String)]) {
    let text = facts_to_text(&screen.facts());
    if facts_from_text(&text) == before {
        return;
    }
    for drive in pool.members().iter().filter_map(|member| member.drive.as_ref()) {
        if let Err(error) = drive.write_small(STARTED_PATH, text.clone()).await {
            tracing::warn!(drive = drive.label(), %error, "the facts of this start were not kept");
        }
    }
}

/// Serves on one core until told to stop.
async fn serve_core(
    plan: &CorePlan,
    ops: CoreOps,
    accounts: &Arc<Accounts>,
    stopped: oneshot::Receiver<()>,
    executor: CoreExecutor,
    listening: impl FnOnce(Result<(), StartError>),
) {
    let listeners = match listen_all(plan).await {
        Ok(listeners) => listeners,
        Err(error) => return listening(Err(error)),
    };
    ops.spawn_background(plan.index == 0);
    let s3 = S3Config {
        region: plan.config.region.clone(),
        domains: plan.config.domain.iter().cloned().collect(),
        website_domains: plan.config.website_domains.clone(),
        trusted_proxies: plan.config.trusted_proxies.clone(),
        object_ownership: plan.config.object_ownership,
        lifecycle_day: plan.config.lifecycle_day,
        storage_classes: plan.config.storage_classes.iter().map(|(class, _)| class.clone()).collect(),
    };
    let credentials = accounts.on_core();
    let access_log = AccessLog::new(credentials.root_id(), plan.budget.access_log_bytes());
    let (delivered, last_delivery) = oneshot::channel();
    let (log, interval) = (access_log.clone(), plan.config.access_log_interval);
    let delivery = Delivery::new(ops.clone(), executor.clone(), log, &plan.config.region, interval);
    executor.spawn(delivery.run(delivered));
    if plan.index == 0 {
        let (marks, log) = (ops.metadata().clone(), access_log.clone());
        let pass = LifecyclePass::new(ops.clone(), marks, executor.clone(), plan.config.lifecycle_day, log);
        executor.spawn(pass.run());
    }
    let service = Rc::new(S3Service::new(ops.clone(), credentials, s3, access_log.clone()));
    let context = CoreContext::new(
        executor.clone(),
        ConnectionLimits::default(),
        plan.budget.accept(plan.tls.is_some()),
    );
    listening(Ok(()));
    let serving = join_all(listeners.into_iter().map(|(listener, protection)| {
        serve_listener(listener, protection, Rc::clone(&context), Rc::clone(&service))
    }));
    let stopping = async {
        // Told, or the main thread is gone: both mean stop.
        stopped.await.unwrap_or_default();
        context.deadlines.stop();
        executor.sleep(STOP_DEADLINE).await;
    };
    futures_util::future::select(std::pin::pin!(serving), std::pin::pin!(stopping)).await;
    access_log.stop();
    if timeout(&executor, LOG_DEADLINE, last_delivery).await.is_err() {
        tracing::warn!("the last access logs were not delivered: metadata or drives do not answer");
    }
    if timeout(&executor, SEAL_DEADLINE, ops.store().shut_down()).await.is_err() {
        tracing::warn!("metadata does not answer: what is open is sealed by the next start");
    }
}

/// This core's socket of every address.
async fn listen_all(plan: &CorePlan) -> Result<Vec<(RealListener, Protection)>, StartError> {
    let mut listeners = Vec::new();
    for ListenAddress { address, is_tls } in &plan.config.listen {
        let listener = RealNet
            .listen(*address)
            .await
            .map_err(|source| StartError(format!("cannot listen on --listen {address}: {source}")))?;
        let acceptor = plan.tls.clone().filter(|_| *is_tls);
        listeners.push((listener, acceptor.map_or(Protection::Plain, Protection::Tls)));
    }
    Ok(listeners)
}

fn screen(config: &Config, booted: &Booted, first: &First) -> Screen {
    let present = booted.pool.members().iter().filter(|member| member.drive.is_some());
    Screen {
        drives: present.map(|member| member.label.clone()).collect(),
        missing: booted.pool.missing().into_iter().map(str::to_owned).collect(),
        profile: booted.pool.profile(),
        cpus: config.cpus.clone(),
        ring_flags: flags_in_use(),
        kernel: shardstore_erasure::Kernel::detect().name().to_owned(),
        memory_bytes: config.memory_bytes,
        listen: config.listen.clone(),
        is_self_signed: config.certificates == Some(CertificateSource::SelfSigned),
        admin_listen: config.admin_listen,
        region: config.region.clone(),
        access_key: first.credentials.access_key.clone(),
        new_secret_key: first.made_credentials.then(|| first.credentials.secret_key.clone()),
        notes: first.notes.clone(),
    }
}

fn print_screen(config: &Config, booted: &Booted, first: &First) {
    let screen = screen(config, booted, first);
    let text = if booted.pool.is_new() || first.made_credentials || booted.before.is_empty() {
        screen.first()
    } else {
        screen.later(&booted.before)
    };
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        tracing::warn!("the start screen could not be printed");
    }
    for label in booted.pool.missing() {
        tracing::warn!(drive = label, "drive is missing: its shards are rebuilt from parity while reading");
    }
}
