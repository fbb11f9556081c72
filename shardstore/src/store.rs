//! The store as one core uses it: put, read, epochs and holds, background work.
//! Invariants: clones share one core's state; nothing of it leaves its thread; what cores share is
//! [`StoreShared`].
//! Not here: how each of these works; see `put`, `read`, `epoch`, `reclaim`, `recover`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use shardstore_format::{DataId, Extent};
use shardstore_reactor::{Drive, Executor};

use crate::append::Appender;
use crate::catalog::Catalog;
use crate::epoch::{EpochGuard, HoldGuard};
use crate::media::{Media, MediaInner};
use crate::packed::PackedItem;
use crate::read::ObjectReader;
use crate::shared::StoreShared;
use crate::wait::Waiters;

/// One core's store. Clones share it.
pub struct Store<D: Drive, X: Executor, C: Catalog> {
    pub(crate) inner: Rc<StoreInner<D, X, C>>,
}

impl<D: Drive, X: Executor, C: Catalog> Clone for Store<D, X, C> {
    fn clone(&self) -> Self {
        Store { inner: Rc::clone(&self.inner) }
    }
}

pub(crate) struct StoreInner<D: Drive, X: Executor, C: Catalog> {
    pub(crate) media: Rc<MediaInner<D, X>>,
    pub(crate) catalog: C,
    /// By [`crate::lane::Lane::index`].
    pub(crate) appenders: [Appender<D::File>; 4],
    /// Small objects that wait for a flush.
    pub(crate) waiting: RefCell<VecDeque<PackedItem>>,
    pub(crate) flushes_in_flight: Cell<usize>,
    pub(crate) seals_under_way: Cell<usize>,
    /// A compaction runs: two would move the same bytes.
    pub(crate) is_compacting: Cell<bool>,
    pub(crate) seal_waiters: Waiters,
    /// Shutting down: nothing new is prepared, refusals of metadata are not waited out.
    pub(crate) is_shut: Cell<bool>,
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// The store of one core over its drives and its access to the catalog. Nothing is read or written yet.
    pub fn new(media: &Media<D, X>, catalog: C) -> Store<D, X, C> {
        let inner = StoreInner {
            media: Rc::clone(&media.inner),
            catalog,
            appenders: std::array::from_fn(|_| Appender::new()),
            waiting: RefCell::new(VecDeque::new()),
            flushes_in_flight: Cell::new(0),
            seals_under_way: Cell::new(0),
            is_compacting: Cell::new(false),
            seal_waiters: Waiters::default(),
            is_shut: Cell::new(false),
        };
        Store { inner: Rc::new(inner) }
    }

    /// The drives beneath, for metadata runs.
    pub fn media(&self) -> Media<D, X> {
        Media { inner: Rc::clone(&self.inner.media) }
    }

    /// The half that all cores share.
    pub fn shared(&self) -> &Arc<StoreShared> {
        &self.inner.media.shared
    }

    /// As [`Media::enter_epoch`].
    pub fn enter_epoch(&self) -> EpochGuard {
        self.inner.media.epochs.enter()
    }

    /// As [`Media::hold`].
    pub fn hold(&self, data_id: DataId) -> HoldGuard {
        self.inner.media.epochs.hold(data_id)
    }

    /// As [`Media::open_read`].
    pub fn open_read(&self, extents: Vec<(Extent, Option<u32>)>, range: Range<u64>) -> ObjectReader<D, X> {
        self.media().open_read(extents, range)
    }

    /// Seals this core's open volumes, so that a clean stop leaves no unwritten steps. Later puts open new ones.
    pub async fn seal_open(&self) {
        self.inner.seal_all().await;
    }

    /// As [`Store::seal_open`], for good: metadata that refuses is not waited for.
    pub async fn shut_down(&self) {
        self.shared().stop();
        self.inner.is_shut.set(true);
        self.inner.seal_all().await;
    }
}
