//! Reads: one moment for the whole transaction, own writes on top, ranges with every edge.

use super::super::traits::{Direction, Engine, Isolation, RangeRead, Transaction};
use super::{Bench, pairs};

pub(super) async fn run<'a, E: Engine>(bench: &impl Fn(&'static str) -> Bench<'a, E>) {
    one_moment(&bench("one moment")).await;
    newest_commit(&bench("newest commit")).await;
    edges(&bench("range edges")).await;
    limits_and_reverse(&bench("limit and reverse")).await;
    own_writes_in_points(&bench("own points")).await;
    own_writes_in_ranges(&bench("own ranges")).await;
    own_clears_before_the_limit(&bench("own clears")).await;
    empty_and_odd_values(&bench("odd values")).await;
}

async fn one_moment<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "0"), ("b", "0")]).await;
    let txn = bench.begin();
    bench.set("a", "1").await;
    bench.set("c", "1").await;
    let mut other = bench.begin();
    other.clear(&bench.key("b"));
    other.commit().await.expect("clear");
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let a = txn.get(&bench.key("a"), isolation).await.expect("read");
        assert_eq!(a.as_deref(), Some(&b"0"[..]), "later commits stay unseen");
        let read = RangeRead { isolation, ..bench.span("", [0xff]) };
        let rows = txn.range(read).await.expect("range");
        assert_eq!(bench.text(rows), pairs(&[("a", "0"), ("b", "0")]));
    }
    assert_eq!(bench.rows().await, pairs(&[("a", "1"), ("c", "1")]));
}

async fn newest_commit<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    for n in 0..50 {
        bench.set("k", &n.to_string()).await;
        let seen = bench.get("k").await.expect("row");
        assert_eq!(seen.as_ref(), n.to_string().as_bytes(), "a transaction sees every commit before it");
    }
}

type Pairs = &'static [(&'static str, &'static str)];

async fn edges<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "1"), ("b", "2"), ("b\0", "3"), ("c", "4")]).await;
    let cases: [(&str, &str, Pairs); 8] = [
        ("a", "c", &[("a", "1"), ("b", "2"), ("b\0", "3")]),
        ("a", "c\0", &[("a", "1"), ("b", "2"), ("b\0", "3"), ("c", "4")]),
        ("b", "b\0", &[("b", "2")]),
        ("b\0", "b\0\0", &[("b\0", "3")]),
        ("a\0", "b", &[]),
        ("d", "e", &[]),
        ("b", "b", &[]),
        ("c", "a", &[]),
    ];
    for (begin, end, expected) in cases {
        for direction in [Direction::Forward, Direction::Reverse] {
            let read = RangeRead { direction, ..bench.span(begin, end) };
            let mut rows = bench.text(bench.begin().range(read).await.expect("range"));
            if direction == Direction::Reverse {
                rows.reverse();
            }
            assert_eq!(rows, pairs(expected), "[{begin:?}, {end:?}) {direction:?}");
        }
    }
}

async fn limits_and_reverse<E: Engine>(bench: &Bench<'_, E>) {
    let names: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let rows: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    bench.fill(&rows).await;
    for limit in [1, 2, 127, 128, 129, 299, 300, 301] {
        let txn = bench.begin();
        let read = RangeRead { limit, ..bench.span("", [0xff]) };
        let found = bench.text(txn.range(read.clone()).await.expect("range"));
        assert_eq!(found, pairs(&rows[..limit.min(300)]), "the first {limit}");
        let read = RangeRead { direction: Direction::Reverse, ..read };
        let mut found = bench.text(txn.range(read).await.expect("range"));
        found.reverse();
        assert_eq!(found, pairs(&rows[300 - limit.min(300)..]), "the last {limit}");
    }
}

