//! The CRCs against published vectors, and joined ones against those of the joined bytes.

use fastrand::Rng;
use shardstore_erasure::checksum::{
    Crc32, Crc32c, Crc64Nvme, combine_crc32, combine_crc32c, combine_crc64nvme, crc32, crc32c, crc64nvme,
};

const DIGITS: &[u8] = b"123456789";

#[test]
fn check_values_of_the_catalogue_of_crcs() {
    assert_eq!(crc32c(DIGITS), 0xE306_9283);
    assert_eq!(crc32(DIGITS), 0xCBF4_3926);
    assert_eq!(crc64nvme(DIGITS), 0xAE8B_1486_0A79_9888);
    assert_eq!((crc32c(&[]), crc32(&[]), crc64nvme(&[])), (0, 0, 0));
}

#[test]
fn rfc_3720_example_crc32c() {
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    let ascending: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c(&ascending), 0x46DD_794E);
}

#[test]
fn a_crc_in_pieces_is_that_of_the_whole() {
    let mut rng = Rng::with_seed(2);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..rng.usize(0..3000)).map(|_| rng.u8(..)).collect();
        let (mut c, mut iso, mut nvme) = (Crc32c::new(), Crc32::new(), Crc64Nvme::new());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.usize(0..=rest.len()));
            c.update(piece);
            iso.update(piece);
            nvme.update(piece);
            rest = after;
        }
        assert_eq!(c.finish(), crc32c(&bytes));
        assert_eq!(iso.finish(), crc32(&bytes));
        assert_eq!(nvme.finish(), crc64nvme(&bytes));
    }
}

#[test]
fn joined_crcs_are_those_of_the_joined_bytes() {
    let mut rng = Rng::with_seed(3);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..rng.usize(0..5000)).map(|_| rng.u8(..)).collect();
        let (a, b) = bytes.split_at(rng.usize(0..=bytes.len()));
        let b_len = b.len() as u64;
        assert_eq!(combine_crc32c(crc32c(a), crc32c(b), b_len), crc32c(&bytes));
        assert_eq!(combine_crc32(crc32(a), crc32(b), b_len), crc32(&bytes));
        assert_eq!(combine_crc64nvme(crc64nvme(a), crc64nvme(b), b_len), crc64nvme(&bytes));
    }
}

#[test]
fn joined_crcs_agree_with_the_library_at_lengths_no_test_can_hold() {
    use crc_fast::{CrcAlgorithm, checksum_combine};
    let mut rng = Rng::with_seed(4);
    for bits in 0..64 {
        let (a, b, len) = (rng.u32(..), rng.u32(..), rng.u64(..) >> bits);
        let (a64, b64) = (rng.u64(..), rng.u64(..));
        let library = |algorithm, a, b| checksum_combine(algorithm, a, b, len);
        assert_eq!(
            u64::from(combine_crc32c(a, b, len)),
            library(CrcAlgorithm::Crc32Iscsi, a.into(), b.into())
        );
        assert_eq!(
            u64::from(combine_crc32(a, b, len)),
            library(CrcAlgorithm::Crc32IsoHdlc, a.into(), b.into())
        );
        assert_eq!(combine_crc64nvme(a64, b64, len), library(CrcAlgorithm::Crc64Nvme, a64, b64));
    }
}
