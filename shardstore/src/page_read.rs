//! Verified pages: from the cache, from their drive, or rebuilt from the rest of their stripe.
//! Invariants: every byte that leaves here matched a CRC32C that binds it to its place, or was computed from
//! pages that did; a page that several readers of a core want at once is read once.
//! Not here: which pages an object needs (`read`), writing repaired pages back.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use shardstore_format::{
    PAGE_HEADER_BYTES, PageAddress, PageError, PageSpan, SECTOR_BYTES, StripeHeader, VolumeClass, open_page,
    page_bytes,
};
use shardstore_reactor::{AlignedBuf, Drive, Executor};

use crate::answers::TimedRead;
use crate::cache::{CacheKey, Verified};
use crate::media::MediaInner;
use crate::options::{HEDGES_MAX, SLOW_READ_MAX, in_memory, sector_offset_bytes};
use crate::shared::count;
use crate::table::Volume;
use crate::wait::answer;

/// One page of a known volume.
#[derive(Clone)]
pub(crate) struct PagePlace {
    pub(crate) volume: Arc<Volume>,
    pub(crate) sector: u32,
    pub(crate) page_len_sectors: u8,
    pub(crate) shard: u8,
}

impl PagePlace {
    pub(crate) fn of_span(volume: &Arc<Volume>, span: &PageSpan) -> PagePlace {
        PagePlace {
            volume: Arc::clone(volume),
            sector: span.sector,
            page_len_sectors: span.page_len_sectors,
            shard: span.shard,
        }
    }

    fn of_shard(&self, shard: u8) -> PagePlace {
        PagePlace { shard, ..self.clone() }
    }

    pub(crate) fn key(&self) -> CacheKey {
        CacheKey::page(self.volume.id, self.sector, self.shard)
    }
}

/// Why a page did not come from its drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The drive, the file or the sectors cannot be read.
    Unreachable,
    /// What lies there is not the page.
    Corrupt,
    /// No page begins there: damage, or a data page that a short stripe does not have. Who knows the stripe reports it.
    Absent,
    /// No buffer.
    Overloaded,
}

/// Why a page cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadError {
    /// More pages of the stripe are lost than parity mends.
    Lost,
    /// No buffer: later.
    Overloaded,
}

/// Pages under way on this core, and who else waits for each.
#[derive(Default)]
pub(crate) struct Loads {
    waiting: RefCell<HashMap<CacheKey, Waiters>>,
}

type Waiters = Vec<oneshot::Sender<Result<Verified, Fault>>>;

/// Removes a load's entry when the load ends or is dropped; those who wait then load for themselves.
struct LoadTurn<'a> {
    loads: &'a Loads,
    key: CacheKey,
}

impl LoadTurn<'_> {
    fn end(self, result: &Result<Verified, Fault>) {
        let waiters = self.loads.waiting.borrow_mut().remove(&self.key).unwrap_or_default();
        for waiter in waiters {
            answer(waiter, result.clone());
        }
    }
}

impl Drop for LoadTurn<'_> {
    fn drop(&mut self) {
        let waiters = self.loads.waiting.borrow_mut().remove(&self.key);
        drop(waiters);
    }
}

/// Rebuilds under way only because a page was slow; bounded, so that load does not breed load.
#[derive(Default)]
pub(crate) struct Hedges(Cell<usize>);

struct HedgeTurn<'a>(&'a Hedges);

impl Hedges {
    fn turn(&self) -> Option<HedgeTurn<'_>> {
        let count = self.0.get();
        (count < HEDGES_MAX).then(|| {
            self.0.set(count + 1);
            HedgeTurn(self)
        })
    }
}

impl Drop for HedgeTurn<'_> {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

enum Turn<'a> {
    Mine(LoadTurn<'a>),
    Theirs(oneshot::Receiver<Result<Verified, Fault>>),
}

impl Loads {
    fn turn(&self, key: CacheKey) -> Turn<'_> {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(waiters) = waiting.get_mut(&key) {
            let (sender, receiver) = oneshot::channel();
            waiters.push(sender);
            return Turn::Theirs(receiver);
        }
        waiting.insert(key, Vec::new());
        Turn::Mine(LoadTurn { loads: self, key })
    }
}

