//! The XML documents of replies.
//! Invariants: with `encoding-type=url` every name is encoded and the reply says so; continuation tokens are not.
//! Not here: which page to list (`handlers`).

use bytes::Bytes;

use super::writer::XmlWriter;
use crate::auth::{Person, encode_escapes};
use crate::ops::api::{
    ACL_HEADER, BucketPage, ChecksumAlgorithm, ChecksumKind, Deleted, Header, ListedObject, ObjectPage,
    PartInfo, PartPage, StoredChecksum, TAGGING_HEADER, UploadPage, Written,
};
use crate::s3::checksum::{algorithm_name, element_name, kind_name, value_text};
use crate::s3::error::S3Error;
use crate::s3::owners::Owners;
use crate::s3::tagging::Tag;
use crate::s3::time_text::iso_8601;

/// Whether names are percent-encoded in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// `encoding-type=url`.
    Url,
}

impl Encoding {
    pub(super) fn leaf(self, xml: &mut XmlWriter, name: &str, text: &[u8]) {
        match self {
            Encoding::Plain => xml.leaf_bytes(name, text),
            Encoding::Url => {
                let mut encoded = Vec::with_capacity(text.len() + 16);
                encode_escapes(text, &mut encoded);
                xml.leaf_bytes(name, &encoded);
            }
        }
    }

    pub(super) fn say(self, xml: &mut XmlWriter) {
        if self == Encoding::Url {
            xml.leaf("EncodingType", "url");
        }
    }
}

/// What a listing repeats of its request.
#[derive(Clone, Debug)]
pub struct ListingEcho<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// `prefix`.
    pub prefix: &'a [u8],
    /// `delimiter`.
    pub delimiter: Option<&'a [u8]>,
    /// `max-keys` and its kin.
    pub max: u64,
    /// `encoding-type`.
    pub encoding: Encoding,
}

/// Room for one listed object.
const ROW_BYTES: usize = 320;

/// `ListBuckets`.
pub fn list_buckets(
    page: &BucketPage,
    owner: &Person,
    region: &str,
    prefix: &str,
    token: Option<&str>,
) -> Bytes {
    let mut xml = XmlWriter::s3_document("ListAllMyBucketsResult", page.buckets.len() * 128);
    push_person(&mut xml, "Owner", owner);
    xml.open("Buckets");
    for bucket in &page.buckets {
        xml.open("Bucket");
        xml.leaf("Name", bucket.name.as_str());
        xml.leaf("CreationDate", &iso_8601(bucket.created_ms));
        xml.leaf("BucketRegion", region);
        xml.close("Bucket");
    }
    xml.close("Buckets");
    if !prefix.is_empty() {
        xml.leaf("Prefix", prefix);
    }
    if let Some(token) = token {
        xml.leaf("ContinuationToken", token);
    }
    xml.close("ListAllMyBucketsResult");
    xml.finish()
}

pub(super) fn push_person(xml: &mut XmlWriter, element: &str, person: &Person) {
    xml.open(element);
    xml.leaf("ID", &person.id);
    xml.leaf("DisplayName", &person.name);
    xml.close(element);
}

/// `GetBucketLocation`: empty for us-east-1.
pub fn bucket_location(region: &str) -> Bytes {
    let mut xml = XmlWriter::s3_document("LocationConstraint", 0);
    if region != "us-east-1" {
        xml.text_of(region);
    }
    xml.close("LocationConstraint");
    xml.finish()
}

/// A configuration that was never set, where S3 answers with an empty one.
pub fn unset(root: &str) -> Bytes {
    let mut xml = XmlWriter::s3_document(root, 0);
    xml.close(root);
    xml.finish()
}

/// A list of configurations of which there is none.
pub fn no_configurations(root: &str) -> Bytes {
    let mut xml = XmlWriter::s3_document(root, 64);
    xml.flag("IsTruncated", false);
    xml.close(root);
    xml.finish()
}

/// `GetBucketRequestPayment` of a bucket where it was never set.
pub fn owner_pays() -> Bytes {
    let mut xml = XmlWriter::s3_document("RequestPaymentConfiguration", 64);
    xml.leaf("Payer", "BucketOwner");
    xml.close("RequestPaymentConfiguration");
    xml.finish()
}

/// `GetObjectTagging`.
pub fn tagging(tags: &[Tag]) -> Bytes {
    let mut xml = XmlWriter::s3_document("Tagging", 128 * tags.len());
    xml.open("TagSet");
    for tag in tags {
        xml.open("Tag");
        xml.leaf("Key", &tag.key);
        xml.leaf("Value", &tag.value);
        xml.close("Tag");
    }
    xml.close("TagSet");
    xml.close("Tagging");
    xml.finish()
}

