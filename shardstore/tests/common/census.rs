//! A census of acknowledged stripes: each page of each shard, read from its drive and verified.
//! Invariants: goes around the store, so it sees what redundancy hides.
//! Not here: mending.

use std::collections::BTreeSet;

use shardstore_format::{
    Layout, PageAddress, StripeHeader, VolumeRecord, open_page, page_bytes, page_payload_bytes,
};
use shardstore_reactor::{AlignedBuf, Drive, DriveFile, OpenMode};
use shardstore_sim::SimDrive;

use super::Stored;

/// Pages of all stripes that hold bytes of `stored`; panics if one is not whole. `drives` in member order.
pub(crate) async fn census(
    pool: &shardstore::Pool<SimDrive>,
    records: &[VolumeRecord],
    stored: &[Stored],
) -> usize {
    let mut stripes = BTreeSet::new();
    for (extent, _) in stored.iter().flat_map(|stored| &stored.extents) {
        let record = records.iter().find(|record| record.id == extent.volume).unwrap();
        let layout = Layout::of_extent(extent, record.profile.k);
        let mut offset = 0;
        while offset < extent.len_bytes {
            let span = layout.span_at(offset, u64::MAX).unwrap();
            offset += span.len_bytes();
            stripes.insert((extent.volume, span.sector, span.page_len_sectors));
        }
    }
    let mut pages = 0;
    for (volume, sector, page_len_sectors) in stripes {
        let record = records.iter().find(|record| record.id == volume).unwrap();
        pages += count_stripe(pool, record, sector, page_len_sectors).await;
    }
    pages
}

async fn count_stripe(
    pool: &shardstore::Pool<SimDrive>,
    record: &VolumeRecord,
    sector: u32,
    page_len_sectors: u8,
) -> usize {
    let mut header: Option<StripeHeader> = None;
    let mut pages = 0;
    // Shard 0 is in every stripe and says how many data pages there are.
    for (shard, drive) in (0u8..).zip(&record.segments) {
        if header.is_some_and(|header| (header.shape.data_pages..record.profile.k).contains(&shard)) {
            continue;
        }
        let member = pool.members().iter().find(|member| member.id == *drive).unwrap();
        let page = read_page(member.drive.as_ref().unwrap(), record, shard, sector, page_len_sectors).await;
        let address = PageAddress { pool: pool.id(), volume: record.id, sector, shard };
        let found = open_page(&page, &address)
            .unwrap_or_else(|error| panic!("{error}: volume {} sector {sector} shard {shard}", record.id.0));
        assert!(header.is_none_or(|header| header == found), "pages of one stripe agree");
        header = Some(found);
        check_padding(&found, shard, &page[64..]);
        pages += 1;
    }
    pages
}

fn check_padding(header: &StripeHeader, shard: u8, payload: &[u8]) {
    if shard >= header.shape.data_pages {
        return;
    }
    let before = u64::from(shard) * page_payload_bytes(header.shape.page_len_sectors);
    let used = u64::from(header.payload_len_bytes).saturating_sub(before).min(payload.len() as u64);
    assert!(payload[used as usize..].iter().all(|byte| *byte == 0), "padding is zero");
}

async fn read_page(
    drive: &SimDrive,
    record: &VolumeRecord,
    shard: u8,
    sector: u32,
    page_len_sectors: u8,
) -> AlignedBuf {
    let path = format!("segments/{:016x}.{shard:02x}", record.id.0);
    let file = drive.open(&path, OpenMode::Read).await.unwrap();
    let buf = AlignedBuf::zeroed(page_bytes(page_len_sectors) as usize);
    let (result, buf) = file.read_at(u64::from(sector) * 4096, buf).await;
    result.unwrap();
    buf
}
