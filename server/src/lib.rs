//! The basalt binary: S3 over HTTP on the storage engine.
#![forbid(unsafe_code)]

pub mod auth;
pub mod http;
pub mod ops;
