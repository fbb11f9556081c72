//! Buckets: create, head, list, delete.
//! Invariants: any location constraint is accepted; there is one region.
//! Not here: their sub-resources (`sub_resources`), their contents (`listing`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shardstore_reactor::{Executor, Stream};

use super::documents::xml_reply;
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::{BucketPage, ConfigKind, ListBuckets, NewBucket, OpError, Operations};
use crate::s3::body::S3Body;
use crate::s3::encryption::key_of_existing;
use crate::s3::error::{Code, S3Error};
use crate::s3::tagging::check_bucket_tags;
use crate::s3::xml;

/// Longest body of CreateBucket: its configuration is under 1 KiB.
const CONFIGURATION_BYTES_MAX: usize = 64 * 1024;
/// S3's default and limit.
const BUCKETS_PER_PAGE: u32 = 10_000;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn create_bucket<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        key_of_existing(request.access.asker())?;
        let bucket = request.bucket()?;
        let wants_lock = request.head.header("x-amz-bucket-object-lock-enabled");
        let object_lock = wants_lock.is_some_and(|value| value.eq_ignore_ascii_case(b"true"));
        let mut new = NewBucket { object_lock, configs: self.new_bucket_configs(request)? };
        let (_permit, document) = self.read_document(body, CONFIGURATION_BYTES_MAX).await?;
        let asked = xml::parse_create_bucket(&document)?;
        check_bucket_tags(&asked.tags)?;
        if !asked.tags.is_empty() {
            new.configs.push((ConfigKind::Tagging, xml::tagging(&asked.tags)));
        }
        let location = format!("/{}", bucket.as_str());
        let arn = format!("arn:aws:s3:::{}", bucket.as_str());
        let account = request.account()?;
        match self.ops.create_bucket(bucket.clone(), account.id.to_string(), new).await {
            // Its owner may be written as before there were accounts.
            Err(OpError::BucketAlreadyExists) if account.owns(&self.ops.head_bucket(bucket).await?.owner) => {
                return Err(OpError::BucketAlreadyOwnedByYou.into());
            }
            created => created?,
        }
        Ok(Response::new(200).with_header("Location", location).with_header("x-amz-bucket-arn", arn))
    }

    pub(super) fn head_bucket(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        // That there is one was found when it was authorized.
        request.access.settings()?;
        Ok(Response::new(200)
            .with_header("x-amz-bucket-region", &self.config.region)
            .with_header("Content-Type", "application/xml"))
    }

    pub(super) async fn delete_bucket(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        self.ops.delete_bucket(request.bucket()?).await?;
        Ok(Response::new(204))
    }

    pub(super) async fn list_buckets(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let query = &request.query;
        let prefix = query.text("prefix")?.unwrap_or_default().into_owned();
        let max = query.number("max-buckets")?.unwrap_or(BUCKETS_PER_PAGE);
        if max == 0 || max > BUCKETS_PER_PAGE {
            return Err(S3Error::with_message(
                Code::InvalidArgument,
                "Argument max-buckets must be an integer between 1 and 10000",
            ));
        }
        let after = match query.text("continuation-token")? {
            Some(token) if !token.is_empty() => decode_token(&token)?,
            _ => String::new(),
        };
        let account = request.account()?;
        let elsewhere = query.text("bucket-region")?.is_some_and(|asked| asked != self.config.region);
        let _permit = self.ops.admit(Some(0))?;
        let list = ListBuckets {
            // Root may do everything with every bucket, and so is shown every bucket.
            owner: (!account.is_root).then(|| account.id.to_string()),
            prefix: prefix.clone(),
            after,
            max_buckets: usize::try_from(max).unwrap_or(usize::MAX),
        };
        let page = match elsewhere {
            true => BucketPage { buckets: Vec::new(), next: None },
            false => self.ops.list_buckets(list).await?,
        };
        let token = page.next.as_ref().map(|next| URL_SAFE_NO_PAD.encode(next));
        let document =
            xml::list_buckets(&page, &account.person(), &self.config.region, &prefix, token.as_deref());
        Ok(xml_reply(document))
    }
}

pub(super) fn decode_token(token: &str) -> Result<String, S3Error> {
    URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        S3Error::with_message(Code::InvalidArgument, "The continuation token provided is incorrect")
    })
}