impl<D: Drive, X: Executor> MediaInner<D, X> {
    /// The payload of a data page.
    ///
    /// Cost: a cache lookup; else one device read; else, if the page is missing, corrupt or slow, up to k reads
    /// and one pass of the codec.
    pub(crate) async fn load_page(self: Rc<Self>, place: PagePlace) -> Result<Bytes, LoadError> {
        if let Some(verified) = self.shared.cache.get(&place.key()) {
            return Ok(verified.bytes);
        }
        if place.volume.profile.m == 0 {
            return match self.fetch_wanted(&place).await {
                Ok(verified) => Ok(verified.bytes),
                Err(Fault::Overloaded) => Err(LoadError::Overloaded),
                Err(Fault::Unreachable | Fault::Corrupt | Fault::Absent) => Err(LoadError::Lost),
            };
        }
        let mut slow = std::pin::pin!(self.fetch_wanted(&place));
        let patience = self.patience(&place.volume, usize::from(place.shard));
        let turn = loop {
            match select(slow, std::pin::pin!(self.executor.sleep(patience))).await {
                Either::Left((Ok(verified), _)) => return Ok(verified.bytes),
                Either::Left((Err(Fault::Overloaded), _)) => return Err(LoadError::Overloaded),
                Either::Left((Err(Fault::Unreachable | Fault::Corrupt | Fault::Absent), _)) => {
                    return self.rebuild_page(&place).await;
                }
                Either::Right(((), fetch)) => slow = fetch,
            }
            // With all turns taken much is slow, and asking k drives in place of one would make it slower: others first.
            if let Some(turn) = self.hedges.turn() {
                break turn;
            }
        };
        let rebuild = std::pin::pin!(self.rebuild_page(&place));
        match select(slow, rebuild).await {
            Either::Left((Ok(verified), _)) => Ok(verified.bytes),
            Either::Left((Err(_), rebuild)) => rebuild.await,
            Either::Right((Ok(bytes), _)) => Ok(bytes),
            Either::Right((Err(error), slow)) => {
                drop(turn);
                slow.await.map(|verified| verified.bytes).map_err(|_| error)
            }
        }
    }

    /// A page that an extent says is there.
    async fn fetch_wanted(self: &Rc<Self>, place: &PagePlace) -> Result<Verified, Fault> {
        let result = self.fetch_page(place).await;
        if matches!(result, Err(Fault::Absent)) {
            self.report_corrupt(place, &PageError::NotAPage);
        }
        result
    }

    /// A page, data or parity, from the cache or its own drive.
    async fn fetch_page(self: &Rc<Self>, place: &PagePlace) -> Result<Verified, Fault> {
        let key = place.key();
        loop {
            if let Some(verified) = self.shared.cache.get(&key) {
                return Ok(verified);
            }
            match self.loads.turn(key) {
                Turn::Mine(turn) => {
                    let result = self.read_page(place).await;
                    if let Ok(verified) = &result {
                        self.shared.cache.insert(key, verified.clone());
                    }
                    turn.end(&result);
                    return result;
                }
                Turn::Theirs(result) => {
                    // Cancelled: whoever loaded it was dropped half way.
                    if let Ok(result) = result.await {
                        return result;
                    }
                }
            }
        }
    }

    async fn read_page(self: &Rc<Self>, place: &PagePlace) -> Result<Verified, Fault> {
        let len = in_memory(page_bytes(place.page_len_sectors));
        let buf = self.read_sectors(place, sector_offset_bytes(place.sector), len).await?;
        let header = self.verify(place, &buf)?;
        let payload = Bytes::from_owner(buf).slice(in_memory(PAGE_HEADER_BYTES)..);
        Ok(Verified { bytes: payload, data_pages: header.shape.data_pages })
    }

