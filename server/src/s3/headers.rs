//! Header fields that an object keeps, and the forms in which they come back.
//! Invariants: what is kept is returned byte for byte; `aws-chunked` is never kept; user metadata is at most 2 KiB.
//! Not here: checksums (`checksum`), conditions.

use bytes::Bytes;

use crate::http::{HeaderText, RequestHead};
use crate::ops::api::{Header, ObjectInfo, REDIRECT_HEADER, TAGGING_HEADER};
use crate::s3::error::{Code, S3Error};
use crate::s3::query::Query;
use crate::s3::tagging::count_kept;

/// S3's limit of names (less `x-amz-meta-`) and values together.
const USER_METADATA_BYTES_MAX: usize = 2048;
/// S3's limit of where an object of a website sends its visitors.
const REDIRECT_BYTES_MAX: usize = 2048;
/// What an object has that was sent without a type.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// Fields kept as they are.
const KEPT: [&str; 6] =
    ["cache-control", "content-disposition", "content-language", "content-type", "expires", REDIRECT_HEADER];

/// The fields of a PUT, a copy with REPLACE or the start of an upload that the object keeps.
///
/// # Errors
/// `MetadataTooLarge`; `InvalidRedirectLocation`.
pub fn kept_headers(head: &RequestHead) -> Result<Vec<Header>, S3Error> {
    kept_of(head.headers())
}

/// The same, of fields that came another way.
///
/// # Errors
/// `MetadataTooLarge`; `InvalidRedirectLocation`.
pub fn kept_of<'h>(fields: impl Iterator<Item = (&'h str, &'h [u8])>) -> Result<Vec<Header>, S3Error> {
    let mut kept: Vec<Header> = Vec::new();
    let mut user_bytes = 0;
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        if name == "content-encoding" {
            let value = without_aws_chunked(value);
            if !value.is_empty() {
                kept.push(Header { name, value: Bytes::from(value) });
            }
        } else if let Some(short) = name.strip_prefix("x-amz-meta-") {
            user_bytes += short.len() + value.len();
            match kept.iter_mut().find(|header| header.name == name) {
                // S3 joins repeated fields.
                Some(header) => header.value = [&header.value[..], b",", value].concat().into(),
                None => kept.push(Header { name, value: Bytes::copy_from_slice(value) }),
            }
        } else if KEPT.contains(&name.as_str()) && !kept.iter().any(|header| header.name == name) {
            kept.push(Header { name, value: Bytes::copy_from_slice(value) });
        }
    }
    if user_bytes > USER_METADATA_BYTES_MAX {
        return Err(S3Error::from(Code::MetadataTooLarge)
            .and("Size", user_bytes.to_string())
            .and("MaxSizeAllowed", USER_METADATA_BYTES_MAX.to_string()));
    }
    kept.retain(|header| {
        !header.value.is_empty() || !["content-type", REDIRECT_HEADER].contains(&header.name.as_str())
    });
    if let Some(header) = kept.iter().find(|header| header.name == REDIRECT_HEADER) {
        check_redirect(&header.value)?;
    }
    Ok(kept)
}

/// Where the object sends visitors of its bucket's website, if the request says so.
///
/// # Errors
/// `InvalidRedirectLocation`.
pub fn redirect_location(head: &RequestHead) -> Result<Option<Bytes>, S3Error> {
    let location = head.header(REDIRECT_HEADER).filter(|location| !location.is_empty());
    location.map(|location| check_redirect(location).map(|()| Bytes::copy_from_slice(location))).transpose()
}

fn check_redirect(location: &[u8]) -> Result<(), S3Error> {
    if location.len() > REDIRECT_BYTES_MAX {
        let message = "The length of website redirect location cannot exceed 2,048 characters.";
        return Err(S3Error::with_message(Code::InvalidRedirectLocation, message));
    }
    let begins: [&[u8]; 3] = [b"/", b"http://", b"https://"];
    if begins.iter().any(|begin| location.starts_with(begin)) {
        Ok(())
    } else {
        Err(Code::InvalidRedirectLocation.into())
    }
}

