//! Versioning of buckets, and the listing of versions.
//! Invariants: what cannot be kept (deletes that need a second factor) is refused, never ignored; a page's marker leads to
//! exactly what follows it.
//! Not here: versions of single objects (`objects`, `copy`, `delete_many`), object lock (`object_lock`).

use shardstore_reactor::{Executor, Stream};

use super::documents::xml_reply;
use super::listing::{Page, utf8_bytes};
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::{ListVersions, Operations};
use crate::s3::body::S3Body;
use crate::s3::error::{Code, S3Error};
use crate::s3::versions::parse_version_id;
use crate::s3::xml::{self, VersionsEcho};

/// Longest document: it has two words.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) fn get_bucket_versioning(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        Ok(xml_reply(xml::versioning(request.access.settings()?.info.versioning)))
    }

    pub(super) async fn put_bucket_versioning<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let asked = xml::parse_versioning(&document)?;
        if asked.mfa_delete {
            return Err(S3Error::from(Code::NotImplemented).and("Element", "MfaDelete".to_owned()));
        }
        let status = asked.status.ok_or(Code::IllegalVersioningConfigurationException)?;
        self.ops.set_versioning(request.bucket()?, status).await?;
        Ok(Response::new(200))
    }

    pub(super) async fn list_object_versions(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let query = &request.query;
        let page = Page::read(query, "max-keys")?;
        let key_marker = utf8_bytes(query, "key-marker")?;
        let version_id_marker = query.text("version-id-marker")?.unwrap_or_default();
        if key_marker.is_empty() && !version_id_marker.is_empty() {
            return Err(S3Error::argument(
                "version-id-marker",
                &version_id_marker,
                "A version-id marker cannot be specified without a key marker.",
            ));
        }
        let after_version = match version_id_marker.as_ref() {
            "" => None,
            text => Some(parse_version_id("version-id-marker", text)?),
        };
        let _permit = self.ops.admit(Some(0))?;
        let bucket = request.bucket()?;
        let list = ListVersions {
            bucket: bucket.clone(),
            prefix: page.prefix.clone(),
            delimiter: page.delimiter.clone(),
            after_key: key_marker.clone(),
            after_version,
            max_keys: page.max,
            with_acl: request.access.settings()?.access.has_acls(),
        };
        let found = self.ops.list_versions(list).await?;
        let objects = found.versions.iter().filter_map(|entry| entry.object.as_ref());
        let owners = self.owners(request, objects.filter_map(|object| object.owner.as_ref()))?;
        let echo = page.echo(bucket.as_str());
        let versions = VersionsEcho { key_marker: &key_marker, version_id_marker: &version_id_marker };
        let document = xml::list_versions(&echo, &versions, &owners, &found);
        Ok(xml_reply(document))
    }
}
