//! CopyObject.
//! Invariants: the source's conditions are decided in the transaction that copies; no bytes move.
//! Not here: copies of parts, which are not built.

use super::{Reply, Request, S3Service};
use crate::auth::{Credentials, decode_escapes};
use crate::http::Response;
use crate::ops::api::{BucketName, CopyObject, ObjectKey, OpError, Operations};
use crate::s3::conditions::{ReadConditions, Verdict, write_condition};
use crate::s3::error::{Code, S3Error};
use crate::s3::headers::{kept_headers, refuse_unbuilt, storage_class};
use crate::s3::xml;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn copy_object(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        refuse_unbuilt(head)?;
        let (source_bucket, source_key) = copy_source(head.header("x-amz-copy-source").unwrap_or_default())?;
        let replace_headers = match head.header_str("x-amz-metadata-directive") {
            None => None,
            Some(word) if word.eq_ignore_ascii_case("COPY") => None,
            Some(word) if word.eq_ignore_ascii_case("REPLACE") => Some(kept_headers(head)?),
            Some(word) => {
                return Err(S3Error::argument(
                    "x-amz-metadata-directive",
                    word,
                    "Unknown metadata directive.",
                ));
            }
        };
        let conditions = ReadConditions::of_copy_source(head);
        let copy = CopyObject {
            source_bucket,
            source_key,
            bucket: request.bucket()?,
            key: request.key()?,
            replace_headers,
            storage_class: storage_class(head)?,
            condition: write_condition(head)?,
        };
        let _permit = self.ops.admit(Some(0))?;
        let written = self
            .ops
            .copy_object(copy, move |info| match conditions.check(&info.etag.to_string(), info.modified_ms) {
                Verdict::Proceed => Ok(()),
                Verdict::NotModified | Verdict::Failed => Err(OpError::PreconditionFailed),
            })
            .await?;
        Ok(Response::new(200).with_bytes("application/xml", xml::copy_object(&written)))
    }
}

/// `[/]bucket/key[?versionId=...]`, percent-encoded.
pub(super) fn copy_source(value: &[u8]) -> Result<(BucketName, ObjectKey), S3Error> {
    let invalid = || {
        S3Error::with_message(
            Code::InvalidArgument,
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        )
    };
    let text = std::str::from_utf8(value).map_err(|_| invalid())?;
    let (path, version) = match text.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    if let Some(version) = version
        && version != "null"
    {
        return Err(S3Error::from(Code::NoSuchVersion).and("VersionId", version.to_owned()));
    }
    let mut decoded = Vec::with_capacity(path.len());
    decode_escapes(path.as_bytes(), &mut decoded).map_err(|_| invalid())?;
    let path = decoded.strip_prefix(b"/").unwrap_or(&decoded);
    let slash = path.iter().position(|&byte| byte == b'/').ok_or_else(invalid)?;
    let (bucket, key) = (&path[..slash], &path[slash + 1..]);
    if key.is_empty() {
        return Err(invalid());
    }
    let bucket = std::str::from_utf8(bucket).map_err(|_| invalid())?;
    Ok((BucketName::parse(bucket)?, ObjectKey::parse(key.to_vec())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn sources_are_decoded_once_with_or_without_a_slash() {
        for text in ["/bkt/a%20b%2Bc/d+e", "bkt/a%20b%2Bc/d+e", "bkt%2Fa%20b%2Bc/d+e?versionId=null"] {
            let (bucket, key) = copy_source(text.as_bytes()).unwrap();
            assert_eq!((bucket.as_str(), key.as_bytes()), ("bkt", &b"a b+c/d+e"[..]), "{text}");
        }
        assert_eq!(copy_source(b"bkt/k?versionId=abc").unwrap_err().code, Code::NoSuchVersion);
        for text in ["", "bkt", "/bkt/", "bkt/%"] {
            assert_eq!(copy_source(text.as_bytes()).unwrap_err().code, Code::InvalidArgument, "{text}");
        }
    }
}
