//! Where the fuzzer enters the reader of metadata dumps.
//! Invariants: any bytes are read to an error or to the end; they are tried as they are and, since checksums turn nearly
//! all away, once more as the rows of a group that is right otherwise; what is read is written again the same.
//! Not here: the fuzzer (`tools/fuzz`).

use shardstore_format::{PoolId, Profile, VolumeId};

use super::{DumpHead, DumpReader, DumpWriter, GROUP_MAX_BYTES};

fn writer() -> DumpWriter {
    DumpWriter::new(DumpHead {
        pool: PoolId(7),
        profile: Profile { k: 4, m: 2 },
        dump: [9; 16],
        made_unix_ms: 5,
        next_volume: VolumeId(77),
    })
}

/// A dump; also `bytes` as the rows of its only group, the first four of them their number.
pub fn dump(bytes: &[u8]) {
    read(bytes);
    let Some((count, rows)) = bytes.split_first_chunk::<4>() else { return };
    let mut writer = writer();
    let count = u32::from_le_bytes(*count);
    if count == 0 || rows.len() > GROUP_MAX_BYTES as usize {
        return;
    }
    let group = writer.sealed(rows, count as usize, 0);
    (writer.groups, writer.rows) = (1, u64::from(count));
    read(&[writer.head(), group, writer.end()].concat());
}

fn read(file: &[u8]) {
    let Ok(mut reader) = DumpReader::open(file) else { return };
    let mut writer = DumpWriter::new(*reader.head());
    let mut again = writer.head();
    loop {
        match reader.next_group() {
            Ok(Some(rows)) => again.extend(writer.group(&rows)),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    again.extend(writer.end());
    assert_eq!(again, file);
}

/// What to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let row = |key: &'static [u8], value: &'static [u8]| fdb_schema::Row {
        key: bytes::Bytes::from_static(key),
        value: bytes::Bytes::from_static(value),
    };
    let rows = [row(b"a", b"1"), row(b"b", b""), row(b"cc", b"long value")];
    let mut writer = writer();
    let head = writer.head();
    let (first, second) = (writer.group(&rows[..2]), writer.group(&rows[2..]));
    let bare = [&2u32.to_le_bytes(), &first[super::GROUP_HEAD_BYTES..]].concat();
    vec![[head, first, second, writer.end()].concat(), bare]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_what_is_one_byte_away_are_read_without_a_panic() {
        for seed in seeds() {
            dump(&seed);
            for at in 0..seed.len() {
                let mut near = seed.clone();
                near[at] ^= 0x81;
                dump(&near);
                dump(&seed[..at]);
            }
        }
        let whole = &seeds()[0];
        assert!(DumpReader::open(&whole[..]).is_ok_and(|mut reader| reader.next_group().is_ok()));
    }
}
