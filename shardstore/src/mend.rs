//! Mending: a page that does not verify is computed from its stripe and written back where it belongs.
//! Invariants: what is written is what was there, byte for byte, so a place still never holds two different pages; a
//! mended page is read back and verified; more than m bad pages are reported and nothing is written.
//! Not here: finding bad pages (`page_read`, `scrub`), shards whose drive or file is gone (`repair`).

use std::sync::Arc;

use futures_util::future::join_all;
use shardstore_format::{
    PAGE_HEADER_BYTES, PAGE_MAX_BYTES, PageAddress, StripeHeader, VolumeId, open_page_prefix, page_bytes,
    seal_page,
};
use shardstore_reactor::{AlignedBuf, Drive, DriveFile, Executor, IoError, OpenMode};

use crate::media::MediaInner;
use crate::options::{in_memory, sector_offset_bytes};
use crate::shared::count;
use crate::table::Volume;
use crate::walk::read_some;

/// A stripe that somebody found not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) volume: VolumeId,
    pub(crate) sector: u32,
}

/// What became of a stripe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    /// Pages that did not verify, on drives that answer.
    pub(crate) bad: u32,
    /// Of these, pages that do now.
    pub(crate) mended: u32,
    /// Fewer than k pages are left.
    pub(crate) is_lost: bool,
}

/// One page as it was read: whole, or not.
pub(crate) enum ReadPage {
    Whole(AlignedBuf),
    /// A short stripe has no such page.
    Absent,
    Bad,
    Unread,
}

/// All pages of a stripe, by shard.
pub(crate) struct StripeRead {
    pub(crate) header: StripeHeader,
    pub(crate) pages: Vec<ReadPage>,
}

impl StripeRead {
    /// Whole pages and those that count as zeros.
    pub(crate) fn known(&self) -> usize {
        self.pages[..].iter().filter(|page| matches!(page, ReadPage::Whole(_) | ReadPage::Absent)).count()
    }
}

impl<D: Drive, X: Executor> MediaInner<D, X> {
    /// Reads every page of a stripe from its drive. `None` if no page of it verifies.
    ///
    /// # Errors
    /// No buffers: later.
    pub(crate) async fn read_stripe(
        &self,
        volume: &Arc<Volume>,
        sector: u32,
    ) -> Result<Option<StripeRead>, shardstore_reactor::PoolExhausted> {
        let mut bufs = Vec::new();
        for _ in 0..volume.profile.shards() {
            bufs.push(self.shared.bufs().take(in_memory(PAGE_MAX_BYTES))?);
        }
        let offset_bytes = sector_offset_bytes(sector);
        let reads = bufs.into_iter().enumerate();
        let reads = reads.map(|(shard, buf)| read_some(self, volume, shard, offset_bytes, buf));
        let found = join_all(reads).await;
        let opened: Vec<Option<StripeHeader>> = (0u8..)
            .zip(&found)
            .map(|(shard, buf)| {
                let address = PageAddress { pool: self.shared.pool, volume: volume.id, sector, shard };
                open_page_prefix(buf.as_ref()?, &address).ok()
            })
            .map(|header| header.filter(|header| header.profile == volume.profile))
            .collect();
        let Some(header) = opened.iter().flatten().next().copied() else { return Ok(None) };
        let len = in_memory(page_bytes(header.shape.page_len_sectors));
        let pages = (0u8..).zip(found).zip(opened).map(|((shard, buf), opened)| {
            let is_absent = shard >= header.shape.data_pages && shard < header.profile.k;
            match (buf, opened) {
                _ if is_absent => ReadPage::Absent,
                (Some(mut buf), Some(its)) if its == header => {
                    buf.set_len(len);
                    ReadPage::Whole(buf)
                }
                (Some(_), _) => ReadPage::Bad,
                (None, _) => ReadPage::Unread,
            }
        });
        Ok(Some(StripeRead { header, pages: pages.collect() }))
    }

