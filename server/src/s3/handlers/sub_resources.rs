//! Sub-resources: those for which nothing can be configured yet answer so; all others answer 501.
//! Invariants: an answer here is true of a bucket on which the configuration was never set; nothing is accepted
//! and dropped: what a PUT or DELETE here succeeds with is how things are already.
//! Not here: anything that can be set.

use bytes::Bytes;

use super::documents::{absent, xml_reply};
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::Operations;
use crate::s3::error::{Code, S3Error};
use crate::s3::route::Operation;
use crate::s3::xml;

/// How things are where nothing was ever set.
enum Unset {
    /// There is a document for that.
    Document(Bytes),
    /// S3 has an error for that.
    Absent(Code),
    /// What was asked for is so already: the status.
    AsAsked(u16),
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn sub_resource(
        &self,
        operation: Operation,
        request: &Request<'_>,
    ) -> Result<Reply<O>, S3Error> {
        let unset = self.unset(operation, request)?;
        let _permit = self.ops.admit(Some(0))?;
        if request.key.is_some() {
            self.ops.head_object(request.bucket()?, request.key()?, request.version()?).await?;
        }
        match unset {
            Unset::Document(document) => Ok(xml_reply(document)),
            Unset::Absent(code) => Err(absent(request, code)),
            Unset::AsAsked(status) => Ok(Response::new(status)),
        }
    }

    fn unset(&self, operation: Operation, request: &Request<'_>) -> Result<Unset, S3Error> {
        let listed = |root: &str| -> Result<Unset, S3Error> {
            Ok(match request.query.text("id")? {
                Some(_) => Unset::Absent(Code::NoSuchConfiguration),
                None => Unset::Document(xml::no_configurations(root)),
            })
        };
        let not_implemented =
            || S3Error::from(Code::NotImplemented).and("Operation", operation.name().to_owned());
        Ok(match operation {
            Operation::GetBucketLocation => Unset::Document(xml::bucket_location(&self.config.region)),
            Operation::GetBucketNotificationConfiguration => {
                Unset::Document(xml::unset("NotificationConfiguration"))
            }
            Operation::GetBucketRequestPayment => Unset::Document(xml::owner_pays()),
            Operation::GetBucketInventoryConfiguration => listed("ListInventoryConfigurationsResult")?,
            Operation::GetBucketMetricsConfiguration => listed("ListMetricsConfigurationsResult")?,
            Operation::GetBucketAnalyticsConfiguration => listed("ListBucketAnalyticsConfigurationsResult")?,
            Operation::GetBucketIntelligentTieringConfiguration => {
                listed("ListBucketIntelligentTieringConfigurationsOutput")?
            }
            Operation::GetBucketReplication => Unset::Absent(Code::ReplicationConfigurationNotFoundError),
            Operation::DeleteBucketReplication => Unset::AsAsked(204),
            Operation::DeleteBucketAnalyticsConfiguration
            | Operation::DeleteBucketIntelligentTieringConfiguration
            | Operation::DeleteBucketInventoryConfiguration
            | Operation::DeleteBucketMetricsConfiguration => Unset::Absent(Code::NoSuchConfiguration),
            _ => return Err(not_implemented()),
        })
    }
}
