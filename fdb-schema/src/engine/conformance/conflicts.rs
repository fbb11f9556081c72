//! Conflicts: what must make a commit fail, and what must not.

use super::super::traits::{Direction, Engine, EngineError, Isolation, RangeRead, Transaction};
use super::Bench;

pub(super) async fn run<'a, E: Engine>(bench: &impl Fn(&'static str) -> Bench<'a, E>) {
    point(&bench("point conflict")).await;
    absent_point(&bench("absent point conflict")).await;
    range(&bench("range conflict")).await;
    phantom(&bench("phantom")).await;
    limited_range(&bench("limited range conflict")).await;
    limited_reverse_range(&bench("limited reverse conflict")).await;
    write_skew(&bench("write skew")).await;
    blind_writes(&bench("blind writes")).await;
    snapshot_reads(&bench("snapshot reads")).await;
    own_writes(&bench("own writes")).await;
    declared(&bench("declared conflicts")).await;
    clear_conflicts(&bench("clear conflicts")).await;
    read_only(&bench("read only")).await;
    retry(&bench("retry")).await;
}

async fn point<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("k", "0"), ("other", "0")]).await;
    let mut txn = bench.begin();
    txn.get(&bench.key("k"), Isolation::Serializable).await.expect("read");
    txn.set(&bench.key("out"), b"1");
    bench.set("k", "1").await;
    assert_eq!(txn.commit().await, Err(EngineError::Conflict), "a key read was written since");
    assert_eq!(bench.get("out").await, None, "a failed commit leaves nothing");

    let mut txn = bench.begin();
    txn.get(&bench.key("k"), Isolation::Serializable).await.expect("read");
    txn.set(&bench.key("out"), b"1");
    bench.set("other", "1").await;
    txn.commit().await.expect("another key does not conflict");
}

async fn absent_point<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let mut txn = bench.begin();
    assert_eq!(txn.get(&bench.key("k"), Isolation::Serializable).await, Ok(None));
    txn.set(&bench.key("k"), b"mine");
    bench.set("k", "theirs").await;
    assert_eq!(txn.commit().await, Err(EngineError::Conflict), "an absent key was inserted since");

    let mut txn = bench.begin();
    txn.get(&bench.key("k"), Isolation::Serializable).await.expect("read");
    txn.set(&bench.key("out"), b"1");
    let mut other = bench.begin();
    other.clear(&bench.key("k"));
    other.commit().await.expect("clear");
    assert_eq!(txn.commit().await, Err(EngineError::Conflict), "a key read was cleared since");
}

async fn range<E: Engine>(bench: &Bench<'_, E>) {
    for (change, conflicts) in [("a", false), ("b", true), ("c", true), ("d", false)] {
        bench.fill(&[("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")]).await;
        let mut txn = bench.begin();
        assert_eq!(txn.range(bench.span("b", "d")).await.expect("range").len(), 2);
        txn.set(&bench.key("out"), b"1");
        bench.set(change, "1").await;
        assert_eq!(txn.commit().await.is_err(), conflicts, "write of {change} against a read of [b, d)");
    }
}

async fn phantom<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "0"), ("z", "0")]).await;
    let mut txn = bench.begin();
    assert!(txn.range(bench.span("b", "y")).await.expect("range").is_empty());
    txn.set(&bench.key("out"), b"1");
    bench.set("m", "1").await;
    assert_eq!(txn.commit().await, Err(EngineError::Conflict), "a row appeared in a range read as empty");
}

/// A read cut short by its limit proves only what it returned.
async fn limited_range<E: Engine>(bench: &Bench<'_, E>) {
    for (change, conflicts) in [("a", true), ("aa", true), ("b", true), ("bb", false), ("c", false)] {
        bench.fill(&[("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")]).await;
        let mut txn = bench.begin();
        let read = RangeRead { limit: 2, ..bench.span("", [0xff]) };
        assert_eq!(txn.range(read).await.expect("range").len(), 2);
        txn.set(&bench.key("\u{1}out"), b"1");
        bench.set(change, "1").await;
        assert_eq!(txn.commit().await.is_err(), conflicts, "write of {change} after reading a and b");
    }
}

async fn limited_reverse_range<E: Engine>(bench: &Bench<'_, E>) {
    for (change, conflicts) in [("a", false), ("b", false), ("bb", false), ("c", true), ("cc", true)] {
        bench.fill(&[("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")]).await;
        let mut txn = bench.begin();
        let read = RangeRead { limit: 2, direction: Direction::Reverse, ..bench.span("", [0xff]) };
        assert_eq!(txn.range(read).await.expect("range").len(), 2);
        txn.set(&bench.key("\u{1}out"), b"1");
        bench.set(change, "1").await;
        assert_eq!(txn.commit().await.is_err(), conflicts, "write of {change} after reading d and c");
    }
}

/// Two transactions that each read what the other writes: one of them must fail.
async fn write_skew<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("x", "1"), ("y", "1")]).await;
    let (mut first, mut second) = (bench.begin(), bench.begin());
    for txn in [&first, &second] {
        txn.get(&bench.key("x"), Isolation::Serializable).await.expect("read");
        txn.get(&bench.key("y"), Isolation::Serializable).await.expect("read");
    }
    first.set(&bench.key("x"), b"0");
    second.set(&bench.key("y"), b"0");
    let (first, second) = futures_util::join!(first.commit(), second.commit());
    assert!(first.is_ok() != second.is_ok(), "exactly one of two skewed writes commits");
}

