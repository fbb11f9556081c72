//! Access lists of objects.
//! Invariants: changing a list changes nothing else of an object's version, neither its tag nor its time.
//! Not here: what a list says (`server`), lists that come with a write (its headers), copies (`object`).

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::error::Failure;
use super::retry::Metadata;
use super::value::{ACL_HEADER, Header};
use super::version::VersionId;
use crate::Engine;

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Replaces the access list that an object's version keeps; `None`: it is its bucket owner's alone. Which version
    /// it was.
    ///
    /// # Errors
    /// [`super::Refusal::NoSuchBucket`], [`super::Refusal::NoSuchKey`], [`super::Refusal::NoSuchVersion`],
    /// [`super::Refusal::DeleteMarker`], [`Failure::Engine`].
    pub async fn put_acl(
        &self,
        bucket_name: &str,
        key: &[u8],
        version: Option<VersionId>,
        acl: Option<Bytes>,
    ) -> Result<Option<VersionId>, Failure> {
        self.change_version(bucket_name, key, version, |_, record| {
            record.headers.retain(|header| header.name != ACL_HEADER);
            let header = |value: &Bytes| Header { name: ACL_HEADER.to_owned(), value: value.clone() };
            record.headers.extend(acl.as_ref().map(header));
            Ok(())
        })
        .await
    }
}
