//! Fuzzes page headers, as they are and with magic, address and checksum made right.
//! Invariants: a page that opens is the one that sealing its contents would make.
#![no_main]

use shardstore_format::{PageAddress, PoolId, VolumeId, open_page, open_page_prefix, seal_page};

const ADDRESS: PageAddress = PageAddress { pool: PoolId(7), volume: VolumeId(5), sector: 16, shard: 1 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    open_page(bytes, &ADDRESS).ok();
    open_page_prefix(bytes, &ADDRESS).ok();
    // The first 8 bytes are what the header leaves open; docs/format.md draws where they lie.
    let Some((&[length, data_pages, k, m, p0, p1, p2, p3], payload)) = bytes.split_first_chunk() else {
        return;
    };
    let mut page = vec![0; usize::from(length % 18) * 4096];
    if page.is_empty() {
        return;
    }
    page[4..8].copy_from_slice(b"BPG\x01");
    page[8..24].copy_from_slice(&ADDRESS.pool.0.to_le_bytes());
    page[24..32].copy_from_slice(&ADDRESS.volume.0.to_le_bytes());
    page[32..36].copy_from_slice(&ADDRESS.sector.to_le_bytes());
    page[36..40].copy_from_slice(&[p0, p1, p2, p3]);
    page[40..45].copy_from_slice(&[ADDRESS.shard, length, data_pages, k, m]);
    let payload = &payload[..payload.len().min(4096 - 45)];
    page[45..45 + payload.len()].copy_from_slice(payload);
    let crc = crc_fast::crc32_iscsi(&page[4..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
    let opened = open_page(&page, &ADDRESS);
    assert!(opened.is_err() || opened == open_page_prefix(&page, &ADDRESS));
    if let Ok(stripe) = opened {
        let mut again = page.clone();
        seal_page(&mut again, &ADDRESS, &stripe);
        assert_eq!(again, page);
    }
});
