//! Tag sets of objects and buckets: their two wire forms, their limits, and the form in which an object keeps them.
//! Invariants: a [`TagSet`] that a client gives is within S3's limits; kept and read again it is the same, also where an
//! earlier release took other characters.
//! Not here: the XML (`xml`), rules of copies (`handlers::copy`).

use bytes::Bytes;

use crate::auth::{decode_query_escapes, encode_escapes};
use crate::http::RequestHead;
use crate::ops::api::{Header, ObjectInfo, TAGGING_HEADER};
use crate::s3::error::{Code, S3Error};

/// S3's limits: tags of an object, characters of a key and of a value.
const TAGS_MAX: usize = 10;
/// Tags of a bucket.
const BUCKET_TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// One tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
}

/// The tags of an object, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSet(Vec<Tag>);

impl TagSet {
    /// Of what was kept: it was checked when it was given, some of it by the rules of an earlier release.
    fn of_kept(value: &[u8]) -> Option<TagSet> {
        let mut tags = read_pairs(value)?;
        tags.sort_by(|one, other| one.key.cmp(&other.key));
        Some(TagSet(tags))
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// `BadRequest` for too many; `InvalidTag` for a key or value that S3 does not take, or a key that stands twice.
    pub fn new(mut tags: Vec<Tag>) -> Result<TagSet, S3Error> {
        if tags.len() > TAGS_MAX {
            return Err(S3Error::with_message(Code::BadRequest, "Object tags cannot be greater than 10"));
        }
        check_tags(&tags)?;
        tags.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(TagSet(tags))
    }

    /// Reads `x-amz-tagging`: `key1=value1&key2=value2`, escaped as a query.
    ///
    /// # Errors
    /// As [`TagSet::new`]; `InvalidArgument` for broken escapes, a tag without a key, or a key that stands twice.
    pub fn of_header(value: &[u8]) -> Result<TagSet, S3Error> {
        let is_set = |tags: &[Tag]| {
            tags.iter().enumerate().all(|(index, tag)| {
                !tag.key.is_empty() && tags[..index].iter().all(|other| other.key != tag.key)
            })
        };
        match read_pairs(value).filter(|tags| is_set(tags)) {
            Some(tags) => TagSet::new(tags),
            None => Err(S3Error::argument(
                "x-amz-tagging",
                &String::from_utf8_lossy(value),
                "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag \
                 name duplicates.",
            )),
        }
    }

    /// The tags of an object.
    ///
    /// # Errors
    /// `InternalError` if what it keeps is damaged.
    pub fn of_object(info: &ObjectInfo) -> Result<TagSet, S3Error> {
        TagSet::of_headers(&info.headers)
    }

    /// The tags among what an object keeps.
    ///
    /// # Errors
    /// As [`TagSet::of_object`].
    pub fn of_headers(headers: &[Header]) -> Result<TagSet, S3Error> {
        let kept = headers.iter().find(|header| header.name == TAGGING_HEADER);
        let Some(kept) = kept else { return Ok(TagSet::default()) };
        TagSet::of_kept(&kept.value).ok_or_else(|| S3Error {
            detail: Some("an object's tags are damaged".to_owned()),
            ..Code::InternalError.into()
        })
    }

    /// The tags.
    pub fn tags(&self) -> &[Tag] {
        &self.0
    }

    /// What an object keeps; `None` if there is no tag.
    pub fn to_kept(&self) -> Option<Bytes> {
        if self.0.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        for tag in &self.0 {
            if !out.is_empty() {
                out.push(b'&');
            }
            encode_escapes(tag.key.as_bytes(), &mut out);
            out.push(b'=');
            encode_escapes(tag.value.as_bytes(), &mut out);
        }
        Some(Bytes::from(out))
    }
}

/// Pairs as a query has them; `None` for broken escapes. One more than there may be says that there are too many.
fn read_pairs(value: &[u8]) -> Option<Vec<Tag>> {
    let text = |escaped: &[u8]| -> Option<String> {
        let mut decoded = Vec::with_capacity(escaped.len());
        decode_query_escapes(escaped, &mut decoded).ok()?;
        String::from_utf8(decoded).ok()
    };
    let pairs = value.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty());
    let tags = pairs.map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let value = pair.get(equals + 1..).unwrap_or_default();
        Some(Tag { key: text(&pair[..equals])?, value: text(value)? })
    });
    tags.take(TAGS_MAX + 1).collect()
}

/// Checks the tags of a bucket.
///
/// # Errors
/// `BadRequest` for too many; else as [`TagSet::new`].
pub fn check_bucket_tags(tags: &[Tag]) -> Result<(), S3Error> {
    if tags.len() > BUCKET_TAGS_MAX {
        return Err(S3Error::with_message(Code::BadRequest, "Bucket tag count cannot be greater than 50"));
    }
    check_tags(tags)
}

