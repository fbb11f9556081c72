//! What handlers of documents share: taking one in, answering with one, saying that there is none, taking one away.
//! Invariants: a document is read only under a place in the budget, and no further than its limit; that place is no
//! larger than the limit, whatever length the client states.
//! Not here: what documents say (`s3::config`, `s3::xml`).

use bytes::Bytes;
use shardstore_reactor::{Executor, Stream};

use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::{ConfigKind, Operations};
use crate::s3::body::S3Body;
use crate::s3::error::{Code, S3Error};

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// The document that a request brings, and its place in the budget: hold that until the document was carried out.
    ///
    /// # Errors
    /// As [`S3Service::admit_document`] and [`S3Body::collect`].
    pub(super) async fn read_document<S: Stream, E: Executor>(
        &self,
        body: S3Body<'_, '_, S, E>,
        bytes_max: usize,
    ) -> Result<(O::Permit, Vec<u8>), S3Error> {
        let permit = self.admit_document(&body, bytes_max)?;
        Ok((permit, body.collect(bytes_max).await?))
    }

    /// A place in the budget for a document of at most `bytes_max`.
    ///
    /// # Errors
    /// `MalformedXML` for a stated length over the limit, as where so much arrives; `SlowDown`.
    pub(super) fn admit_document<S: Stream, E: Executor>(
        &self,
        body: &S3Body<'_, '_, S, E>,
        bytes_max: usize,
    ) -> Result<O::Permit, S3Error> {
        let most = bytes_max as u64;
        let len_bytes = body.len_bytes().unwrap_or(most);
        if len_bytes > most {
            return Err(Code::MalformedXML.into());
        }
        Ok(self.ops.admit(Some(len_bytes))?)
    }

    /// Takes a document of a bucket away; one that is not there is fine.
    pub(super) async fn delete_document(
        &self,
        request: &Request<'_>,
        kind: ConfigKind,
    ) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        self.ops.delete_bucket_config(request.bucket()?, kind).await?;
        Ok(Response::new(204))
    }
}

/// An answer that is a document.
pub(super) fn xml_reply<P>(document: impl Into<Bytes>) -> Response<P> {
    Response::new(200).with_bytes("application/xml", document)
}

/// S3's error where a bucket has no such configuration.
pub(super) fn absent(request: &Request<'_>, code: Code) -> S3Error {
    let name = request.bucket.as_ref().map(|bucket| bucket.as_str().to_owned());
    name.into_iter().fold(S3Error::from(code), |error, name| error.and("BucketName", name))
}
