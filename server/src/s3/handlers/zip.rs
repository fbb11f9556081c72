//! MinIO's extension of reading members of a ZIP archive where they lie: `x-minio-extract: true` on GET, HEAD and LIST
//! of `archive.zip/member`.
//! Invariants: an archive is read by ranges, never whole; memory is a stretch of its directory, or one page of a
//! listing; a member whose bytes are not those of its checksum ends in a cut connection.
//! Not here: the format (`zip`); writing archives; ranges of members, which MinIO has not either.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::listing::Page;
use super::objects::{ObjectSource, check, not_modified};
use super::{Reply, Request, S3Service, Source};
use crate::auth::Credentials;
use crate::http::{HeaderText, Payload, Response, StreamFailed};
use crate::ops::api::{
    BodyReader, BucketName, CustomerKey, KEY_MAX_BYTES, ListedObject, ObjectInfo, ObjectKey, ObjectPage,
    OpError, OpenedObject, Operations, owner_of_list,
};
use crate::policy::Action;
use crate::s3::conditions::Verdict;
use crate::s3::encryption::{GivenKey, key_of_existing};
use crate::s3::error::{Code, S3Error};
use crate::s3::time_text::http_date;
use crate::s3::zip::{
    Directory, DirectoryReader, Entry, LOCAL_HEADER_BYTES, MalformedZip, Packing, TAIL_BYTES,
};

/// Inflated bytes that are handed on at a time.
const INFLATED_BYTES: usize = 64 << 10;

/// A member of an archive.
pub(super) struct ArchivePath {
    archive: ObjectKey,
    member: Bytes,
}

/// The archive and the member that a request with `x-minio-extract` names; `None` for any other request.
pub(super) fn archive_path(request: &Request<'_>) -> Result<Option<ArchivePath>, S3Error> {
    let is_asked =
        request.head.header("x-minio-extract").is_some_and(|value| value.eq_ignore_ascii_case(b"true"));
    let Some(key) = request.key.as_ref().filter(|_| is_asked) else { return Ok(None) };
    split(&key.to_bytes())
}

fn split(path: &Bytes) -> Result<Option<ArchivePath>, S3Error> {
    const MARK: &[u8] = b".zip/";
    let Some(at) = path.windows(MARK.len()).position(|window| window == MARK) else { return Ok(None) };
    let end = at + MARK.len();
    Ok(Some(ArchivePath { archive: ObjectKey::parse(path.slice(..end - 1))?, member: path.slice(end..) }))
}

/// An archive as it was when it was opened first.
struct Archive {
    bucket: BucketName,
    key: ObjectKey,
    info: ObjectInfo,
    /// The customer's key, if the archive is encrypted by one.
    key_of_customer: Option<CustomerKey>,
    directory: Directory,
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// GET and HEAD of a member.
    pub(super) async fn get_member(
        &self,
        request: &Request<'_>,
        path: ArchivePath,
        is_head: bool,
    ) -> Result<Reply<O>, S3Error> {
        if request.head.header("range").is_some() {
            return Err(Code::InvalidRange.into());
        }
        if request.query.may_hold("partNumber") {
            return Err(Code::InvalidPartNumber.into());
        }
        request.access.also(Action::GetObject, &path.archive, None)?;
        let permit = self.ops.admit_read(TAIL_BYTES)?;
        let mut object = self.ops.open_object(request.bucket()?, path.archive.clone(), None).await?;
        // The archive's own list and tags count as in a GET of it.
        request.access.also_on(Action::GetObject, &path.archive, &object.info().headers)?;
        let given = key_of_existing(request.access.asker())?;
        object.unlock(given.as_ref().map(|given| &given.key))?;
        if check(request, object.info())? == Verdict::NotModified {
            return Ok(not_modified(object.info()));
        }
        let archive = open_archive(request.bucket()?, path.archive, given, object).await?;
        let entry = self.find(&archive, &path.member).await?;
        let mut response = Response::new(200);
        push_fields(&mut response.headers, &archive.info, &path.member);
        let len_bytes = entry.size_bytes;
        if is_head {
            response.payload = Payload::HeadOf { len_bytes };
            return Ok(response);
        }
        if entry.packing == Packing::Unknown {
            return Err(S3Error::from(Code::NotImplemented).and("Member", text(&path.member)));
        }
        if len_bytes > 0 {
            let header_at = archive.directory.local_header(&entry).map_err(malformed)?;
            let header = self.read(&archive, header_at..header_at + LOCAL_HEADER_BYTES).await?;
            let data = archive.directory.data(&entry, header_at, &header).map_err(malformed)?;
            let reader = self.reopen(&archive).await?.read(data);
            let source: Source<O> = ObjectSource::of_member(reader, permit, &entry);
            response.payload = Payload::Stream { len_bytes, source };
        }
        Ok(response)
    }

