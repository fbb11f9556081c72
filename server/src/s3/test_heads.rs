//! Request heads for the unit tests of this folder.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::BytesMut;

use crate::http::{HeadLimits, HeadParse, RequestHead, parse_head};

/// A head from its request line, without version, and its fields, each with its line end.
pub(crate) fn head(line: &str, fields: &str) -> RequestHead {
    head_of_bytes(line, fields.as_bytes())
}

/// The same with fields that need not be text.
pub(crate) fn head_of_bytes(line: &str, fields: &[u8]) -> RequestHead {
    let start = format!("{line} HTTP/1.1\r\nHost: h\r\n");
    let mut buf = BytesMut::from(&[start.as_bytes(), fields, b"\r\n"].concat()[..]);
    match parse_head(&mut buf, 0, &HeadLimits::default()).unwrap() {
        HeadParse::Complete(head) => head,
        HeadParse::Partial { .. } => panic!("whole head"),
    }
}