/// The codings other than `aws-chunked`, wherever that stands, with the blanks between them as they were sent.
fn without_aws_chunked(value: &[u8]) -> Vec<u8> {
    let codings = value.split(|&byte| byte == b',');
    let kept: Vec<&[u8]> = codings
        .filter(|coding| {
            let coding = coding.trim_ascii();
            !coding.is_empty() && !coding.eq_ignore_ascii_case(b"aws-chunked")
        })
        .collect();
    kept.join(&b","[..]).trim_ascii().to_vec()
}

/// The storage class of a write; `None` is STANDARD. `mapped`: those that the operator maps to a redundancy.
///
/// # Errors
/// `InvalidStorageClass` for any other: it would promise what is not so.
pub fn storage_class(head: &RequestHead, mapped: &[String]) -> Result<Option<String>, S3Error> {
    match head.header_str("x-amz-storage-class") {
        None | Some("STANDARD") => Ok(None),
        Some(class) if class == "REDUCED_REDUNDANCY" || mapped.iter().any(|known| known == class) => {
            Ok(Some(class.to_owned()))
        }
        Some(class) => {
            Err(S3Error::from(Code::InvalidStorageClass).and("StorageClassRequested", class.to_owned()))
        }
    }
}

/// Fields of an answer that a query may set: the parameter, the field as kept, the field as shown.
const OVERRIDES: [(&str, &str, &str); 6] = [
    ("response-content-type", "content-type", "Content-Type"),
    ("response-content-language", "content-language", "Content-Language"),
    ("response-expires", "expires", "Expires"),
    ("response-cache-control", "cache-control", "Cache-Control"),
    ("response-content-disposition", "content-disposition", "Content-Disposition"),
    ("response-content-encoding", "content-encoding", "Content-Encoding"),
];

/// Whether a query sets fields of the answer.
pub fn has_overrides(query: &Query<'_>) -> bool {
    query.may_hold("response-") && OVERRIDES.iter().any(|(parameter, ..)| query.get(parameter).is_some())
}

