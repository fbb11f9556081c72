//! MD5 of many independent streams at once, one to a SIMD lane.
//!
//! MD5 is a chain of dependent steps, so one stream keeps a core's vector units idle; as many streams as there
//! are lanes take little longer than one. A core hands the bodies of its concurrent PUTs to [`update_many`].
//!
//! Invariants: a digest depends on a stream's bytes only, not on how they were cut, on the lanes or on the
//! company; a state is small, plain data, so an upload can be suspended and resumed.
//! Not here: any claim of security; MD5 is S3's ETag, nothing more.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod rounds;
#[cfg(target_arch = "x86_64")]
mod share;

use ::md5::block_api::compress;

pub use lanes::Lanes;
use lanes::Work;

/// Bytes that MD5 takes at a time. RFC 1321, section 3.4.
const INPUT_BYTES: usize = 64;

type Input = [u8; INPUT_BYTES];

/// The four words A, B, C and D between inputs.
type Words = [u32; 4];

/// RFC 1321, section 3.3.
const INITIAL_WORDS: Words = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];

/// The MD5 of a stream so far. 88 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Md5State {
    words: Words,
    /// The last `len_bytes % 64` bytes of the stream; zeros after them.
    tail: Input,
    len_bytes: u64,
}

/// Appends bytes to each of many streams, side by side on the lanes of this CPU.
///
/// Streams may differ in length; the longest go first and lanes are refilled as streams end. What remains of
/// the last one is hashed alone. Cost: one small allocation; 16 streams at the price of one with AVX-512, at
/// that of two with AVX2. The core does nothing else meanwhile (16 x 64 KiB take 0.1 ms with AVX-512): hand over
/// pieces the size of a page rather than whole bodies.
pub fn update_many(streams: &mut [(&mut Md5State, &[u8])]) {
    update_many_with(Lanes::detect(), streams);
}

/// As [`update_many`], on lanes of the caller's choice.
pub fn update_many_with(lanes: Lanes, streams: &mut [(&mut Md5State, &[u8])]) {
    let mut work: Vec<Work<'_>> = streams.iter_mut().map(|(state, bytes)| state.take(bytes)).collect();
    lanes.run(&mut work);
}

impl Md5State {
    /// The state of an empty stream.
    pub fn new() -> Md5State {
        Md5State { words: INITIAL_WORDS, tail: [0; INPUT_BYTES], len_bytes: 0 }
    }

    /// Appends `bytes` to this stream alone; see [`update_many`] for several.
    pub fn update(&mut self, bytes: &[u8]) {
        let work = self.take(bytes);
        compress(work.words, work.inputs);
    }

    /// The digest of all bytes so far.
    pub fn finish(mut self) -> [u8; 16] {
        let len_bits = self.len_bytes.wrapping_mul(8);
        let tail_bytes = self.tail_bytes();
        self.tail[tail_bytes] = 0x80;
        if tail_bytes >= INPUT_BYTES - size_of::<u64>() {
            compress(&mut self.words, &[self.tail]);
            self.tail = [0; INPUT_BYTES];
        }
        self.tail[INPUT_BYTES - size_of::<u64>()..].copy_from_slice(&len_bits.to_le_bytes());
        compress(&mut self.words, &[self.tail]);
        let mut digest = [0; 16];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.words) {
            *bytes = word.to_le_bytes();
        }
        digest
    }

    /// Bytes appended so far.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Takes the ends of `bytes` into the tail and returns the whole inputs between, still to be hashed.
    fn take<'a>(&'a mut self, bytes: &'a [u8]) -> Work<'a> {
        let tail_bytes = self.tail_bytes();
        self.len_bytes = self.len_bytes.wrapping_add(bytes.len() as u64);
        let mut rest = bytes;
        if tail_bytes > 0 {
            let (head, after) = bytes.split_at(bytes.len().min(INPUT_BYTES - tail_bytes));
            self.tail[tail_bytes..tail_bytes + head.len()].copy_from_slice(head);
            rest = after;
            if tail_bytes + head.len() == INPUT_BYTES {
                compress(&mut self.words, &[self.tail]);
                self.tail = [0; INPUT_BYTES];
            }
        }
        let (inputs, tail) = rest.as_chunks();
        self.tail[..tail.len()].copy_from_slice(tail);
        Work { words: &mut self.words, inputs }
    }

    fn tail_bytes(&self) -> usize {
        usize::try_from(self.len_bytes % INPUT_BYTES as u64).expect("less than 64")
    }
}

impl Default for Md5State {
    fn default() -> Md5State {
        Md5State::new()
    }
}
