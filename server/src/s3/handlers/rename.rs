//! RenameObject.
//! Invariants: the conditions on the source and on what is replaced are decided in the transaction that renames.
//! Not here: copies (`copy`).

use super::{Reply, Request, S3Service};
use crate::auth::{Credentials, decode_escapes};
use crate::http::{RequestHead, Response};
use crate::ops::api::{BucketName, ObjectInfo, ObjectKey, OpError, Operations, RenameObject};
use crate::s3::conditions::{ReadConditions, Verdict};
use crate::s3::error::{Code, S3Error};

/// S3's limit of a client's token.
const TOKEN_BYTES_MAX: usize = 64;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn rename_object(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        let (bucket, key) = (request.bucket()?, request.key()?);
        let source_key = rename_source(head, &bucket)?;
        if source_key == key {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "The source and the destination of a rename must differ.",
            ));
        }
        if [&source_key, &key].iter().any(|key| key.as_bytes().ends_with(b"/")) {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "Objects whose key ends with a slash cannot be renamed.",
            ));
        }
        let rename = RenameObject { bucket, source_key, key, token: token(head)? };
        let (of_source, of_target) = {
            let now_ms = request.access.asker().now_ms;
            (ReadConditions::of_rename_source(head, now_ms), ReadConditions::of_read(head, now_ms))
        };
        let _permit = self.ops.admit(Some(0))?;
        let check = move |source: &ObjectInfo, old: Option<&ObjectInfo>| {
            let target_holds = match old {
                Some(old) => holds(&of_target, old),
                None => !of_target.need_something(),
            };
            if holds(&of_source, source) && target_holds { Ok(()) } else { Err(OpError::PreconditionFailed) }
        };
        self.ops.rename_object(rename, check).await?;
        Ok(Response::new(200))
    }
}

fn holds(conditions: &ReadConditions, info: &ObjectInfo) -> bool {
    conditions.check(&info.etag.to_string(), info.modified_ms) == Verdict::Proceed
}

fn token(head: &RequestHead) -> Result<Option<String>, S3Error> {
    let Some(token) = head.header_str("x-amz-client-token") else { return Ok(None) };
    let is_token = token.len() <= TOKEN_BYTES_MAX && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token || token.is_empty() {
        return Err(S3Error::argument("x-amz-client-token", token, "The client token is not valid"));
    }
    Ok(Some(token.to_owned()))
}

/// The key of the source, percent-encoded; with a slash in front it may be preceded by the bucket's name, as some
/// clients send it.
pub(super) fn rename_source(head: &RequestHead, bucket: &BucketName) -> Result<ObjectKey, S3Error> {
    let value = head.header("x-amz-rename-source").unwrap_or_default();
    let mut decoded = Vec::with_capacity(value.len());
    let is_decoded = decode_escapes(value, &mut decoded).is_ok();
    let of_bucket = [&b"/"[..], bucket.as_str().as_bytes(), b"/"].concat();
    let key = decoded.strip_prefix(&of_bucket[..]).or(decoded.strip_prefix(b"/")).unwrap_or(&decoded);
    if !is_decoded || key.is_empty() {
        return Err(S3Error::argument(
            "x-amz-rename-source",
            &String::from_utf8_lossy(value),
            "The rename source must be the URL-encoded key of an object in the same bucket",
        ));
    }
    Ok(ObjectKey::parse(key.to_vec())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    #[test]
    fn sources_are_keys_with_or_without_their_bucket() {
        let bucket = BucketName::parse("bkt").unwrap();
        let key = |source: &str| {
            let head = head("PUT /bkt/k?renameObject", &format!("x-amz-rename-source: {source}\r\n"));
            rename_source(&head, &bucket).map(|key| key.to_bytes())
        };
        for source in ["a%20b/c", "/a%20b/c", "/bkt/a%20b/c"] {
            assert_eq!(key(source).unwrap(), "a b/c", "{source}");
        }
        assert_eq!(key("bkt/a").unwrap(), "bkt/a", "a key may begin as its bucket does");
        for source in ["", "/", "%", "/bkt/"] {
            assert_eq!(key(source).unwrap_err().code, Code::InvalidArgument, "{source}");
        }
    }
}
