//! Fuzzes request heads: however the bytes are cut into packets, the same head comes out.
//! Invariants: a head that is whole in one packet is whole in many; what is left in the buffer is the same.
#![no_main]

use bytes::BytesMut;
use server::http::{HeadError, HeadLimits, HeadParse, RequestHead, parse_head};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&step, wire)) = bytes.split_first() else { return };
    let at_once = parse(wire, wire.len().max(1));
    let in_pieces = parse(wire, usize::from(step).max(1));
    match (&at_once, &in_pieces) {
        (Ok(Some((head, left))), Ok(Some((other, also_left)))) => {
            assert_eq!((fields(head), left), (fields(other), also_left));
            assert!(head.raw_path().starts_with('/') || head.raw_path() == "*");
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        // What does not begin like a method is refused before it is whole.
        (Ok(_), Err(HeadError::Malformed)) => assert!(begins_unlike_a_method(wire)),
        (at_once, in_pieces) => panic!("{at_once:?} at once, {in_pieces:?} in pieces"),
    }
});

/// The head and what follows it; `None` if more is needed.
fn parse(wire: &[u8], step: usize) -> Result<Option<(RequestHead, Vec<u8>)>, HeadError> {
    let (mut buf, mut searched) = (BytesMut::new(), 0);
    let mut pieces = wire.chunks(step);
    for piece in pieces.by_ref() {
        buf.extend_from_slice(piece);
        match parse_head(&mut buf, searched, &HeadLimits::default())? {
            HeadParse::Partial { searched: so_far } => searched = so_far,
            HeadParse::Complete(head) => {
                let left = buf.iter().copied().chain(pieces.flatten().copied()).collect();
                return Ok(Some((head, left)));
            }
        }
    }
    Ok(None)
}

fn fields(head: &RequestHead) -> impl PartialEq + std::fmt::Debug {
    let headers: Vec<(String, Vec<u8>)> = head.headers().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
    let line =
        (head.method_token().to_owned(), head.raw_path().to_owned(), head.raw_query().map(str::to_owned));
    (line, headers, head.framing(), head.keep_alive(), head.expects_continue(), head.is_http11())
}

fn begins_unlike_a_method(wire: &[u8]) -> bool {
    wire.iter().find(|byte| !matches!(byte, b'\r' | b'\n')).is_some_and(|byte| !byte.is_ascii_uppercase())
}
