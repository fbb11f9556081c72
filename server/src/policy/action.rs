//! The actions of S3 that a policy may name, and sets of them.
//! Invariants: an action applies to buckets or to objects, never to both; a set is a bit for each action.
//! Not here: which operation needs which action (`s3::authorize`).

use super::glob::Glob;

/// What an action is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `bucket`.
    Bucket,
    /// `bucket/key`.
    Object,
}

macro_rules! actions {
    (Bucket { $($bucket:ident)* } Object { $($object:ident)* }) => {
        /// An action, by the name that policies give it after `s3:`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are AWS's own")]
        pub enum Action { $($bucket,)* $($object),* }

        impl Action {
            /// All of them.
            pub const ALL: &'static [Action] = &[$(Action::$bucket,)* $(Action::$object),*];

            /// Its name, without `s3:`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Action::$bucket => stringify!($bucket),)*
                    $(Action::$object => stringify!($object)),*
                }
            }

            /// What it is asked of.
            pub fn target(self) -> Target {
                match self {
                    $(Action::$bucket)|* => Target::Bucket,
                    $(Action::$object)|* => Target::Object,
                }
            }
        }
    };
}

actions! {
    Bucket {
        CreateBucket CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketMetadataTableConfiguration
        DeleteBucketPolicy DeleteBucketWebsite GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAcl
        GetBucketCORS GetBucketLocation GetBucketLogging GetBucketMetadataTableConfiguration GetBucketNotification
        GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus
        GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite
        GetEncryptionConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration
        GetLifecycleConfiguration GetMetricsConfiguration GetReplicationConfiguration ListAllMyBuckets ListBucket
        ListBucketMultipartUploads ListBucketVersions PutAccelerateConfiguration PutAnalyticsConfiguration
        PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification PutBucketObjectLockConfiguration
        PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment
        PutBucketTagging PutBucketVersioning PutBucketWebsite PutEncryptionConfiguration
        PutIntelligentTieringConfiguration PutInventoryConfiguration PutLifecycleConfiguration
        PutMetricsConfiguration PutReplicationConfiguration
    }
    Object {
        AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectTagging DeleteObjectVersion
        DeleteObjectVersionTagging GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectRetention
        GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl GetObjectVersionAttributes
        GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent InitiateReplication
        ListMultipartUploadParts ObjectOwnerOverrideToBucketOwner PutObject PutObjectAcl PutObjectLegalHold
        PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionTagging ReplicateDelete
        ReplicateObject ReplicateTags RestoreObject
    }
}

/// A bit for each action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActionSet(u128);

const _: () = assert!(Action::ALL.len() <= 128);

impl ActionSet {
    /// The actions that a pattern of a policy names, without regard to case; none for a pattern of another service.
    pub fn named(pattern: &str) -> ActionSet {
        let lower = pattern.to_ascii_lowercase();
        let names = match lower.strip_prefix("s3:") {
            Some(names) => names,
            None if lower == "*" => "*",
            None => return ActionSet::default(),
        };
        let glob = Glob::wildcards(names);
        let mut set = ActionSet::default();
        for action in Action::ALL {
            if glob.matches_text(&action.name().to_ascii_lowercase()) {
                set.0 |= action.bit();
            }
        }
        set
    }

    /// Whether the action is in it.
    pub fn holds(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of its actions is asked of such a target.
    pub fn any_of(self, target: Target) -> bool {
        Action::ALL.iter().any(|action| action.target() == target && self.holds(*action))
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, other: ActionSet) -> ActionSet {
        ActionSet(self.0 | other.0)
    }

    /// All that are not in it.
    #[must_use]
    pub fn inverted(self) -> ActionSet {
        ActionSet(!self.0)
    }
}

impl Action {
    fn bit(self) -> u128 {
        1 << (self as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_actions_without_regard_to_case() {
        let set = ActionSet::named("s3:get*tagging");
        assert!(set.holds(Action::GetObjectTagging) && set.holds(Action::GetBucketTagging));
        assert!(!set.holds(Action::GetObject) && set.inverted().holds(Action::GetObject));
        assert!(ActionSet::named("S3:GetObject").holds(Action::GetObject));
        assert!(ActionSet::named("s3:ListBucket?ersions").holds(Action::ListBucketVersions));
        for other in ["s3:", "s3:Nothing", "iam:*", "GetObject", ""] {
            assert!(ActionSet::named(other).is_empty(), "{other}");
        }
        assert!(
            ActionSet::named("*").any_of(Target::Bucket) && ActionSet::named("s3:*").any_of(Target::Object)
        );
        assert!(!ActionSet::named("s3:GetObject*").any_of(Target::Bucket));
    }
}
