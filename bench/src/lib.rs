//! Load generator and reports: a stranger on the wire.

#![forbid(unsafe_code)]