    /// A page of members as objects below their archive; `None` if the prefix names no archive.
    pub(super) async fn list_members(
        &self,
        request: &Request<'_>,
        page: &Page,
        after: &Bytes,
    ) -> Result<Option<ObjectPage>, S3Error> {
        let is_asked =
            request.head.header("x-minio-extract").is_some_and(|value| value.eq_ignore_ascii_case(b"true"));
        let Some(path) = split(&page.prefix)?.filter(|_| is_asked) else { return Ok(None) };
        request.access.also(Action::GetObject, &path.archive, None)?;
        let _permit = self.ops.admit_read(TAIL_BYTES)?;
        let mut object = match self.ops.open_object(request.bucket()?, path.archive.clone(), None).await {
            Ok(object) => object,
            Err(OpError::NoSuchKey) => return Ok(Some(Listed::new(page, after).finish(None))),
            Err(error) => return Err(error.into()),
        };
        request.access.also_on(Action::GetObject, &path.archive, &object.info().headers)?;
        let given = key_of_existing(request.access.asker())?;
        object.unlock(given.as_ref().map(|given| &given.key))?;
        let archive = open_archive(request.bucket()?, path.archive, given, object).await?;
        let mut listed = Listed::new(page, after);
        let below = [archive.key.as_bytes(), b"/"].concat();
        self.walk(&archive, |entry| {
            // No key is longer, so no one can ask for such a member by its name.
            let is_key = below.len() + entry.path.len() <= KEY_MAX_BYTES;
            if is_key && std::str::from_utf8(&entry.path).is_ok() {
                listed.add(Bytes::from([&below[..], &entry.path].concat()), entry.size_bytes);
            }
            false
        })
        .await?;
        Ok(Some(listed.finish(Some(&archive.info))))
    }

    async fn find(&self, archive: &Archive, member: &Bytes) -> Result<Entry, S3Error> {
        let found = self.walk(archive, |entry| entry.path == member && !entry.is_directory()).await?;
        found.ok_or(Code::NoSuchKey.into())
    }

