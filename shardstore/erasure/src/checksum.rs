//! The CRCs of pages and of S3: CRC32C, CRC32 and CRC64NVME, over slices, in pieces, and joined.
//!
//! Joining: the CRC of `a` followed by `b` comes from their CRCs and the length of `b` alone, so the full-object
//! checksum of a multipart upload never reads a part again. Appending n zero bytes to `a` multiplies its CRC by
//! x^(8n) modulo the polynomial; that power is a product of at most 64 constants.
//!
//! Invariants: values are those that S3 and RFC 3720 print (reflected, inverted at both ends).
//! Not here: base64 or headers of S3, digests such as MD5.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC32C (Castagnoli) of `bytes`: the checksum of pages and S3's `x-amz-checksum-crc32c`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC32 (ISO-HDLC, as in zip and Ethernet) of `bytes`: S3's `x-amz-checksum-crc32`.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}

/// CRC64NVME of `bytes`: S3's `x-amz-checksum-crc64nvme`, its default.
pub fn crc64nvme(bytes: &[u8]) -> u64 {
    crc_fast::crc64_nvme(bytes)
}

/// A [`crc32c`] in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// The CRC of no bytes yet.
    pub fn new() -> Crc32c {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of all bytes so far.
    pub fn finish(&self) -> u32 {
        low_word(self.0.finalize())
    }
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c::new()
    }
}

/// A [`crc32`] in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(Digest);

impl Crc32 {
    /// The CRC of no bytes yet.
    pub fn new() -> Crc32 {
        Crc32(Digest::new(CrcAlgorithm::Crc32IsoHdlc))
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of all bytes so far.
    pub fn finish(&self) -> u32 {
        low_word(self.0.finalize())
    }
}

impl Default for Crc32 {
    fn default() -> Crc32 {
        Crc32::new()
    }
}

/// A [`crc64nvme`] in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Crc64Nvme(Digest);

impl Crc64Nvme {
    /// The CRC of no bytes yet.
    pub fn new() -> Crc64Nvme {
        Crc64Nvme(Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of all bytes so far.
    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64Nvme {
    fn default() -> Crc64Nvme {
        Crc64Nvme::new()
    }
}

/// The [`crc32c`] of the bytes of `a` followed by the `b_len_bytes` bytes of `b`. Cost: under 1 us.
pub fn combine_crc32c(a: u32, b: u32, b_len_bytes: u64) -> u32 {
    low_word(CRC32C.combine(a.into(), b.into(), b_len_bytes))
}

/// The [`crc32`] of the bytes of `a` followed by the `b_len_bytes` bytes of `b`. Cost: under 1 us.
pub fn combine_crc32(a: u32, b: u32, b_len_bytes: u64) -> u32 {
    low_word(CRC32.combine(a.into(), b.into(), b_len_bytes))
}

/// The [`crc64nvme`] of the bytes of `a` followed by the `b_len_bytes` bytes of `b`. Cost: about 1 us.
pub fn combine_crc64nvme(a: u64, b: u64, b_len_bytes: u64) -> u64 {
    CRC64NVME.combine(a, b, b_len_bytes)
}

static CRC32C: Ring = Ring::new(32, 0x82F6_3B78);
static CRC32: Ring = Ring::new(32, 0xEDB8_8320);
static CRC64NVME: Ring = Ring::new(64, 0x9A6C_9329_AC4B_C9B5);

/// Polynomials over GF(2) modulo that of a CRC; bit-reflected, so x^0 is the highest bit of the width.
struct Ring {
    width_bits: u32,
    polynomial: u64,
    /// `zeros[n]` = x^(8 * 2^n): appends 2^n zero bytes.
    zeros: [u64; 64],
}

impl Ring {
    const fn new(width_bits: u32, polynomial: u64) -> Ring {
        let mut ring = Ring { width_bits, polynomial, zeros: [0; 64] };
        let mut power = 1 << (width_bits - 1 - 8);
        let mut n = 0;
        while n < ring.zeros.len() {
            ring.zeros[n] = power;
            power = ring.multiply(power, power);
            n += 1;
        }
        ring
    }

    fn combine(&self, a: u64, b: u64, b_len_bytes: u64) -> u64 {
        let bits = (0u32..).zip(&self.zeros).filter(|(n, _)| b_len_bytes >> n & 1 == 1);
        bits.fold(a, |shifted, (_, &zeros)| self.multiply(shifted, zeros)) ^ b
    }

    /// The product of two elements: shift, add, reduce; one step per bit of the width.
    const fn multiply(&self, a: u64, b: u64) -> u64 {
        let mut product = 0;
        let mut shifted = b;
        let mut bit = self.width_bits;
        while bit > 0 {
            bit -= 1;
            product ^= shifted & (a >> bit & 1).wrapping_neg();
            shifted = (shifted >> 1) ^ (self.polynomial & (shifted & 1).wrapping_neg());
        }
        product
    }
}

/// The value of a 32-bit CRC, which the library and [`Ring`] carry in 64 bits.
fn low_word(value: u64) -> u32 {
    u32::try_from(value).expect("a 32-bit CRC fits its width")
}
