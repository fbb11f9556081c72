//! What objects hold: bytes that follow from a tag, and bodies that bring them piece by piece.
//! Invariants: two contents with different tags have different bytes and different ETags, so that an ETag names what
//! was written; equal contents have equal bytes in every process.
//! Not here: what is expected where (`model`).

use bytes::Bytes;
use md5::{Digest, Md5};
use server::ops::api::{
    BodyError, BodyEvent, BodySource, BodySummary, ChecksumAlgorithm, ChecksumKind, ETag, StoredChecksum,
};

/// The bytes of an object: those of its parts, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    parts: Vec<Part>,
    is_multipart: bool,
}

/// Bytes that were uploaded in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) tag: u64,
    pub(crate) len_bytes: u64,
}

impl Content {
    pub(crate) fn whole(part: Part) -> Content {
        Content { parts: vec![part], is_multipart: false }
    }

    pub(crate) fn of_parts(parts: Vec<Part>) -> Content {
        Content { parts, is_multipart: true }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len_bytes).sum()
    }

    pub(crate) fn etag(&self) -> ETag {
        if !self.is_multipart {
            return ETag::whole(self.parts[0].md5());
        }
        let md5s: Vec<u8> = self.parts.iter().flat_map(|part| part.md5()).collect();
        let part_count = u16::try_from(self.parts.len()).expect("few parts");
        ETag { md5: Md5::digest(md5s).into(), part_count: Some(part_count) }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            bytes.extend_from_slice(&part.bytes());
        }
        bytes
    }
}

impl Part {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len_bytes).expect("small")];
        fastrand::Rng::with_seed(self.tag).fill(&mut bytes);
        bytes
    }

    /// Stands for the MD5 of the bytes: the system never computes it, its callers do.
    pub(crate) fn md5(self) -> [u8; 16] {
        let mut md5 = [0; 16];
        fastrand::Rng::with_seed(!self.tag).fill(&mut md5);
        md5
    }
}

/// A part on its way in, in pieces, as the wire would bring it.
pub(crate) struct Body {
    part: Part,
    bytes: Bytes,
    sent: usize,
    piece_len: usize,
    /// The client goes away after so many bytes.
    gone_after: Option<usize>,
}

impl Body {
    pub(crate) fn new(part: Part, piece_len: usize) -> Body {
        Body { part, bytes: part.bytes().into(), sent: 0, piece_len, gone_after: None }
    }

    /// The client sends only the first half.
    pub(crate) fn cut(self) -> Body {
        let half = self.bytes.len() / 2;
        Body { gone_after: Some(half), ..self }
    }
}

impl BodySource for Body {
    fn want_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        assert_eq!(algorithm, ChecksumAlgorithm::Crc64Nvme);
    }

    fn need_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        self.want_checksum(algorithm);
    }

    async fn next(&mut self) -> Result<BodyEvent, BodyError> {
        if self.gone_after.is_some_and(|after| self.sent >= after) {
            return Err(BodyError::ClientGone);
        }
        if self.sent < self.bytes.len() {
            let end = self.bytes.len().min(self.sent + self.piece_len);
            let piece = self.bytes.slice(self.sent..end);
            self.sent = end;
            return Ok(BodyEvent::Data(piece));
        }
        let checksum = StoredChecksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            kind: ChecksumKind::FullObject,
            value: Bytes::copy_from_slice(&crc64(&self.bytes).to_be_bytes()),
        };
        let (md5, len_bytes) = (self.part.md5(), self.part.len_bytes);
        Ok(BodyEvent::End(BodySummary {
            md5,
            checksum: Some(checksum.clone()),
            needed: Some(checksum),
            len_bytes,
        }))
    }
}

pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}
