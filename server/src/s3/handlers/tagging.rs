//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging.
//! Invariants: changing tags changes neither the object's tag nor its time.
//! Not here: tags that come with a PUT, a copy or an upload (`s3::tagging`); tags of buckets (`bucket_tagging`).

use shardstore_reactor::{Executor, Stream};

use super::documents::xml_reply;
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::Operations;
use crate::s3::body::S3Body;
use crate::s3::error::{S3Error, of_subject};
use crate::s3::tagging::TagSet;
use crate::s3::versions::push_version;
use crate::s3::xml;

/// Longest document: 10 tags of 384 characters, all of them escaped.
const DOCUMENT_BYTES_MAX: usize = 128 * 1024;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn get_object_tagging(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let version = request.version()?;
        let _permit = self.ops.admit(Some(0))?;
        let info = self.ops.head_object(request.bucket()?, request.key()?, version).await;
        let info = info.map_err(of_subject)?;
        let tags = TagSet::of_object(&info)?;
        let mut response = xml_reply(xml::tagging(tags.tags()));
        push_version(&mut response.headers, info.version);
        Ok(response)
    }

    pub(super) async fn put_object_tagging<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let version = request.version()?;
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let tags = xml::parse_tagging(&document)?;
        let (tags, key) = (TagSet::new(tags)?, request.key()?);
        self.authorizer.authorize_tags(&self.ops, &request.access, &key, &tags).await?;
        let version = self.ops.put_tagging(request.bucket()?, key, version, tags.to_kept()).await;
        let mut response = Response::new(200);
        push_version(&mut response.headers, version.map_err(of_subject)?);
        Ok(response)
    }

    pub(super) async fn delete_object_tagging(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let version = request.version()?;
        let _permit = self.ops.admit(Some(0))?;
        let version = self.ops.put_tagging(request.bucket()?, request.key()?, version, None).await;
        let mut response = Response::new(204);
        push_version(&mut response.headers, version.map_err(of_subject)?);
        Ok(response)
    }
}