/// `ListObjects`.
pub fn list_objects_v1(echo: &ListingEcho<'_>, marker: &[u8], owners: &Owners, page: &ObjectPage) -> Bytes {
    let mut xml = XmlWriter::s3_document("ListBucketResult", page.objects.len() * ROW_BYTES);
    xml.leaf("Name", echo.bucket);
    echo.encoding.leaf(&mut xml, "Prefix", echo.prefix);
    echo.encoding.leaf(&mut xml, "Marker", marker);
    // AWS sends NextMarker only with a delimiter; every client takes it.
    if let (Some(next), true) = (&page.next, echo.delimiter.is_some()) {
        echo.encoding.leaf(&mut xml, "NextMarker", next);
    }
    xml.number("MaxKeys", echo.max);
    if let Some(delimiter) = echo.delimiter {
        echo.encoding.leaf(&mut xml, "Delimiter", delimiter);
    }
    echo.encoding.say(&mut xml);
    xml.flag("IsTruncated", page.next.is_some());
    push_objects(&mut xml, echo.encoding, &page.objects, Some(owners));
    push_prefixes(&mut xml, echo.encoding, &page.common_prefixes);
    xml.close("ListBucketResult");
    xml.finish()
}

/// `ListObjectsV2`; `owners` is `None` without `fetch-owner`.
pub fn list_objects_v2(
    echo: &ListingEcho<'_>,
    token: Option<&str>,
    start_after: &[u8],
    owners: Option<&Owners>,
    page: &ObjectPage,
    next_token: Option<&str>,
) -> Bytes {
    let mut xml = XmlWriter::s3_document("ListBucketResult", page.objects.len() * ROW_BYTES);
    xml.leaf("Name", echo.bucket);
    echo.encoding.leaf(&mut xml, "Prefix", echo.prefix);
    if let Some(token) = token {
        xml.leaf("ContinuationToken", token);
    }
    if let Some(token) = next_token {
        xml.leaf("NextContinuationToken", token);
    }
    if !start_after.is_empty() {
        echo.encoding.leaf(&mut xml, "StartAfter", start_after);
    }
    xml.number("KeyCount", (page.objects.len() + page.common_prefixes.len()) as u64);
    xml.number("MaxKeys", echo.max);
    if let Some(delimiter) = echo.delimiter {
        echo.encoding.leaf(&mut xml, "Delimiter", delimiter);
    }
    echo.encoding.say(&mut xml);
    xml.flag("IsTruncated", next_token.is_some());
    push_objects(&mut xml, echo.encoding, &page.objects, owners);
    push_prefixes(&mut xml, echo.encoding, &page.common_prefixes);
    xml.close("ListBucketResult");
    xml.finish()
}

fn push_objects(xml: &mut XmlWriter, encoding: Encoding, objects: &[ListedObject], owners: Option<&Owners>) {
    for object in objects {
        xml.open("Contents");
        push_object_fields(xml, encoding, object);
        if let Some(owners) = owners {
            push_person(xml, "Owner", owners.of(object.owner.as_ref()));
        }
        xml.leaf("StorageClass", object.storage_class.as_deref().unwrap_or("STANDARD"));
        if let Some(headers) = &object.headers {
            push_kept(xml, headers);
        }
        xml.close("Contents");
    }
}

/// MinIO's extension: the headers of an object, each an element, and its tag set.
fn push_kept(xml: &mut XmlWriter, headers: &[Header]) {
    let is_name = |name: &str| {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        name.bytes().all(part) && name.starts_with(|first: char| first.is_ascii_alphabetic())
    };
    // What no element can be called, or no text can hold, is left out.
    let is_shown = |header: &&Header| {
        let is_own = [TAGGING_HEADER, ACL_HEADER].contains(&header.name.as_str());
        !is_own && is_name(&header.name) && std::str::from_utf8(&header.value).is_ok()
    };
    xml.open("UserMetadata");
    for header in headers.iter().filter(is_shown) {
        xml.leaf_bytes(&header.name, &header.value);
    }
    xml.close("UserMetadata");
    if let Some(tagging) = headers.iter().find(|header| header.name == TAGGING_HEADER) {
        xml.leaf_bytes("UserTags", &tagging.value);
    }
}

pub(super) fn push_object_fields(xml: &mut XmlWriter, encoding: Encoding, object: &ListedObject) {
    encoding.leaf(xml, "Key", &object.key);
    xml.leaf("LastModified", &iso_8601(object.modified_ms));
    xml.etag(&object.etag);
    if let Some((algorithm, kind)) = object.checksum {
        push_algorithm(xml, algorithm, kind);
    }
    xml.number("Size", object.size_bytes);
}

