//! Buckets and their configuration: documents, generations, and what deletion leaves.

use super::super::keyspace;
use super::super::{ConfigKind, DOCUMENT_MAX_BYTES, Versioning};
use super::*;

fn document(len: usize) -> Bytes {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<u8>>().into()
}

#[test]
fn documents_of_every_length_read_back_and_replace_each_other() {
    world(1, async |world| {
        let metadata = &world.metadata;
        for len in [0, 1, 65_535, 65_536, 65_537, DOCUMENT_MAX_BYTES, 7] {
            let document = document(len);
            metadata.put_bucket_config("b", ConfigKind::Lifecycle, &document).await.unwrap();
            metadata.put_bucket_config("b", ConfigKind::Cors, &Bytes::from_static(b"c")).await.unwrap();
            let found = metadata.bucket_with_configs("b").await.unwrap();
            assert_eq!(found.documents.len(), 2);
            assert_eq!(found.documents[&ConfigKind::Lifecycle], document);
            assert_eq!(found.documents[&ConfigKind::Cors], "c");
            let one = metadata.bucket_config("b", ConfigKind::Lifecycle).await.unwrap();
            assert_eq!(one, Some(document));
        }
        metadata.delete_bucket_config("b", ConfigKind::Lifecycle).await.unwrap();
        assert_eq!(metadata.bucket_config("b", ConfigKind::Lifecycle).await.unwrap(), None);
        assert_eq!(metadata.bucket_with_configs("b").await.unwrap().documents.len(), 1);
    });
}

#[test]
fn a_document_is_changed_by_what_is_there_at_the_commit() {
    world(1, async |world| {
        let metadata = &world.metadata;
        let change = async |word: &'static str| {
            let with = |before: Option<&Bytes>| {
                let before = before.map(Bytes::as_ref).unwrap_or_default();
                Some(Bytes::from([before, word.as_bytes()].concat()))
            };
            metadata.change_bucket_config("b", ConfigKind::Encryption, with).await.unwrap();
        };
        // Two at once: the later one sees what the earlier one put.
        futures_util::join!(change("a"), change("b"));
        let found = metadata.bucket_config("b", ConfigKind::Encryption).await.unwrap().unwrap();
        assert!(found == "ab" || found == "ba", "{found:?}");
        let generation = metadata.bucket("b").await.unwrap().config_generation;
        let unread = metadata.change_bucket_config("b", ConfigKind::Encryption, |_| None).await;
        assert!(matches!(unread, Err(Failure::Engine(_))));
        assert_eq!(metadata.bucket_config("b", ConfigKind::Encryption).await.unwrap(), Some(found));
        assert_eq!(metadata.bucket("b").await.unwrap().config_generation, generation);
    });
}

#[test]
fn every_change_of_a_bucket_raises_its_generation() {
    world(1, async |world| {
        let metadata = &world.metadata;
        let generation = async || metadata.bucket("b").await.unwrap().config_generation;
        assert_eq!(generation().await, 0);
        metadata.put_bucket_config("b", ConfigKind::Tagging, &Bytes::from_static(b"t")).await.unwrap();
        assert_eq!(generation().await, 1);
        metadata.delete_bucket_config("b", ConfigKind::Tagging).await.unwrap();
        assert_eq!(generation().await, 2);
        metadata.set_versioning("b", Versioning::Enabled).await.unwrap();
        assert_eq!(generation().await, 3);
        assert_eq!(metadata.bucket("b").await.unwrap().versioning, Versioning::Enabled);
        let missing = metadata.put_bucket_config("c", ConfigKind::Tagging, &Bytes::new()).await;
        assert_eq!(refused(missing), Refusal::NoSuchBucket);
    });
}

#[test]
fn a_bucket_that_is_deleted_leaves_no_configuration() {
    world(1, async |world| {
        let metadata = &world.metadata;
        metadata.put_bucket_config("b", ConfigKind::Policy, &document(70_000)).await.unwrap();
        let id = metadata.bucket("b").await.unwrap().id;
        assert_eq!(world.count(&keyspace::bucket_configs(id)).await, 2);
        metadata.delete_bucket("b").await.unwrap();
        assert_eq!(world.count(&keyspace::bucket_configs(id)).await, 0);
        metadata.create_bucket("b", "root", &NewBucket::default()).await.unwrap();
        assert!(metadata.bucket_with_configs("b").await.unwrap().documents.is_empty());
    });
}

#[test]
fn a_bucket_is_made_with_its_configuration_and_its_lock_needs_versioning() {
    world(1, async |world| {
        let metadata = &world.metadata;
        let tags = (ConfigKind::Tagging, Bytes::from_static(b"tags"));
        let new = NewBucket { object_lock: true, configs: vec![tags.clone()] };
        metadata.create_bucket("locked", "root", &new).await.unwrap();
        let found = metadata.bucket_with_configs("locked").await.unwrap();
        assert_eq!(found.record.versioning, Versioning::Enabled);
        assert!(found.record.object_lock);
        assert_eq!(found.documents.into_iter().collect::<Vec<_>>(), [tags]);
        let suspended = metadata.set_versioning("locked", Versioning::Suspended).await;
        assert_eq!(refused(suspended), Refusal::ObjectLockNeedsVersioning);
    });
}
