//! Where the fuzzer enters the parsers of log files, log records and the term file.
//! Invariants: each function takes any bytes and returns; bytes are tried as they are and, since a checksum turns
//! nearly all of them away, once more with address and checksum made right; what decodes can be encoded again.
//! Not here: the fuzzer (`tools/fuzz`). The tests run the seeds and what is one byte away from them.

use bytes::Bytes;
use shardstore_format::{DriveId, PoolId};
use shardstore_reactor::SECTOR_BYTES;

use super::format::{
    FileAddress, FileId, Head, HeadFixed, RECORD_HEADER_BYTES, RECORD_MAX_BYTES, RecordHeader, crc32c_of,
    encode_record, is_untouched, payload_len, record_bytes,
};
use super::term::Term;
use crate::engine::embedded::record::{Part, RecordRow, decode_record};
use crate::engine::embedded::tree::MANIFEST_MAX_BYTES;

const ADDRESS: FileAddress = FileAddress { pool: PoolId(7), file: FileId { term: 3, number: 9 } };
/// Lengths of what a head's and a record's CRC cover; see `format`.
const HEAD_FIXED_BYTES: usize = 120;
const RECORD_CRC_AT: usize = 52;

/// The head of a log file, and its name.
pub fn head(bytes: &[u8]) {
    read_head(bytes);
    read_name(bytes);
    let Some(fixed) = bytes.first_chunk::<HEAD_FIXED_BYTES>() else { return };
    let manifest = &bytes[HEAD_FIXED_BYTES..];
    let mut sealed = fixed.to_vec();
    sealed[..12].copy_from_slice(b"BASALTLG\x01\0\0\0");
    put_address(&mut sealed[16..48]);
    sealed[72..80].copy_from_slice(&(manifest.len() as u64).to_le_bytes());
    sealed[80..84].copy_from_slice(&crc32c_of(manifest).to_le_bytes());
    let crc = crc32c_of(&sealed[16..]);
    sealed[12..16].copy_from_slice(&crc.to_le_bytes());
    sealed.extend_from_slice(manifest);
    sealed.resize(sealed.len().next_multiple_of(SECTOR_BYTES), 0);
    read_head(&sealed);
}

fn read_head(bytes: &[u8]) {
    let sector = bytes.get(..SECTOR_BYTES).unwrap_or(bytes);
    is_untouched(sector, ADDRESS);
    let Some(fixed) = HeadFixed::decode(sector, ADDRESS) else { return };
    let (crc, len) = (fixed.crc, fixed.head_bytes());
    assert!(len <= MANIFEST_MAX_BYTES + 2 * SECTOR_BYTES);
    let Some(head) = fixed.finish(bytes) else { return };
    assert_eq!(head.encode(ADDRESS), (bytes[..len].to_vec(), crc));
}

fn read_name(bytes: &[u8]) {
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    if let Some(id) = FileId::parse(name) {
        assert_eq!(id.path(), format!("log/{name}"));
    }
}

/// A record of the log with what is in it.
pub fn record(bytes: &[u8]) {
    read_record(bytes);
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else { return };
    let payload = &bytes[RECORD_HEADER_BYTES..];
    let mut sealed = header.to_vec();
    sealed[..4].copy_from_slice(b"BREC");
    sealed[4..8].copy_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    put_address(&mut sealed[8..40]);
    sealed.extend_from_slice(payload);
    sealed.resize(record_bytes(payload.len()), 0);
    let covered = [&sealed[..RECORD_CRC_AT], &sealed[RECORD_CRC_AT + 4..]].concat();
    sealed[RECORD_CRC_AT..RECORD_CRC_AT + 4].copy_from_slice(&crc32c_of(&covered).to_le_bytes());
    read_record(&sealed);
}

fn read_record(bytes: &[u8]) {
    let Some(header) = RecordHeader::decode(bytes, ADDRESS) else { return };
    assert!(header.record_bytes() <= record_bytes(RECORD_MAX_BYTES));
    let Some(payload) = header.payload(bytes) else { return };
    commits(payload);
}

