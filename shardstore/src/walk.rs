//! Reading a volume from end to end: its stripes one after the other, by large sequential reads of each shard.
//! Invariants: bytes come from the drives, never from the cache; a page counts as whole only if it verified at its
//! place; memory is one window a shard, two for a walk that reads ahead, whatever the volume's length.
//! Not here: what is done about pages that are not whole (`mend`, `repair`).

use std::rc::Rc;
use std::sync::Arc;

use futures_channel::oneshot;
use futures_util::future::join_all;
use shardstore_format::{
    PAGE_MAX_SECTORS, PageAddress, PageError, StripeHeader, open_page_prefix, page_bytes,
};
use shardstore_reactor::{AlignedBuf, Drive, Executor, IoError};

use crate::media::{MediaInner, OpenShard};
use crate::options::{WALK_WINDOW_SECTORS, in_memory, sector_offset_bytes};
use crate::place::PutError;
use crate::table::Volume;

const _: () = assert!(WALK_WINDOW_SECTORS >= PAGE_MAX_SECTORS as u32);

/// What lies where a page of a stripe should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFound<'a> {
    /// The page, header included.
    Whole(&'a [u8]),
    /// A short stripe has no such page.
    Absent,
    /// Something else, or too few bytes.
    Bad,
    /// The drive or the file cannot be read.
    Unread,
}

/// A walk over some shards of a volume, up to what is final.
pub(crate) struct Walk {
    volume: Arc<Volume>,
    shards: Vec<u8>,
    at_sector: u32,
    end_sector: u32,
    window: Option<Window>,
    /// The end of the window before with the begin of this one, for a page that lies across.
    bridge: Option<Window>,
    /// The window after this one, being read.
    ahead: Option<Ahead>,
    reads_ahead: bool,
    header: Option<StripeHeader>,
    /// Device bytes read so far.
    pub(crate) read_bytes: u64,
}

/// Sectors in memory.
struct Window {
    first_sector: u32,
    end_sector: u32,
    /// By place in the walked shards; shorter where the file ends, `None` where it is unread.
    bufs: Vec<Option<AlignedBuf>>,
}

/// A window whose reads are under way.
struct Ahead {
    first_sector: u32,
    end_sector: u32,
    reads: Vec<oneshot::Receiver<Option<AlignedBuf>>>,
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// At a stripe: [`Walk::page`] says what lies there.
    Stripe(u32, StripeHeader),
    /// No page that begins here verifies on any of the shards: [`Walk::skip_to`] the next known stripe.
    Unreadable(u32),
    /// At the end.
    End,
}

impl Walk {
    pub(crate) fn new(volume: &Arc<Volume>, shards: Vec<u8>) -> Walk {
        Walk {
            volume: Arc::clone(volume),
            shards,
            at_sector: 0,
            end_sector: volume.frontier_sector(),
            window: None,
            bridge: None,
            ahead: None,
            reads_ahead: false,
            header: None,
            read_bytes: 0,
        }
    }

    /// Reads a window while the one before it is looked at, for work that wants the drives' speed: twice the memory.
    pub(crate) fn reading_ahead(mut self) -> Walk {
        self.reads_ahead = true;
        self
    }

    /// Goes to the next stripe.
    ///
    /// # Errors
    /// [`PutError::Overloaded`]: no buffers; call again later.
    pub(crate) async fn next<D: Drive, X: Executor>(
        &mut self,
        media: &Rc<MediaInner<D, X>>,
    ) -> Result<Step, PutError> {
        if let Some(header) = self.header.take() {
            self.at_sector += u32::from(header.shape.page_len_sectors);
        }
        if self.at_sector >= self.end_sector {
            return Ok(Step::End);
        }
        if !self.is_covered() {
            self.advance(media).await?;
        }
        let address = |shard| PageAddress {
            pool: media.shared.pool,
            volume: self.volume.id,
            sector: self.at_sector,
            shard,
        };
        let found = self.shards.iter().enumerate().find_map(|(place, shard)| {
            let header = open_page_prefix(self.bytes_at(place)?, &address(*shard)).ok()?;
            (header.profile == self.volume.profile).then_some(header)
        });
        self.header = found;
        Ok(found.map_or(Step::Unreadable(self.at_sector), |header| Step::Stripe(self.at_sector, header)))
    }

