//! The basalt binary: S3 over HTTP on the storage engine.
#![forbid(unsafe_code)]

mod checksum_stream;

pub mod admin;
pub mod auth;
pub mod banner;
pub mod config;
pub mod drives;
pub mod http;
pub mod keys;
pub mod logs;
pub mod ops;
pub mod policy;
pub mod s3;
pub mod startup;
pub mod tls;
