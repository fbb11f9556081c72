//! Requests that a browser sends for a page of another origin: preflights, and the fields of actual responses.
//! Invariants: a preflight is answered to anyone and tells nothing but the bucket's rules; a response to a page that no
//! rule allows carries no field that would let it be read.
//! Not here: the rules (`s3::config::cors`).

use super::{Reply, S3Service};
use crate::auth::{Credentials, Identity};
use crate::http::{HeaderText, RequestHead, Response};
use crate::ops::api::{BucketName, ObjectKey, Operations};
use crate::s3::access_log::RequestNote;
use crate::s3::address::Address;
use crate::s3::config::cors::Rule;
use crate::s3::error::{Code, S3Error};

const METHOD: &str = "access-control-request-method";
const HEADERS: &str = "access-control-request-headers";
const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// Answers `OPTIONS`.
    pub(super) async fn preflight(
        &self,
        head: &RequestHead,
        address: &Address,
        note: &RequestNote,
    ) -> Result<Reply<O>, S3Error> {
        note.asks(&Identity::Anonymous);
        let origin = head.header_str("origin").filter(|origin| !origin.is_empty()).ok_or_else(|| {
            S3Error::with_message(Code::BadRequest, "Insufficient information. Origin request header needed.")
        })?;
        // Where it names no method the preflight itself is refused, and that only by a bucket with rules for its words.
        let method = head.header_str(METHOD);
        let forbidden = |message: &'static str| {
            S3Error::with_message(Code::AccessForbidden, message)
                .and("Method", method.unwrap_or("OPTIONS").to_owned())
                .and("ResourceType", if address.key.is_some() { "OBJECT" } else { "BUCKET" }.to_owned())
        };
        let disabled = || forbidden("CORSResponse: CORS is not enabled for this bucket.");
        let bucket = address.bucket.as_deref().and_then(|name| BucketName::parse(name).ok());
        let bucket = bucket.ok_or_else(disabled)?;
        let _permit = self.ops.admit(Some(0))?;
        let settings = self.settings.get(&self.ops, &bucket).await;
        note.found(settings.as_ref().ok(), |_| ObjectKey::parse(address.key.clone()?).ok());
        let settings = match settings {
            Err(error) if error.code == Code::NoSuchBucket => {
                return Err(forbidden("CORSResponse: Bucket not found"));
            }
            settings => settings?,
        };
        let cors = settings.cors.as_ref().ok_or_else(disabled)?;
        let method = method.unwrap_or("null");
        if !["GET", "PUT", "HEAD", "POST", "DELETE"].contains(&method) {
            return Err(S3Error::with_message(
                Code::BadRequest,
                format!("Invalid Access-Control-Request-Method: {method}"),
            ));
        }
        let rule = cors.find(origin, method, requested_headers(head)).ok_or_else(|| {
            forbidden(
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted \
                 by the resource's CORS spec.",
            )
        })?;
        let mut response = Response::new(200);
        push_rule(&mut response.headers, rule, origin);
        let headers: Vec<String> = requested_headers(head).map(str::to_ascii_lowercase).collect();
        if !headers.is_empty() {
            response.headers.push("Access-Control-Allow-Headers", headers.join(", "));
        }
        Ok(response)
    }

    /// Adds to a response what lets a page of another origin read it.
    pub(super) async fn push_cors(&self, head: &RequestHead, headers: &mut HeaderText) {
        if head.header("origin").is_none() {
            return;
        }
        let address = Address::parse(head.header_str("host"), head.raw_path(), &self.config.domains).ok();
        let bucket = address.and_then(|address| BucketName::parse(address.bucket.as_deref()?).ok());
        if let Some(bucket) = bucket {
            self.push_cors_of(&bucket, head, headers).await;
        }
    }

    /// As [`S3Service::push_cors`], where the bucket is known.
    pub(super) async fn push_cors_of(
        &self,
        bucket: &BucketName,
        head: &RequestHead,
        headers: &mut HeaderText,
    ) {
        let Some(origin) = head.header_str("origin") else { return };
        // Whatever went wrong was told by the response itself, or does not matter to it.
        let Ok(settings) = self.settings.get(&self.ops, bucket).await else { return };
        let Some(cors) = &settings.cors else { return };
        // As AWS: a method named as in a preflight stands for the request's own.
        let method = head.header_str(METHOD).unwrap_or_else(|| head.method_token());
        match cors.find(origin, method, requested_headers(head)) {
            Some(rule) => push_rule(headers, rule, origin),
            None => headers.push("Vary", VARY),
        }
    }
}

fn requested_headers(head: &RequestHead) -> impl Iterator<Item = &str> + Clone {
    let names = head.header_str(HEADERS).unwrap_or_default().split(',').map(str::trim);
    names.filter(|name| !name.is_empty())
}

fn push_rule(headers: &mut HeaderText, rule: &Rule, origin: &str) {
    if rule.is_for_all() {
        headers.push("Access-Control-Allow-Origin", "*");
    } else {
        headers.push("Access-Control-Allow-Origin", origin);
        headers.push("Access-Control-Allow-Credentials", "true");
    }
    headers.push("Access-Control-Allow-Methods", rule.methods.join(", "));
    if !rule.expose.is_empty() {
        headers.push("Access-Control-Expose-Headers", rule.expose.join(", "));
    }
    if let Some(max_age_s) = rule.max_age_s {
        headers.push_number("Access-Control-Max-Age", u64::from(max_age_s));
    }
    headers.push("Vary", VARY);
}
