//! The XML bodies that clients send.
//! Invariants: an unknown root or a missing element is an error; unknown elements inside are ignored, as AWS adds
//! them over time.
//! Not here: limits on the body's size (`s3::body`, `handlers`).

use super::reader::{MalformedXml, XmlEvent, walk};
use super::tree::Element;
use crate::ops::api::{ChecksumAlgorithm, PAGE_MAX};
use crate::s3::checksum::algorithm_of_element;
use crate::s3::tagging::Tag;

/// One key of a `Delete` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteKey {
    /// The key.
    pub key: String,
    /// Which version, if one is named.
    pub version_id: Option<String>,
    /// If it has this tag.
    pub etag: Option<String>,
    /// If it has this length.
    pub size: Option<String>,
    /// If it was last modified then.
    pub last_modified: Option<String>,
}

/// A `Delete` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteKeys {
    /// At least one and at most [`PAGE_MAX`].
    pub keys: Vec<DeleteKey>,
    /// Whether only errors are to be told.
    pub quiet: bool,
}

/// Reads a `Delete` document.
///
/// # Errors
/// [`MalformedXml`], also for no key or more than [`PAGE_MAX`].
pub fn parse_delete(document: &[u8]) -> Result<DeleteKeys, MalformedXml> {
    let mut parsed = DeleteKeys::default();
    let mut current = DeleteKey::default();
    let mut in_object = false;
    let mut has_key = false;
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "Delete" => return Err(MalformedXml),
            XmlEvent::Open("Object", 2) => {
                current = DeleteKey::default();
                (in_object, has_key) = (true, false);
            }
            XmlEvent::Close("Object", 2, _) => {
                in_object = false;
                if !has_key || parsed.keys.len() == PAGE_MAX {
                    return Err(MalformedXml);
                }
                parsed.keys.push(std::mem::take(&mut current));
            }
            XmlEvent::Close("Quiet", 2, text) => parsed.quiet = text.trim().eq_ignore_ascii_case("true"),
            XmlEvent::Close(name, 3, text) if in_object => match name {
                "Key" => {
                    current.key = text.to_owned();
                    has_key = true;
                }
                "VersionId" => current.version_id = Some(text.trim().to_owned()),
                "ETag" => current.etag = Some(text.trim().to_owned()),
                "Size" => current.size = Some(text.trim().to_owned()),
                "LastModifiedTime" => current.last_modified = Some(text.trim().to_owned()),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    })?;
    if parsed.keys.is_empty() { Err(MalformedXml) } else { Ok(parsed) }
}

/// More tags than any set may have: reading stops there.
const READ_TAGS_MAX: usize = 64;

/// Reads a `Tagging` document; how many tags there may be is not decided here.
///
/// # Errors
/// [`MalformedXml`], also without a tag set, for a tag without key or value, and for more tags than make sense.
pub fn parse_tagging(document: &[u8]) -> Result<Vec<Tag>, MalformedXml> {
    let mut tags = Vec::new();
    let (mut key, mut value) = (None, None);
    let mut has_set = false;
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "Tagging" => return Err(MalformedXml),
            XmlEvent::Open("TagSet", 2) => has_set = true,
            XmlEvent::Open("Tag", 3) => (key, value) = (None, None),
            XmlEvent::Close("Key", 4, text) => key = Some(text.to_owned()),
            XmlEvent::Close("Value", 4, text) => value = Some(text.to_owned()),
            XmlEvent::Close("Tag", 3, _) => {
                let (Some(key), Some(value)) = (key.take(), value.take()) else { return Err(MalformedXml) };
                if tags.len() == READ_TAGS_MAX {
                    return Err(MalformedXml);
                }
                tags.push(Tag { key, value });
            }
            _ => {}
        }
        Ok(())
    })?;
    if has_set { Ok(tags) } else { Err(MalformedXml) }
}

/// One part of a `CompleteMultipartUpload` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompletePart {
    /// Its number as sent; not yet checked against the limits.
    pub part_number: u32,
    /// Its tag as sent.
    pub etag: String,
    /// Its checksum's algorithm and Base64, if given.
    pub checksum: Option<(ChecksumAlgorithm, String)>,
}

/// A `CompleteMultipartUpload` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompleteParts {
    /// In the order sent.
    pub parts: Vec<CompletePart>,
}

/// More parts than any upload may have: reading stops there.
const LISTED_PARTS_MAX: usize = 10_000;

