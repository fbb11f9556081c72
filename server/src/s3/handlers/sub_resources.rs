//! Sub-resources: those for which nothing can be configured yet answer so; all others answer 501.
//! Invariants: an answer here is true of a bucket on which the configuration was never set; nothing is accepted
//! and dropped.
//! Not here: anything that can be set.

use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::Operations;
use crate::s3::error::{Code, S3Error};
use crate::s3::route::Operation;
use crate::s3::xml;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn sub_resource(
        &self,
        operation: Operation,
        request: &Request<'_>,
    ) -> Result<Reply<O>, S3Error> {
        let absent = match operation {
            Operation::GetBucketLocation | Operation::GetBucketVersioning => None,
            Operation::GetBucketPolicy => Some(Code::NoSuchBucketPolicy),
            Operation::GetBucketTagging => Some(Code::NoSuchTagSet),
            Operation::GetBucketLifecycleConfiguration => Some(Code::NoSuchLifecycleConfiguration),
            Operation::GetBucketCors => Some(Code::NoSuchCORSConfiguration),
            Operation::GetBucketEncryption => Some(Code::ServerSideEncryptionConfigurationNotFoundError),
            Operation::GetBucketReplication => Some(Code::ReplicationConfigurationNotFoundError),
            Operation::GetBucketWebsite => Some(Code::NoSuchWebsiteConfiguration),
            Operation::GetBucketOwnershipControls => Some(Code::OwnershipControlsNotFoundError),
            Operation::GetPublicAccessBlock => Some(Code::NoSuchPublicAccessBlockConfiguration),
            Operation::GetObjectLockConfiguration => Some(Code::ObjectLockConfigurationNotFoundError),
            _ => {
                return Err(S3Error::from(Code::NotImplemented).and("Operation", operation.name().to_owned()));
            }
        };
        let _permit = self.ops.admit(Some(0))?;
        self.ops.head_bucket(request.bucket()?).await?;
        match absent {
            Some(code) => Err(S3Error::from(code).and("BucketName", request.bucket()?.as_str().to_owned())),
            None if operation == Operation::GetBucketLocation => {
                let document = xml::bucket_location(&self.config.region);
                Ok(Response::new(200).with_bytes("application/xml", document))
            }
            None => Ok(Response::new(200).with_bytes("application/xml", xml::versioning_off())),
        }
    }
}
