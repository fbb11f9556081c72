//! MinIO's extension of unpacking a tar archive as it is put: `x-amz-meta-snowball-auto-extract: true`.
//! Invariants: the archive is never kept and never whole in memory: at most 16 members of 64 KiB and one of any size in
//! pieces; of two members of one name the last stays; an archive that turns out to be wrong leaves the members before;
//! members are written while their archive still comes, so what a write holds never waits for a client.
//! Not here: the format (`tar`). Of compressions gzip is taken off; others are refused.

use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use shardstore_reactor::{Executor, Stream};

use super::objects::{push_checksum, push_etag};
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::{RequestHead, Response, is_token};
use crate::ops::api::{
    ACL_HEADER, BodyError, BodyEvent, BodySource, BodySummary, ChecksumAlgorithm, ETag, Header, ObjectKey,
    OpError, Operations, PutObject, TAGGING_HEADER, Written,
};
use crate::policy::Action;
use crate::s3::body::{GatheredBody, S3Body, end_of};
use crate::s3::checksum::{Digests, Expected};
use crate::s3::error::{Code, S3Error};
use crate::s3::headers::kept_of;
use crate::s3::tar::{MalformedTar, Member, MemberKind, TarEvent, TarReader};

/// The header that makes a PUT an archive to unpack.
const EXTRACT_HEADER: &str = "x-amz-meta-snowball-auto-extract";
/// Members up to this are gathered, so that several are written at once.
const GATHERED_BYTES_MAX: u64 = 64 << 10;
/// Members written at once.
const IN_FLIGHT_MAX: usize = 16;
/// Packed bytes that are inflated at a time: deflate makes at most 1,032 times as many, 4 MiB.
const PACKED_BYTES: usize = 512;

/// Whether a PUT is an archive to unpack.
pub(super) fn is_archive(head: &RequestHead) -> bool {
    says_true(head, EXTRACT_HEADER)
}

fn says_true(head: &RequestHead, name: &str) -> bool {
    head.header(name).is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
}

/// What the request says of the members.
struct Options {
    ignore_dirs: bool,
    ignore_errors: bool,
    prefix: Vec<u8>,
}

impl Options {
    fn of(head: &RequestHead) -> Options {
        let prefix = head.header("x-amz-meta-minio-snowball-prefix").unwrap_or_default();
        let mut prefix = clean(prefix);
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        Options {
            ignore_dirs: says_true(head, "x-amz-meta-minio-snowball-ignore-dirs"),
            ignore_errors: says_true(head, "x-amz-meta-minio-snowball-ignore-errors"),
            prefix,
        }
    }

    /// What ends the archive of how one member ended.
    fn failed(&self, ended: Result<Written, OpError>) -> Result<(), S3Error> {
        match ended {
            Err(error) if !self.ignore_errors => Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "a member of an archive was not put");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// The key of a member, if it becomes an object.
    fn key_of(&self, member: &Member) -> Option<Vec<u8>> {
        let mut path = clean(&member.path);
        match member.kind {
            MemberKind::File => {}
            MemberKind::Directory if !self.ignore_dirs => path.push(b'/'),
            MemberKind::Directory | MemberKind::Other => return None,
        }
        let is_named = path.iter().any(|byte| *byte != b'/');
        is_named.then(|| [&self.prefix[..], &path].concat())
    }
}

/// A path without empty, `.` and `..` segments.
fn clean(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let kept: Vec<&[u8]> =
        segments.filter(|segment| !matches!(*segment, [] | [b'.'] | [b'.', b'.'])).collect();
    kept.join(&b'/')
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// Puts every member of the archive; `put` is what the request says of all of them.
    pub(super) async fn put_archive<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        put: PutObject,
        mut body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let options = Options::of(request.head);
        // What is unpacked may be far more than was sent.
        let _permit = self.ops.admit(None)?;
        let mut members = Members::of(&mut body);
        self.put_members(request, &put, &options, &mut members).await?;
        let summary = members.summary.ok_or(Code::IncompleteBody)?;
        let mut response = Response::new(200);
        push_etag(&mut response.headers, &ETag::whole(summary.md5));
        push_checksum(&mut response.headers, summary.checksum.as_ref(), None);
        Ok(response)
    }