    fn verify(&self, place: &PagePlace, page: &[u8]) -> Result<StripeHeader, Fault> {
        let (volume, pool) = (place.volume.id, self.shared.pool);
        let address = PageAddress { pool, volume, sector: place.sector, shard: place.shard };
        let opened = open_page(page, &address);
        let problem = match opened {
            Ok(header) if header.profile == place.volume.profile => return Ok(header),
            Ok(header) => format!("page says {}, its volume {}", header.profile, place.volume.profile),
            Err(PageError::NotAPage) => return Err(Fault::Absent),
            Err(error) => error.to_string(),
        };
        self.report_corrupt(place, &problem);
        Err(Fault::Corrupt)
    }

    fn report_corrupt(&self, place: &PagePlace, problem: &dyn std::fmt::Display) {
        if self.is_gone(&place.volume) {
            // Its files were removed while it was read.
            return;
        }
        count(&self.shared.counts.pages_corrupt, 1);
        self.note_suspect(place.volume.id, place.sector);
        tracing::warn!(
            volume = place.volume.id.0,
            sector = place.sector,
            shard = place.shard,
            %problem,
            "page does not verify"
        );
    }

    /// Of pages that were looked for before their stripe was known, those that it has.
    fn report_absent(&self, place: &PagePlace, shards: &[u8], data_pages: u8) {
        for shard in shards.iter().filter(|&&shard| shard < data_pages || shard >= place.volume.profile.k) {
            self.report_corrupt(&place.of_shard(*shard), &PageError::NotAPage);
        }
    }

