//! Fuzzes extents and the arithmetic of where their bytes lie.
//! Invariants: every span lies within its page and its segment's data shards; spans follow each other without a gap.
#![no_main]

use shardstore_format::{Extent, Layout, PAGE_MAX_BYTES, Profile};

/// Spans that a walk passes: the first and some more.
const SPANS_MAX: usize = 64;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[k, m], rest)) = bytes.split_first_chunk() else { return };
    let Ok((extent, after)) = Extent::decode(rest) else { return };
    let mut again = Vec::new();
    extent.encode(&mut again);
    assert_eq!(again, rest[..rest.len() - after.len()]);
    walk(&Layout::of_extent(&extent, k));
    if let Some(layout) = Layout::of_run(Profile { k, m }, extent.len_bytes) {
        walk(&layout);
    }
});

fn walk(layout: &Layout) {
    layout.stripe_count();
    layout.end_sector();
    let mut at_bytes = 0;
    for _ in 0..SPANS_MAX {
        let Some(span) = layout.span_at(at_bytes, u64::MAX) else { break };
        assert!(span.begin < span.end);
        assert!(u64::from(span.end) < PAGE_MAX_BYTES);
        assert!(span.shard < layout.k);
        at_bytes += span.len_bytes();
        assert!(at_bytes <= layout.len_bytes);
    }
    layout.span_at(layout.len_bytes / 2, 1);
    layout.span_at(layout.len_bytes.saturating_sub(1), u64::MAX);
}
