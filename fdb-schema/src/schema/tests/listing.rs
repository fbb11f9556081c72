//! Listings against a model: every prefix, delimiter, marker and page size, over odd keys.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{AfterVersion, ListQuery};
use super::*;

/// What S3 says, the slow way: entries are keys and common prefixes, sorted, after the marker.
fn model(
    keys: &BTreeSet<Vec<u8>>,
    query: &ListQuery<'_>,
    after: &[u8],
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>, bool) {
    let mut entries: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    for key in keys.iter().filter(|key| key.starts_with(query.prefix)) {
        let rest = &key[query.prefix.len()..];
        let at = query.delimiter.and_then(|d| rest.windows(d.len()).position(|window| window == d));
        match at {
            Some(at) => {
                let len = query.prefix.len() + at + query.delimiter.unwrap().len();
                entries.insert(key[..len].to_vec(), true);
            }
            None => {
                entries.insert(key.clone(), false);
            }
        }
    }
    entries.retain(|entry, _| after.is_empty() || entry.as_slice() > after);
    let is_truncated = query.limit > 0 && entries.len() > query.limit;
    let shown = entries.into_iter().take(query.limit);
    let (prefixes, items): (Vec<_>, Vec<_>) = shown.partition(|(_, is_prefix)| *is_prefix);
    let names = |entries: Vec<(Vec<u8>, bool)>| entries.into_iter().map(|(name, _)| name).collect();
    (names(items), names(prefixes), is_truncated)
}

fn odd_keys() -> BTreeSet<Vec<u8>> {
    let texts: [&[u8]; 26] = [
        b"a",
        b"a/",
        b"a/b",
        b"a/b/c",
        b"a//",
        b"a//b",
        b"a\0",
        b"a\0/",
        b"ab",
        b"a b",
        b"a+b",
        b"a%2Fb",
        b"b/",
        b"b/1",
        b"b/2",
        b"b/3/4",
        b"//",
        b"/",
        b"\xf0\x9f\xa6\x80/x",
        b"\xc3\xa9",
        b"z",
        b"z/z/z/z",
        b"x--y",
        b"x--y--z",
        b"\x01",
        b"\x7f/",
    ];
    let mut keys: BTreeSet<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
    keys.insert(vec![b'k'; 1024]);
    keys
}