async fn blind_writes<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let (mut first, mut second) = (bench.begin(), bench.begin());
    first.set(&bench.key("k"), b"1");
    second.set(&bench.key("k"), b"2");
    let first = first.commit().await.expect("blind");
    let second = second.commit().await.expect("blind");
    assert!(first < second);
    assert_eq!(bench.get("k").await.as_deref(), Some(&b"2"[..]), "the later commit wins");
}

async fn snapshot_reads<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("k", "0")]).await;
    let mut txn = bench.begin();
    txn.get(&bench.key("k"), Isolation::Snapshot).await.expect("read");
    let read = RangeRead { isolation: Isolation::Snapshot, ..bench.span("", [0xff]) };
    txn.range(read).await.expect("range");
    txn.set(&bench.key("out"), b"1");
    bench.set("k", "1").await;
    txn.commit().await.expect("snapshot reads never conflict");
}

/// What own writes decide is no read of the database.
async fn own_writes<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("k", "0"), ("c", "0")]).await;
    let mut txn = bench.begin();
    txn.set(&bench.key("k"), b"mine");
    txn.clear_range(&bench.key("c"), &bench.key("d"));
    assert!(txn.get(&bench.key("k"), Isolation::Serializable).await.expect("own").is_some());
    assert_eq!(txn.get(&bench.key("c"), Isolation::Serializable).await, Ok(None));
    bench.set("k", "theirs").await;
    bench.set("c", "theirs").await;
    txn.commit().await.expect("reading own writes does not conflict");
    assert_eq!(bench.get("c").await, None, "the clear also takes what was written before its commit");

    let mut txn = bench.begin();
    txn.atomic_add(&bench.key("n"), 1);
    txn.get(&bench.key("n"), Isolation::Serializable).await.expect("own add");
    bench.add("n", 1).await;
    assert_eq!(txn.commit().await, Err(EngineError::Conflict), "the sum read depends on the database");
}

async fn declared<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let mut txn = bench.begin();
    txn.add_read_conflict(&bench.key("b"), &bench.key("d"));
    txn.set(&bench.key("out"), b"1");
    bench.set("c", "1").await;
    assert_eq!(txn.commit().await, Err(EngineError::Conflict), "a declared read conflicts");

    for (begin, end, conflicts) in [("a", "b", false), ("a", "bb", true), ("b", "c", true), ("c", "d", false)]
    {
        let mut reader = bench.begin();
        reader.range(bench.span("b", "c")).await.expect("range");
        reader.set(&bench.key("out"), b"1");
        let mut writer = bench.begin();
        writer.add_write_conflict(&bench.key(begin), &bench.key(end));
        writer.commit().await.expect("a declared write commits");
        assert_eq!(reader.commit().await.is_err(), conflicts, "declared write of [{begin}, {end})");
    }

    let mut reader = bench.begin();
    reader.get(&bench.key("b"), Isolation::Serializable).await.expect("read");
    reader.set(&bench.key("out"), b"1");
    let mut writer = bench.begin();
    writer.add_write_conflict(&bench.key("a"), &bench.key("c"));
    writer.commit().await.expect("a declared write commits");
    assert_eq!(reader.commit().await, Err(EngineError::Conflict), "a point in a declared write");
}

async fn clear_conflicts<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("b", "0")]).await;
    let mut reader = bench.begin();
    reader.get(&bench.key("b"), Isolation::Serializable).await.expect("read");
    reader.set(&bench.key("out"), b"1");
    let mut writer = bench.begin();
    writer.clear_range(&bench.key("a"), &bench.key("c"));
    writer.commit().await.expect("clear");
    assert_eq!(reader.commit().await, Err(EngineError::Conflict), "a key read was in a cleared range");
}

async fn read_only<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("k", "0")]).await;
    let txn = bench.begin();
    txn.get(&bench.key("k"), Isolation::Serializable).await.expect("read");
    bench.set("k", "1").await;
    txn.commit().await.expect("a transaction without writes always commits");
}

/// Sixteen increments by read and write, run at once, again after each conflict: none is lost.
async fn retry<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("n", "0")]).await;
    let increment = || async {
        for _attempt in 0..1_000 {
            let mut txn = bench.begin();
            let value = txn.get(&bench.key("n"), Isolation::Serializable).await.expect("read").expect("row");
            let n: u32 = std::str::from_utf8(&value).expect("text").parse().expect("number");
            txn.set(&bench.key("n"), (n + 1).to_string().as_bytes());
            match txn.commit().await {
                Ok(_) => return,
                Err(EngineError::Conflict) => {}
                Err(error) => panic!("an increment failed: {error}"),
            }
        }
        panic!("an increment starved");
    };
    futures_util::future::join_all((0..16).map(|_| increment())).await;
    assert_eq!(bench.get("n").await.as_deref(), Some(&b"16"[..]), "every increment counts once");
}
