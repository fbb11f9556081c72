//! Reading a volume from end to end: its stripes one after the other, by large sequential reads of each shard.
//! Invariants: bytes come from the drives, never from the cache; a page counts as whole only if it verified at its
//! place; memory is one window a shard, whatever the volume's length.
//! Not here: what is done about pages that are not whole (`mend`, `repair`).

use std::sync::Arc;

use futures_util::future::join_all;
use shardstore_format::{
    PAGE_MAX_SECTORS, PageAddress, PageError, StripeHeader, open_page_prefix, page_bytes,
};
use shardstore_reactor::{AlignedBuf, Drive, DriveFile, Executor, IoError, WRITE_DEADLINE};

use crate::media::MediaInner;
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
    /// First sector of what `bufs` hold, by place in `shards`; shorter where the file ends, `None` where it is unread.
    window_sector: u32,
    bufs: Vec<Option<AlignedBuf>>,
    header: Option<StripeHeader>,
    /// Device bytes read so far.
    pub(crate) read_bytes: u64,
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
            window_sector: 0,
            bufs: Vec::new(),
            header: None,
            read_bytes: 0,
        }
    }

    /// Goes to the next stripe.
    ///
    /// # Errors
    /// [`PutError::Overloaded`]: no buffers; call again later.
    pub(crate) async fn next<D: Drive, X: Executor>(
        &mut self,
        media: &MediaInner<D, X>,
    ) -> Result<Step, PutError> {
        if let Some(header) = self.header.take() {
            self.at_sector += u32::from(header.shape.page_len_sectors);
        }
        if self.at_sector >= self.end_sector {
            return Ok(Step::End);
        }
        let needed_sector = (self.at_sector + u32::from(PAGE_MAX_SECTORS)).min(self.end_sector);
        if needed_sector > self.window_end_sector() || self.at_sector < self.window_sector {
            self.fill(media).await?;
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

    fn window_end_sector(&self) -> u32 {
        if self.bufs.is_empty() { 0 } else { self.window_sector + WALK_WINDOW_SECTORS }
    }

    /// The walked bytes from where the walk stands, to the end of the window.
    fn bytes_at(&self, place: usize) -> Option<&[u8]> {
        let buf = self.bufs.get(place)?.as_ref()?;
        let offset = in_memory(sector_offset_bytes(self.at_sector - self.window_sector));
        Some(buf.get(offset..).unwrap_or_default())
    }

    async fn fill<D: Drive, X: Executor>(&mut self, media: &MediaInner<D, X>) -> Result<(), PutError> {
        let sectors = WALK_WINDOW_SECTORS.min(self.end_sector - self.at_sector);
        let len = in_memory(sector_offset_bytes(sectors));
        let mut empty = Vec::with_capacity(self.shards.len());
        self.bufs.clear();
        for _ in &self.shards {
            empty.push(media.shared.bufs().take(len).map_err(|_| PutError::Overloaded)?);
        }
        let offset_bytes = sector_offset_bytes(self.at_sector);
        let reads = self
            .shards
            .iter()
            .zip(empty)
            .map(|(shard, buf)| read_some(media, &self.volume, usize::from(*shard), offset_bytes, buf));
        self.bufs = join_all(reads).await;
        self.read_bytes += self.bufs.iter().flatten().map(|buf| buf.len() as u64).sum::<u64>();
        self.window_sector = self.at_sector;
        Ok(())
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
    let read = std::pin::pin!(file.read_at(offset_bytes, buf));
    let deadline = std::pin::pin!(media.executor.sleep(WRITE_DEADLINE));
    let (result, mut buf) = match futures_util::future::select(read, deadline).await {
        futures_util::future::Either::Left((outcome, _)) => outcome,
        futures_util::future::Either::Right(((), _)) => return None,
    };
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