    /// Passes the entries of the directory by; the first for which `is_last` is true.
    async fn walk(
        &self,
        archive: &Archive,
        mut is_last: impl FnMut(&Entry) -> bool,
    ) -> Result<Option<Entry>, S3Error> {
        let mut reader = self.reopen(archive).await?.read(archive.directory.range.clone());
        let mut entries = DirectoryReader::default();
        while let Some(slices) = reader.next().await {
            for mut slice in slices? {
                while let Some(entry) = entries.next(&mut slice).map_err(malformed)? {
                    if is_last(&entry) {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        entries.finish().map_err(malformed)?;
        Ok(None)
    }

    async fn read(&self, archive: &Archive, range: Range<u64>) -> Result<Vec<u8>, S3Error> {
        if range.end > archive.info.size_bytes {
            return Err(malformed(MalformedZip));
        }
        Ok(read_all(self.reopen(archive).await?.read(range)).await?)
    }

    /// The archive once more, if it still is the one whose directory was read.
    async fn reopen(&self, archive: &Archive) -> Result<O::Object, S3Error> {
        let mut object = self.ops.open_object(archive.bucket.clone(), archive.key.clone(), None).await?;
        if *object.info() != archive.info {
            return Err(Code::SlowDown.into());
        }
        object.unlock(archive.key_of_customer.as_ref())?;
        Ok(object)
    }
}

async fn open_archive(
    bucket: BucketName,
    key: ObjectKey,
    given: Option<GivenKey>,
    object: impl OpenedObject,
) -> Result<Archive, S3Error> {
    let info = object.info().clone();
    let tail = read_all(object.read(info.size_bytes.saturating_sub(TAIL_BYTES)..info.size_bytes)).await?;
    let directory = Directory::find(&tail, info.size_bytes).map_err(malformed)?;
    let key_of_customer = given.map(|given| given.key);
    Ok(Archive { bucket, key, info, key_of_customer, directory })
}

async fn read_all(mut reader: impl BodyReader) -> Result<Vec<u8>, OpError> {
    let mut all = Vec::new();
    while let Some(slices) = reader.next().await {
        slices?.iter().for_each(|slice| all.extend_from_slice(slice));
    }
    Ok(all)
}

fn malformed(MalformedZip: MalformedZip) -> S3Error {
    S3Error::with_message(Code::InvalidRequest, "The object is not a ZIP archive that can be read here.")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A member has its archive's time, and a type by its name.
fn push_fields(headers: &mut HeaderText, archive: &ObjectInfo, member: &[u8]) {
    const TYPES: [(&[u8], &str); 16] = [
        (b"bin", "application/octet-stream"),
        (b"css", "text/css; charset=utf-8"),
        (b"csv", "text/csv; charset=utf-8"),
        (b"gif", "image/gif"),
        (b"html", "text/html; charset=utf-8"),
        (b"jpeg", "image/jpeg"),
        (b"jpg", "image/jpeg"),
        (b"js", "text/javascript; charset=utf-8"),
        (b"json", "application/json"),
        (b"md", "text/markdown; charset=utf-8"),
        (b"pdf", "application/pdf"),
        (b"png", "image/png"),
        (b"svg", "image/svg+xml"),
        (b"txt", "text/plain; charset=utf-8"),
        (b"webp", "image/webp"),
        (b"xml", "text/xml; charset=utf-8"),
    ];
    let ending = member.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let known = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending));
    headers.push("Last-Modified", http_date(archive.modified_ms));
    headers.push("Content-Type", known.map_or("binary/octet-stream", |(_, of_type)| of_type));
}

/// The first entries of a page, from members in any order.
struct Listed<'a> {
    page: &'a Page,
    after: &'a Bytes,
    /// At most one more than the page shows; a common prefix has no length.
    entries: BTreeMap<Bytes, Option<u64>>,
}

impl Listed<'_> {
    fn new<'a>(page: &'a Page, after: &'a Bytes) -> Listed<'a> {
        Listed { page, after, entries: BTreeMap::new() }
    }

    fn add(&mut self, key: Bytes, size_bytes: u64) {
        let Some(rest) = key.strip_prefix(&self.page.prefix[..]) else { return };
        let rolled = self.page.delimiter.as_ref().and_then(|delimiter| {
            let at = rest.windows(delimiter.len()).position(|window| window == &delimiter[..])?;
            Some(key.slice(..self.page.prefix.len() + at + delimiter.len()))
        });
        let (entry, size_bytes) = match rolled {
            Some(prefix) => (prefix, None),
            None => (key, Some(size_bytes)),
        };
        if entry <= *self.after {
            return;
        }
        self.entries.insert(entry, size_bytes);
        if self.entries.len() > self.page.max + 1 {
            self.entries.pop_last();
        }
    }

    /// Members have the tag, the time and the owner of their archive: they change when it does.
    fn finish(mut self, archive: Option<&ObjectInfo>) -> ObjectPage {
        let mut page = ObjectPage { objects: Vec::new(), common_prefixes: Vec::new(), next: None };
        if self.entries.len() > self.page.max {
            self.entries.pop_last();
            page.next = self.entries.last_key_value().map(|(entry, _)| entry.clone());
        }
        for (entry, size_bytes) in self.entries {
            match (size_bytes, archive) {
                (Some(size_bytes), Some(archive)) => page.objects.push(ListedObject {
                    key: entry,
                    size_bytes,
                    etag: archive.etag,
                    modified_ms: archive.modified_ms,
                    checksum: None,
                    storage_class: archive.storage_class.clone(),
                    headers: None,
                    owner: owner_of_list(&archive.headers),
                }),
                _ => page.common_prefixes.push(entry),
            }
        }
        page
    }
}

/// Inflates the bytes of a member as they pass, and checks them at the end.
pub(super) struct Inflate {
    state: Decompress,
    /// Packed bytes that were read and not taken yet.
    pending: Vec<Bytes>,
    crc: crc_fast::Digest,
    crc32: u32,
    left_bytes: u64,
}

impl Inflate {
    pub(super) fn of(entry: &Entry) -> Option<Box<Inflate>> {
        (entry.packing == Packing::Deflated).then(|| {
            Box::new(Inflate {
                state: Decompress::new(false),
                pending: Vec::new(),
                crc: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
                crc32: entry.crc32,
                left_bytes: entry.size_bytes,
            })
        })
    }

    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self, reader: &mut impl BodyReader) -> Result<Option<Bytes>, StreamFailed> {
        if self.left_bytes == 0 {
            return Ok(None);
        }
        let mut inflated = Vec::with_capacity(INFLATED_BYTES);
        while inflated.is_empty() {
            if self.pending.is_empty() {
                match reader.next().await {
                    Some(Ok(slices)) => self.pending = slices,
                    Some(Err(_)) | None => return Err(StreamFailed),
                }
                self.pending.reverse();
            }
            let Some(mut packed) = self.pending.pop() else { continue };
            let before = self.state.total_in();
            let status = self.state.decompress_vec(&packed, &mut inflated, FlushDecompress::None);
            let taken = usize::try_from(self.state.total_in() - before).map_err(|_| StreamFailed)?;
            packed = packed.slice(taken.min(packed.len())..);
            match status {
                Ok(Status::StreamEnd) if inflated.is_empty() => return Err(StreamFailed),
                Ok(_) if taken == 0 && inflated.is_empty() => return Err(StreamFailed),
                Ok(_) if !packed.is_empty() => self.pending.push(packed),
                Ok(_) => {}
                Err(_) => return Err(StreamFailed),
            }
        }
        self.crc.update(&inflated);
        self.left_bytes = self.left_bytes.checked_sub(inflated.len() as u64).ok_or(StreamFailed)?;
        if self.left_bytes == 0 && self.crc.finalize() != u64::from(self.crc32) {
            tracing::warn!("a member of an archive is not what its checksum says");
            return Err(StreamFailed);
        }
        Ok(Some(Bytes::from(inflated)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::acl::Acl;
    use crate::s3::xml::Encoding;

    #[test]
    fn the_first_archive_of_a_path_is_the_one_that_is_read() {
        let path = split(&Bytes::from_static(b"a/b.zip/c.zip/d")).unwrap().unwrap();
        assert_eq!((path.archive.as_bytes(), &path.member[..]), (&b"a/b.zip"[..], &b"c.zip/d"[..]));
        assert!(split(&Bytes::from_static(b"a/b.zip")).unwrap().is_none());
        assert!(split(&Bytes::from_static(b".zip")).unwrap().is_none());
    }

    #[test]
    fn members_in_any_order_are_listed_in_order_and_by_pages() {
        let page = Page {
            prefix: Bytes::from_static(b"a.zip/"),
            delimiter: Some(Bytes::from_static(b"/")),
            max: 2,
            encoding: Encoding::Plain,
        };
        let acl = Acl::private("anna").to_header();
        let info = ObjectInfo { headers: vec![acl], ..ObjectInfo::for_tests(7) };
        let list = |after: &'static [u8]| {
            let after = Bytes::from_static(after);
            let mut listed = Listed::new(&page, &after);
            for name in ["z", "dir/2", "b", "dir/1", "a"] {
                listed.add(Bytes::from(format!("a.zip/{name}")), 1);
            }
            let found = listed.finish(Some(&info));
            assert!(found.objects.iter().all(|member| member.owner.as_deref() == Some(b"anna")));
            let keys: Vec<Bytes> = found.objects.into_iter().map(|object| object.key).collect();
            (keys, found.common_prefixes, found.next)
        };
        let (keys, prefixes, next) = list(b"");
        assert_eq!((keys, prefixes), (vec!["a.zip/a".into(), "a.zip/b".into()], vec![]));
        assert_eq!(next, Some("a.zip/b".into()));
        let (keys, prefixes, next) = list(b"a.zip/b");
        assert_eq!((keys, prefixes), (vec![Bytes::from("a.zip/z")], vec![Bytes::from("a.zip/dir/")]));
        assert_eq!(next, None);
    }
}
