//! Where the fuzzer enters the parsers of the manifest and of runs.
//! Invariants: each function takes any bytes and returns; checksums are made right, since they turn nearly all bytes
//! away; what decodes encodes to the same bytes.
//! Not here: the fuzzer (`tools/fuzz`). The tests run the seeds and what is one byte away from them.

use std::sync::Arc;

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use futures_util::FutureExt as _;
use shardstore_format::{DriveId, Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState};

use super::RunCursor;
use super::block::{Block, BlockBuilder, BlockCursor, Malformed};
use super::codec::{Fields, checksum, len_u32, low_u32};
use super::filter::{Filter, hash_key};
use super::footer::{FOOTER_BYTES, Footer, Part};
use super::index::{BlockPlace, Index};
use super::manifest::{Manifest, ManifestRun};
use super::run::Run;
use crate::engine::embedded::testing::MemoryRunStore;
use crate::engine::{Direction, KEY_MAX_BYTES};
use crate::run_store::{RunStore, RunVolume, RunWriter};

const VOLUME: VolumeId = VolumeId(7);
/// Rows that a walk passes: more than any seed has.
const WALKED_ROWS_MAX: usize = 2_000;
/// Before the body of a manifest: magic and version.
const MANIFEST_HEAD: &[u8] = b"BASALTMF\x01\0\0\0";

/// A manifest; also `bytes` as the body of one.
pub fn manifest(bytes: &[u8]) {
    read_manifest(bytes);
    let mut sealed = [MANIFEST_HEAD, bytes].concat();
    let crc = low_u32(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &sealed));
    sealed.extend_from_slice(&crc.to_le_bytes());
    read_manifest(&sealed);
}

fn read_manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
    }
}

/// Rows of a run as they lie in one block: `bytes` are the length of a key, that key, and the block without its CRC.
pub fn rows(bytes: &[u8]) {
    let Some((&len, rest)) = bytes.split_first() else { return };
    let Some((key, body)) = rest.split_at_checked(usize::from(len)) else { return };
    Block::check(body, VOLUME, 0).ok();
    let sealed = [body, &checksum(VOLUME, 0, body).to_le_bytes()].concat();
    assert_eq!(Block::check(&sealed, VOLUME, 0), Ok(()));
    let Ok(block) = Block::parse(sealed.into()) else { return };
    block.find(key).ok();
    let mut cursor = BlockCursor::new(block.clone());
    let found = cursor.seek_forward(key);
    walk_rows(&mut cursor, found);
    let found = cursor.seek_reverse(Some(key));
    walk_rows(&mut cursor, found);
    let found = cursor.seek_reverse(None);
    walk_rows(&mut cursor, found);
    if let Ok(mut cursor) = BlockCursor::at_first(block) {
        walk_rows(&mut cursor, Ok(true));
    }
}

fn walk_rows(cursor: &mut BlockCursor, mut on_row: Result<bool, Malformed>) {
    for _ in 0..WALKED_ROWS_MAX {
        if on_row != Ok(true) {
            return;
        }
        assert!(cursor.key().len() <= KEY_MAX_BYTES);
        cursor.value();
        on_row = cursor.step();
    }
}

/// The index of a run: `bytes` are where the blocks end, and the index.
pub fn index(bytes: &[u8]) {
    let Some((end_bytes, rest)) = bytes.split_first_chunk() else { return };
    let end_bytes = u64::from(u32::from_le_bytes(*end_bytes));
    let Some(index) = Index::decode(rest, end_bytes) else { return };
    for place in (0..index.block_count()).map(|position| index.place(position)) {
        assert!(u64::from(place.offset_bytes) + u64::from(place.len_bytes) <= end_bytes);
    }
    for key in [&b""[..], b"a", b"b", b"\xff\xff"] {
        assert!(index.block_of(key) <= index.block_count());
    }
    let mut again = Vec::new();
    index.encode(&mut again);
    assert_eq!(again, rest);
}

/// The footer of a run: `bytes` are where it lies, and the footer without its CRC.
pub fn footer(bytes: &[u8]) {
    let Some((at, body)) = bytes.split_first_chunk() else { return };
    let at = u64::from_le_bytes(*at);
    Footer::decode(body, VOLUME, at).ok();
    let sealed = [body, &checksum(VOLUME, at, body).to_le_bytes()].concat();
    let Ok(footer) = Footer::decode(&sealed, VOLUME, at) else { return };
    let mut again = Vec::new();
    footer.encode(VOLUME, at, &mut again);
    assert_eq!(again, sealed);
}