#[test]
fn a_page_is_what_the_model_says_for_every_prefix_delimiter_marker_and_size() {
    world(1, async |world| {
        let keys = odd_keys();
        for key in &keys {
            world.put_inline(key, b"").await;
        }
        let prefixes: [&[u8]; 8] = [b"", b"a", b"a/", b"a//", b"b/", b"x", b"nothing", b"a\0"];
        let delimiters: [Option<&[u8]>; 5] = [None, Some(b"/"), Some(b"--"), Some(b"//"), Some(b"b")];
        let mut markers: Vec<Vec<u8>> = keys.iter().cloned().collect();
        markers.extend([b"".to_vec(), b"a/b/".to_vec(), b"a/a".to_vec(), b"b/3/".to_vec(), b"\xff".to_vec()]);
        for prefix in prefixes {
            for delimiter in delimiters {
                for limit in [0, 1, 2, 5, 1000] {
                    for after in &markers {
                        let query = ListQuery { prefix, delimiter, limit };
                        let page = world.metadata.list_objects("b", query, after).await.unwrap();
                        let items: Vec<Vec<u8>> = page.items.iter().map(|(key, _)| key.to_vec()).collect();
                        let rolled: Vec<Vec<u8>> = page.common_prefixes.iter().map(|p| p.to_vec()).collect();
                        let expected = model(&keys, &query, after);
                        assert_eq!((items, rolled, page.is_truncated), expected, "{query:?} {after:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn pages_follow_each_other_without_a_gap_or_a_repetition() {
    world(2, async |world| {
        let mut numbers = fastrand::Rng::with_seed(2);
        let mut keys = BTreeSet::new();
        for _ in 0..300 {
            let len = numbers.usize(1..6);
            let key: Vec<u8> = (0..len).map(|_| b"ab/\0"[numbers.usize(..4)]).collect();
            world.put_inline(&key, b"").await;
            keys.insert(key);
        }
        for delimiter in [None, Some(b"/".as_slice())] {
            for limit in [1, 3, 7] {
                let (mut after, mut seen) = (Vec::new(), Vec::new());
                loop {
                    let query = ListQuery { prefix: b"", delimiter, limit };
                    let page = world.metadata.list_objects("b", query, &after).await.unwrap();
                    let mut names: Vec<Vec<u8>> = page.items.iter().map(|(key, _)| key.to_vec()).collect();
                    names.extend(page.common_prefixes.iter().map(|prefix| prefix.to_vec()));
                    names.sort();
                    after = names.last().cloned().unwrap_or_default();
                    seen.extend(names);
                    if !page.is_truncated {
                        break;
                    }
                }
                let whole = ListQuery { prefix: b"", delimiter, limit: 10_000 };
                let (items, prefixes, _) = model(&keys, &whole, b"");
                let expected: BTreeSet<Vec<u8>> = items.into_iter().chain(prefixes).collect();
                assert_eq!(seen, expected.into_iter().collect::<Vec<_>>(), "{delimiter:?} {limit}");
            }
        }
    });
}

#[test]
fn a_listing_costs_what_its_page_costs_however_much_is_under_a_prefix() {
    world(5, async |world| {
        for name in ["a/1", "b/1", "big/", "c/1", "d", "e/1", "f/1"] {
            world.put_inline(name.as_bytes(), b"").await;
        }
        let bucket = world.metadata.bucket("b").await.unwrap().id;
        let value = world.metadata.object("b", b"d", None).await.unwrap().record.encode();
        for page in 0..20 {
            let mut txn = world.engine.begin();
            for number in 0..5_000 {
                let key = format!("big/{:06}", page * 5_000 + number);
                crate::Transaction::set(&mut txn, &keyspace::object(bucket, key.as_bytes()), &value);
            }
            crate::Transaction::commit(txn).await.unwrap();
        }
        let cost = async |query: ListQuery<'_>, after: &[u8]| {
            world.engine.rows_read.set(0);
            let page = world.metadata.list_objects("b", query, after).await.unwrap();
            (page.items.len() + page.common_prefixes.len(), world.engine.rows_read.get())
        };
        let rolled = ListQuery { prefix: b"", delimiter: Some(b"/"), limit: 1_000 };
        let (entries, rows) = cost(rolled, b"").await;
        assert_eq!(entries, 7);
        assert!(rows <= 100, "{rows} rows for 7 entries");
        let flat = ListQuery { prefix: b"big/", delimiter: Some(b"/"), limit: 1_000 };
        let (entries, rows) = cost(flat, b"big/050000").await;
        assert_eq!((entries, rows), (1_000, 1_001));
        let (entries, rows) = cost(ListQuery { delimiter: None, ..flat }, b"big/050000").await;
        assert_eq!((entries, rows), (1_000, 1_001));
    });
}

#[test]
fn uploads_list_by_key_then_by_start_with_both_markers() {
    world(3, async |world| {
        let mut started = Vec::new();
        for key in [b"a/1".as_slice(), b"a/1", b"b", b"b\0", b"c/2", b"a/1"] {
            started.push((key.to_vec(), world.begin_upload(key).await));
        }
        started.sort();
        let query = ListQuery { prefix: b"", delimiter: None, limit: 2 };
        let (mut seen, mut after, mut upload) = (Vec::new(), Vec::new(), None);
        loop {
            let page = world.metadata.list_uploads("b", query, &after, upload).await.unwrap();
            seen.extend(page.items.iter().map(|(key, (upload, _))| (key.to_vec(), *upload)));
            let Some((last, last_upload)) = seen.last().cloned().filter(|_| page.is_truncated) else { break };
            (after, upload) = (last, Some(last_upload));
        }
        assert_eq!(seen, started);

        let rolled = ListQuery { prefix: b"", delimiter: Some(b"/"), limit: 1000 };
        let page = world.metadata.list_uploads("b", rolled, b"", None).await.unwrap();
        assert_eq!(page.common_prefixes, [Bytes::from_static(b"a/"), Bytes::from_static(b"c/")]);
        assert_eq!(page.items.len(), 2);
        let key_only = ListQuery { prefix: b"a/", delimiter: None, limit: 1000 };
        let page = world.metadata.list_uploads("b", key_only, b"a/1", None).await.unwrap();
        assert!(page.items.is_empty(), "without an upload marker all of the key's uploads are passed");
    });
}

#[test]
fn buckets_list_by_name_for_their_owner() {
    world(4, async |world| {
        for (name, owner) in [("alpha", "x"), ("beta", "root"), ("alpine", "x"), ("gamma", "x")] {
            world.metadata.create_bucket(name, owner, &NewBucket::default()).await.unwrap();
        }
        let names = async |owner, prefix, after, limit| -> Vec<String> {
            let found = world.metadata.list_buckets(owner, prefix, after, limit).await.unwrap();
            found.into_iter().map(|bucket| bucket.name).collect()
        };
        assert_eq!(names(Some("x"), "", "", 100).await, ["alpha", "alpine", "gamma"]);
        assert_eq!(names(Some("x"), "al", "alpha", 100).await, ["alpine"]);
        assert_eq!(names(None, "", "", 2).await, ["alpha", "alpine"]);
    });
}

#[test]
fn a_listing_that_shows_owners_tells_who_each_objects_list_names_and_is_otherwise_the_same() {
    world(5, async |world| {
        let acl = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        for key in ["a", "b/1", "c", "d"] {
            world.put_inline(key.as_bytes(), b"").await;
        }
        world.metadata.put_acl("b", b"a", None, acl("anna;READ=ben")).await.unwrap();
        world.metadata.put_acl("b", b"d", None, acl("ben")).await.unwrap();
        let query = ListQuery { prefix: b"", delimiter: Some(b"/"), limit: 3 };
        for after in [&b""[..], b"b/"] {
            let plain = world.metadata.list_objects("b", query, after).await.unwrap();
            let owned = world.metadata.list_owned_objects("b", query, after).await.unwrap();
            assert_eq!(owned.common_prefixes, plain.common_prefixes);
            assert_eq!(owned.is_truncated, plain.is_truncated);
            let listed: Vec<_> =
                owned.items.iter().map(|(key, (listed, _))| (key.clone(), listed.clone())).collect();
            assert_eq!(listed, plain.items);
        }
        let all = ListQuery { prefix: b"", delimiter: None, limit: 9 };
        let owned = world.metadata.list_owned_objects("b", all, b"").await.unwrap();
        let owners: Vec<_> = owned.items.into_iter().map(|(_, (_, owner))| owner).collect();
        assert_eq!(owners, [acl("anna"), None, None, acl("ben")]);
        let mut versions = world.metadata.list_owned_versions("b", all, AfterVersion::Nothing).await.unwrap();
        let of_versions = versions.items.iter_mut().map(|(_, version)| version.owner.take());
        assert_eq!(of_versions.collect::<Vec<_>>(), owners);
        assert_eq!(world.metadata.list_versions("b", all, AfterVersion::Nothing).await.unwrap(), versions);
    });
}
