//! The checksum algorithms of S3, each as a stream that bytes pass through.
//! Invariants: a value is as long as its algorithm says and big-endian, as S3 shows it in Base64; the hash of the same
//! bytes is the same however they are cut.
//! Not here: which checksum a request wants (`s3::checksum`), those of objects made of parts (`ops::checksum`).

use aws_lc_rs::digest;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use fdb_schema::schema::ChecksumAlgorithm;
use md5::{Digest as _, Md5};
use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh64::Xxh64;

/// A checksum on its way.
pub(crate) struct ChecksumStream {
    algorithm: ChecksumAlgorithm,
    state: State,
}

/// Boxed where the state is large: most bodies have a CRC or nothing.
enum State {
    Crc(Box<crc_fast::Digest>),
    Sha(digest::Context),
    Md5(Md5),
    XxHash64(Box<Xxh64>),
    XxHash3(Box<Xxh3>),
}

impl ChecksumStream {
    pub(crate) fn new(algorithm: ChecksumAlgorithm) -> ChecksumStream {
        let sha = |kind: &'static digest::Algorithm| State::Sha(digest::Context::new(kind));
        let state = match algorithm {
            ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c | ChecksumAlgorithm::Crc64Nvme => {
                let crc = crc_of(algorithm).expect("the three CRCs");
                State::Crc(Box::new(crc_fast::Digest::new(crc)))
            }
            ChecksumAlgorithm::Sha1 => sha(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            ChecksumAlgorithm::Sha256 => sha(&digest::SHA256),
            ChecksumAlgorithm::Sha512 => sha(&digest::SHA512),
            ChecksumAlgorithm::Md5 => State::Md5(Md5::new()),
            ChecksumAlgorithm::XxHash64 => State::XxHash64(Box::new(Xxh64::new(0))),
            ChecksumAlgorithm::XxHash3 | ChecksumAlgorithm::XxHash128 => {
                State::XxHash3(Box::new(Xxh3::new()))
            }
        };
        ChecksumStream { algorithm, state }
    }

    pub(crate) fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        match &mut self.state {
            State::Crc(crc) => crc.update(data),
            State::Sha(sha) => sha.update(data),
            State::Md5(md5) => md5.update(data),
            State::XxHash64(xxh) => xxh.update(data),
            State::XxHash3(xxh) => xxh.update(data),
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        match self.state {
            State::Crc(crc) => big_endian(self.algorithm, crc.finalize()),
            State::Sha(sha) => Bytes::copy_from_slice(sha.finish().as_ref()),
            State::Md5(md5) => Bytes::copy_from_slice(&md5.finalize()),
            State::XxHash64(xxh) => big_endian(self.algorithm, xxh.digest()),
            State::XxHash3(xxh) if self.algorithm == ChecksumAlgorithm::XxHash128 => {
                Bytes::copy_from_slice(&xxh.digest128().to_be_bytes())
            }
            State::XxHash3(xxh) => big_endian(self.algorithm, xxh.digest()),
        }
    }
}

/// The CRC of an algorithm that is one.
pub(crate) fn crc_of(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1
        | ChecksumAlgorithm::Sha256
        | ChecksumAlgorithm::Sha512
        | ChecksumAlgorithm::Md5
        | ChecksumAlgorithm::XxHash64
        | ChecksumAlgorithm::XxHash3
        | ChecksumAlgorithm::XxHash128 => None,
    }
}

/// The value of a checksum of at most 64 bits.
pub(crate) fn big_endian(algorithm: ChecksumAlgorithm, number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes()[8 - algorithm.len_bytes()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_long_as_they_say_and_do_not_depend_on_the_cut() {
        let bytes: Vec<u8> = (0..5_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        for algorithm in ChecksumAlgorithm::ALL {
            let of = |pieces: &[&[u8]]| {
                let mut stream = ChecksumStream::new(algorithm);
                pieces.iter().for_each(|piece| stream.update(piece));
                stream.finish()
            };
            let whole = of(&[&bytes]);
            assert_eq!(whole.len(), algorithm.len_bytes(), "{algorithm:?}");
            assert_eq!(whole, of(&[&bytes[..1], &bytes[1..1_027], &bytes[1_027..]]), "{algorithm:?}");
        }
    }
}