/// Reads a `CompleteMultipartUpload` document.
///
/// # Errors
/// [`MalformedXml`], also for no part or more than 10,000.
pub fn parse_complete_upload(document: &[u8]) -> Result<CompleteParts, MalformedXml> {
    let mut parsed = CompleteParts::default();
    let mut current = CompletePart::default();
    let mut seen = (false, false);
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "CompleteMultipartUpload" => return Err(MalformedXml),
            XmlEvent::Open("Part", 2) => {
                current = CompletePart::default();
                seen = (false, false);
            }
            XmlEvent::Close("Part", 2, _) => {
                if seen != (true, true) || parsed.parts.len() == LISTED_PARTS_MAX {
                    return Err(MalformedXml);
                }
                parsed.parts.push(std::mem::take(&mut current));
            }
            XmlEvent::Close(name, 3, text) => {
                let text = text.trim();
                match name {
                    "PartNumber" => {
                        current.part_number = text.parse().map_err(|_| MalformedXml)?;
                        seen.0 = true;
                    }
                    "ETag" => {
                        current.etag = text.to_owned();
                        seen.1 = true;
                    }
                    _ => {
                        if let Some(algorithm) = algorithm_of_element(name) {
                            current.checksum = Some((algorithm, text.to_owned()));
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if parsed.parts.is_empty() { Err(MalformedXml) } else { Ok(parsed) }
}

/// A `CreateBucketConfiguration` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateBucketDocument {
    /// The location constraint, if there is one.
    pub location: Option<String>,
    /// The tags that the bucket begins with.
    pub tags: Vec<Tag>,
}

/// Reads a `CreateBucketConfiguration` document. An empty body is fine.
///
/// # Errors
/// [`MalformedXml`].
pub fn parse_create_bucket(document: &[u8]) -> Result<CreateBucketDocument, MalformedXml> {
    if document.trim_ascii().is_empty() {
        return Ok(CreateBucketDocument::default());
    }
    let root = Element::parse(document, "CreateBucketConfiguration")?;
    let location = root.word_of("LocationConstraint")?.filter(|text| !text.is_empty()).map(str::to_owned);
    let mut tags = Vec::new();
    if let Some(set) = root.child("Tags")? {
        for tag in set.only(&["Tag"])?.children() {
            let (key, value) =
                (tag.text_of("Key")?.ok_or(MalformedXml)?, tag.text_of("Value")?.ok_or(MalformedXml)?);
            tags.push(Tag { key: key.to_owned(), value: value.to_owned() });
        }
    }
    Ok(CreateBucketDocument { location, tags })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn delete_documents_are_read_with_their_conditions() {
        let parsed = parse_delete(
            b"<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key> a&amp;b </Key>\
              <VersionId>null</VersionId><ETag>\"x\"</ETag></Object><Object><Key>c</Key></Object><Quiet>true</Quiet>\
              </Delete>",
        )
        .unwrap();
        assert!(parsed.quiet);
        assert_eq!(parsed.keys.len(), 2);
        assert_eq!(parsed.keys[0].key, " a&b ");
        assert_eq!(parsed.keys[0].version_id.as_deref(), Some("null"));
        assert_eq!(parsed.keys[0].etag.as_deref(), Some("\"x\""));
    }

    #[test]
    fn delete_documents_without_keys_or_with_too_many_are_refused() {
        for document in
            ["<Delete/>", "<Delete><Object/></Delete>", "<Other><Object><Key>a</Key></Object></Other>"]
        {
            assert_eq!(parse_delete(document.as_bytes()), Err(MalformedXml), "{document}");
        }
        let many = |count: usize| {
            format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(count)).into_bytes()
        };
        assert_eq!(parse_delete(&many(1000)).unwrap().keys.len(), 1000);
        assert_eq!(parse_delete(&many(1001)), Err(MalformedXml));
    }

    #[test]
    fn completions_are_read_in_the_order_sent() {
        let parsed = parse_complete_upload(
            b"<CompleteMultipartUpload><Part><ETag>&quot;a&quot;</ETag><PartNumber>2</PartNumber>\
              <ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></Part><Part><PartNumber>1</PartNumber><ETag>b</ETag></Part>\
              </CompleteMultipartUpload>",
        )
        .unwrap();
        assert_eq!(parsed.parts[0].etag, "\"a\"");
        assert_eq!(parsed.parts[0].checksum, Some((ChecksumAlgorithm::Crc32c, "AAAAAA==".to_owned())));
        assert_eq!(parsed.parts[1].part_number, 1);
        for document in [
            "<CompleteMultipartUpload/>",
            "<CompleteMultipartUpload><Part><ETag>a</ETag></Part></CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part><ETag>a</ETag><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
        ] {
            assert_eq!(parse_complete_upload(document.as_bytes()), Err(MalformedXml), "{document}");
        }
    }

    #[test]
    fn tag_sets_are_read_in_order_and_half_tags_are_refused() {
        let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
        let document =
            b"<Tagging><TagSet><Tag><Key>a b</Key><Value>&amp;</Value></Tag><Tag><Value/><Key>c</Key></Tag>\
              </TagSet></Tagging>";
        assert_eq!(parse_tagging(document), Ok(vec![tag("a b", "&"), tag("c", "")]));
        assert_eq!(parse_tagging(b"<Tagging><TagSet/></Tagging>"), Ok(Vec::new()));
        for document in [
            "",
            "<Tagging/>",
            "<Other><TagSet/></Other>",
            "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
        ] {
            assert_eq!(parse_tagging(document.as_bytes()), Err(MalformedXml), "{document}");
        }
        let many = "<Tag><Key>a</Key><Value/></Tag>".repeat(READ_TAGS_MAX + 1);
        let document = format!("<Tagging><TagSet>{many}</TagSet></Tagging>");
        assert_eq!(parse_tagging(document.as_bytes()), Err(MalformedXml));
    }

    #[test]
    fn a_location_may_be_absent() {
        assert_eq!(parse_create_bucket(b""), Ok(CreateBucketDocument::default()));
        let document =
            b"<CreateBucketConfiguration><LocationConstraint>eu</LocationConstraint><Tags><Tag><Key>a</Key>\
            <Value>1</Value></Tag></Tags></CreateBucketConfiguration>";
        let parsed = parse_create_bucket(document).unwrap();
        assert_eq!(parsed.location.as_deref(), Some("eu"));
        assert_eq!(parsed.tags, [Tag { key: "a".to_owned(), value: "1".to_owned() }]);
        assert_eq!(parse_create_bucket(b"<X/>"), Err(MalformedXml));
    }
}