/// Adds what GET and HEAD return of an object, with the `response-*` overrides of the query.
pub fn push_object_headers(headers: &mut HeaderText, info: &ObjectInfo, query: &Query<'_>) {
    let may_override = query.may_hold("response-");
    let mut typed = false;
    for (parameter, name, shown) in OVERRIDES {
        let given = if may_override { query.get(parameter).filter(|value| !value.is_empty()) } else { None };
        if let Some(value) = given {
            headers.push(shown, value.as_bytes());
            typed |= name == "content-type";
        } else if let Some(header) = info.headers.iter().find(|header| header.name == name) {
            headers.push(shown, &header.value);
            typed |= name == "content-type";
        }
    }
    if !typed {
        headers.push("Content-Type", DEFAULT_CONTENT_TYPE);
    }
    for header in info.headers.iter().filter(|header| header.name.starts_with("x-amz-")) {
        if header.name == TAGGING_HEADER {
            headers.push_number("x-amz-tagging-count", count_kept(&header.value));
        } else {
            headers.push(&header.name, &header.value);
        }
    }
    if let Some(class) = &info.storage_class {
        headers.push("x-amz-storage-class", class);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ops::api::{ETag, ObjectLock};
    use crate::s3::test_heads::head;

    fn kept(fields: &str) -> Vec<(String, String)> {
        let headers = kept_headers(&head("PUT /b/k", fields)).unwrap();
        headers
            .into_iter()
            .map(|header| (header.name, String::from_utf8(header.value.to_vec()).unwrap()))
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn aws_chunked_is_taken_off_wherever_it_stands() {
        assert_eq!(kept("Content-Encoding: gzip,aws-chunked\r\n"), [pair("content-encoding", "gzip")]);
        assert_eq!(kept("Content-Encoding: aws-chunked, gzip\r\n"), [pair("content-encoding", "gzip")]);
        assert_eq!(kept("Content-Encoding: AWS-Chunked\r\n"), []);
        let both = [pair("content-encoding", "deflate, gzip")];
        assert_eq!(kept("Content-Encoding: deflate, gzip\r\n"), both);
        assert_eq!(kept("Content-Encoding: deflate, aws-chunked, gzip\r\n"), both);
    }

    #[test]
    fn metadata_is_kept_and_bounded() {
        let fields = "X-Amz-Meta-Tag: a b\r\nx-amz-meta-tag: c\r\nX-Other: no\r\nCache-Control: no-cache\r\n";
        assert_eq!(kept(fields), [pair("x-amz-meta-tag", "a b,c"), pair("cache-control", "no-cache")]);
        let big = format!("x-amz-meta-a: {}\r\n", "v".repeat(2048));
        assert_eq!(kept_headers(&head("PUT /b/k", &big)).unwrap_err().code, Code::MetadataTooLarge);
        let fits = format!("x-amz-meta-a: {}\r\n", "v".repeat(2047));
        assert!(kept_headers(&head("PUT /b/k", &fits)).is_ok());
    }

    #[test]
    fn redirects_go_to_a_page_or_a_url_and_are_at_most_2_kib_long() {
        let code = |location: &str| {
            let head = head("PUT /b/k", &format!("x-amz-website-redirect-location: {location}\r\n"));
            let kept = kept_headers(&head).err().map(|error| error.code);
            assert_eq!(redirect_location(&head).err().map(|error| error.code), kept);
            kept
        };
        for location in ["", "/", "/a.html", "http://b/c?d#e", "https://b"] {
            assert_eq!(code(location), None, "{location}");
        }
        assert_eq!(code(&format!("/{}", "a".repeat(2047))), None);
        for location in ["a.html", "ftp://b", "HTTP://b", &format!("/{}", "a".repeat(2048))] {
            assert_eq!(code(location), Some(Code::InvalidRedirectLocation), "{location}");
        }
    }

    #[test]
    fn classes_are_those_of_s3_that_are_so_and_those_that_are_mapped() {
        let mapped = ["STANDARD_IA".to_owned()];
        let class = |class: &str| {
            storage_class(&head("PUT /b/k", &format!("x-amz-storage-class: {class}\r\n")), &mapped)
        };
        assert_eq!(class("STANDARD").unwrap(), None);
        for shown in ["REDUCED_REDUNDANCY", "STANDARD_IA"] {
            assert_eq!(class(shown).unwrap().as_deref(), Some(shown));
        }
        for refused in ["GLACIER", "standard", ""] {
            assert_eq!(class(refused).unwrap_err().code, Code::InvalidStorageClass, "{refused}");
        }
    }

    #[test]
    fn kept_headers_come_back_unless_the_query_overrides_them() {
        let info = ObjectInfo {
            size_bytes: 0,
            etag: ETag::whole([0; 16]),
            modified_ms: 0,
            headers: kept_headers(&head(
                "PUT /b/k",
                "Content-Type: a/b\r\nExpires: x\r\nx-amz-meta-m: 1\r\n",
            ))
            .unwrap(),
            checksums: Vec::new(),
            storage_class: None,
            part_count: None,
            version: None,
            lock: ObjectLock::NONE,
            encryption: None,
        };
        let text = |query: &str| {
            let mut headers = HeaderText::default();
            push_object_headers(&mut headers, &info, &Query::new(Some(query)));
            String::from_utf8(headers.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(text(""), "Content-Type: a/b\r\nExpires: x\r\nx-amz-meta-m: 1\r\n");
        assert_eq!(
            text("response-content-type=c%2Fd&response-content-encoding=gzip"),
            "Content-Type: c/d\r\nExpires: x\r\nContent-Encoding: gzip\r\nx-amz-meta-m: 1\r\n"
        );
    }
}