    /// What lies where a walked shard's page of this stripe should be.
    pub(crate) fn page<D: Drive, X: Executor>(&self, media: &MediaInner<D, X>, shard: u8) -> PageFound<'_> {
        let Some(header) = self.header else { return PageFound::Unread };
        if shard >= header.shape.data_pages && shard < header.profile.k {
            return PageFound::Absent;
        }
        let Some(place) = self.shards.iter().position(|walked| *walked == shard) else {
            return PageFound::Unread;
        };
        let Some(bytes) = self.bytes_at(place) else { return PageFound::Unread };
        let (pool, volume) = (media.shared.pool, self.volume.id);
        let address = PageAddress { pool, volume, sector: self.at_sector, shard };
        match open_page_prefix(bytes, &address) {
            Ok(found) if found == header => {
                PageFound::Whole(&bytes[..in_memory(page_bytes(header.shape.page_len_sectors))])
            }
            Ok(_) | Err(PageError::Truncated | PageError::NotAPage | PageError::FutureVersion(_)) => {
                PageFound::Bad
            }
            Err(PageError::Checksum | PageError::Elsewhere(_) | PageError::Invalid) => PageFound::Bad,
        }
    }

    /// Goes on at a later stripe.
    pub(crate) fn skip_to(&mut self, sector: u32) {
        assert!(sector > self.at_sector);
        self.header = None;
        self.at_sector = sector;
    }

    /// Whether a page of any length that begins where the walk stands is in memory.
    fn is_covered(&self) -> bool {
        let needed_sector = (self.at_sector + u32::from(PAGE_MAX_SECTORS)).min(self.end_sector);
        self.here().is_some_and(|window| needed_sector <= window.end_sector)
    }

    /// The window to look into where the walk stands.
    fn here(&self) -> Option<&Window> {
        let holds = |window: &&Window| (window.first_sector..window.end_sector).contains(&self.at_sector);
        self.window.as_ref().filter(holds).or(self.bridge.as_ref().filter(holds))
    }

    /// The walked bytes from where the walk stands, to the end of the window.
    fn bytes_at(&self, place: usize) -> Option<&[u8]> {
        let window = self.here()?;
        let buf = window.bufs.get(place)?.as_ref()?;
        Some(buf.get(window.offset_of(self.at_sector)..).unwrap_or_default())
    }

    /// Goes to the window that holds where the walk stands.
    async fn advance<D: Drive, X: Executor>(&mut self, media: &Rc<MediaInner<D, X>>) -> Result<(), PutError> {
        let is_next = |ahead: &Ahead| {
            let from = self.window.as_ref().map_or(ahead.first_sector, |window| window.first_sector);
            (from..ahead.end_sector).contains(&self.at_sector)
        };
        match self.ahead.take_if(|ahead| is_next(ahead)) {
            Some(ahead) => {
                let bridges_over = self.at_sector < ahead.first_sector;
                let window = ahead.arrive().await;
                self.read_bytes += window.read_bytes();
                let before = self.window.replace(window);
                self.bridge = match (before, &self.window) {
                    (Some(before), Some(window)) if bridges_over => {
                        Some(before.bridge_to(window, self.at_sector, media)?)
                    }
                    _ => None,
                };
            }
            None => self.ahead = None,
        }
        if !self.is_covered() {
            self.bridge = None;
            let window = self.read(media).await?;
            self.read_bytes += window.read_bytes();
            self.window = Some(window);
        }
        if self.reads_ahead && self.ahead.is_none() {
            self.ahead = self.begin_ahead(media).await;
        }
        Ok(())
    }

    /// A window from where the walk stands.
    async fn read<D: Drive, X: Executor>(&self, media: &MediaInner<D, X>) -> Result<Window, PutError> {
        let end_sector = self.end_sector.min(self.at_sector + WALK_WINDOW_SECTORS);
        let empty = self.take_bufs(media, end_sector - self.at_sector).ok_or(PutError::Overloaded)?;
        let offset_bytes = sector_offset_bytes(self.at_sector);
        let reads = self
            .shards
            .iter()
            .zip(empty)
            .map(|(shard, buf)| read_some(media, &self.volume, usize::from(*shard), offset_bytes, buf));
        Ok(Window { first_sector: self.at_sector, end_sector, bufs: join_all(reads).await })
    }

    /// The reads of the window after this one; none at the end, or if there are no buffers for it.
    async fn begin_ahead<D: Drive, X: Executor>(&self, media: &Rc<MediaInner<D, X>>) -> Option<Ahead> {
        let first_sector = self.window.as_ref()?.end_sector;
        let end_sector = self.end_sector.min(first_sector + WALK_WINDOW_SECTORS);
        if first_sector >= end_sector {
            return None;
        }
        let mut reads = Vec::with_capacity(self.shards.len());
        let empty = self.take_bufs(media, end_sector - first_sector)?;
        for (shard, buf) in self.shards.iter().zip(empty) {
            let (sender, receiver) = oneshot::channel();
            if let Ok(file) = media.segment(&self.volume, usize::from(*shard)).await {
                let media = Rc::clone(media);
                let offset_bytes = sector_offset_bytes(first_sector);
                Rc::clone(&media).executor.spawn(async move {
                    // The walk may have gone elsewhere.
                    drop(sender.send(read_file(&media, &file, offset_bytes, buf).await));
                });
            }
            reads.push(receiver);
        }
        Some(Ahead { first_sector, end_sector, reads })
    }

    fn take_bufs<D: Drive, X: Executor>(
        &self,
        media: &MediaInner<D, X>,
        sectors: u32,
    ) -> Option<Vec<AlignedBuf>> {
        let len = in_memory(sector_offset_bytes(sectors));
        self.shards.iter().map(|_| media.shared.bufs().take(len).ok()).collect()
    }
}

