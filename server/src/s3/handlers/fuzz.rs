//! Where the fuzzer enters parsers of the handlers that are private.
//! Invariants: each function takes any bytes and returns.
//! Not here: the fuzzer (`tools/fuzz`), which enters everything else by the public names.

use super::{buckets, copy, listing};

/// The value of `x-amz-copy-source`.
pub fn copy_source(value: &[u8]) {
    if let Ok(source) = copy::copy_source(value) {
        assert!(!source.key.as_bytes().is_empty());
        assert!(source.key.as_bytes().len() <= value.len());
    }
}

/// The tokens that listings go on from.
pub fn list_tokens(token: &str) {
    buckets::decode_token(token).ok();
    listing::decode_token(token).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sources_and_tokens_are_read_without_a_panic() {
        for value in
            ["", "/", "//", "b", "/b/", "b/%", "b/%4", "b/%00", "b/k?versionId=", "?versionId=null", "b//"]
        {
            copy_source(value.as_bytes());
            list_tokens(value);
        }
        copy_source(b"b/\xff");
        list_tokens("a2V5");
    }
}
