//! The S3 protocol: names, routes, headers, XML and errors, and the handlers that join them to the operations.
//! Invariants: what is parsed once is a type of its own; errors leave through one table (`error`).
//! Not here: sockets (`http`), signatures (`auth`), what operations do (`ops`).

pub mod access_log;
pub mod acl;
pub mod address;
pub mod authorize;
pub mod body;
pub mod bucket_access;
pub mod bucket_settings;
pub mod checksum;
pub mod conditions;
pub mod config;
pub mod encryption;
pub mod error;
pub mod handlers;
pub mod headers;
pub mod html;
pub mod lifecycle_pass;
pub mod lifecycle_versions;
pub mod object_lock;
pub mod owners;
pub mod post;
pub mod query;
pub mod range;
pub mod route;
pub mod tagging;
pub mod tar;
pub mod time_text;
pub mod versions;
pub mod xml;
pub mod zip;

#[cfg(test)]
mod test_heads;
