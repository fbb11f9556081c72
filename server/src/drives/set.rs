//! The directories that are open as drives now, and how every core follows their changes.
//! Invariants: a factory is in the set before the store is told of its arrival, so that a core that looks finds it.
//! Not here: who decides (`keeper`).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fdb_schema::engine::embedded::LogDrives;
use futures_channel::mpsc;
use futures_util::StreamExt;
use shardstore::{Media, Pool};
use shardstore_format::DriveId;
use shardstore_reactor::{Clock, CoreExecutor, RealDrive, RealDriveFactory};

/// How often a core looks for drives to open: until then it reads around them, and nothing of it writes there.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

type Factories = Vec<(DriveId, RealDriveFactory)>;

/// The drives that can be opened, shared by all threads.
pub struct DriveSet(ArcSwap<Factories>);

impl DriveSet {
    /// The drives that were there at the start.
    pub fn new(pool: &Pool<RealDriveFactory>) -> Arc<DriveSet> {
        let there =
            |member: &shardstore::PoolMember<RealDriveFactory>| Some((member.id, member.drive.clone()?));
        let factories: Factories = pool.members().iter().filter_map(there).collect();
        Arc::new(DriveSet(ArcSwap::from_pointee(factories)))
    }

    /// A drive's factory, if it is there.
    pub fn get(&self, id: DriveId) -> Option<RealDriveFactory> {
        self.0.load().iter().find(|(other, _)| *other == id).map(|(_, factory)| factory.clone())
    }

    /// Adds a drive, or exchanges its factory for a new one.
    pub fn put(&self, id: DriveId, factory: &RealDriveFactory) {
        self.0.rcu(|factories| {
            let mut factories = without(factories, id);
            factories.push((id, factory.clone()));
            factories
        });
    }

    /// Takes a drive out.
    pub fn take(&self, id: DriveId) {
        self.0.rcu(|factories| without(factories, id));
    }

    /// All that are not fenced.
    pub fn usable(&self) -> Factories {
        self.0.load().iter().filter(|(_, factory)| factory.fenced().is_none()).cloned().collect()
    }
}

fn without(factories: &Factories, id: DriveId) -> Factories {
    factories.iter().filter(|(other, _)| *other != id).cloned().collect()
}

/// Opens this core's handles of drives that joined or came back, and lets go of those that went, for as long as the
/// process lives.
pub async fn follow_drives(
    media: Media<RealDrive, CoreExecutor>,
    drives: Arc<DriveSet>,
    executor: CoreExecutor,
) {
    loop {
        media.let_go_of_drives();
        for id in media.drives_to_open() {
            if let Some(factory) = drives.get(id).filter(|factory| factory.fenced().is_none()) {
                media.set_drive(id, factory.on_core());
            }
        }
        executor.sleep(FOLLOW_INTERVAL).await;
    }
}

/// Tells the metadata log which drives it may use.
#[derive(Clone)]
pub struct LogChanges(mpsc::UnboundedSender<Factories>);

impl LogChanges {
    /// Says which drives can be used from now on.
    pub fn tell(&self, drives: &DriveSet) {
        // A log that has ended needs no drives.
        drop(self.0.unbounded_send(drives.usable()));
    }
}

/// The way to the metadata thread; the future runs there, beside the log.
pub fn log_changes(
    log: LogDrives<RealDrive, CoreExecutor>,
) -> (LogChanges, impl Future<Output = ()> + 'static) {
    let (sender, mut changes) = mpsc::unbounded::<Factories>();
    let follow = async move {
        while let Some(drives) = changes.next().await {
            log.set_drives(drives.into_iter().map(|(id, factory)| (id, factory.on_core())).collect());
        }
    };
    (LogChanges(sender), follow)
}