async fn own_writes_in_points<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "0"), ("b", "0"), ("c", "0")]).await;
    let mut txn = bench.begin();
    txn.set(&bench.key("a"), b"1");
    txn.clear(&bench.key("b"));
    txn.set(&bench.key("d"), b"1");
    txn.clear_range(&bench.key("c"), &bench.key("e"));
    txn.set(&bench.key("dd"), b"2");
    txn.atomic_add(&bench.key("n"), 3);
    for (suffix, value) in [("a", Some("1")), ("b", None), ("c", None), ("d", None), ("dd", Some("2"))] {
        for isolation in [Isolation::Serializable, Isolation::Snapshot] {
            let found = txn.get(&bench.key(suffix), isolation).await.expect("read");
            assert_eq!(found.as_deref(), value.map(str::as_bytes), "own write of {suffix}");
        }
    }
    let sum = txn.get(&bench.key("n"), Isolation::Snapshot).await.expect("read");
    assert_eq!(sum.as_deref(), Some(&3_i64.to_le_bytes()[..]));
    assert_eq!(bench.rows().await, pairs(&[("a", "0"), ("b", "0"), ("c", "0")]), "nobody else sees them");
    drop(txn);
    assert_eq!(bench.rows().await, pairs(&[("a", "0"), ("b", "0"), ("c", "0")]), "dropped is forgotten");
}

async fn own_writes_in_ranges<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("b", "0"), ("d", "0"), ("f", "0")]).await;
    let mut txn = bench.begin();
    txn.set(&bench.key("a"), b"1");
    txn.set(&bench.key("d"), b"1");
    txn.set(&bench.key("e"), b"1");
    txn.clear(&bench.key("f"));
    txn.clear_range(&bench.key("b"), &bench.key("c"));
    txn.set(&bench.key("bb"), b"1");
    let all = [("a", "1"), ("bb", "1"), ("d", "1"), ("e", "1")];
    for limit in 1..6 {
        let read = RangeRead { limit, ..bench.span("", [0xff]) };
        let rows = txn.range(read.clone()).await.expect("range");
        assert_eq!(bench.text(rows), pairs(&all[..limit.min(4)]));
        let read = RangeRead { direction: Direction::Reverse, ..read };
        let mut rows = bench.text(txn.range(read).await.expect("range"));
        rows.reverse();
        assert_eq!(rows, pairs(&all[4 - limit.min(4)..]));
    }
    txn.commit().await.expect("commit");
    assert_eq!(bench.rows().await, pairs(&all), "what was read is what was committed");
}

/// Own clears hide many rows before the first that the limit counts.
async fn own_clears_before_the_limit<E: Engine>(bench: &Bench<'_, E>) {
    let names: Vec<String> = (0..400).map(|n| format!("{n:03}")).collect();
    let rows: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    bench.fill(&rows).await;
    let mut txn = bench.begin();
    txn.clear_range(&bench.key("000"), &bench.key("390"));
    txn.clear_range(&bench.key("395"), &bench.key("400"));
    let read = RangeRead { limit: 2, ..bench.span("", [0xff]) };
    let found = txn.range(read.clone()).await.expect("range");
    assert_eq!(bench.text(found), pairs(&[("390", "v"), ("391", "v")]));
    let read = RangeRead { direction: Direction::Reverse, ..read };
    let found = txn.range(read).await.expect("range");
    assert_eq!(bench.text(found), pairs(&[("394", "v"), ("393", "v")]));
}

async fn empty_and_odd_values<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let mut txn = bench.begin();
    txn.set(&bench.key(""), b"");
    txn.set(&bench.key([0, 0]), &[0]);
    txn.set(&bench.key([0xfe, 0xff]), &[0xff; 3]);
    txn.commit().await.expect("commit");
    assert_eq!(bench.get("").await.as_deref(), Some(&b""[..]), "an empty value is not an absent one");
    assert_eq!(bench.get([0, 0]).await.as_deref(), Some(&[0][..]));
    assert_eq!(bench.get([0xfe, 0xff]).await.as_deref(), Some(&[0xff; 3][..]));
    assert_eq!(bench.rows().await.len(), 3);
}