    /// One page of a stripe, sealed for its place, computed from the others. `None` if too few are whole.
    ///
    /// # Errors
    /// No buffers: later.
    pub(crate) fn compute_page(
        &self,
        volume: &Volume,
        sector: u32,
        stripe: &StripeRead,
        shard: u8,
    ) -> Result<Option<AlignedBuf>, shardstore_reactor::PoolExhausted> {
        let header = stripe.header;
        let len = in_memory(page_bytes(header.shape.page_len_sectors));
        let payload = in_memory(PAGE_HEADER_BYTES);
        let mut page = self.shared.bufs().take(len)?;
        let present: Vec<(usize, &[u8])> = stripe
            .pages
            .iter()
            .enumerate()
            .filter_map(|(index, found)| match found {
                ReadPage::Whole(bytes) => Some((index, &bytes[payload..])),
                ReadPage::Absent | ReadPage::Bad | ReadPage::Unread => None,
            })
            .filter(|(index, _)| *index != usize::from(shard))
            .take(usize::from(header.profile.k))
            .collect();
        let Some(codec) = self.codec(header.profile) else { return Ok(None) };
        let mut missing = [(usize::from(shard), &mut page[payload..])];
        let data_pages = usize::from(header.shape.data_pages);
        if codec.rebuild(&present, &mut missing, data_pages).is_err() {
            return Ok(None);
        }
        let address = PageAddress { pool: self.shared.pool, volume: volume.id, sector, shard };
        seal_page(&mut page, &address, &header);
        Ok(Some(page))
    }

    /// Looks at a stripe and mends what is bad on drives that answer. `None`: no buffers now, or no page of the
    /// stripe verifies, which only its owner rows can tell from the end of the volume.
    pub(crate) async fn mend_stripe(&self, volume: &Arc<Volume>, sector: u32) -> Option<Mended> {
        let stripe = self.read_stripe(volume, sector).await.ok()??;
        let bad: Vec<u8> = (0u8..)
            .zip(&stripe.pages)
            .filter(|(_, page)| matches!(page, ReadPage::Bad))
            .map(|(shard, _)| shard)
            .collect();
        let mut mended = Mended { bad: u32::try_from(bad.len()).unwrap_or(u32::MAX), ..Mended::default() };
        mended.is_lost = stripe.known() < usize::from(stripe.header.profile.k);
        if mended.is_lost {
            return Some(mended);
        }
        for shard in bad {
            let page = self.compute_page(volume, sector, &stripe, shard).ok()??;
            if self.write_back(volume, sector, shard, page).await {
                mended.mended += 1;
                count(&self.shared.counts.pages_mended, 1);
                tracing::warn!(volume = volume.id.0, sector, shard, "a page was mended");
            }
        }
        Some(mended)
    }

    /// Writes a page in place, durably, and reads it again.
    async fn write_back(&self, volume: &Arc<Volume>, sector: u32, shard: u8, page: AlignedBuf) -> bool {
        let Some(member) = volume.member(usize::from(shard)) else { return false };
        let Some(drive) = self.drive(member) else { return false };
        let path = volume.segment_path(usize::from(shard));
        let opened = self.bounded(member, drive.open(&path, OpenMode::ReadWrite)).await;
        let Ok(file) = opened else { return false };
        let len = page.len();
        let outcome = file.write_durable(sector_offset_bytes(sector), vec![page]).await;
        match outcome.result {
            Ok(()) => {}
            Err(IoError::NoSpace) => return false,
            Err(error) => {
                self.fence(member, &error);
                return false;
            }
        }
        let Ok(buf) = self.shared.bufs().take(len) else { return false };
        let again = read_some(self, volume, usize::from(shard), sector_offset_bytes(sector), buf).await;
        let address = PageAddress { pool: self.shared.pool, volume: volume.id, sector, shard };
        again.is_some_and(|bytes| open_page_prefix(&bytes, &address).is_ok())
    }
}
