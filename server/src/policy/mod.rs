//! The policy language: bucket policies are parsed once and then asked, request by request.
//! Invariants: an explicit deny wins; what a policy does not say is neither allowed nor denied; no document and no
//! request makes this panic, and a document is at most 20 KiB; a policy is parsed whole or refused.
//! Not here: who owns what, ACLs, public access blocks (`s3::authorize`); where policies are kept.

mod action;
mod condition;
mod document;
mod glob;
mod json;
mod network;
mod principal;
mod public;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use action::{Action, ActionSet, Target};
pub use document::{MalformedPolicy, POLICY_BYTES_MAX, Policy, Question, Verdict};
pub use network::{Network, address_of};
pub use principal::Caller;

use std::borrow::Cow;

use smallvec::SmallVec;

/// The values of a condition key in one request.
pub type Values<'v> = SmallVec<[Cow<'v, str>; 1]>;

/// What a request says of itself, as far as conditions may ask.
pub trait Facts {
    /// The values of `key`, whose name is in lower case except for what follows a `/` (the key of a tag). `None`, or
    /// no value, where the request has no such key.
    fn values(&self, key: &str) -> Option<Values<'_>>;
}