    /// Whole sectors of a shard, unverified.
    async fn read_sectors(
        self: &Rc<Self>,
        place: &PagePlace,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Result<AlignedBuf, Fault> {
        self.ask_the_silent();
        let shard = usize::from(place.shard);
        let member = place.volume.member(shard).filter(|member| self.drive(*member).is_some());
        let member = member.ok_or(Fault::Unreachable)?;
        let timed = TimedRead::begin(self, place, member);
        let file = self.segment(&place.volume, shard).await;
        let Ok(file) = file else {
            timed.end();
            return Err(Fault::Unreachable);
        };
        let buf = self.shared.bufs().take(len_bytes).map_err(|_| Fault::Overloaded)?;
        count(&self.shared.counts.pages_read, 1);
        let outcome = self.read_file(&file, offset_bytes, buf).await;
        timed.end();
        match outcome {
            Ok((Ok(()), buf)) => Ok(buf),
            Ok((Err(error), _)) | Err(error) => {
                let volume = place.volume.id.0;
                tracing::warn!(volume, shard, offset_bytes, %error, "segment cannot be read");
                Err(Fault::Unreachable)
            }
        }
    }

    /// Computes a page from any k others of its stripe.
    async fn rebuild_page(self: &Rc<Self>, place: &PagePlace) -> Result<Bytes, LoadError> {
        let profile = place.volume.profile;
        let k = usize::from(profile.k);
        let mut others = others_of(place).into_iter();
        let mut reading = FuturesUnordered::new();
        let mut known: Vec<(u8, Verified)> = Vec::with_capacity(k);
        let mut data_pages = None;
        let mut absent_shards: Vec<u8> = Vec::new();
        let mut is_hasty = false;
        let patience = (0..profile.shards()).map(|shard| self.patience(&place.volume, shard)).max();
        let patience = patience.unwrap_or(SLOW_READ_MAX);
        loop {
            // Data pages that a short stripe does not have count as zeros.
            let absent = data_pages.map_or(0, |data_pages: u8| k - usize::from(data_pages));
            if known.len() + absent >= k {
                let data_pages = data_pages.unwrap_or(profile.k);
                self.report_absent(place, &absent_shards, data_pages);
                return self.solve(place, &known, data_pages);
            }
            while is_hasty || known.len() + absent + reading.len() < k {
                let Some(shard) = others.next() else { break };
                if data_pages.is_none_or(|data_pages| shard >= profile.k || shard < data_pages) {
                    let other = place.of_shard(shard);
                    reading.push(async move { (shard, self.fetch_page(&other).await) });
                }
            }
            let read = reading.next();
            let read = match select(read, std::pin::pin!(self.executor.sleep(patience))).await {
                Either::Left((read, _)) => read,
                Either::Right(_) => {
                    // One of those asked is slow: whoever answers first will do.
                    is_hasty = true;
                    continue;
                }
            };
            match read {
                None => {
                    self.report_absent(place, &absent_shards, data_pages.unwrap_or(profile.k));
                    return Err(LoadError::Lost);
                }
                Some((shard, Err(Fault::Absent))) => absent_shards.push(shard),
                Some((_, Err(Fault::Overloaded))) => return Err(LoadError::Overloaded),
                Some((_, Err(Fault::Unreachable | Fault::Corrupt))) => {}
                Some((shard, Ok(page))) => {
                    let agreed = *data_pages.get_or_insert(page.data_pages);
                    // Pages of one stripe are written together, so those that verify agree.
                    if agreed == page.data_pages {
                        known.push((shard, page));
                    }
                }
            }
        }
    }

    fn solve(&self, place: &PagePlace, known: &[(u8, Verified)], data_pages: u8) -> Result<Bytes, LoadError> {
        if place.shard < place.volume.profile.k && place.shard >= data_pages {
            // The extent points at a page that its stripe does not have.
            return Err(LoadError::Lost);
        }
        let codec = self.codec(place.volume.profile).ok_or(LoadError::Lost)?;
        let header_bytes = in_memory(PAGE_HEADER_BYTES);
        let len = in_memory(page_bytes(place.page_len_sectors));
        let mut buf = self.shared.bufs().take(len).map_err(|_| LoadError::Overloaded)?;
        let present: Vec<(usize, &[u8])> =
            known.iter().map(|(shard, page)| (usize::from(*shard), &page.bytes[..])).collect();
        let mut missing = [(usize::from(place.shard), &mut buf[header_bytes..])];
        codec.rebuild(&present, &mut missing, usize::from(data_pages)).map_err(|_| LoadError::Lost)?;
        count(&self.shared.counts.pages_rebuilt, 1);
        let bytes = Bytes::from_owner(buf).slice(header_bytes..);
        self.shared.cache.insert(place.key(), Verified { bytes: bytes.clone(), data_pages });
        Ok(bytes)
    }

    /// Payload bytes of one page, read by their sectors alone and not verified: the caller has a checksum of its
    /// own. `None` if they cannot be had that way.
    pub(crate) async fn read_span_unverified(
        self: &Rc<Self>,
        volume: &Arc<Volume>,
        span: &PageSpan,
    ) -> Result<Option<Bytes>, LoadError> {
        let place = PagePlace::of_span(volume, span);
        if let Some(page) = self.shared.cache.get(&place.key()) {
            let range = in_memory(span.begin.into())..in_memory(span.end.into());
            return Ok((range.end <= page.bytes.len()).then(|| page.bytes.slice(range)));
        }
        let begin = PAGE_HEADER_BYTES + u64::from(span.begin);
        let end = PAGE_HEADER_BYTES + u64::from(span.end);
        let first = begin / SECTOR_BYTES * SECTOR_BYTES;
        let len = in_memory(end.next_multiple_of(SECTOR_BYTES) - first);
        let offset_bytes = sector_offset_bytes(span.sector) + first;
        match self.read_sectors(&place, offset_bytes, len).await {
            Ok(buf) => {
                Ok(Some(Bytes::from_owner(buf).slice(in_memory(begin - first)..in_memory(end - first))))
            }
            Err(Fault::Overloaded) => Err(LoadError::Overloaded),
            Err(Fault::Unreachable | Fault::Corrupt | Fault::Absent) => Ok(None),
        }
    }
}

/// The other shards of a stripe in the order to ask them. In packed volumes, where short stripes are common,
/// parity first: it is there in every stripe and says how many data pages there are. In large ones data first:
/// a reader of the object needs it anyway.
fn others_of(place: &PagePlace) -> Vec<u8> {
    let profile = place.volume.profile;
    let data = (0..profile.k).filter(|shard| *shard != place.shard);
    let parity = (profile.k..profile.k + profile.m).filter(|shard| *shard != place.shard);
    match place.volume.class {
        VolumeClass::Packed => parity.chain(data).collect(),
        VolumeClass::Large | VolumeClass::Run => data.chain(parity).collect(),
    }
}