/// The commits in a record, as they are replayed at a start.
pub fn commits(payload: &[u8]) {
    let Some(found) = rows_of(payload) else { return };
    let mut again = Vec::new();
    for (version, row) in &found {
        let mut part = Part::new(0);
        part.push(&row.key, row.value.as_deref());
        again.extend_from_slice(&part.finish(*version));
    }
    assert_eq!(rows_of(&again), Some(found));
}

fn rows_of(payload: &[u8]) -> Option<Vec<(u64, RecordRow)>> {
    let mut rows = Vec::new();
    let decoded = decode_record(&Bytes::copy_from_slice(payload), |version, row| rows.push((version, row)));
    decoded.is_ok().then_some(rows)
}

/// The term file.
pub fn term(bytes: &[u8]) {
    read_term(bytes);
    let mut sealed = b"BASALTTM\x01\0\0\0".to_vec();
    sealed.extend_from_slice(&ADDRESS.pool.0.to_le_bytes());
    sealed.extend_from_slice(bytes);
    let crc = crc32c_of(&sealed);
    sealed.extend_from_slice(&crc.to_le_bytes());
    read_term(&sealed);
}

fn read_term(bytes: &[u8]) {
    let Some(term) = Term::decode(bytes, ADDRESS.pool) else { return };
    assert_eq!(Term::decode(&term.encode(ADDRESS.pool), ADDRESS.pool), Some(term));
}

fn put_address(out: &mut [u8]) {
    out[..16].copy_from_slice(&ADDRESS.pool.0.to_le_bytes());
    out[16..24].copy_from_slice(&ADDRESS.file.term.to_le_bytes());
    out[24..32].copy_from_slice(&ADDRESS.file.number.to_le_bytes());
}

/// What to begin with, by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let manifest = Some(Bytes::from_static(b"some manifest"));
    let begun = Head { first_sequence: 12, keep_from_sequence: 3, previous_crc: 99, manifest };
    let empty = Head { first_sequence: 1, keep_from_sequence: 1, previous_crc: 0, manifest: None };
    let mut part = Part::new(0);
    part.push(b"key", Some(b"value"));
    part.push(b"gone", None);
    let payload = [part.finish(8), Part::new(0).finish(9)];
    let (header, _, padding) = encode_record(ADDRESS, 12, 99, &payload);
    let mut record = [&header[..], &payload[0], &payload[1]].concat();
    assert_eq!(record.len(), RECORD_HEADER_BYTES + payload_len(&payload));
    let commits = record[RECORD_HEADER_BYTES..].to_vec();
    let short = record.clone();
    record.resize(record.len() + padding, 0);
    let members = vec![DriveId(4), DriveId(u128::MAX)];
    let term = Term { number: 7, members, previous: Some((6, vec![DriveId(1)])) }.encode(ADDRESS.pool);
    let term_body = term[28..term.len() - 4].to_vec();
    let (begun, empty) = (begun.encode(ADDRESS).0, empty.encode(ADDRESS).0);
    let fixed = begun[..HEAD_FIXED_BYTES + 13].to_vec();
    let name = ADDRESS.file.path().into_bytes()[4..].to_vec();
    vec![
        ("head", begun),
        ("head", empty),
        ("head", fixed),
        ("head", name),
        ("record", record),
        ("record", short),
        ("commits", commits),
        ("term", term),
        ("term", term_body),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_what_is_near_them_are_read_without_a_panic() {
        for (name, seed) in seeds() {
            let enter = match name {
                "head" => head,
                "record" => record,
                "commits" => commits,
                "term" => term,
                _ => panic!("no such entry: {name}"),
            };
            crate::near(&seed, enter);
        }
    }

    #[test]
    fn the_seeds_decode() {
        let seed = |wanted| seeds().into_iter().find(|(name, _)| *name == wanted).expect("a seed").1;
        let record = seed("record");
        let header = RecordHeader::decode(&record, ADDRESS).expect("a record");
        assert!(header.payload(&record).is_some());
        assert!(HeadFixed::decode(&seed("head"), ADDRESS).is_some());
        assert_eq!(rows_of(&seed("commits")).map(|rows| rows.len()), Some(2));
        assert!(Term::decode(&seed("term"), ADDRESS.pool).is_some());
    }
}