    async fn put_members<B: BodySource>(
        &self,
        request: &Request<'_>,
        put: &PutObject,
        options: &Options,
        members: &mut Members<'_, B>,
    ) -> Result<(), S3Error> {
        let mut in_flight = InFlight { writes: FuturesUnordered::new(), keys: Vec::new(), ended: Vec::new() };
        let result = self.put_each(request, put, options, members, &mut in_flight, put_gathered).await;
        // Also after a fault: what was taken from the archive before it stays.
        let mut failed = None;
        while let Some(ended) = in_flight.one().await {
            failed = failed.or(options.failed(ended).err());
        }
        result.and(failed.map_or(Ok(()), Err))
    }

    async fn put_each<B: BodySource, F: Future<Output = (Bytes, Result<Written, OpError>)>>(
        &self,
        request: &Request<'_>,
        put: &PutObject,
        options: &Options,
        members: &mut Members<'_, B>,
        in_flight: &mut InFlight<F>,
        begin: impl Fn(O, PutObject, Bytes, Bytes) -> F,
    ) -> Result<(), S3Error> {
        while let Some(member) = in_flight.beside(members.next_member()).await? {
            while let Some(ended) = in_flight.ended.pop() {
                options.failed(ended)?;
            }
            let Some(key) = options.key_of(&member) else { continue };
            let put = match member_put(request, put, &member, key) {
                Ok(put) => put,
                Err(_) if options.ignore_errors => continue,
                Err(error) => return Err(error),
            };
            let key = put.key.to_bytes();
            while in_flight.writes.len() >= IN_FLIGHT_MAX || in_flight.keys.contains(&key) {
                in_flight.one().await.map_or(Ok(()), |ended| options.failed(ended))?;
            }
            if member.size_bytes > GATHERED_BYTES_MAX {
                let mut body = MemberBody { members, digests: Some(Digests::new(Expected::default())) };
                let ended = in_flight.beside(self.ops.put_object(put, &mut body)).await;
                if let Some(failure) = members.failure.take() {
                    return Err(failure);
                }
                options.failed(ended)?;
                continue;
            }
            let bytes = in_flight.beside(members.gather()).await?;
            in_flight.keys.push(key.clone());
            in_flight.writes.push(begin(self.ops.clone(), put, key, bytes));
        }
        Ok(())
    }
}

/// Members being written.
struct InFlight<F> {
    writes: FuturesUnordered<F>,
    keys: Vec<Bytes>,
    /// Of those that ended while something else was waited for.
    ended: Vec<Result<Written, OpError>>,
}

impl<F: Future<Output = (Bytes, Result<Written, OpError>)>> InFlight<F> {
    /// Waits for one to end.
    async fn one(&mut self) -> Option<Result<Written, OpError>> {
        if let Some(ended) = self.ended.pop() {
            return Some(ended);
        }
        let (key, result) = self.writes.next().await?;
        self.keys.retain(|other| *other != key);
        Some(result)
    }

    /// Waits for something of the client while the writes go on: a write may be loading a page of metadata that others on
    /// the core wait for, and its client may take its time.
    async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        poll_fn(|cx| {
            while let Poll::Ready(Some((key, result))) = self.writes.poll_next_unpin(cx) {
                self.keys.retain(|other| *other != key);
                self.ended.push(result);
            }
            other.as_mut().poll(cx)
        })
        .await
    }
}

async fn put_gathered<O: Operations>(
    ops: O,
    put: PutObject,
    key: Bytes,
    bytes: Bytes,
) -> (Bytes, Result<Written, OpError>) {
    let mut body = GatheredBody::new(bytes);
    (key, ops.put_object(put, &mut body).await)
}

