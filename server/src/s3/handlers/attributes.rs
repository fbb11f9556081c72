//! GetObjectAttributes.
//! Invariants: an attribute that S3 does not know is an error; parts are paged, at most 1,000 a page.
//! Not here: the document (`xml`), what a read of one part answers (`objects`).

use super::documents::xml_reply;
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::RequestHead;
use crate::ops::api::{OpenedObject, Operations, PAGE_MAX};
use crate::s3::encryption::key_of_existing;
use crate::s3::error::{Code, S3Error};
use crate::s3::time_text::http_date;
use crate::s3::versions::push_version;
use crate::s3::xml::{self, AskedAttributes, PartsEcho};

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn get_object_attributes(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let version = request.version()?;
        let head = request.head;
        let asked = asked(head)?;
        let given = key_of_existing(request.access.asker())?;
        let max = number_header(head, "x-amz-max-parts")?.unwrap_or(PAGE_MAX as u64).min(PAGE_MAX as u64);
        let after = number_header(head, "x-amz-part-number-marker")?.unwrap_or(0);
        let after = u16::try_from(after).unwrap_or(u16::MAX);
        let _permit = self.ops.admit(Some(0))?;
        let object = self.ops.open_object(request.bucket()?, request.key()?, version).await?;
        let info = object.info();
        self.ops.check_key(info, given.as_ref().map(|given| &given.key))?;
        let page = match info.part_count {
            Some(_) if asked.parts => {
                let limit = usize::try_from(max).unwrap_or(PAGE_MAX);
                Some(object.parts(after, limit).await?)
            }
            _ => None,
        };
        let parts = page.as_ref().map(|page| PartsEcho { after, max, page });
        let document = xml::object_attributes(asked, info, parts.as_ref());
        let mut response = xml_reply(document);
        response.headers.push("Last-Modified", http_date(info.modified_ms));
        push_version(&mut response.headers, info.version);
        Ok(response)
    }
}

/// The attributes that `x-amz-object-attributes` names, in one field or several.
fn asked(head: &RequestHead) -> Result<AskedAttributes, S3Error> {
    let mut asked = AskedAttributes::default();
    let fields = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case("x-amz-object-attributes"));
    for (_, value) in fields {
        let text = String::from_utf8_lossy(value);
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "ETag" => asked.etag = true,
                "Checksum" => asked.checksum = true,
                "ObjectParts" => asked.parts = true,
                "StorageClass" => asked.storage_class = true,
                "ObjectSize" => asked.size = true,
                _ => {
                    return Err(S3Error::argument(
                        "x-amz-object-attributes",
                        name,
                        "Invalid attribute name specified.",
                    ));
                }
            }
        }
    }
    if asked == AskedAttributes::default() {
        return Err(S3Error::with_message(
            Code::InvalidRequest,
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        ));
    }
    Ok(asked)
}

fn number_header(head: &RequestHead, name: &'static str) -> Result<Option<u64>, S3Error> {
    let Some(text) = head.header_str(name) else { return Ok(None) };
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| S3Error::argument(name, text, "Provided value is not an integer or is out of range"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    #[test]
    fn attributes_are_named_in_one_field_or_several_and_must_be_known() {
        let of = |fields: &str| asked(&head("GET /b/k?attributes", fields));
        let two = AskedAttributes { etag: true, size: true, ..AskedAttributes::default() };
        assert_eq!(of("x-amz-object-attributes: ETag,ObjectSize\r\n").unwrap(), two);
        let several = "x-amz-object-attributes: ETag\r\nx-amz-object-attributes: ObjectSize\r\n";
        assert_eq!(of(several).unwrap(), two);
        assert_eq!(of("").unwrap_err().code, Code::InvalidRequest);
        assert_eq!(of("x-amz-object-attributes: \r\n").unwrap_err().code, Code::InvalidRequest);
        assert_eq!(of("x-amz-object-attributes: etag\r\n").unwrap_err().code, Code::InvalidArgument);
    }
}
