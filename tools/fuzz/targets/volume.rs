//! Fuzzes volume records.
//! Invariants: a record that decodes encodes to the same bytes, and has the segments that its profile says.
#![no_main]

use shardstore_format::VolumeRecord;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = VolumeRecord::decode(bytes) {
        assert_eq!(record.segments.len(), record.profile.shards());
        assert_eq!(record.encode(), bytes);
    }
});
