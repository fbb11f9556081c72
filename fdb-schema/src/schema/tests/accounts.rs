//! Accounts, their keys and their buckets.

use super::super::{AccessKeyChange, AccountId, NewBucket};
use super::*;

const ANN: AccountId = AccountId([0xaa; 32]);
const BOB: AccountId = AccountId([0xbb; 32]);

fn sealed(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn a_name_and_an_access_key_belong_to_one_account() {
    world(1, async |world| {
        let metadata = &world.metadata;
        metadata.add_account(ANN, "ann").await.unwrap();
        metadata.add_account(BOB, "bob").await.unwrap();
        assert_eq!(refused(metadata.add_account(BOB, "ann").await), Refusal::AccountExists);
        metadata.add_access_key(ANN, "K1", sealed("s1")).await.unwrap();
        assert_eq!(refused(metadata.add_access_key(BOB, "K1", sealed("x")).await), Refusal::AccessKeyExists);
        assert_eq!(
            refused(metadata.add_access_key(AccountId([1; 32]), "K2", sealed("x")).await),
            Refusal::NoSuchAccount
        );
        let (accounts, keys) = metadata.accounts().await.unwrap();
        let names: Vec<_> = accounts.iter().map(|(id, record)| (*id, record.name.as_str())).collect();
        assert_eq!(names, [(ANN, "ann"), (BOB, "bob")]);
        assert_eq!(keys.len(), 1);
        assert_eq!((keys[0].account, keys[0].access_key.as_str()), (ANN, "K1"));
        assert!(keys[0].record.is_enabled);
    });
}

#[test]
fn a_key_is_changed_and_removed_and_its_name_is_free_again() {
    world(1, async |world| {
        let metadata = &world.metadata;
        metadata.add_account(ANN, "ann").await.unwrap();
        metadata.add_access_key(ANN, "K1", sealed("s1")).await.unwrap();
        metadata.change_access_key(ANN, "K1", &AccessKeyChange::Enabled(false)).await.unwrap();
        metadata.change_access_key(ANN, "K1", &AccessKeyChange::Secret(sealed("s2"))).await.unwrap();
        metadata.keep_uses(&[(ANN, "K1".to_owned(), 70), (ANN, "gone".to_owned(), 70)]).await.unwrap();
        metadata.keep_uses(&[(ANN, "K1".to_owned(), 60)]).await.unwrap();
        let record = metadata.accounts().await.unwrap().1.remove(0).record;
        assert_eq!((record.is_enabled, &record.sealed[..], record.last_used_ms), (false, &b"s2"[..], 70));
        metadata.remove_access_key(ANN, "K1").await.unwrap();
        assert_eq!(refused(metadata.remove_access_key(ANN, "K1").await), Refusal::NoSuchAccessKey);
        metadata.add_account(BOB, "bob").await.unwrap();
        metadata.add_access_key(BOB, "K1", sealed("x")).await.unwrap();
    });
}

#[test]
fn an_account_with_buckets_stays_and_leaves_nothing_once_it_goes() {
    world(1, async |world| {
        let metadata = &world.metadata;
        let owner = ANN.to_string();
        assert_eq!(
            refused(metadata.create_bucket("early", &owner, &NewBucket::default()).await),
            Refusal::NoSuchAccount
        );
        metadata.add_account(ANN, "ann").await.unwrap();
        metadata.add_access_key(ANN, "K1", sealed("s1")).await.unwrap();
        metadata.create_bucket("a-1", &owner, &NewBucket::default()).await.unwrap();
        metadata.create_bucket("a-2", &owner, &NewBucket::default()).await.unwrap();
        assert_eq!(refused(metadata.remove_account(ANN).await), Refusal::AccountOwnsBuckets);
        let listed = |found: Vec<super::super::NamedBucket>| {
            found.into_iter().map(|bucket| bucket.name).collect::<Vec<_>>()
        };
        let list = async |prefix, after, limit| {
            listed(metadata.list_buckets(Some(&owner), prefix, after, limit).await.unwrap())
        };
        assert_eq!(list("", "", 10).await, ["a-1", "a-2"]);
        assert_eq!(list("", "", 1).await, ["a-1"]);
        assert_eq!(list("", "a-1", 10).await, ["a-2"]);
        assert_eq!(list("a-2", "", 10).await, ["a-2"]);
        assert_eq!(listed(metadata.list_buckets(None, "", "", 10).await.unwrap()), ["a-1", "a-2", "b"]);
        metadata.delete_bucket("a-1").await.unwrap();
        metadata.delete_bucket("a-2").await.unwrap();
        assert!(list("", "", 10).await.is_empty());
        metadata.remove_account(ANN).await.unwrap();
        let (accounts, keys) = metadata.accounts().await.unwrap();
        assert!(accounts.is_empty() && keys.is_empty());
        metadata.add_account(BOB, "ann").await.unwrap();
        metadata.add_access_key(BOB, "K1", sealed("x")).await.unwrap();
    });
}

#[test]
fn ids_read_back_and_nothing_else_is_one() {
    assert_eq!(AccountId::parse(&ANN.to_string()), Some(ANN));
    for bad in ["", "root", &ANN.to_string().to_uppercase(), &ANN.to_string()[1..]] {
        assert_eq!(AccountId::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_bucket_that_is_created_while_its_account_goes_never_outlives_it() {
    let mut removed_count = 0;
    for seed in 0..50 {
        removed_count += world(seed, async |world| {
            let (metadata, owner) = (&world.metadata, ANN.to_string());
            metadata.add_account(ANN, "ann").await.unwrap();
            let new = NewBucket::default();
            let create = metadata.create_bucket("a", &owner, &new);
            match futures_util::future::join(create, metadata.remove_account(ANN)).await {
                (Ok(_), Err(Failure::Refused(Refusal::AccountOwnsBuckets))) => 0,
                (Err(Failure::Refused(Refusal::NoSuchAccount)), Ok(())) => 1,
                other => panic!("seed={seed}: {other:?}"),
            }
        });
    }
    assert!((1..50).contains(&removed_count), "both ways are seen: {removed_count}");
}
