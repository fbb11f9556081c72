//! Fuzzes identity files and master key files, as they are and with magic and checksum made right.
//! Invariants: what decodes reads back the same when it is encoded again.
#![no_main]

use shardstore_format::{DriveIdentity, MasterKeyFile, Membership};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    for magic in [b"BASALTID", b"BASALTMK"] {
        let mut sealed = magic.to_vec();
        sealed.extend_from_slice(bytes);
        let crc = crc_fast::crc32_iscsi(&sealed);
        sealed.extend_from_slice(&crc.to_le_bytes());
        read(&sealed);
    }
    if let Ok(members) = Membership::decode(bytes) {
        let mut again = Vec::new();
        members.encode(&mut again);
        assert_eq!(again, bytes);
    }
});

fn read(bytes: &[u8]) {
    if let Ok(identity) = DriveIdentity::decode(bytes) {
        assert_eq!(DriveIdentity::decode(&identity.encode()), Ok(identity));
    }
    if let Ok(file) = MasterKeyFile::decode(bytes) {
        assert_eq!(file.encode(), bytes);
    }
}
