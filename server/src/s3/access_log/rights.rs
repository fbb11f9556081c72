//! Whether logs may be written into a bucket: its policy and its list say so, as of any other writer.
//! Invariants: the service is the same as AWS's, so policies written for AWS hold: by name, with the bucket and the
//! account whose requests are logged; that the target's owner asked for the logs allows nothing by itself.
//! Not here: what is written (`delivery`).

use std::borrow::Cow;

use smallvec::smallvec;

use crate::policy::{Action, Caller, Facts, Question, Values, Verdict};
use crate::s3::acl::{Acl, LOGGING_SERVICE, Permission};
use crate::s3::bucket_access::BucketAccess;
use crate::s3::bucket_settings::BucketSettings;
use crate::s3::time_text::iso_8601;

/// What a delivery says of itself.
struct Delivered<'d> {
    source_bucket: &'d str,
    source_account: &'d str,
    now_ms: u64,
}

impl Facts for Delivered<'_> {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        let value: Cow<'_, str> = match key {
            "aws:sourcearn" => format!("arn:aws:s3:::{}", self.source_bucket).into(),
            "aws:sourceaccount" => self.source_account.into(),
            "aws:principalisawsservice" => "true".into(),
            "aws:principalservicename" => LOGGING_SERVICE.into(),
            // It does not leave the server.
            "aws:securetransport" => "true".into(),
            "aws:currenttime" => iso_8601(self.now_ms).into(),
            "aws:epochtime" => (self.now_ms / 1_000).to_string().into(),
            _ => return None,
        };
        Some(smallvec![value])
    }
}

/// Whether a log of `source_bucket`, which is `source_account`'s, may be written as `key` of `target`.
pub(super) fn may_deliver(
    target: &BucketSettings,
    key: &str,
    source_bucket: &str,
    source_account: &str,
    now_ms: u64,
) -> bool {
    let facts = Delivered { source_bucket, source_account, now_ms };
    let resource = format!("{}/{key}", target.info.name.as_str());
    let caller = Caller::Service(LOGGING_SERVICE);
    let question = Question { caller, action: Action::PutObject, resource: &resource, facts: &facts };
    match target.access.policy.as_ref().map(|(policy, _)| policy.ask(&question)) {
        Some(Verdict::Deny) => false,
        Some(Verdict::Allow) => true,
        Some(Verdict::Silent) | None => grants_delivery(&target.access),
    }
}

/// Whether the bucket's list counts and lets the group of log delivery write, as AWS demands it.
fn grants_delivery(access: &BucketAccess) -> bool {
    let grants = |acl: &Acl, needed| {
        acl.grants(Caller::Service(LOGGING_SERVICE), needed, access.switches().ignore_acls)
    };
    access.has_acls()
        && access
            .acl
            .as_ref()
            .is_some_and(|acl| grants(acl, Permission::Write) && grants(acl, Permission::ReadAcp))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::ops::api::{BucketConfigs, BucketInfo, BucketName, ConfigKind, Versioning};
    use crate::s3::bucket_access::Ownership;
    use crate::s3::xml;

    fn target(documents: &[(ConfigKind, Bytes)]) -> BucketSettings {
        let info = BucketInfo {
            name: BucketName::parse("logs").unwrap(),
            owner: "owner".to_owned(),
            created_ms: 0,
            id: 1,
            versioning: Versioning::Never,
            object_lock: false,
            config_generation: 1,
        };
        let documents: BTreeMap<_, _> = documents.iter().cloned().collect();
        BucketSettings::parse(BucketConfigs { info, documents }).unwrap()
    }

    fn may(documents: &[(ConfigKind, Bytes)]) -> bool {
        may_deliver(&target(documents), "web/2013-05-24-00-00-00-AB", "photos", "owner", 0)
    }

    fn statement(effect: &str, principal: &str, condition: &str) -> String {
        format!(
            "{{\"Effect\":\"{effect}\",\"Principal\":{principal},\"Action\":\"s3:PutObject\",\
             \"Resource\":\"arn:aws:s3:::logs/web/*\",\"Condition\":{{{condition}}}}}"
        )
    }

    fn policy(statements: &[String]) -> (ConfigKind, Bytes) {
        (ConfigKind::Policy, Bytes::from(format!("{{\"Statement\":[{}]}}", statements.join(","))))
    }

    #[test]
    fn a_policy_lets_the_service_deliver_under_the_conditions_of_its_source() {
        let service = "{\"Service\":\"logging.s3.amazonaws.com\"}";
        let both = "\"ArnLike\":{\"aws:SourceArn\":\"arn:aws:s3:::photos\"},\"StringEquals\":{\"aws:SourceAccount\":\"owner\"}";
        assert!(may(&[policy(&[statement("Allow", service, both)])]));
        assert!(may(&[policy(&[statement("Allow", service, "")])]));
        assert!(may(&[policy(&[statement("Allow", "\"*\"", "")])]));
        for condition in [
            "\"ArnLike\":{\"aws:SourceArn\":\"arn:aws:s3:::films\"}",
            "\"StringEquals\":{\"aws:SourceAccount\":\"other\"}",
            "\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}",
        ] {
            assert!(!may(&[policy(&[statement("Allow", service, condition)])]), "{condition}");
        }
        let other = "{\"Service\":\"cloudtrail.amazonaws.com\"}";
        assert!(!may(&[policy(&[statement("Allow", other, both)])]));
        assert!(!may(&[]));
        let plain = statement("Deny", "\"*\"", "\"Bool\":{\"aws:SecureTransport\":\"false\"}");
        assert!(
            may(&[policy(&[statement("Allow", service, both), plain])]),
            "a delivery is as secure as TLS"
        );
        let denied = statement("Deny", "\"*\"", "");
        assert!(!may(&[policy(&[statement("Allow", service, both), denied])]));
    }

    #[test]
    fn a_list_lets_the_group_deliver_only_where_lists_count() {
        let acl = |name: &str| (ConfigKind::Acl, Acl::canned(name, "owner", "owner").unwrap().to_kept());
        let ownership = |ownership| (ConfigKind::Ownership, xml::ownership(ownership));
        assert!(may(&[acl("log-delivery-write"), ownership(Ownership::Writer)]));
        assert!(!may(&[acl("log-delivery-write"), ownership(Ownership::Enforced)]));
        assert!(!may(&[acl("private"), ownership(Ownership::Writer)]));
        assert!(!may(&[acl("public-read-write"), ownership(Ownership::Writer)]), "READ_ACP is missing");
        let denied = policy(&[statement("Deny", "\"*\"", "")]);
        assert!(!may(&[acl("log-delivery-write"), ownership(Ownership::Writer), denied]));
    }
}
