//! The basalt binary: S3 over HTTP on the storage engine.
#![forbid(unsafe_code)]

pub mod ops;
