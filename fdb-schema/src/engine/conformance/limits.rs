//! Limits: of keys, values, transactions and time; the same for every engine.

use std::time::Duration;

use shardstore_reactor::Clock;

use super::super::traits::{
    Engine, EngineError, Isolation, KEY_MAX_BYTES, RangeRead, TXN_MAX_AGE, TXN_MAX_BYTES, Transaction,
    VALUE_MAX_BYTES,
};
use super::{Bench, pairs};

pub(super) async fn run<'a, E: Engine, C: Clock>(bench: &impl Fn(&'static str) -> Bench<'a, E>, clock: &C) {
    keys_and_values(&bench("key and value limits")).await;
    transaction_size(&bench("transaction limit")).await;
    read_set_size(&bench("read set limit")).await;
    expanded_clear(&bench("expanded clear")).await;
    age(&bench("age"), clock).await;
}

async fn keys_and_values<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let longest = bench.key(vec![b'k'; KEY_MAX_BYTES - bench.prefix.len()]);
    let mut txn = bench.begin();
    txn.set(&longest, &vec![1; VALUE_MAX_BYTES]);
    txn.commit().await.expect("the longest key and value are allowed");
    let read = bench.begin();
    assert_eq!(
        read.get(&longest, Isolation::Snapshot).await.map(|value| value.map(|v| v.len())),
        Ok(Some(VALUE_MAX_BYTES))
    );
    let rows = read.range(RangeRead { limit: 10, ..bench.span("", [0xff]) }).await.expect("range");
    assert_eq!(rows.len(), 1);

    let too_long = [&longest[..], b"k"].concat();
    let mut txn = bench.begin();
    txn.set(&too_long, b"");
    txn.set(&bench.key("k"), b"");
    assert_eq!(txn.commit().await, Err(EngineError::TooLarge), "a key over its limit");
    assert_eq!(bench.get("k").await, None, "nothing of the transaction was kept");
    let mut txn = bench.begin();
    txn.set(&bench.key("k"), &vec![1; VALUE_MAX_BYTES + 1]);
    assert_eq!(txn.commit().await, Err(EngineError::TooLarge), "a value over its limit");
    let mut txn = bench.begin();
    txn.atomic_add(&too_long, 1);
    assert_eq!(txn.commit().await, Err(EngineError::TooLarge), "an add to a key over its limit");
    assert_eq!(bench.begin().get(&too_long, Isolation::Snapshot).await, Err(EngineError::TooLarge));
}

async fn transaction_size<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let value = vec![7; VALUE_MAX_BYTES];
    let row_bytes = bench.key([0; 4]).len() + VALUE_MAX_BYTES;
    let fitting = u32::try_from(TXN_MAX_BYTES / row_bytes).expect("small");
    for (count, expected) in [(fitting, true), (fitting + 1, false)] {
        let mut txn = bench.begin();
        for n in 0..count {
            txn.set(&bench.key(n.to_be_bytes()), &value);
        }
        let committed = txn.commit().await;
        assert_eq!(committed.is_ok(), expected, "{count} rows of {row_bytes} bytes");
        assert!(expected || committed == Err(EngineError::TooLarge));
    }
    let txn = bench.begin();
    let rows = txn.range(bench.span("", [0xff])).await.expect("range");
    assert_eq!(rows.len(), usize::try_from(fitting).expect("small"));
}

async fn read_set_size<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let mut txn = bench.begin();
    let long = bench.key(vec![b'k'; KEY_MAX_BYTES - bench.prefix.len() - 1]);
    for n in 0..=TXN_MAX_BYTES / (2 * long.len()) {
        let end = [&long[..], &[u8::try_from(n % 256).expect("a byte")]].concat();
        txn.add_read_conflict(&long, &end);
    }
    txn.set(&bench.key("k"), b"");
    assert_eq!(txn.commit().await, Err(EngineError::TooLarge), "the keys of conflict ranges count");
}

/// A clear counts the keys that it finds.
async fn expanded_clear<E: Engine>(bench: &Bench<'_, E>) {
    bench.fill(&[]).await;
    let mut txn = bench.begin();
    for n in 0..1_000_u32 {
        txn.set(&bench.key(format!("{n:04}")), b"v");
    }
    txn.commit().await.expect("commit");
    let mut txn = bench.begin();
    txn.clear_range(&bench.key("0001"), &bench.key("0999"));
    txn.commit().await.expect("a clear of a thousand keys fits");
    assert_eq!(bench.rows().await, pairs(&[("0000", "v"), ("0999", "v")]));
}

async fn age<E: Engine, C: Clock>(bench: &Bench<'_, E>, clock: &C) {
    bench.fill(&[("k", "0")]).await;
    let mut txn = bench.begin();
    txn.get(&bench.key("k"), Isolation::Serializable).await.expect("read");
    txn.set(&bench.key("out"), b"1");
    let idle = bench.begin();
    let young = TXN_MAX_AGE - Duration::from_secs(1);
    clock.sleep(young).await;
    txn.get(&bench.key("k"), Isolation::Serializable).await.expect("a transaction of four seconds reads");
    clock.sleep(Duration::from_millis(1_100)).await;
    assert_eq!(txn.get(&bench.key("k"), Isolation::Snapshot).await, Err(EngineError::TooOld));
    assert_eq!(txn.range(bench.span("", [0xff])).await, Err(EngineError::TooOld));
    assert_eq!(txn.commit().await, Err(EngineError::TooOld));
    assert_eq!(bench.get("out").await, None);
    idle.commit().await.expect("a transaction without writes always commits");

    let mut txn = bench.begin();
    txn.get(&bench.key("k"), Isolation::Serializable).await.expect("read");
    bench.set("k", "1").await;
    clock.sleep(young).await;
    txn.set(&bench.key("out"), b"1");
    assert_eq!(txn.commit().await, Err(EngineError::Conflict), "conflicts are remembered for five seconds");
}
