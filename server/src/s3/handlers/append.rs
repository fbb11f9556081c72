//! PutObject with `x-amz-write-offset-bytes`: append, as S3 Express One Zone and MinIO do it.
//! Invariants: the offset is the object's length, or 0 where there is none; the reply tells the new length.
//! Not here: a PUT of a whole object (`objects`).

use shardstore_reactor::{Executor, Stream};

use super::objects::{push_checksum, push_etag};
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::{AppendObject, OpError, Operations, PutObject};
use crate::policy::Action;
use crate::s3::body::S3Body;
use crate::s3::error::{Code, S3Error};

/// The header that makes a PUT an append.
pub(super) const OFFSET_HEADER: &str = "x-amz-write-offset-bytes";

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn append_object<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        put: PutObject,
        mut body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let offset_bytes = offset_bytes(request)?;
        let _permit = self.ops.admit(body.len_bytes())?;
        let written = self.ops.append_object(AppendObject { put, offset_bytes }, &mut body).await;
        let tells_length = matches!(written, Err(OpError::InvalidWriteOffset { .. }));
        if tells_length && !self.may_read(request).await? {
            return Err(Code::InvalidWriteOffset.into());
        }
        let written = written?;
        let mut response = Response::new(200);
        push_etag(&mut response.headers, &written.etag);
        push_checksum(&mut response.headers, written.checksum.as_ref(), written.etag.part_count);
        response.headers.push_number("x-amz-object-size", written.size_bytes);
        Ok(response)
    }

    /// Whether the caller may read what lies under the request's key: the object's own list and tags count.
    async fn may_read(&self, request: &Request<'_>) -> Result<bool, S3Error> {
        let key = request.key()?;
        let may = match self.ops.head_object(request.bucket()?, key.clone(), None).await {
            Ok(info) => request.access.also_on(Action::GetObject, &key, &info.headers),
            Err(OpError::NoSuchKey) => request.access.also(Action::GetObject, &key, None),
            Err(error) => return Err(error.into()),
        };
        Ok(may.is_ok())
    }
}

fn offset_bytes(request: &Request<'_>) -> Result<u64, S3Error> {
    let text = request.head.header_str(OFFSET_HEADER).unwrap_or_default();
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let offset_bytes = digits.and_then(|digits| digits.parse().ok());
    offset_bytes.ok_or_else(|| S3Error::argument(OFFSET_HEADER, text, "The write offset is not a number"))
}