fn push_algorithm(xml: &mut XmlWriter, algorithm: ChecksumAlgorithm, kind: ChecksumKind) {
    xml.leaf("ChecksumAlgorithm", algorithm_name(algorithm));
    xml.leaf("ChecksumType", kind_name(kind));
}

pub(super) fn push_prefixes(xml: &mut XmlWriter, encoding: Encoding, prefixes: &[Bytes]) {
    for prefix in prefixes {
        xml.open("CommonPrefixes");
        encoding.leaf(xml, "Prefix", prefix);
        xml.close("CommonPrefixes");
    }
}

/// The answer to a browser's upload with `success_action_status` 201.
pub fn post_response(location: &str, bucket: &str, key: &str, etag: &str) -> Bytes {
    let mut xml = XmlWriter::document();
    xml.open("PostResponse");
    xml.leaf("Location", location);
    xml.leaf("Bucket", bucket);
    xml.leaf("Key", key);
    xml.leaf("ETag", etag);
    xml.close("PostResponse");
    xml.finish()
}

/// `CreateMultipartUpload`.
pub fn initiate_upload(bucket: &str, key: &[u8], upload: &str) -> Bytes {
    let mut xml = XmlWriter::s3_document("InitiateMultipartUploadResult", 128);
    xml.leaf("Bucket", bucket);
    xml.leaf_bytes("Key", key);
    xml.leaf("UploadId", upload);
    xml.close("InitiateMultipartUploadResult");
    xml.finish()
}

/// `CompleteMultipartUpload`.
pub fn complete_upload(location: &str, bucket: &str, key: &[u8], written: &Written) -> Bytes {
    let mut xml = XmlWriter::s3_document("CompleteMultipartUploadResult", 512);
    xml.leaf("Location", location);
    xml.leaf("Bucket", bucket);
    xml.leaf_bytes("Key", key);
    xml.etag(&written.etag);
    push_checksum(&mut xml, written.checksum.as_ref(), written.etag.part_count, true);
    xml.close("CompleteMultipartUploadResult");
    xml.finish()
}

/// `CopyObject`.
pub fn copy_object(written: &Written) -> Bytes {
    let mut xml = XmlWriter::s3_document("CopyObjectResult", 256);
    xml.leaf("LastModified", &iso_8601(written.modified_ms));
    xml.etag(&written.etag);
    push_checksum(&mut xml, written.checksum.as_ref(), written.etag.part_count, true);
    xml.close("CopyObjectResult");
    xml.finish()
}

/// `UploadPartCopy`.
pub fn copy_part(part: &PartInfo) -> Bytes {
    let mut xml = XmlWriter::s3_document("CopyPartResult", 256);
    xml.leaf("LastModified", &iso_8601(part.modified_ms));
    xml.etag(&part.etag);
    push_checksum(&mut xml, part.checksum.as_ref(), None, false);
    xml.close("CopyPartResult");
    xml.finish()
}

fn push_checksum(
    xml: &mut XmlWriter,
    checksum: Option<&StoredChecksum>,
    part_count: Option<u16>,
    with_kind: bool,
) {
    let Some(checksum) = checksum else { return };
    xml.leaf(element_name(checksum.algorithm), &value_text(checksum, part_count));
    if with_kind {
        xml.leaf("ChecksumType", kind_name(checksum.kind));
    }
}

/// What became of one key of a bulk delete.
#[derive(Clone, Debug)]
pub struct DeletedKey<'a> {
    /// The key.
    pub key: &'a str,
    /// The version as the request named it.
    pub version_id: Option<&'a str>,
    /// `Err` if it was not deleted.
    pub result: Result<Deleted, S3Error>,
}

