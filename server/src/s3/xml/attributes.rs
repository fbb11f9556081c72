//! The document of `GetObjectAttributes`.
//! Invariants: only what was asked for stands in it; the tag is without quotes, as AWS writes it here alone.
//! Not here: which attributes there are and who asked (`handlers::attributes`).

use bytes::Bytes;

use super::writer::XmlWriter;
use crate::ops::api::{ObjectInfo, ObjectPart, ObjectParts, StoredChecksum};
use crate::s3::checksum::{element_name, kind_name, value_text};

/// Which attributes to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedAttributes {
    /// `ETag`.
    pub etag: bool,
    /// `Checksum`.
    pub checksum: bool,
    /// `ObjectParts`.
    pub parts: bool,
    /// `StorageClass`.
    pub storage_class: bool,
    /// `ObjectSize`.
    pub size: bool,
}

/// A page of parts with what was asked for.
#[derive(Clone, Debug)]
pub struct PartsEcho<'a> {
    /// `x-amz-part-number-marker`.
    pub after: u16,
    /// `x-amz-max-parts`.
    pub max: u64,
    /// What there is.
    pub page: &'a ObjectParts,
}

/// `GetObjectAttributes`; `parts` of an object that was uploaded in parts.
pub fn object_attributes(asked: AskedAttributes, info: &ObjectInfo, parts: Option<&PartsEcho<'_>>) -> Bytes {
    let root = "GetObjectAttributesResponse";
    let room_bytes = 512 + parts.map_or(0, |parts| parts.page.parts.len() * 160);
    let mut xml = XmlWriter::s3_document(root, room_bytes);
    if asked.etag {
        xml.leaf("ETag", &info.etag.to_string());
    }
    if let Some(checksum) = info.checksums.first().filter(|_| asked.checksum) {
        xml.open("Checksum");
        // As AWS: without the number of parts that a composite checksum ends with elsewhere.
        push_checksum(&mut xml, checksum, None);
        xml.leaf("ChecksumType", kind_name(checksum.kind));
        xml.close("Checksum");
    }
    if let Some(parts) = parts {
        push_parts(&mut xml, parts);
    }
    if asked.storage_class {
        xml.leaf("StorageClass", info.storage_class.as_deref().unwrap_or("STANDARD"));
    }
    if asked.size {
        xml.number("ObjectSize", info.size_bytes);
    }
    xml.close(root);
    xml.finish()
}

fn push_checksum(xml: &mut XmlWriter, checksum: &StoredChecksum, part_count: Option<u16>) {
    xml.leaf(element_name(checksum.algorithm), &value_text(checksum, part_count));
}

fn push_parts(xml: &mut XmlWriter, echo: &PartsEcho<'_>) {
    let last = echo.page.parts.last().map_or(echo.after, |part| part.part_number);
    xml.open("ObjectParts");
    xml.number("PartsCount", u64::from(echo.page.part_count));
    xml.number("PartNumberMarker", u64::from(echo.after));
    xml.number("NextPartNumberMarker", u64::from(last));
    xml.number("MaxParts", echo.max);
    xml.flag("IsTruncated", last < echo.page.part_count);
    for part in &echo.page.parts {
        push_part(xml, part);
    }
    xml.close("ObjectParts");
}

fn push_part(xml: &mut XmlWriter, part: &ObjectPart) {
    xml.open("Part");
    xml.number("PartNumber", u64::from(part.part_number));
    xml.number("Size", part.range.end - part.range.start);
    if let Some(checksum) = &part.checksum {
        push_checksum(xml, checksum, None);
    }
    xml.close("Part");
}
