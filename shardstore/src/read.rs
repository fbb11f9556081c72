//! Reading an object: its extents in order, a byte range of them, as verified slices shared with the cache.
//! Invariants: bytes come in order and each was verified; at most [`READ_AHEAD_BYTES`] are under way or unread;
//! no page outside the range is read; whoever takes bytes slowly keeps no page from others, and no drive looks slow for it.
//! Not here: which extents an object has (`fdb-schema`), rebuilding (`page_read`).

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_channel::oneshot;
use futures_util::future::{Either, join_all, select};
use futures_util::stream::{FuturesOrdered, Stream};
use shardstore_erasure::checksum::crc32c;
use shardstore_format::{Extent, Layout, PageSpan, VolumeId};
use shardstore_reactor::{Drive, Executor};

use crate::cache::{CacheKey, Verified};
use crate::media::{Media, MediaInner};
use crate::options::{OWN_CRC_MAX_BYTES, READ_AHEAD_BYTES, SLOW_READ_MAX, in_memory};
use crate::page_read::{LoadError, PagePlace};
use crate::table::Volume;
use crate::wait::answer;

/// Why a read failed, by what the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The extents point into a volume that is gone: its bytes were moved, or the object was deleted. Read the data
    /// record again and go on where the read stands.
    Stale(VolumeId),
    /// More shards are missing or corrupt than parity mends: report; the bytes cannot be had.
    Lost {
        /// The volume.
        volume: VolumeId,
        /// First sector of the stripe.
        sector: u32,
    },
    /// No buffer: answer `SlowDown`.
    Overloaded,
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Stale(volume) => write!(f, "volume {} is gone", volume.0),
            ReadError::Lost { volume, sector } => {
                write!(f, "volume {} is damaged beyond its parity at sector {sector}", volume.0)
            }
            ReadError::Overloaded => f.write_str("the buffer budget is spent"),
        }
    }
}

impl std::error::Error for ReadError {}

type Load = Pin<Box<dyn Future<Output = Result<Bytes, ReadError>>>>;

/// A read under way; when it is dropped, what was asked of drives still ends by itself.
pub struct ObjectReader<D: Drive, X: Executor> {
    media: Rc<MediaInner<D, X>>,
    extents: Vec<(Extent, Option<u32>)>,
    /// The extent that the next piece lies in, its volume once looked up, and the byte within.
    extent_index: usize,
    volume: Option<Arc<Volume>>,
    offset_bytes: u64,
    /// Bytes of the range not yet asked for.
    left_bytes: u64,
    window: FuturesOrdered<Load>,
    /// Lengths of the pieces in the window.
    window_lens: VecDeque<u64>,
    window_bytes: u64,
    has_begun: bool,
    failed: Option<ReadError>,
}

impl<D: Drive, X: Executor> Media<D, X> {
    /// Reads bytes `range` of the concatenation of `extents`, each with its own CRC32C if it has one.
    ///
    /// Nothing is read before the first [`ObjectReader::next`]. Bytes of the range past the end do not exist and
    /// are left out. The caller holds the data id.
    pub fn open_read(&self, extents: Vec<(Extent, Option<u32>)>, range: Range<u64>) -> ObjectReader<D, X> {
        let mut skip_bytes = range.start;
        let mut extent_index = 0;
        while let Some((extent, _)) = extents.get(extent_index) {
            if skip_bytes < extent.len_bytes {
                break;
            }
            skip_bytes -= extent.len_bytes;
            extent_index += 1;
        }
        ObjectReader {
            media: Rc::clone(&self.inner),
            extents,
            extent_index,
            volume: None,
            offset_bytes: skip_bytes,
            left_bytes: range.end.saturating_sub(range.start),
            window: FuturesOrdered::new(),
            window_lens: VecDeque::new(),
            window_bytes: 0,
            has_begun: false,
            failed: None,
        }
    }
}

/// What one load brings.
enum Piece {
    /// An extent with its own checksum, whole.
    Extent(Extent, u32),
    /// Part of a page.
    Span(PageSpan),
}

impl<D: Drive, X: Executor> ObjectReader<D, X> {
    /// The next bytes: at least one slice and at most 2 MiB, or `None` at the end.
    ///
    /// What is in the cache comes at once; else it waits for the first piece and takes what else is there.
    pub async fn next(&mut self) -> Option<Result<Vec<Bytes>, ReadError>> {
        if !self.has_begun && self.failed.is_none() && self.extents.len() > 1 {
            self.look_for_stale();
        }
        let mut ready = Vec::new();
        self.fill(&mut ready);
        std::future::poll_fn(|cx| self.poll_window(cx, &mut ready)).await;
        if ready.is_empty() {
            return self.failed.map(Err);
        }
        self.has_begun = true;
        Some(Ok(ready))
    }

