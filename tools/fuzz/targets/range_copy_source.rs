//! Fuzzes the headers Range and x-amz-copy-source, the tokens of listings, and the text of a master key.
//! Invariants: a range that is satisfiable lies within the object and is not empty.
#![no_main]

use server::keys::MasterKey;
use server::s3::handlers::fuzz::{copy_source, list_tokens};
use server::s3::range::RangeSpec;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    copy_source(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        list_tokens(text);
    }
    MasterKey::parse(bytes).ok();
    assert!(MasterKey::from_bytes([7; 32]).open("fuzz", bytes).is_err());
    let Some((size_bytes, header)) = bytes.split_first_chunk() else { return };
    let size_bytes = u64::from_le_bytes(*size_bytes);
    if let Some(Ok(range)) = RangeSpec::parse(header).map(|spec| spec.resolve(size_bytes)) {
        assert!(range.start < range.end);
        assert!(range.end <= size_bytes);
    }
});
