//! Which action of a policy each operation needs, and what of it is asked for an object.
//! Invariants: the table is total: a new operation does not compile without a line here.
//! Not here: what a header adds to that (`authorize`).

use crate::policy::Action;
use crate::s3::route::Operation;

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: no account and no permission.
    Nothing,
    /// An account: what it does concerns the account's own things.
    Account,
    /// To be the owner of the bucket, or root.
    Owner,
    /// The action; with a version named the second.
    Action(Action, Action),
    /// `GetObjectAttributes` needs the object and its attributes.
    Attributes,
    /// The handler asks for each key that the body names.
    EachKey,
}

impl Need {
    fn one(action: Action) -> Need {
        Need::Action(action, action)
    }
}

/// The table of docs/access.md.
pub fn need_of(operation: Operation) -> Need {
    use Operation as O;
    match operation {
        O::OptionsPreflight => Need::Nothing,
        O::ListBuckets | O::CreateBucket => Need::Account,
        O::CreateSession | O::Unknown => Need::Owner,
        O::DeleteObjects | O::PostObject => Need::EachKey,
        O::GetObjectAttributes => Need::Attributes,

        O::GetObject | O::HeadObject => Need::Action(Action::GetObject, Action::GetObjectVersion),
        O::SelectObjectContent => Need::one(Action::GetObject),
        O::GetObjectAcl => Need::Action(Action::GetObjectAcl, Action::GetObjectVersionAcl),
        O::GetObjectLegalHold => Need::one(Action::GetObjectLegalHold),
        O::GetObjectRetention => Need::one(Action::GetObjectRetention),
        O::GetObjectTagging => Need::Action(Action::GetObjectTagging, Action::GetObjectVersionTagging),
        O::GetObjectTorrent => Need::Action(Action::GetObjectTorrent, Action::GetObjectVersionTorrent),
        O::PutObject
        | O::CopyObject
        | O::CreateMultipartUpload
        | O::UploadPart
        | O::UploadPartCopy
        | O::CompleteMultipartUpload
        | O::RenameObject => Need::one(Action::PutObject),
        O::PutObjectAcl => Need::Action(Action::PutObjectAcl, Action::PutObjectVersionAcl),
        O::PutObjectLegalHold => Need::one(Action::PutObjectLegalHold),
        O::PutObjectRetention => Need::one(Action::PutObjectRetention),
        O::PutObjectTagging => Need::Action(Action::PutObjectTagging, Action::PutObjectVersionTagging),
        O::RestoreObject => Need::one(Action::RestoreObject),
        O::DeleteObject => Need::Action(Action::DeleteObject, Action::DeleteObjectVersion),
        O::DeleteObjectTagging => {
            Need::Action(Action::DeleteObjectTagging, Action::DeleteObjectVersionTagging)
        }
        O::AbortMultipartUpload => Need::one(Action::AbortMultipartUpload),
        O::ListParts => Need::one(Action::ListMultipartUploadParts),

        O::HeadBucket | O::ListObjects | O::ListObjectsV2 => Need::one(Action::ListBucket),
        O::ListObjectVersions => Need::one(Action::ListBucketVersions),
        O::ListMultipartUploads => Need::one(Action::ListBucketMultipartUploads),
        O::DeleteBucket => Need::one(Action::DeleteBucket),
        O::GetBucketLocation => Need::one(Action::GetBucketLocation),

        O::GetBucketAccelerateConfiguration => Need::one(Action::GetAccelerateConfiguration),
        O::PutBucketAccelerateConfiguration => Need::one(Action::PutAccelerateConfiguration),
        O::GetBucketAcl => Need::one(Action::GetBucketAcl),
        O::PutBucketAcl => Need::one(Action::PutBucketAcl),
        O::GetBucketAnalyticsConfiguration => Need::one(Action::GetAnalyticsConfiguration),
        O::PutBucketAnalyticsConfiguration | O::DeleteBucketAnalyticsConfiguration => {
            Need::one(Action::PutAnalyticsConfiguration)
        }
        O::GetBucketCors => Need::one(Action::GetBucketCORS),
        O::PutBucketCors | O::DeleteBucketCors => Need::one(Action::PutBucketCORS),
        O::GetBucketEncryption => Need::one(Action::GetEncryptionConfiguration),
        O::PutBucketEncryption | O::DeleteBucketEncryption => Need::one(Action::PutEncryptionConfiguration),
        O::GetBucketIntelligentTieringConfiguration => Need::one(Action::GetIntelligentTieringConfiguration),
        O::PutBucketIntelligentTieringConfiguration | O::DeleteBucketIntelligentTieringConfiguration => {
            Need::one(Action::PutIntelligentTieringConfiguration)
        }
        O::GetBucketInventoryConfiguration => Need::one(Action::GetInventoryConfiguration),
        O::PutBucketInventoryConfiguration | O::DeleteBucketInventoryConfiguration => {
            Need::one(Action::PutInventoryConfiguration)
        }
        O::GetBucketLifecycleConfiguration => Need::one(Action::GetLifecycleConfiguration),
        O::PutBucketLifecycleConfiguration | O::DeleteBucketLifecycle => {
            Need::one(Action::PutLifecycleConfiguration)
        }
        O::GetBucketLogging => Need::one(Action::GetBucketLogging),
        O::PutBucketLogging => Need::one(Action::PutBucketLogging),
        O::GetBucketMetadataConfiguration | O::GetBucketMetadataTableConfiguration => {
            Need::one(Action::GetBucketMetadataTableConfiguration)
        }
        O::PutBucketMetadataConfiguration | O::PutBucketMetadataTableConfiguration => {
            Need::one(Action::CreateBucketMetadataTableConfiguration)
        }
        O::DeleteBucketMetadataConfiguration | O::DeleteBucketMetadataTableConfiguration => {
            Need::one(Action::DeleteBucketMetadataTableConfiguration)
        }
        O::GetBucketMetricsConfiguration => Need::one(Action::GetMetricsConfiguration),
        O::PutBucketMetricsConfiguration | O::DeleteBucketMetricsConfiguration => {
            Need::one(Action::PutMetricsConfiguration)
        }
        O::GetBucketNotificationConfiguration => Need::one(Action::GetBucketNotification),
        O::PutBucketNotificationConfiguration => Need::one(Action::PutBucketNotification),
        O::GetObjectLockConfiguration => Need::one(Action::GetBucketObjectLockConfiguration),
        O::PutObjectLockConfiguration => Need::one(Action::PutBucketObjectLockConfiguration),
        O::GetBucketOwnershipControls => Need::one(Action::GetBucketOwnershipControls),
        O::PutBucketOwnershipControls | O::DeleteBucketOwnershipControls => {
            Need::one(Action::PutBucketOwnershipControls)
        }
        O::GetBucketPolicy => Need::one(Action::GetBucketPolicy),
        O::GetBucketPolicyStatus => Need::one(Action::GetBucketPolicyStatus),
        O::PutBucketPolicy => Need::one(Action::PutBucketPolicy),
        O::DeleteBucketPolicy => Need::one(Action::DeleteBucketPolicy),
        O::GetPublicAccessBlock => Need::one(Action::GetBucketPublicAccessBlock),
        O::PutPublicAccessBlock | O::DeletePublicAccessBlock => Need::one(Action::PutBucketPublicAccessBlock),
        O::GetBucketReplication => Need::one(Action::GetReplicationConfiguration),
        O::PutBucketReplication | O::DeleteBucketReplication => {
            Need::one(Action::PutReplicationConfiguration)
        }
        O::GetBucketRequestPayment => Need::one(Action::GetBucketRequestPayment),
        O::PutBucketRequestPayment => Need::one(Action::PutBucketRequestPayment),
        O::GetBucketTagging => Need::one(Action::GetBucketTagging),
        O::PutBucketTagging | O::DeleteBucketTagging => Need::one(Action::PutBucketTagging),
        O::GetBucketVersioning => Need::one(Action::GetBucketVersioning),
        O::PutBucketVersioning => Need::one(Action::PutBucketVersioning),
        O::GetBucketWebsite => Need::one(Action::GetBucketWebsite),
        O::PutBucketWebsite => Need::one(Action::PutBucketWebsite),
        O::DeleteBucketWebsite => Need::one(Action::DeleteBucketWebsite),
    }
}

/// Whether conditions can be on what the operation's body says, so that it is decided once that is read.
pub(super) fn is_decided_by_body(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::PutObjectTagging | O::PutObjectRetention | O::PutObjectLegalHold)
}

/// Whether the operation tells something of an object, so that "there is none" must not be told to everyone.
pub fn tells_of_object(operation: Operation) -> bool {
    use Operation as O;
    matches!(
        operation,
        O::GetObject
            | O::HeadObject
            | O::GetObjectAcl
            | O::GetObjectAttributes
            | O::GetObjectLegalHold
            | O::GetObjectRetention
            | O::GetObjectTagging
            | O::GetObjectTorrent
            | O::SelectObjectContent
    )
}

/// Whether the action is on an object that there must be: then who owns that object counts.
pub(super) fn is_on_existing_object(action: Action) -> bool {
    action.target() == crate::policy::Target::Object
        && !matches!(
            action,
            Action::PutObject
                | Action::DeleteObject
                | Action::DeleteObjectVersion
                | Action::AbortMultipartUpload
                | Action::ListMultipartUploadParts
                | Action::BypassGovernanceRetention
                | Action::RestoreObject
        )
}
