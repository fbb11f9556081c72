//! GetBucketTagging, PutBucketTagging.
//! Invariants: a bucket keeps its tags in the order sent; a set without tags is as good as none.
//! Not here: tags of objects (`tagging`), the limits (`s3::tagging`).

use shardstore_reactor::{Executor, Stream};

use super::documents::{absent, xml_reply};
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::{ConfigKind, Operations};
use crate::s3::body::S3Body;
use crate::s3::error::{Code, S3Error};
use crate::s3::tagging::check_bucket_tags;
use crate::s3::xml;

/// Longest document: 50 tags of 384 characters, all of them escaped.
const DOCUMENT_BYTES_MAX: usize = 512 * 1024;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) fn get_bucket_tagging(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let document = request.access.settings()?.document(ConfigKind::Tagging).cloned();
        let document = document.ok_or_else(|| absent(request, Code::NoSuchTagSet))?;
        Ok(xml_reply(document))
    }

    pub(super) async fn put_bucket_tagging<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let tags = xml::parse_tagging(&document)?;
        check_bucket_tags(&tags)?;
        let bucket = request.bucket()?;
        if tags.is_empty() {
            self.ops.delete_bucket_config(bucket, ConfigKind::Tagging).await?;
        } else {
            self.ops.put_bucket_config(bucket, ConfigKind::Tagging, xml::tagging(&tags)).await?;
        }
        Ok(Response::new(204))
    }
}
