//! Writes: clears, atomic adds and versionstamps.

use super::super::traits::{Direction, Engine, Isolation, RangeRead, Transaction, Versionstamp};
use super::{Bench, pairs};

pub(super) async fn run<'a, E: Engine>(bench: &impl Fn(&'static str) -> Bench<'a, E>) {
    clear_range(&bench("clear range")).await;
    clear_range_across_own_writes(&bench("clear across own")).await;
    clear_range_takes_what_came_before_its_commit(&bench("late clear")).await;
    last_write_wins(&bench("last write")).await;
    concurrent_adds(&bench("adds")).await;
    adds_on_writes(&bench("adds on writes")).await;
    adds_wrap(&bench("adds wrap")).await;
    stamped_values(&bench("stamped values")).await;
    stamped_keys(&bench("stamped keys")).await;
    stamps_ascend(&bench("stamps")).await;
}

async fn clear_range<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")]).await;
    let mut txn = bench.begin();
    txn.clear_range(&bench.key("b"), &bench.key("d"));
    txn.clear_range(&bench.key("x"), &bench.key("y"));
    txn.clear_range(&bench.key("d"), &bench.key("d"));
    txn.clear_range(&bench.key("d"), &bench.key("a"));
    txn.commit().await.expect("commit");
    assert_eq!(bench.rows().await, pairs(&[("a", "0"), ("d", "0")]));
    bench.set("b", "1").await;
    assert_eq!(
        bench.rows().await,
        pairs(&[("a", "0"), ("b", "1"), ("d", "0")]),
        "a cleared key can come back"
    );
}

async fn clear_range_across_own_writes<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "0"), ("b", "0"), ("c", "0")]).await;
    let mut txn = bench.begin();
    txn.set(&bench.key("b"), b"before");
    txn.set(&bench.key("bb"), b"before");
    txn.atomic_add(&bench.key("bn"), 1);
    txn.clear_range(&bench.key("b"), &bench.key("c"));
    txn.set(&bench.key("b"), b"after");
    txn.clear_range(&bench.key("bx"), &bench.key("z"));
    txn.set(&bench.key("q"), b"after");
    txn.commit().await.expect("commit");
    assert_eq!(bench.rows().await, pairs(&[("a", "0"), ("b", "after"), ("q", "after")]));
}

/// A clear without a read takes its place in the order of commits, not of snapshots.
async fn clear_range_takes_what_came_before_its_commit<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "0")]).await;
    let mut txn = bench.begin();
    txn.clear_range(&bench.key("a"), &bench.key("z"));
    bench.set("a", "1").await;
    bench.set("m", "1").await;
    txn.commit().await.expect("a blind clear conflicts with nothing");
    assert_eq!(bench.rows().await, pairs(&[]));
}

async fn last_write_wins<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("a", "0")]).await;
    let mut txn = bench.begin();
    txn.set(&bench.key("a"), b"1");
    txn.set(&bench.key("a"), b"2");
    txn.set(&bench.key("b"), b"1");
    txn.clear(&bench.key("b"));
    txn.clear(&bench.key("c"));
    txn.set(&bench.key("c"), b"1");
    txn.commit().await.expect("commit");
    assert_eq!(bench.rows().await, pairs(&[("a", "2"), ("c", "1")]));
}

/// Transactions of one snapshot that add to one key all commit, and all count.
async fn concurrent_adds<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let txns: Vec<E::Txn> = (0..32).map(|_| bench.begin()).collect();
    let commits = (1_i64..).zip(txns).map(|(n, mut txn)| async move {
        txn.atomic_add(&bench.key("n"), n);
        txn.atomic_add(&bench.key("m"), -n);
        txn.commit().await
    });
    for result in futures_util::future::join_all(commits).await {
        result.expect("atomic adds never conflict");
    }
    assert_eq!(bench.sum("n").await, Some(32 * 33 / 2));
    assert_eq!(bench.sum("m").await, Some(-32 * 33 / 2));
}

async fn adds_on_writes<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[("short", "\u{1}")]).await;
    let mut early = bench.begin();
    early.atomic_add(&bench.key("n"), 1);
    let mut txn = bench.begin();
    txn.set(&bench.key("n"), &40_i64.to_le_bytes());
    txn.atomic_add(&bench.key("n"), 1);
    txn.atomic_add(&bench.key("short"), 2);
    txn.commit().await.expect("commit");
    early.commit().await.expect("an add over a later write does not conflict");
    assert_eq!(bench.sum("n").await, Some(42), "an add counts on what was committed before it");
    assert_eq!(bench.sum("short").await, Some(3), "a short value is extended with zeros");

    let mut late = bench.begin();
    late.atomic_add(&bench.key("n"), 5);
    let mut clear = bench.begin();
    clear.clear(&bench.key("n"));
    clear.commit().await.expect("clear");
    late.commit().await.expect("add");
    assert_eq!(bench.sum("n").await, Some(5), "an absent value counts as 0");
}

async fn adds_wrap<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    bench.add("n", i64::MAX).await;
    bench.add("n", 1).await;
    assert_eq!(bench.sum("n").await, Some(i64::MIN));
    bench.add("n", -1).await;
    assert_eq!(bench.sum("n").await, Some(i64::MAX));
}

async fn stamped_values<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let mut txn = bench.begin();
    txn.set_versionstamped_value(&bench.key("k"), b"<..........>", 1);
    let stamp = txn.commit().await.expect("commit");
    let expected = [b"<", &stamp.0[..], b">"].concat();
    assert_eq!(bench.get("k").await.as_deref(), Some(&expected[..]));
}

async fn stamped_keys<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let offset = bench.key("log-").len();
    let mut stamps = Vec::new();
    for n in 0..5_u8 {
        let mut txn = bench.begin();
        txn.set_versionstamped_key(&bench.key("log-..........-end"), offset, &[n]);
        stamps.push(txn.commit().await.expect("commit"));
    }
    let read = RangeRead { isolation: Isolation::Snapshot, ..bench.span("log-", "log.") };
    let rows = bench.begin().range(read.clone()).await.expect("range");
    let expected: Vec<Vec<u8>> =
        stamps.iter().map(|stamp| bench.key([b"log-", &stamp.0[..], b"-end"].concat())).collect();
    let found: Vec<Vec<u8>> = rows.iter().map(|row| row.key.to_vec()).collect();
    assert_eq!(found, expected, "stamped keys lie in the order of their commits");
    let values: Vec<u8> = rows.iter().map(|row| row.value[0]).collect();
    assert_eq!(values, [0, 1, 2, 3, 4]);
    let read = RangeRead { direction: Direction::Reverse, limit: 1, ..read };
    let last = bench.begin().range(read).await.expect("range");
    assert_eq!(last[0].value.as_ref(), [4]);
}

async fn stamps_ascend<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let mut last = Versionstamp([0; 10]);
    for _ in 0..20 {
        let stamp = bench.add("n", 1).await;
        assert!(stamp > last, "a later commit has a higher stamp");
        last = stamp;
    }
    let txns: Vec<E::Txn> = (0..20).map(|_| bench.begin()).collect();
    let commits = txns.into_iter().map(|mut txn| async move {
        txn.atomic_add(&bench.key("n"), 1);
        txn.commit().await.expect("commit")
    });
    let mut stamps = futures_util::future::join_all(commits).await;
    stamps.sort_unstable();
    stamps.dedup();
    assert_eq!(stamps.len(), 20, "every stamp is unique");
    assert!(stamps[0] > last);
}