/// `DeleteObjects`.
pub fn delete_result(keys: &[DeletedKey<'_>], quiet: bool) -> Bytes {
    let mut xml = XmlWriter::s3_document("DeleteResult", keys.len() * 96);
    for deleted in keys {
        match &deleted.result {
            Ok(_) if quiet => {}
            Ok(done) => {
                xml.open("Deleted");
                xml.leaf("Key", deleted.key);
                if let Some(version_id) = deleted.version_id {
                    xml.leaf("VersionId", version_id);
                }
                if let Some(version) = done.version.filter(|_| done.is_marker) {
                    xml.flag("DeleteMarker", true);
                    xml.leaf("DeleteMarkerVersionId", &version.to_string());
                }
                xml.close("Deleted");
            }
            Err(error) => {
                xml.open("Error");
                xml.leaf("Key", deleted.key);
                if let Some(version_id) = deleted.version_id {
                    xml.leaf("VersionId", version_id);
                }
                xml.leaf("Code", error.code.as_str());
                xml.leaf("Message", error.message.as_deref().unwrap_or(error.code.message()));
                xml.close("Error");
            }
        }
    }
    xml.close("DeleteResult");
    xml.finish()
}

/// `ListParts`; `after` is the `part-number-marker` of the request.
pub fn list_parts(
    bucket: &str,
    owner: &Person,
    initiator: &Person,
    after: u16,
    max_parts: u64,
    encoding: Encoding,
    page: &PartPage,
) -> Bytes {
    let mut xml = XmlWriter::s3_document("ListPartsResult", page.parts.len() * 256 + 512);
    xml.leaf("Bucket", bucket);
    encoding.leaf(&mut xml, "Key", &page.upload.key);
    xml.leaf("UploadId", &page.upload.upload.to_string());
    push_person(&mut xml, "Initiator", initiator);
    push_person(&mut xml, "Owner", owner);
    xml.leaf("StorageClass", page.upload.storage_class.as_deref().unwrap_or("STANDARD"));
    xml.number("PartNumberMarker", u64::from(after));
    xml.number("NextPartNumberMarker", u64::from(page.parts.last().map_or(after, |part| part.part_number)));
    xml.number("MaxParts", max_parts);
    encoding.say(&mut xml);
    xml.flag("IsTruncated", page.next.is_some());
    if page.upload.checksum_named {
        push_algorithm(&mut xml, page.upload.checksum.0, page.upload.checksum.1);
    }
    for part in &page.parts {
        xml.open("Part");
        xml.number("PartNumber", u64::from(part.part_number));
        xml.leaf("LastModified", &iso_8601(part.modified_ms));
        xml.etag(&part.etag);
        xml.number("Size", part.size_bytes);
        if page.upload.checksum_named {
            push_checksum(&mut xml, part.checksum.as_ref(), None, false);
        }
        xml.close("Part");
    }
    xml.close("ListPartsResult");
    xml.finish()
}

/// `ListMultipartUploads`; `person` shows the initiators that are kept with the uploads. As AWS the last page too says
/// where it ended.
pub fn list_uploads(
    echo: &ListingEcho<'_>,
    key_marker: &[u8],
    upload_id_marker: &str,
    owners: &Owners,
    person: impl Fn(&str) -> Person,
    page: &UploadPage,
) -> Bytes {
    let mut xml = XmlWriter::s3_document("ListMultipartUploadsResult", page.uploads.len() * 384 + 512);
    xml.leaf("Bucket", echo.bucket);
    echo.encoding.leaf(&mut xml, "KeyMarker", key_marker);
    xml.leaf("UploadIdMarker", upload_id_marker);
    let last = || page.uploads.last().map(|last| (last.key.clone(), Some(last.upload)));
    let (next_key, next_upload) = page.next.clone().or_else(last).unwrap_or_default();
    echo.encoding.leaf(&mut xml, "NextKeyMarker", &next_key);
    xml.leaf("NextUploadIdMarker", &next_upload.map(|upload| upload.to_string()).unwrap_or_default());
    echo.encoding.leaf(&mut xml, "Prefix", echo.prefix);
    if let Some(delimiter) = echo.delimiter {
        echo.encoding.leaf(&mut xml, "Delimiter", delimiter);
    }
    echo.encoding.say(&mut xml);
    xml.number("MaxUploads", echo.max);
    xml.flag("IsTruncated", page.next.is_some());
    for upload in &page.uploads {
        xml.open("Upload");
        echo.encoding.leaf(&mut xml, "Key", &upload.key);
        xml.leaf("UploadId", &upload.upload.to_string());
        push_person(&mut xml, "Initiator", &person(&upload.initiator));
        push_person(&mut xml, "Owner", owners.of(upload.owner.as_ref()));
        xml.leaf("StorageClass", upload.storage_class.as_deref().unwrap_or("STANDARD"));
        xml.leaf("Initiated", &iso_8601(upload.initiated_ms));
        if upload.checksum_named {
            push_algorithm(&mut xml, upload.checksum.0, upload.checksum.1);
        }
        xml.close("Upload");
    }
    push_prefixes(&mut xml, echo.encoding, &page.common_prefixes);
    xml.close("ListMultipartUploadsResult");
    xml.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ops::api::{ETag, UploadId, UploadInfo, VersionId};

    fn page() -> ObjectPage {
        ObjectPage {
            objects: vec![ListedObject {
                key: Bytes::from_static(b"a b+(c)/\xc3\xa9\x01"),
                size_bytes: 5,
                etag: ETag::whole([0xab; 16]),
                modified_ms: 784_111_777_000,
                checksum: Some((ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject)),
                storage_class: None,
                headers: None,
                owner: None,
            }],
            common_prefixes: vec![Bytes::from_static(b"p/")],
            next: Some(Bytes::from_static(b"p/")),
        }
    }

    fn echo(encoding: Encoding) -> ListingEcho<'static> {
        ListingEcho { bucket: "b", prefix: b"", delimiter: Some(b"/"), max: 2, encoding }
    }

    fn owners() -> Owners {
        Owners::new(Person::anonymous(), std::iter::empty(), |_| Person::anonymous())
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn url_encoding_covers_names_but_not_tokens() {
        let xml = list_objects_v2(&echo(Encoding::Url), Some("t+k"), b"s t", None, &page(), Some("n/x"));
        for part in [
            "<Key>a%20b%2B%28c%29/%C3%A9%01</Key>",
            "<ContinuationToken>t+k</ContinuationToken>",
            "<NextContinuationToken>n/x</NextContinuationToken>",
            "<StartAfter>s%20t</StartAfter>",
            "<EncodingType>url</EncodingType>",
            "<KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><Delimiter>/</Delimiter>",
            "<ETag>&quot;abababababababababababababababab&quot;</ETag>",
            "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>5</Size>",
            "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>",
        ] {
            assert!(text(&xml).contains(part), "{part} in {}", text(&xml));
        }
        assert!(!text(&xml).contains("<Owner>"));
    }

    #[test]
    fn plain_listings_carry_control_characters_as_references() {
        let xml = list_objects_v1(&echo(Encoding::Plain), b"", &owners(), &page());
        assert!(text(&xml).contains("<Key>a b+(c)/\u{e9}&#x1;</Key>"));
        assert!(text(&xml).contains("<NextMarker>p/</NextMarker>"));
        assert!(text(&xml).contains("<DisplayName>anonymous</DisplayName></Owner>"));
    }

    #[test]
    fn a_page_of_uploads_says_where_it_ended_also_when_it_is_the_last() {
        let upload = UploadInfo {
            upload: UploadId([7; 16]),
            key: Bytes::from_static(b"a b"),
            initiator: "a1".to_owned(),
            owner: None,
            initiated_ms: 0,
            checksum: (ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject),
            checksum_named: false,
            storage_class: None,
            encryption: None,
        };
        let shown = |uploads: Vec<UploadInfo>| {
            let page = UploadPage { uploads, common_prefixes: Vec::new(), next: None };
            let echo = echo(Encoding::Url);
            list_uploads(&echo, b"", "", &owners(), |_| Person::anonymous(), &page)
        };
        let id = upload.upload;
        let last =
            format!("<NextKeyMarker>a%20b</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>");
        assert!(text(&shown(vec![upload])).contains(&last));
        let empty = "<NextKeyMarker></NextKeyMarker><NextUploadIdMarker></NextUploadIdMarker>";
        assert!(text(&shown(Vec::new())).contains(empty));
    }

    #[test]
    fn the_location_of_us_east_1_is_empty() {
        assert!(text(&bucket_location("us-east-1")).ends_with("/\"></LocationConstraint>"));
        assert!(text(&bucket_location("eu-west-1")).contains(">eu-west-1</"));
    }

    #[test]
    fn a_quiet_delete_tells_only_errors() {
        let gone = Deleted { existed: true, version: Some(VersionId::Null), is_marker: false };
        let hidden = Deleted { existed: true, version: Some(VersionId::Null), is_marker: true };
        let keys = [
            DeletedKey { key: "a", version_id: Some("null"), result: Ok(gone) },
            DeletedKey { key: "m", version_id: None, result: Ok(hidden) },
            DeletedKey {
                key: "b<",
                version_id: None,
                result: Err(crate::s3::error::Code::AccessDenied.into()),
            },
        ];
        let loud = delete_result(&keys, false);
        assert!(text(&loud).contains("<Deleted><Key>a</Key><VersionId>null</VersionId></Deleted>"));
        assert!(
            text(&loud).contains(
                "<Deleted><Key>m</Key><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>null</"
            )
        );
        let quiet = delete_result(&keys, true);
        assert!(!text(&quiet).contains("<Deleted>"));
        assert!(text(&quiet).contains("<Error><Key>b&lt;</Key><Code>AccessDenied</Code>"));
    }
}