/// A whole run, opened, asked and walked: `bytes` are the lengths of its blocks (u16), its index in steps of 4 and a
/// key, the count of blocks, then these. What remains is the filter. Checksums are made right.
pub fn run(bytes: &[u8]) {
    let Some((lens, rest)) = bytes.split_first_chunk::<5>() else { return };
    let [low, high, index_len, key_len, block_count] = *lens;
    let blocks_len = usize::from(u16::from_le_bytes([low, high]));
    let (blocks, rest) = rest.split_at(blocks_len.min(rest.len()));
    let (index, rest) = rest.split_at((usize::from(index_len) * 4).min(rest.len()));
    let (key, filter) = rest.split_at(usize::from(key_len).min(rest.len()));
    let payload = run_payload(blocks, index, filter, u32::from(block_count));
    let walked = walk_run(payload, key).now_or_never();
    assert!(walked.is_some(), "a store in memory never suspends");
}

fn run_payload(blocks: &[u8], index: &[u8], filter: &[u8], block_count: u32) -> Bytes {
    let mut payload = blocks.to_vec();
    let mut fields = Fields(index);
    let bounds = (fields.sized(), fields.sized());
    if let ((Some(_), Some(_)), Some(index)) = (bounds, Index::decode(fields.0, blocks.len() as u64)) {
        for place in (0..index.block_count()).map(|position| index.place(position)) {
            let begin = place.offset_bytes as usize;
            let block = &mut payload[begin..begin + place.len_bytes as usize];
            if let Some((body, crc)) = block.split_last_chunk_mut::<4>() {
                *crc = checksum(VOLUME, u64::from(place.offset_bytes), body).to_le_bytes();
            }
        }
    }
    let part_at = |payload: &mut Vec<u8>, bytes: &[u8]| {
        let offset_bytes = payload.len() as u64;
        payload.extend_from_slice(bytes);
        Part { offset_bytes, len_bytes: bytes.len() as u64, crc: checksum(VOLUME, offset_bytes, bytes) }
    };
    let index = part_at(&mut payload, index);
    let filter = part_at(&mut payload, filter);
    let footer = Footer { index, filter, block_count, rows: 9, tombstones: 1, versions: 1..=9 };
    let at = payload.len() as u64;
    footer.encode(VOLUME, at, &mut payload);
    payload.into()
}

/// `None` if it is no run.
async fn walk_run(payload: Bytes, key: &[u8]) -> Option<()> {
    let store = MemoryRunStore::new();
    let mut writer = store.create(VOLUME).await.ok()?;
    writer.append(payload).await.ok()?;
    let volume = writer.finish().await.ok()?;
    let run = Run::open(&store, volume).await.ok()?;
    let (first, last) = (run.first_key().clone(), run.last_key().clone());
    for wanted in [key, &first, &last] {
        run.get(&store, wanted).await.ok();
        for direction in [Direction::Forward, Direction::Reverse] {
            let mut cursor = RunCursor::new(Arc::clone(&run), direction);
            let mut moved = cursor.seek(&store, wanted).await;
            for _ in 0..WALKED_ROWS_MAX {
                if moved.is_err() || cursor.key().is_none() {
                    break;
                }
                cursor.value();
                moved = cursor.next(&store).await;
            }
        }
    }
    Some(())
}

