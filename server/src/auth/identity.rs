//! Access keys and secrets.
//! Invariants: a secret is never printed.
//! Not here: where they are kept.

use std::sync::Arc;

/// A secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: &str) -> Secret {
        Secret(Arc::from(secret))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The secrets of access keys.
pub trait Credentials {
    /// The secret of `access_key`, if there is such a key.
    fn secret(&self, access_key: &str) -> Option<Secret>;
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// No one said.
    Anonymous,
    /// The holder of an access key's secret.
    AccessKey(Arc<str>),
}
