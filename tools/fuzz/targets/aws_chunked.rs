//! Fuzzes aws-chunked bodies: however the bytes are cut into packets, the same payload and trailers come out.
//! Invariants: a body that is accepted is exactly as long as was stated; every byte of it went through the signatures.
#![no_main]

use bytes::Bytes;
use server::http::{AwsChunkedDecoder, BodyError, ChunkCheck, ChunkMismatch, Framed, Trailers};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[step, flags, low, high], wire)) = bytes.split_first_chunk() else { return };
    let payload_bytes = u64::from(u16::from_le_bytes([low, high]));
    let how = How { payload_bytes, signed: flags & 1 != 0, signed_trailers: flags & 2 != 0 };
    let at_once = decode(&how, wire, wire.len().max(1));
    let in_pieces = decode(&how, wire, usize::from(step).max(1));
    match (at_once, in_pieces) {
        (Ok(at_once), Ok(in_pieces)) => {
            assert_eq!(at_once, in_pieces);
            assert_eq!(at_once.0.len() as u64, payload_bytes);
        }
        (Err(_), Err(_)) => {}
        (at_once, in_pieces) => panic!("{at_once:?} at once, {in_pieces:?} in pieces"),
    }
});

struct How {
    payload_bytes: u64,
    signed: bool,
    signed_trailers: bool,
}

fn decode(how: &How, wire: &[u8], step: usize) -> Result<(Vec<u8>, Trailers), BodyError> {
    let mut decoder =
        AwsChunkedDecoder::new(how.payload_bytes, how.signed.then(Lenient::default), how.signed_trailers);
    let mut payload = Vec::new();
    for piece in wire.chunks(step) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut input)? {
                Framed::Data(data) => payload.extend_from_slice(&data),
                Framed::More | Framed::End => break,
            }
        }
        assert!(input.is_empty());
    }
    decoder.finish()?;
    Ok((payload, decoder.trailers().clone()))
}

/// Takes every signature of 64 bytes whose last is even.
#[derive(Default)]
struct Lenient {
    seen_bytes: usize,
}

impl ChunkCheck for Lenient {
    fn update(&mut self, data: &[u8]) {
        self.seen_bytes += data.len();
    }

    fn finish_chunk(&mut self, signature: &[u8]) -> Result<(), ChunkMismatch> {
        if signature.last().is_some_and(|byte| byte & 1 == 0) { Ok(()) } else { Err(ChunkMismatch) }
    }

    fn finish_trailers(&mut self, _lines: &[u8], signature: &[u8]) -> Result<(), ChunkMismatch> {
        self.finish_chunk(signature)
    }
}
