//! Versions against a model: what is current, every id, every listing, usage, locks; and what they cost.

use std::collections::BTreeSet;

use super::super::{
    AfterVersion, Copied, Copy, DefaultRetention, Deleted, FoundObject, ListQuery, ListedKind, Retention,
    RetentionMode, RetentionPeriod, VersionId, VersionPage, Versioning,
};
use super::*;

/// A version as the model keeps it; `None` is a delete marker.
type Kept = (VersionId, Option<[u8; 16]>);

/// An entry of a listing: a key with its version's id, whether that is the latest, whether it is an object; or a common
/// prefix.
type Entry = (Vec<u8>, Option<(String, bool, bool)>);

/// What S3 says, the slow way: for each key its versions, the newest first.
#[derive(Default)]
struct Reference {
    keys: BTreeMap<Vec<u8>, Vec<Kept>>,
    versioning: Versioning,
    /// Every id that ever was.
    ids: BTreeSet<(Vec<u8>, String)>,
}

impl Reference {
    fn put(&mut self, key: &[u8], id: VersionId, tag: Option<[u8; 16]>) {
        self.ids.insert((key.to_vec(), id.to_string()));
        let versions = self.keys.entry(key.to_vec()).or_default();
        if id == VersionId::Null {
            versions.retain(|(other, _)| *other != VersionId::Null);
        }
        versions.insert(0, (id, tag));
    }

    fn delete(&mut self, key: &[u8], deleted: Deleted) {
        match (self.versioning, deleted.version) {
            (Versioning::Never, _) => {
                self.keys.remove(key);
            }
            (_, Some(marker)) => self.put(key, marker, None),
            (_, None) => panic!("a delete in a bucket with versions makes a marker"),
        }
    }

    fn remove(&mut self, key: &[u8], id: VersionId) -> Option<Kept> {
        let versions = self.keys.get_mut(key)?;
        let at = versions.iter().position(|(other, _)| *other == id)?;
        let removed = versions.remove(at);
        self.keys.retain(|_, versions| !versions.is_empty());
        Some(removed)
    }

    fn current(&self, key: &[u8]) -> Option<[u8; 16]> {
        self.keys.get(key).and_then(|versions| versions[0].1)
    }

    /// All entries of a listing of versions.
    fn entries(&self, query: &ListQuery<'_>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for (key, versions) in self.keys.iter().filter(|(key, _)| key.starts_with(query.prefix)) {
            let rest = &key[query.prefix.len()..];
            let at = query.delimiter.and_then(|d| rest.windows(d.len()).position(|window| window == d));
            if let Some(at) = at {
                let entry = key[..query.prefix.len() + at + query.delimiter.unwrap().len()].to_vec();
                if entries.last().map(|(last, _)| last) != Some(&entry) {
                    entries.push((entry, None));
                }
                continue;
            }
            for (index, (id, tag)) in versions.iter().enumerate() {
                entries.push((key.clone(), Some((id.to_string(), index == 0, tag.is_some()))));
            }
        }
        entries
    }

    fn objects(&self) -> usize {
        self.keys.values().flatten().filter(|(_, tag)| tag.is_some()).count()
    }
}

/// A page in the order of its entries.
fn entries_of(page: &VersionPage) -> Vec<Entry> {
    let versions = page.items.iter().map(|(key, item)| {
        let is_object = matches!(item.kind, ListedKind::Object(_));
        (key.to_vec(), Some((item.id().to_string(), item.is_latest, is_object)))
    });
    let mut entries: Vec<_> = versions.collect();
    for prefix in &page.common_prefixes {
        let at = entries.partition_point(|(key, _)| key.as_slice() < &prefix[..]);
        entries.insert(at, (prefix.to_vec(), None));
    }
    entries
}

impl World {
    async fn put_tagged(&self, key: &[u8], tag: [u8; 16]) -> FoundObject {
        let new = NewObject { etag: ETag::whole(tag), ..new_object(key, WriteCondition::Always) };
        let bytes = match tag[0] % 2 {
            0 => NewBytes::Inline(Bytes::from_static(b"12345")),
            _ => NewBytes::Stored { evidence: Stored(vec![self.extent(0, 5)]), crc32c: None },
        };
        self.metadata.put_object(new, bytes).await.unwrap()
    }