    /// Looks for volumes that are gone among all extents of the range, so that the caller hears of it before it
    /// has sent a byte.
    fn look_for_stale(&mut self) {
        let mut left = self.left_bytes.saturating_add(self.offset_bytes);
        for (extent, _) in &self.extents[self.extent_index.min(self.extents.len())..] {
            if left == 0 {
                return;
            }
            if !self.media.shared.volumes.contains(extent.volume) {
                let volume = extent.volume;
                return self.fail(ReadError::Stale(volume));
            }
            left = left.saturating_sub(extent.len_bytes);
        }
    }

    /// Takes what has arrived in order; polls what has not, so that it begins.
    fn poll_window(&mut self, cx: &mut Context<'_>, ready: &mut Vec<Bytes>) -> Poll<()> {
        loop {
            match Pin::new(&mut self.window).poll_next(cx) {
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if ready.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(()),
                Poll::Ready(Some(Ok(bytes))) => {
                    self.window_bytes -= self.window_lens.pop_front().unwrap_or(0);
                    ready.push(bytes);
                }
                Poll::Ready(Some(Err(error))) => {
                    // What came before the error is returned first.
                    self.fail(error);
                    return Poll::Ready(());
                }
            }
        }
    }

    fn fail(&mut self, error: ReadError) {
        self.failed = Some(error);
        self.left_bytes = 0;
        self.window = FuturesOrdered::new();
        self.window_lens.clear();
        self.window_bytes = 0;
    }

    /// Asks for pieces up to the read-ahead; those in the cache at the front are ready at once.
    fn fill(&mut self, ready: &mut Vec<Bytes>) {
        let mut ready_bytes = 0;
        while self.left_bytes > 0 && self.window_bytes + ready_bytes < READ_AHEAD_BYTES {
            match self.ask(ready) {
                Ok(len) => ready_bytes += len,
                // Nothing is under way or returned: the caller may still turn elsewhere.
                Err(error) if self.window.is_empty() && ready.is_empty() => self.fail(error),
                Err(error) => {
                    self.push(Box::pin(std::future::ready(Err(error))), 0);
                    self.left_bytes = 0;
                }
            }
        }
    }

    /// Asks for one piece; returns the bytes that are ready at once.
    fn ask(&mut self, ready: &mut Vec<Bytes>) -> Result<u64, ReadError> {
        let Some(&(extent, crc)) = self.extents.get(self.extent_index) else {
            self.left_bytes = 0;
            return Ok(0);
        };
        let is_whole = self.offset_bytes == 0 && self.left_bytes >= extent.len_bytes;
        let own_crc = crc.filter(|_| is_whole && extent.len_bytes <= OWN_CRC_MAX_BYTES);
        let (piece, key, within) = match own_crc {
            Some(crc) => {
                (Piece::Extent(extent, crc), CacheKey::extent(&extent), 0..in_memory(extent.len_bytes))
            }
            None => {
                let span = self.span(&extent)?;
                let within = in_memory(span.begin.into())..in_memory(span.end.into());
                (Piece::Span(span), CacheKey::page(extent.volume, span.sector, span.shard), within)
            }
        };
        let len = within.len() as u64;
        let cached = self.media.shared.cache.get(&key).filter(|page| within.end <= page.bytes.len());
        let mut ready_bytes = 0;
        match cached {
            Some(page) if self.window.is_empty() => {
                ready.push(page.bytes.slice(within));
                ready_bytes = len;
            }
            Some(page) => self.push(Box::pin(std::future::ready(Ok(page.bytes.slice(within)))), len),
            None => {
                // Whoever asks waits for the first piece, but may turn away from the others to a client that takes its time.
                let is_awaited = self.window.is_empty() && ready.is_empty();
                let load = self.load(&extent, piece)?;
                self.push(if is_awaited { load } else { self.start(load) }, len);
            }
        }
        self.advance(&extent, len);
        Ok(ready_bytes)
    }

    /// Runs a load whether or not anyone polls it: others may wait for its pages, and its time is its drive's.
    fn start(&self, load: Load) -> Load {
        let (sender, receiver) = oneshot::channel();
        self.media.executor.spawn(async move { answer(sender, load.await) });
        // Cancelled only when the core ends.
        Box::pin(async move { receiver.await.unwrap_or(Err(ReadError::Overloaded)) })
    }

    fn push(&mut self, load: Load, len: u64) {
        self.window.push_back(load);
        self.window_lens.push_back(len);
        self.window_bytes += len;
    }

    fn advance(&mut self, extent: &Extent, len: u64) {
        self.left_bytes -= len;
        self.offset_bytes += len;
        if self.offset_bytes >= extent.len_bytes {
            self.extent_index += 1;
            self.offset_bytes = 0;
            self.volume = None;
        }
    }