/// What a member's PUT says, if its caller may: its own headers, as MinIO's clients put them into pax records, and the
/// archive's class and list.
fn member_put(
    request: &Request<'_>,
    put: &PutObject,
    member: &Member,
    key: Vec<u8>,
) -> Result<PutObject, S3Error> {
    const MARK: &[u8] = b"minio.metadata.";
    let headers = member.records.iter().filter_map(|(name, value)| {
        // It becomes the name of a header field, which these bytes cannot end.
        let name = name.strip_prefix(MARK).filter(|name| name.iter().all(|byte| is_token(*byte)))?;
        Some((std::str::from_utf8(name).ok()?, &value[..]))
    });
    let key = ObjectKey::parse(key)?;
    request.access.also(Action::PutObject, &key, None)?;
    let has = |wanted: &str| put.headers.iter().any(|header| header.name == wanted);
    for (is_asked, action) in [
        (put.lock.retention.is_some(), Action::PutObjectRetention),
        (put.lock.legal_hold.is_some(), Action::PutObjectLegalHold),
        (has(TAGGING_HEADER), Action::PutObjectTagging),
    ] {
        if is_asked {
            request.access.also(action, &key, None)?;
        }
    }
    let is_of_all = |header: &&Header| [ACL_HEADER, TAGGING_HEADER].contains(&header.name.as_str());
    let of_all = put.headers.iter().filter(is_of_all);
    Ok(PutObject {
        key,
        headers: kept_of(headers)?.into_iter().chain(of_all.cloned()).collect(),
        len_bytes: Some(member.size_bytes),
        ..put.clone()
    })
}

/// The members of an archive that streams by.
struct Members<'b, B> {
    body: &'b mut B,
    tar: TarReader,
    packing: Option<Packing>,
    /// Of the archive, not taken yet.
    input: Bytes,
    /// Of the member that began last.
    left_bytes: u64,
    /// Of the whole body, after its end.
    summary: Option<BodySummary>,
    /// Why a member's body ended early.
    failure: Option<S3Error>,
}

enum Packing {
    None,
    Gzip { decoder: Box<MultiGzDecoder<Vec<u8>>>, packed: Bytes },
}

