//! What a bucket's own configuration says of access: policy, list, public access block, ownership.
//! Invariants: a bucket without configuration is its owner's alone, and so is everything in it; a document that cannot
//! be read refuses everything rather than open the bucket.
//! Not here: decisions (`authorize`), how settings are remembered (`bucket_settings`).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ops::api::ConfigKind;
use crate::policy::Policy;
use crate::s3::acl::Acl;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml;

/// Who owns the objects of a bucket, and whether access lists count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The bucket's owner owns everything; lists do not count.
    #[default]
    Enforced,
    /// Who wrote an object with `bucket-owner-full-control` gave it to the bucket's owner.
    Preferred,
    /// Who wrote an object owns it.
    Writer,
}

impl Ownership {
    /// By AWS's name.
    pub fn of_name(name: &str) -> Option<Ownership> {
        match name {
            "BucketOwnerEnforced" => Some(Ownership::Enforced),
            "BucketOwnerPreferred" => Some(Ownership::Preferred),
            "ObjectWriter" => Some(Ownership::Writer),
            _ => None,
        }
    }

    /// AWS's name.
    pub fn name(self) -> &'static str {
        match self {
            Ownership::Enforced => "BucketOwnerEnforced",
            Ownership::Preferred => "BucketOwnerPreferred",
            Ownership::Writer => "ObjectWriter",
        }
    }
}

/// The four switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicAccessBlock {
    /// Lists that grant to everyone are refused.
    pub refuse_acls: bool,
    /// Grants to everyone do not count.
    pub ignore_acls: bool,
    /// Public policies are refused.
    pub refuse_policy: bool,
    /// A public policy opens nothing to others than the owner.
    pub restrict_buckets: bool,
}

/// What a bucket's configuration says of access.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketAccess {
    /// The policy, and whether it is public.
    pub policy: Option<(Policy, bool)>,
    /// The bucket's own list; `None` is private.
    pub acl: Option<Acl>,
    /// The public access block; `None` where it was never put.
    pub public_access: Option<PublicAccessBlock>,
    /// The rule; `None` where it was deleted: then lists count as with [`Ownership::Writer`].
    pub ownership: Option<Ownership>,
}

/// What the row of ownership holds after the controls were deleted.
pub const OWNERSHIP_DELETED: &[u8] = b"deleted";

impl BucketAccess {
    /// A bucket without configuration.
    pub fn unset() -> BucketAccess {
        BucketAccess { ownership: Some(Ownership::Enforced), ..BucketAccess::default() }
    }

    /// Of the bucket's documents.
    ///
    /// # Errors
    /// `InternalError` for a document that cannot be read: each was checked when it was put.
    pub fn parse(bucket: &str, documents: &BTreeMap<ConfigKind, Bytes>) -> Result<BucketAccess, S3Error> {
        let damaged = |what: &str| S3Error {
            detail: Some(format!("the {what} of bucket {bucket} cannot be read")),
            ..Code::InternalError.into()
        };
        let policy = documents
            .get(&ConfigKind::Policy)
            .map(|text| Policy::parse(text, bucket).map_err(|_| damaged("policy")))
            .transpose()?
            .map(|policy| {
                let is_public = policy.is_public();
                (policy, is_public)
            });
        let acl = documents
            .get(&ConfigKind::Acl)
            .map(|text| Acl::of_kept(text).ok_or_else(|| damaged("access list")))
            .transpose()?;
        let public_access = documents
            .get(&ConfigKind::PublicAccessBlock)
            .map(|text| xml::parse_public_access_block(text).map_err(|_| damaged("public access block")))
            .transpose()?;
        let ownership = match documents.get(&ConfigKind::Ownership) {
            None => Some(Ownership::Enforced),
            Some(text) if text == OWNERSHIP_DELETED => None,
            Some(text) => Some(xml::parse_ownership(text).map_err(|_| damaged("ownership controls"))?),
        };
        Ok(BucketAccess { policy, acl, public_access, ownership })
    }

    /// Whether access lists count.
    pub fn has_acls(&self) -> bool {
        self.ownership != Some(Ownership::Enforced)
    }

    /// Whether the policy or a list that counts opens the bucket to everyone.
    pub fn is_public(&self) -> bool {
        let by_policy = self.policy.as_ref().is_some_and(|(_, is_public)| *is_public);
        let by_acl = || self.has_acls() && self.acl.as_ref().is_some_and(Acl::is_public);
        by_policy || by_acl() && !self.switches().ignore_acls
    }

    /// The switches, all off where they were never put.
    pub fn switches(&self) -> PublicAccessBlock {
        self.public_access.unwrap_or_default()
    }
}
