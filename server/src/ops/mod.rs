//! S3 operations over the store and the metadata: they know no HTTP and no XML.
//! Invariants: bytes durable, then metadata commit, then reply; the types of `api` are all that callers see.

pub mod api;