impl<'b, B: BodySource> Members<'b, B> {
    fn of(body: &'b mut B) -> Members<'b, B> {
        Members {
            body,
            tar: TarReader::default(),
            packing: None,
            input: Bytes::new(),
            left_bytes: 0,
            summary: None,
            failure: None,
        }
    }

    /// The next member, after whatever is left of the last one.
    async fn next_member(&mut self) -> Result<Option<Member>, S3Error> {
        loop {
            match self.event().await? {
                Some(TarEvent::Member(member)) => {
                    self.left_bytes = member.size_bytes;
                    return Ok(Some(member));
                }
                Some(TarEvent::Data(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// The bytes of the member that began last.
    async fn gather(&mut self) -> Result<Bytes, S3Error> {
        let mut bytes = Vec::new();
        while let Some(data) = self.data().await? {
            if bytes.is_empty() && self.left_bytes == 0 {
                return Ok(data);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Bytes::from(bytes))
    }

    async fn data(&mut self) -> Result<Option<Bytes>, S3Error> {
        if self.left_bytes == 0 {
            return Ok(None);
        }
        match self.event().await? {
            Some(TarEvent::Data(data)) => {
                self.left_bytes -= data.len() as u64;
                Ok(Some(data))
            }
            Some(TarEvent::Member(_)) | None => Err(malformed(MalformedTar)),
        }
    }

    async fn event(&mut self) -> Result<Option<TarEvent>, S3Error> {
        loop {
            if let Some(event) = self.tar.next(&mut self.input).map_err(malformed)? {
                return Ok(Some(event));
            }
            if !self.more().await? {
                self.tar.finish().map_err(malformed)?;
                return Ok(None);
            }
        }
    }

    /// Fetches more of the archive; false at its end.
    async fn more(&mut self) -> Result<bool, S3Error> {
        if let Some(Packing::Gzip { decoder, packed }) = &mut self.packing
            && !packed.is_empty()
        {
            let piece = packed.split_to(PACKED_BYTES.min(packed.len()));
            decoder.write_all(&piece).map_err(|_| malformed(MalformedTar))?;
            self.input = Bytes::from(std::mem::take(decoder.get_mut()));
            return Ok(true);
        }
        if self.summary.is_some() {
            return Ok(false);
        }
        match self.body.next().await? {
            BodyEvent::End(summary) => {
                self.summary = Some(summary);
                match &mut self.packing {
                    Some(Packing::Gzip { decoder, .. }) => {
                        decoder.try_finish().map_err(|_| malformed(MalformedTar))?;
                        self.input = Bytes::from(std::mem::take(decoder.get_mut()));
                        Ok(true)
                    }
                    _ => Ok(false),
                }
            }
            BodyEvent::Data(data) => {
                self.take(data)?;
                Ok(true)
            }
        }
    }

    fn take(&mut self, data: Bytes) -> Result<(), S3Error> {
        let packing = match self.packing.take() {
            Some(packing) => packing,
            None => packing_of(&data)?,
        };
        self.packing = Some(match packing {
            Packing::None => {
                self.input = data;
                Packing::None
            }
            Packing::Gzip { decoder, .. } => Packing::Gzip { decoder, packed: data },
        });
        Ok(())
    }
}

/// By the first bytes; tar has none of its own there, and no path begins so.
fn packing_of(first: &[u8]) -> Result<Packing, S3Error> {
    const OTHERS: [(&[u8], &str); 5] = [
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0x2a, 0x4d, 0x18], "zstd"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
        (&[0xff, 0x06, 0x00, 0x00], "s2"),
        (b"BZh", "bzip2"),
    ];
    if let Some((_, name)) = OTHERS.iter().find(|(mark, _)| first.starts_with(mark)) {
        return Err(S3Error::from(Code::NotImplemented).and("Compression", (*name).to_owned()));
    }
    if first.starts_with(&[0x1f, 0x8b]) {
        let decoder = Box::new(MultiGzDecoder::new(Vec::new()));
        return Ok(Packing::Gzip { decoder, packed: Bytes::new() });
    }
    Ok(Packing::None)
}

fn malformed(MalformedTar: MalformedTar) -> S3Error {
    S3Error::with_message(Code::BadRequest, "The archive is not a tar archive, or it is cut short.")
}

/// A member on its way to an object.
struct MemberBody<'m, 'b, B> {
    members: &'m mut Members<'b, B>,
    /// Taken at the end.
    digests: Option<Digests>,
}

impl<B: BodySource> BodySource for MemberBody<'_, '_, B> {
    fn want_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.want(algorithm);
        }
    }

    fn need_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.need(algorithm);
        }
    }

    async fn next(&mut self) -> Result<BodyEvent, BodyError> {
        match self.members.data().await {
            Ok(Some(data)) => {
                if let Some(digests) = &mut self.digests {
                    digests.update(&data);
                }
                Ok(BodyEvent::Data(data))
            }
            Ok(None) => end_of(&mut self.digests),
            Err(error) => {
                self.members.failure = Some(error);
                Err(BodyError::Incomplete)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    #[test]
    fn members_get_keys_below_the_prefix_and_never_above_it() {
        let fields =
            "x-amz-meta-minio-snowball-prefix: /p//q/\r\nx-amz-meta-minio-snowball-ignore-dirs: TRUE\r\n";
        let options = Options::of(&head("PUT /b/k.tar", fields));
        let key = |options: &Options, path: &str, kind| {
            let member = Member { path: path.into(), kind, ..Member::default() };
            options.key_of(&member).map(|key| String::from_utf8(key).unwrap())
        };
        assert_eq!(key(&options, "./a//b", MemberKind::File).as_deref(), Some("p/q/a/b"));
        assert_eq!(key(&options, "../../a", MemberKind::File).as_deref(), Some("p/q/a"));
        assert_eq!(key(&options, "dir/", MemberKind::Directory), None);
        assert_eq!(key(&options, "link", MemberKind::Other), None);
        let plain = Options::of(&head("PUT /b/k.tar", ""));
        assert_eq!(key(&plain, "/dir/", MemberKind::Directory).as_deref(), Some("dir/"));
        assert_eq!(key(&plain, "./", MemberKind::Directory), None);
    }

    #[test]
    fn compressions_that_are_not_taken_off_are_named() {
        assert!(matches!(packing_of(b"\x1f\x8b\x08\0").unwrap(), Packing::Gzip { .. }));
        assert!(matches!(packing_of(b"a/file.txt").unwrap(), Packing::None));
        let error = packing_of(&[0x28, 0xb5, 0x2f, 0xfd, 0]).err().unwrap();
        assert_eq!((error.code, &error.extra[0].1[..]), (Code::NotImplemented, "zstd"));
    }
}