/// What to begin with, by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let manifest = seed_manifest().encode();
    let manifest_body = manifest[MANIFEST_HEAD.len()..manifest.len() - 4].to_vec();
    let block = seed_block(0, 0);
    let rows = [b"\x03k12", &block[..block.len() - 4]].concat();
    let second = seed_block(40, block.len() as u64);
    let blocks = [&block[..], &second].concat();
    let (one, two) = (len_u32(block.len()), len_u32(second.len()));
    let mut index = Index::default();
    index.push(b"k39", BlockPlace { offset_bytes: 0, len_bytes: one });
    index.push(b"k79", BlockPlace { offset_bytes: one, len_bytes: two });
    let mut index_body = Vec::new();
    index.encode(&mut index_body);
    let index_seed = [&(one + two).to_le_bytes()[..], &index_body].concat();
    // The length of an index is given in steps of 4, so its first key is filled up with zeros that sort below.
    let filled = "0".repeat((4 - (4 + 3 + 4 + 3 + index_body.len()) % 4) % 4) + "k00";
    let first_len = len_u32(filled.len()).to_le_bytes();
    let bounds = [&first_len[..], filled.as_bytes(), &3u32.to_le_bytes(), b"k79"].concat();
    let whole_index = [bounds, index_body].concat();
    let mut filter = Filter::for_keys(80);
    filter.insert(&(0..80).map(|n| hash_key(&seed_key(n))).collect::<Vec<_>>());
    let mut filter_bytes = Vec::new();
    filter.encode(&mut filter_bytes);
    let blocks_len = u16::try_from(blocks.len()).expect("two small blocks");
    let index_len = u8::try_from(whole_index.len() / 4).expect("a small index");
    let lens = [&blocks_len.to_le_bytes()[..], &[index_len, 3, 2]].concat();
    let run = [&lens[..], &blocks, &whole_index, b"k12", &filter_bytes].concat();
    let parts = [(100, 20, 1), (120, 32, 2)];
    let [index, filter] = parts.map(|(offset_bytes, len_bytes, crc)| Part { offset_bytes, len_bytes, crc });
    let footer = Footer { index, filter, block_count: 1, rows: 3, tombstones: 1, versions: 5..=9 };
    let mut footer_seed = 152u64.to_le_bytes().to_vec();
    footer.encode(VOLUME, 152, &mut footer_seed);
    footer_seed.truncate(8 + FOOTER_BYTES - 4);
    vec![
        ("manifest", manifest),
        ("manifest", manifest_body),
        ("rows", rows),
        ("index", index_seed),
        ("footer", footer_seed),
        ("run", run),
    ]
}

fn seed_key(n: usize) -> Vec<u8> {
    format!("k{n:02}").into_bytes()
}

/// 40 rows, every tenth a tombstone.
fn seed_block(from: usize, offset_bytes: u64) -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    for n in from..from + 40 {
        let value = seed_key(n * 7);
        builder.add(&seed_key(n), (n % 10 != 9).then_some(value.as_slice()));
    }
    let mut out = Vec::new();
    builder.seal(VOLUME, offset_bytes, &mut out);
    out
}

fn seed_manifest() -> Manifest {
    let run = |volume, first: &'static str, last: &'static str| ManifestRun {
        volume: RunVolume {
            record: VolumeRecord {
                id: VolumeId(volume),
                profile: Profile { k: 1, m: 1 },
                class: VolumeClass::Run,
                state: VolumeState::Sealed { end_sector: 16 },
                segments: vec![DriveId(1), DriveId(2)],
            },
            len_bytes: 999,
        },
        rows: 3,
        tombstones: 1,
        versions: 4..=8,
        first_key: Bytes::from_static(first.as_bytes()),
        last_key: Bytes::from_static(last.as_bytes()),
    };
    Manifest {
        flushed_version: 8,
        keep_from_sequence: 5,
        engine_state: Bytes::from_static(b"counters"),
        levels: vec![vec![run(3, "b", "x")], vec![run(1, "a", "m"), run(4, "n", "z")]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_what_is_near_them_are_read_without_a_panic() {
        for (name, seed) in seeds() {
            let enter = match name {
                "manifest" => manifest,
                "rows" => rows,
                "index" => index,
                "footer" => footer,
                "run" => run,
                _ => panic!("no such entry: {name}"),
            };
            crate::near(&seed, enter);
        }
    }

    #[test]
    fn the_seed_of_a_run_is_one_that_opens() {
        let (_, seed) = seeds().pop().expect("the last is a run");
        let blocks_len = usize::from(u16::from_le_bytes([seed[0], seed[1]]));
        let (blocks, rest) = seed[5..].split_at(blocks_len);
        let (index, rest) = rest.split_at(usize::from(seed[2]) * 4);
        let payload = run_payload(blocks, index, &rest[3..], u32::from(seed[4]));
        assert_eq!(walk_run(payload, b"k12").now_or_never(), Some(Some(())));
    }
}
