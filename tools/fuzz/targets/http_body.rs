//! Fuzzes the framing of request bodies: however the bytes are cut into packets, the same payload comes out.
//! Invariants: payload, end and what is left are the same; a length is never exceeded.
#![no_main]

use bytes::BytesMut;
use server::http::{BodyError, BodyFraming, FrameDecoder, Framed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[step, length], wire)) = bytes.split_first_chunk() else { return };
    let framing = if length == 0 { BodyFraming::Chunked } else { BodyFraming::Length(u64::from(length)) };
    let at_once = decode(framing, wire, wire.len().max(1));
    assert_eq!(at_once, decode(framing, wire, usize::from(step).max(1)));
    if let (Ok((payload, _, _)), BodyFraming::Length(length)) = (at_once, framing) {
        assert!(payload.len() as u64 <= length);
    }
});

/// The payload, what follows the body, and whether it ended.
fn decode(framing: BodyFraming, wire: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, bool), BodyError> {
    let mut decoder = FrameDecoder::new(framing);
    let (mut buf, mut payload) = (BytesMut::new(), Vec::new());
    for piece in wire.chunks(step) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf)? {
                Framed::Data(data) => {
                    assert!(!data.is_empty());
                    payload.extend_from_slice(&data);
                }
                Framed::More | Framed::End => break,
            }
        }
    }
    Ok((payload, if decoder.is_end() { buf.to_vec() } else { Vec::new() }, decoder.is_end()))
}