/// Each tag's own limits, and that no key stands twice.
fn check_tags(tags: &[Tag]) -> Result<(), S3Error> {
    for (index, tag) in tags.iter().enumerate() {
        let invalid =
            |message| S3Error::with_message(Code::InvalidTag, message).and("TagKey", tag.key.clone());
        if tag.key.is_empty() || tag.key.chars().count() > KEY_CHARS_MAX || !tag.key.chars().all(is_taken) {
            return Err(invalid("The TagKey you have provided is invalid"));
        }
        if tag.value.chars().count() > VALUE_CHARS_MAX || !tag.value.chars().all(is_taken) {
            let error = invalid("The TagValue you have provided is invalid");
            return Err(error.and("TagValue", tag.value.clone()));
        }
        if tag.key.starts_with("aws:") {
            return Err(invalid("System tags cannot be added/updated by requester"));
        }
        if tags[..index].iter().any(|other| other.key == tag.key) {
            return Err(invalid("Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

/// Whether S3 takes a character in a tag: letters, digits and blanks of any script, and these marks.
fn is_taken(character: char) -> bool {
    let is_blank = character.is_whitespace() && !character.is_control();
    character.is_alphanumeric() || is_blank || "+-=._:/@".contains(character)
}

/// What an object that is made by this request keeps of `x-amz-tagging`.
///
/// # Errors
/// As [`TagSet::of_header`].
pub fn kept_tagging(head: &RequestHead) -> Result<Option<Header>, S3Error> {
    let Some(value) = head.header("x-amz-tagging") else { return Ok(None) };
    let kept = TagSet::of_header(value)?.to_kept();
    Ok(kept.map(|value| Header { name: TAGGING_HEADER.to_owned(), value }))
}

/// How many tags a kept header holds, without reading them.
pub fn count_kept(value: &[u8]) -> u64 {
    value.split(|&byte| byte == b'&').count() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn headers_are_read_and_kept_tags_come_back_the_same() {
        let set = TagSet::of_header("a=1&b%20c=d+e&empty=&bare&%C3%BC=%3D%40".as_bytes()).unwrap();
        let tags = [tag("a", "1"), tag("b c", "d e"), tag("bare", ""), tag("empty", ""), tag("\u{fc}", "=@")];
        assert_eq!(set.tags(), tags);
        let kept = set.to_kept().unwrap();
        assert_eq!(TagSet::of_header(&kept).unwrap(), set);
        assert_eq!(count_kept(&kept), 5);
        assert_eq!(TagSet::of_header(b"").unwrap().to_kept(), None);
    }

    #[test]
    fn a_bucket_may_have_50_tags() {
        let many = |count: usize| (0..count).map(|n| tag(&n.to_string(), "")).collect::<Vec<_>>();
        assert!(check_bucket_tags(&many(50)).is_ok());
        assert_eq!(check_bucket_tags(&many(51)).unwrap_err().code, Code::BadRequest);
        assert_eq!(check_bucket_tags(&[tag("aws:x", "")]).unwrap_err().code, Code::InvalidTag);
    }

    #[test]
    fn tags_that_an_earlier_release_took_still_read_and_what_is_refused_is_named() {
        let kept = Header { name: TAGGING_HEADER.to_owned(), value: Bytes::from_static(b"a=%26&b=x%2Cy") };
        let set = TagSet::of_headers(&[kept]).unwrap();
        assert_eq!(set.tags(), [tag("a", "&"), tag("b", "x,y")]);
        let error = TagSet::new(vec![tag("Key1", "Val1,Val2")]).unwrap_err();
        let named = [("TagKey", "Key1".to_owned()), ("TagValue", "Val1,Val2".to_owned())];
        assert_eq!(error.extra, named);
        assert_eq!(TagSet::new(vec![tag("Key1,Key2", "")]).unwrap_err().extra[0].1, "Key1,Key2");
    }

    #[test]
    fn limits_are_those_of_s3() {
        let code = |tags: Vec<Tag>| TagSet::new(tags).err().map(|error| error.code);
        let many = |count: usize| (0..count).map(|n| tag(&n.to_string(), "")).collect::<Vec<_>>();
        assert_eq!(code(many(10)), None);
        assert_eq!(code(many(11)), Some(Code::BadRequest));
        assert_eq!(code(vec![tag(&"\u{fc}".repeat(128), &"v".repeat(256))]), None);
        for wrong in [
            tag("", "v"),
            tag(&"k".repeat(129), "v"),
            tag("k", &"v".repeat(257)),
            tag("aws:x", "v"),
            tag("k", "\n"),
            tag("k1,k2", "v"),
            tag("k", "a&b"),
        ] {
            assert_eq!(code(vec![wrong.clone()]), Some(Code::InvalidTag), "{wrong:?}");
        }
        assert_eq!(code(vec![tag("k", "1"), tag("k", "2")]), Some(Code::InvalidTag));
        let marks = tag("a b\u{a0}+-=._:/@", "\u{5b57}\u{661} 1");
        assert_eq!(code(vec![marks]), None);
        for broken in [&b"a=%"[..], b"a=%zz", b"%ff=1", b"a=1&a=2", b"=1"] {
            assert_eq!(TagSet::of_header(broken).unwrap_err().code, Code::InvalidArgument);
        }
        assert_eq!(TagSet::of_header(b"a=1,b").unwrap_err().code, Code::InvalidTag);
    }
}
