//! Request heads for the unit tests of this folder.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::BytesMut;

use crate::http::{HeadLimits, HeadParse, RequestHead, parse_head};

/// A head from its request line, without version, and its fields, each with its line end.
pub(crate) fn head(line: &str, fields: &str) -> RequestHead {
    let mut buf = BytesMut::from(format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
    match parse_head(&mut buf, 0, &HeadLimits::default()).unwrap() {
        HeadParse::Complete(head) => head,
        HeadParse::Partial { .. } => panic!("whole head"),
    }
}