impl Window {
    fn offset_of(&self, sector: u32) -> usize {
        in_memory(sector_offset_bytes(sector - self.first_sector))
    }

    fn read_bytes(&self) -> u64 {
        self.bufs.iter().flatten().map(|buf| buf.len() as u64).sum()
    }

    /// What lies from `first_sector` on in this window, and the begin of the next: a page that lies across, whole.
    fn bridge_to<D: Drive, X: Executor>(
        &self,
        next: &Window,
        first_sector: u32,
        media: &MediaInner<D, X>,
    ) -> Result<Window, PutError> {
        let end_sector = next.end_sector.min(next.first_sector + u32::from(PAGE_MAX_SECTORS));
        let mut bufs = Vec::with_capacity(self.bufs.len());
        for (before, after) in self.bufs.iter().zip(&next.bufs) {
            let Some(before) = before else {
                bufs.push(None);
                continue;
            };
            let tail = before.get(self.offset_of(first_sector)..).unwrap_or_default();
            // Where the file ends, nothing follows.
            let is_whole = before.len() == self.offset_of(self.end_sector);
            let head = after
                .as_ref()
                .filter(|_| is_whole)
                .map_or(&[][..], |after| &after[..after.len().min(next.offset_of(end_sector))]);
            let mut buf =
                media.shared.bufs().take(tail.len() + head.len()).map_err(|_| PutError::Overloaded)?;
            buf[..tail.len()].copy_from_slice(tail);
            buf[tail.len()..].copy_from_slice(head);
            bufs.push(Some(buf));
        }
        Ok(Window { first_sector, end_sector, bufs })
    }
}

impl Ahead {
    async fn arrive(self) -> Window {
        let bufs = join_all(self.reads).await.into_iter().map(|read| read.ok().flatten()).collect();
        Window { first_sector: self.first_sector, end_sector: self.end_sector, bufs }
    }
}

/// As many whole sectors of a shard as there are, up to the buffer's length; `None` if they cannot be read.
pub(crate) async fn read_some<D: Drive, X: Executor>(
    media: &MediaInner<D, X>,
    volume: &Volume,
    shard: usize,
    offset_bytes: u64,
    buf: AlignedBuf,
) -> Option<AlignedBuf> {
    let file = media.segment(volume, shard).await.ok()?;
    read_file(media, &file, offset_bytes, buf).await
}

async fn read_file<D: Drive, X: Executor>(
    media: &MediaInner<D, X>,
    file: &OpenShard<D>,
    offset_bytes: u64,
    buf: AlignedBuf,
) -> Option<AlignedBuf> {
    let (result, mut buf) = media.read_file(file, offset_bytes, buf).await.ok()?;
    match result {
        Ok(()) => Some(buf),
        Err(IoError::ShortRead { got_bytes }) => {
            let sector = in_memory(sector_offset_bytes(1));
            buf.set_len(got_bytes / sector * sector);
            Some(buf)
        }
        Err(_) => None,
    }
}