    /// The part of one page at the current place.
    fn span(&mut self, extent: &Extent) -> Result<PageSpan, ReadError> {
        let layout = Layout::of_extent(extent, self.volume_of(extent)?.profile.k);
        let lost = ReadError::Lost { volume: extent.volume, sector: extent.sector };
        layout.span_at(self.offset_bytes, self.left_bytes).ok_or(lost)
    }

    fn volume_of(&mut self, extent: &Extent) -> Result<Arc<Volume>, ReadError> {
        if let Some(volume) = &self.volume {
            return Ok(Arc::clone(volume));
        }
        let found = self.media.shared.volumes.get(extent.volume);
        let volume = found.ok_or(ReadError::Stale(extent.volume))?;
        self.volume = Some(Arc::clone(&volume));
        Ok(volume)
    }

    fn load(&mut self, extent: &Extent, piece: Piece) -> Result<Load, ReadError> {
        let volume = self.volume_of(extent)?;
        let media = Rc::clone(&self.media);
        Ok(match piece {
            Piece::Extent(extent, crc) => Box::pin(load_extent(media, volume, extent, crc)),
            Piece::Span(span) => Box::pin(load_span(media, volume, span)),
        })
    }
}

/// A verified part of one page.
pub(crate) async fn load_span<D: Drive, X: Executor>(
    media: Rc<MediaInner<D, X>>,
    volume: Arc<Volume>,
    span: PageSpan,
) -> Result<Bytes, ReadError> {
    let lost = ReadError::Lost { volume: volume.id, sector: span.sector };
    let page = Rc::clone(&media).load_page(PagePlace::of_span(&volume, &span)).await;
    let page = page.map_err(|error| match error {
        // Its files went while it was read.
        LoadError::Lost if media.is_gone(&volume) => ReadError::Stale(volume.id),
        LoadError::Lost => lost,
        LoadError::Overloaded => ReadError::Overloaded,
    })?;
    let range = in_memory(span.begin.into())..in_memory(span.end.into());
    if range.end <= page.len() { Ok(page.slice(range)) } else { Err(lost) }
}

/// A whole extent by its sectors and its own checksum; by whole pages if that does not match.
async fn load_extent<D: Drive, X: Executor>(
    media: Rc<MediaInner<D, X>>,
    volume: Arc<Volume>,
    extent: Extent,
    crc: u32,
) -> Result<Bytes, ReadError> {
    let lost = ReadError::Lost { volume: volume.id, sector: extent.sector };
    let spans = spans_of(&extent, volume.profile.k).ok_or(lost)?;
    let reads = join_all(spans.iter().map(|span| media.read_span_unverified(&volume, span)));
    let parts = if volume.profile.m == 0 {
        reads.await.into_iter().collect()
    } else {
        let patience = spans.iter().map(|span| media.patience(&volume, usize::from(span.shard))).max();
        let patience = media.executor.sleep(patience.unwrap_or(SLOW_READ_MAX));
        match select(reads, std::pin::pin!(patience)).await {
            Either::Left((parts, _)) => parts.into_iter().collect(),
            // By pages, which are rebuilt if they are slow.
            Either::Right(_) => Ok(None),
        }
    };
    let parts: Result<Option<Vec<Bytes>>, LoadError> = parts;
    let found = match parts {
        Ok(parts) => parts.map(|parts| concat(&parts)).filter(|bytes| crc32c(bytes) == crc),
        Err(_) => return Err(ReadError::Overloaded),
    };
    let bytes = match found {
        Some(bytes) => bytes,
        None => {
            let loads = spans.iter().map(|span| load_span(Rc::clone(&media), Arc::clone(&volume), *span));
            let pages: Result<Vec<Bytes>, ReadError> = join_all(loads).await.into_iter().collect();
            concat(&pages?)
        }
    };
    if crc32c(&bytes) != crc {
        return Err(if media.is_gone(&volume) { ReadError::Stale(volume.id) } else { lost });
    }
    let verified = Verified { bytes: bytes.clone(), data_pages: 0 };
    media.shared.cache.insert(CacheKey::extent(&extent), verified);
    Ok(bytes)
}

fn spans_of(extent: &Extent, k: u8) -> Option<Vec<PageSpan>> {
    let layout = Layout::of_extent(extent, k);
    let mut spans = Vec::with_capacity(2);
    let mut offset = 0;
    while offset < extent.len_bytes {
        let span = layout.span_at(offset, extent.len_bytes)?;
        offset += span.len_bytes();
        spans.push(span);
    }
    Some(spans)
}

/// A copy of just these bytes, so that a small cached object does not keep the sectors around it.
pub(crate) fn concat(parts: &[Bytes]) -> Bytes {
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        all.extend_from_slice(part);
    }
    all.freeze()
}
