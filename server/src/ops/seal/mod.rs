//! Encryption at rest: the keys of bodies, and their segments.
//! Invariants: a data key leaves this folder only sealed; what does not open is an error, never bytes.
//! Not here: lengths of sealed bytes and what rows keep (`fdb_schema::schema`), headers of requests (`s3`). Reasons:
//! docs/why/encryption.md.

mod keys;
mod reader;
mod segments;
mod writer;

pub(crate) use keys::{BodyOf, Sealing, check_key, seal_of_copy};
pub(crate) use reader::{Bodies, SealedReader, StoredBytes};
pub(crate) use segments::{BodyKey, BodyOpener};
pub(crate) use writer::BodySealer;