    async fn copy_version(
        &self,
        source: &[u8],
        version: Option<VersionId>,
        target: &[u8],
    ) -> Result<Copied, Failure> {
        let copy = Copy {
            source_bucket: "b",
            source_key: source,
            bucket: "b",
            key: target,
            replace_headers: Some(Vec::new()),
            replace_tagging: None,
            storage_class: None,
            replace_checksum: None,
            redirect: None,
            condition: WriteCondition::Always,
            source_version: version,
            lock: ObjectLock::NONE,
        };
        Ok(self.metadata.copy_object(copy, same_seal).await?.unwrap())
    }

    async fn remove(&self, key: &[u8], version: VersionId) -> Result<Deleted, Failure> {
        let delete = Delete { version: Some(version), ..delete(key) };
        self.metadata.delete_object("b", &delete).await
    }

    async fn set(&self, versioning: Versioning) {
        self.metadata.set_versioning("b", versioning).await.unwrap();
    }

    async fn found(&self, key: &[u8], version: Option<VersionId>) -> Result<[u8; 16], Refusal> {
        match self.metadata.object("b", key, version).await {
            Ok(found) => Ok(found.record.listed.etag.md5),
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Every page of a listing of versions, put together.
    async fn all_versions(&self, query: &ListQuery<'_>) -> Vec<Entry> {
        let mut next: Option<(Bytes, Option<VersionId>)> = None;
        let mut entries = Vec::new();
        loop {
            let after = match &next {
                None => AfterVersion::Nothing,
                Some((key, None)) => AfterVersion::Key(key),
                Some((key, Some(version))) => AfterVersion::Version(key, *version),
            };
            let page = self.metadata.list_versions("b", *query, after).await.unwrap();
            assert!(page.items.len() + page.common_prefixes.len() <= query.limit);
            entries.extend(entries_of(&page));
            next = page.next;
            if next.is_none() {
                return entries;
            }
        }
    }

    /// Everything that can be asked agrees with the model.
    async fn compare(&self, model: &Reference, seed: u64) {
        for key in KEYS {
            match model.current(key) {
                Some(tag) => assert_eq!(self.found(key, None).await, Ok(tag), "seed={seed}"),
                None => assert!(self.found(key, None).await.is_err(), "seed={seed}"),
            }
        }
        for (key, text) in &model.ids {
            let id = VersionId::parse(text).unwrap();
            let kept = model.keys.get(key).and_then(|all| all.iter().find(|(other, _)| *other == id));
            let found = self.found(key, Some(id)).await;
            match kept {
                Some((_, Some(tag))) => assert_eq!(found, Ok(*tag), "seed={seed}"),
                Some((_, None)) => assert!(
                    matches!(found, Err(Refusal::DeleteMarker { version, is_current: false, .. }) if version == id),
                    "seed={seed} {found:?}"
                ),
                None => assert_eq!(found, Err(Refusal::NoSuchVersion), "seed={seed}"),
            }
        }
        assert_eq!(self.usage().await, (model.objects() as u64, 5 * model.objects() as u64), "seed={seed}");
        let audit = self.metadata.audit();
        let mut begin = Some(Bytes::new());
        while let Some(from) = begin {
            let (broken, next) = audit.audit_histories(&from, 3).await.unwrap();
            assert_eq!(broken, Vec::new(), "seed={seed}");
            begin = next;
        }
        for prefix in [b"".as_slice(), b"a", b"a/"] {
            for delimiter in [None, Some(b"/".as_slice())] {
                for limit in [1, 2, 5, 1_000] {
                    let query = ListQuery { prefix, delimiter, limit };
                    assert_eq!(
                        self.all_versions(&query).await,
                        model.entries(&query),
                        "seed={seed} {query:?}"
                    );
                }
                let query = ListQuery { prefix, delimiter, limit: 1_000 };
                let page = self.metadata.list_objects("b", query, b"").await.unwrap();
                let listed: BTreeSet<Vec<u8>> = page.items.iter().map(|(key, _)| key.to_vec()).collect();
                let entries = model.entries(&query).into_iter();
                let shown = entries.filter(|(_, version)| matches!(version, Some((_, true, true))));
                assert_eq!(listed, shown.map(|(key, _)| key).collect(), "seed={seed} {query:?}");
            }
        }
    }
}

const KEYS: [&[u8]; 7] = [b"a", b"a/", b"a/b", b"a/c\0", b"a/c", b"a\0", b"b"];

#[test]
fn random_histories_read_list_and_count_as_the_model_says_whatever_the_clock_does() {
    for seed in 0..40 {
        let sim = Sim::new(seed);
        let executor = sim.executor();
        let mut numbers = fastrand::Rng::with_seed(seed);
        sim.block_on(async {
            let world = World::new(executor.clone(), Outcomes::Known).await;
            let mut model = Reference::default();
            for step in 0..80u8 {
                sim.set_unix_ms(1_790_000_000_000 + numbers.u64(..5_000));
                let key = KEYS[numbers.usize(..KEYS.len())];
                let (ids, tag) = (model.keys.get(key).cloned().unwrap_or_default(), [step; 16]);
                let some_id = ids.get(numbers.usize(..ids.len().max(1))).map(|(id, _)| *id);
                match numbers.u8(..10) {
                    0..4 => {
                        let put = world.put_tagged(key, tag).await;
                        assert_eq!(put.version.is_some(), model.versioning != Versioning::Never);
                        let null = VersionId::Null;
                        model.put(key, put.version.unwrap_or(null), Some(tag));
                    }
                    4 | 5 => {
                        let deleted = world.metadata.delete_object("b", &delete(key)).await.unwrap();
                        model.delete(key, deleted);
                    }
                    6 | 7 => {
                        let Some(id) = some_id else { continue };
                        let deleted = world.remove(key, id).await.unwrap();
                        let removed = model.remove(key, id).unwrap();
                        assert_eq!((deleted.existed, deleted.is_marker), (true, removed.1.is_none()));
                        assert!(!world.remove(key, id).await.unwrap().existed, "once more does nothing");
                    }
                    8 => {
                        let target = KEYS[numbers.usize(..KEYS.len())];
                        let source = ids.iter().find(|(id, _)| Some(*id) == some_id);
                        let copied = world.copy_version(key, some_id, target).await;
                        match source.and_then(|(_, tag)| *tag) {
                            Some(tag) => {
                                let version = copied.unwrap().target.version.unwrap_or(VersionId::Null);
                                model.put(target, version, Some(tag));
                            }
                            None => assert!(copied.is_err()),
                        }
                    }
                    _ => {
                        model.versioning = match numbers.bool() {
                            true => Versioning::Enabled,
                            false => Versioning::Suspended,
                        };
                        world.set(model.versioning).await;
                    }
                }
                if step % 8 == 7 {
                    world.compare(&model, seed).await;
                }
            }
            for (key, versions) in std::mem::take(&mut model.keys) {
                assert!(world.metadata.delete_bucket("b").await.is_err(), "versions or markers are left");
                for (id, _) in versions {
                    assert!(world.remove(&key, id).await.unwrap().existed);
                }
            }
            world.compare(&model, seed).await;
            world.sweep_all().await;
            assert_eq!((world.byte_rows().await, world.live().await[&0]), (0, 0), "seed={seed}");
            let versions = KeyRange { begin: vec![0x11], end: vec![0x13] };
            let nulls = KeyRange { begin: vec![0x15], end: vec![0x16] };
            assert_eq!((world.count(&versions).await, world.count(&nulls).await), (0, 0), "seed={seed}");
            world.metadata.delete_bucket("b").await.unwrap();
        });
    }
}

#[test]
fn a_bucket_that_never_had_versions_writes_the_rows_that_it_always_did() {
    world(1, async |world| {
        world.put_inline(b"k", b"1").await;
        world.put_inline(b"k", b"2").await;
        let bucket = world.metadata.bucket("b").await.unwrap().id;
        let found =
            rows(&world.engine.begin(), &keyspace::objects(bucket, b"k"), 9, Isolation::Snapshot).await;
        assert_eq!(found.unwrap()[0].value[0], 1, "the first format, without a version");
        let others = KeyRange { begin: vec![0x12], end: vec![0x13] };
        assert_eq!(world.count(&others).await, 0);
        world.engine.rows_read.set(0);
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        assert_eq!(world.engine.rows_read.get(), 0, "no range is read");
    });
}

#[test]
fn deleting_the_newest_of_many_versions_costs_what_deleting_one_of_two_does() {
    world(2, async |world| {
        world.set(Versioning::Enabled).await;
        let mut newest = Vec::new();
        for _ in 0..500 {
            newest.push(world.put_tagged(b"k", [2; 16]).await.version.unwrap());
        }
        for id in newest.into_iter().rev().take(3) {
            world.engine.rows_read.set(0);
            assert!(world.remove(b"k", id).await.unwrap().existed);
            assert_eq!(world.engine.rows_read.get(), 1);
        }
        assert_eq!(world.usage().await.0, 497);
    });
}

#[test]
fn racing_writers_of_a_key_each_leave_a_version_and_one_is_current() {
    let sim = Sim::new(3);
    let executor = sim.executor();
    sim.block_on(async {
        let world = World::new(executor, Outcomes::Known).await;
        world.set(Versioning::Enabled).await;
        let race = (0..20u8)
            .map(async |number| world.put_tagged(b"k", [number; 16]).await.version.unwrap().to_string());
        let made: BTreeSet<String> = futures_util::future::join_all(race).await.into_iter().collect();
        let query = ListQuery { prefix: b"", delimiter: None, limit: 1_000 };
        let listed: Vec<_> =
            world.all_versions(&query).await.into_iter().filter_map(|(_, version)| version).collect();
        assert_eq!(listed.iter().map(|(id, ..)| id.clone()).collect::<BTreeSet<_>>(), made);
        assert_eq!(listed.iter().filter(|(_, is_latest, _)| *is_latest).count(), 1);
        assert!(listed.windows(2).all(|pair| pair[0].0 < pair[1].0), "the newest first");
    });
}

#[test]
fn a_page_goes_on_after_its_marker_though_that_was_deleted_meanwhile() {
    world(4, async |world| {
        let mut ids = vec![VersionId::Null];
        world.put_tagged(b"k", [0; 16]).await;
        world.set(Versioning::Enabled).await;
        for tag in 1..6 {
            ids.insert(0, world.put_tagged(b"k", [tag; 16]).await.version.unwrap());
        }
        let query = ListQuery { prefix: b"", delimiter: None, limit: 2 };
        let page = world.metadata.list_versions("b", query, AfterVersion::Nothing).await.unwrap();
        let (key, place) = page.next.clone().unwrap();
        for id in &ids[..2] {
            world.remove(b"k", *id).await.unwrap();
        }
        let after = AfterVersion::Version(&key, place.unwrap());
        let page = world.metadata.list_versions("b", query, after).await.unwrap();
        let shown: Vec<_> = page.items.iter().map(|(_, item)| (item.id(), item.is_latest)).collect();
        assert_eq!(shown, [(ids[2], true), (ids[3], false)], "what became current is listed as such");
        let key_only = world.metadata.list_versions("b", query, AfterVersion::Key(b"k")).await.unwrap();
        assert!(key_only.items.is_empty());
        let after_null = AfterVersion::Version(b"k", VersionId::Null);
        assert!(world.metadata.list_versions("b", query, after_null).await.unwrap().items.is_empty());
    });
}

#[test]
fn versions_under_a_common_prefix_cost_two_seeks_however_many_they_are() {
    world(5, async |world| {
        world.set(Versioning::Enabled).await;
        world.put_tagged(b"a/1", [0; 16]).await;
        for number in 0..600u32 {
            let key = format!("big/{}", number % 20);
            world.put_tagged(key.as_bytes(), [0; 16]).await;
        }
        world.put_tagged(b"c/1", [0; 16]).await;
        world.engine.rows_read.set(0);
        let query = ListQuery { prefix: b"", delimiter: Some(b"/"), limit: 1_000 };
        let page = world.metadata.list_versions("b", query, AfterVersion::Nothing).await.unwrap();
        assert_eq!(page.common_prefixes, [&b"a/"[..], b"big/", b"c/"]);
        assert!(world.engine.rows_read.get() <= 100, "{} rows", world.engine.rows_read.get());
    });
}

#[test]
fn tags_and_conditions_are_those_of_the_version_that_is_named() {
    world(6, async |world| {
        world.set(Versioning::Enabled).await;
        let old = world.put_tagged(b"k", [1; 16]).await.version;
        let new = world.put_tagged(b"k", [2; 16]).await.version;
        let tagging = Some(Bytes::from_static(b"a=1"));
        assert_eq!(world.metadata.put_tagging("b", b"k", old, tagging).await, Ok(old));
        let headers = async |version| world.metadata.object("b", b"k", version).await.unwrap().record.headers;
        assert_eq!((headers(old).await.len(), headers(new).await.len()), (1, 0));
        let condition = super::super::DeleteCondition {
            if_match: Some(ETag::whole([2; 16]).to_string()),
            ..Default::default()
        };
        let remove_old = Delete { version: old, condition, ..delete(b"k") };
        assert_eq!(
            refused(world.metadata.delete_object("b", &remove_old).await),
            Refusal::PreconditionFailed
        );
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        let any = super::super::DeleteCondition { if_match: Some("*".into()), ..Default::default() };
        let delete_any = |key| Delete { condition: any.clone(), ..delete(key) };
        let hidden = world.metadata.delete_object("b", &delete_any(b"k")).await;
        assert_eq!(refused(hidden), Refusal::PreconditionFailed);
        let absent = world.metadata.delete_object("b", &delete_any(b"never")).await;
        assert_eq!(refused(absent), Refusal::NoSuchKey);
        let put = new_object(b"k", WriteCondition::IfMatch("*".into()));
        let put = world.metadata.put_object(put, NewBytes::<Stored>::Inline(Bytes::new())).await;
        assert_eq!(refused(put), Refusal::NoSuchKey, "behind a marker there is no object");
        let create = new_object(b"k", WriteCondition::IfAbsent);
        assert!(world.metadata.put_object(create, NewBytes::<Stored>::Inline(Bytes::new())).await.is_ok());
    });
}

/// Story: If-Match with a tag held for a delete marker and for a version that is not there, so that a marker was removed,
/// and an older version current again, by who had asked for an object. Found by reading.
#[test]
fn a_tag_demanded_of_a_named_version_holds_for_no_marker_and_for_no_version_that_is_not_there() {
    world(9, async |world| {
        let tag = ETag::whole([1; 16]).to_string();
        let matching = |version, tag: &str| {
            let condition =
                super::super::DeleteCondition { if_match: Some(tag.to_owned()), ..Default::default() };
            Delete { version: Some(version), condition, ..delete(b"k") }
        };
        let refused_with =
            async |delete: Delete<'_>| refused(world.metadata.delete_object("b", &delete).await);
        assert_eq!(refused_with(matching(VersionId::Null, &tag)).await, Refusal::NoSuchVersion);
        world.set(Versioning::Enabled).await;
        let version = world.put_tagged(b"k", [1; 16]).await.version.unwrap();
        let marker = world.metadata.delete_object("b", &delete(b"k")).await.unwrap().version.unwrap();
        for tag in [tag.as_str(), "*"] {
            assert_eq!(refused_with(matching(marker, tag)).await, Refusal::PreconditionFailed, "{tag}");
            assert_eq!(refused_with(matching(VersionId::Null, tag)).await, Refusal::NoSuchVersion, "{tag}");
        }
        assert_eq!(world.found(b"k", Some(version)).await, Ok([1; 16]));
        let removed = world.metadata.delete_object("b", &matching(version, &tag)).await.unwrap();
        assert!(removed.existed);
        assert_eq!(refused_with(matching(version, &tag)).await, Refusal::NoSuchVersion);
        assert!(world.remove(b"k", marker).await.unwrap().is_marker);
    });
}

/// Story: the lifecycle pass deleted an object that had been removed for good since it was listed, and left a delete
/// marker for a key that nobody had any more. Found by reading.
#[test]
fn a_delete_that_demands_an_object_makes_no_marker_where_none_is() {
    world(8, async |world| {
        world.set(Versioning::Enabled).await;
        let condition = super::super::DeleteCondition { must_exist: true, ..Default::default() };
        let expire = Delete { condition, ..delete(b"k") };
        assert_eq!(refused(world.metadata.delete_object("b", &expire).await), Refusal::PreconditionFailed);
        let page = world
            .metadata
            .list_versions("b", ListQuery { prefix: b"", delimiter: None, limit: 9 }, AfterVersion::Nothing)
            .await
            .unwrap();
        assert!(page.items.is_empty());
        world.put_tagged(b"k", [1; 16]).await;
        world.metadata.delete_object("b", &expire).await.unwrap();
        assert_eq!(refused(world.metadata.delete_object("b", &expire).await), Refusal::PreconditionFailed);
    });
}

#[test]
fn a_completion_makes_a_version_and_answers_with_it_again() {
    world(7, async |world| {
        world.set(Versioning::Enabled).await;
        let first = world.put_tagged(b"k", [1; 16]).await.version;
        let upload = world.begin_upload(b"k").await;
        world.put_part(path(b"k", upload), 1, &[(0, 5)]).await;
        let complete = async || {
            let always = WriteCondition::Always;
            world.metadata.complete_upload(path(b"k", upload), &[1], &always, compose).await.unwrap().unwrap()
        };
        let completed = complete().await;
        assert!(completed.version.is_some_and(|version| Some(version) != first));
        assert_eq!(complete().await, completed);
        assert_eq!(world.found(b"k", first).await, Ok([1; 16]));
        assert_eq!(world.usage().await.0, 2);
    });
}

#[test]
fn what_is_locked_goes_by_no_way_and_its_time_ends_that() {
    let sim = Sim::new(8);
    let executor = sim.executor();
    sim.block_on(async {
        let world = World::new(executor.clone(), Outcomes::Known).await;
        let no_lock = world.metadata.put_legal_hold("b", b"k", None, true).await;
        assert_eq!(refused(no_lock), Refusal::NoSuchKey);
        let default = DefaultRetention { mode: RetentionMode::Governance, period: RetentionPeriod::Days(1) };
        let too_early = world.metadata.set_object_lock("b", Some(default)).await;
        assert_eq!(refused(too_early), Refusal::ObjectLockNeedsVersioning);
        world.set(Versioning::Enabled).await;
        world.metadata.set_object_lock("b", Some(default)).await.unwrap();
        assert_eq!(
            refused(world.metadata.set_versioning("b", Versioning::Suspended).await),
            Refusal::ObjectLockNeedsVersioning
        );
        let now_ms = 1_790_000_000_000;
        sim.set_unix_ms(now_ms);
        let put = world.put_tagged(b"k", [1; 16]).await;
        let (id, day_ms) = (put.version.unwrap(), 24 * 60 * 60 * 1_000);
        assert_eq!(put.record.lock.retention.unwrap().until_ms, now_ms + day_ms);
        let remove = async |bypass_governance| {
            let delete = Delete { version: Some(id), bypass_governance, ..delete(b"k") };
            let one = world.metadata.delete_object("b", &delete).await;
            let many = world.metadata.delete_objects("b", &[delete]).await.unwrap().remove(0);
            (one, many)
        };
        assert_eq!(remove(false).await, (Err(Refusal::Locked.into()), Err(Refusal::Locked.into())));
        // A marker may hide it, and an overwrite too: it stays.
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        world.put_tagged(b"k", [2; 16]).await;
        assert_eq!(world.found(b"k", Some(id)).await, Ok([1; 16]));
        let compliance = Some(Retention { mode: RetentionMode::Compliance, until_ms: now_ms + day_ms });
        world.metadata.put_retention("b", b"k", Some(id), compliance, true).await.unwrap();
        let weaker = world.metadata.put_retention("b", b"k", Some(id), None, true).await;
        assert_eq!(refused(weaker), Refusal::Locked);
        assert!(remove(true).await.0.is_err());
        world.metadata.put_legal_hold("b", b"k", Some(id), true).await.unwrap();
        sim.set_unix_ms(now_ms + day_ms);
        assert!(remove(true).await.0.is_err(), "the legal hold stands by itself");
        world.metadata.put_legal_hold("b", b"k", Some(id), false).await.unwrap();
        let (one, many) = remove(false).await;
        assert!(one.unwrap().existed && !many.unwrap().existed);
    });
}

#[test]
fn a_lock_is_refused_where_nothing_can_be_locked() {
    world(9, async |world| {
        let lock = ObjectLock { retention: None, legal_hold: Some(true) };
        let new = NewObject { lock, ..new_object(b"k", WriteCondition::Always) };
        let put = world.metadata.put_object(new, NewBytes::<Stored>::Inline(Bytes::new())).await;
        assert_eq!(refused(put), Refusal::NoObjectLock);
        world.put_inline(b"k", b"").await;
        let held = world.metadata.put_legal_hold("b", b"k", None, true).await;
        assert_eq!(refused(held), Refusal::NoObjectLock);
    });
}
