//! Decisions, one bucket at a time.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::auth::{Account, Identity};
use crate::http::RequestHead;
use crate::ops::api::{BucketConfigs, BucketInfo, ConfigKind, Retention, RetentionMode, Versioning};
use crate::policy::Target;
use crate::s3::access_log::RequestNote;
use crate::s3::acl::{Grant, Grantee};
use crate::s3::bucket_access::{Ownership, PublicAccessBlock};
use crate::s3::test_heads::head;
use crate::s3::xml;

const OWNER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[derive(Clone, Copy, Debug)]
enum Who {
    Root,
    Owner,
    Other,
    Anonymous,
}

impl Who {
    fn identity(self) -> Identity {
        let account = match self {
            Who::Root => Account::new("r", "root", "R", true),
            Who::Owner => Account::new(OWNER, "ann", "A", false),
            Who::Other => Account::new(OTHER, "ben", "B", false),
            Who::Anonymous => return Identity::Anonymous,
        };
        Identity::Account(Arc::new(account))
    }
}

fn settings(documents: &[(ConfigKind, Bytes)]) -> Rc<BucketSettings> {
    let info = BucketInfo {
        name: BucketName::parse("bkt").unwrap(),
        owner: OWNER.to_owned(),
        created_ms: 0,
        id: 1,
        versioning: Versioning::Never,
        object_lock: false,
        config_generation: 1,
    };
    let documents: BTreeMap<ConfigKind, Bytes> = documents.iter().cloned().collect();
    Rc::new(BucketSettings::parse(BucketConfigs { info, documents }).unwrap())
}

fn policy(effect: &str, action: &str) -> (ConfigKind, Bytes) {
    let text = format!(
        r#"{{"Statement":{{"Effect":"{effect}","Principal":"*","Action":"{action}",
            "Resource":["arn:aws:s3:::bkt","arn:aws:s3:::bkt/*"]}}}}"#
    );
    (ConfigKind::Policy, Bytes::from(text))
}

fn ownership(ownership: Ownership) -> (ConfigKind, Bytes) {
    (ConfigKind::Ownership, xml::ownership(ownership))
}

fn switches(switches: PublicAccessBlock) -> (ConfigKind, Bytes) {
    (ConfigKind::PublicAccessBlock, xml::public_access_block(&switches))
}

fn decide_on(
    documents: &[(ConfigKind, Bytes)],
    who: Who,
    action: Action,
    object: &Object,
) -> Result<(), Denial> {
    let head: RequestHead = head("GET /bkt/k", "");
    let asker = Asker {
        head: &head,
        identity: who.identity(),
        address: "10.0.0.1".parse().unwrap(),
        is_secure: false,
        now_ms: 0,
        note: &RequestNote::default(),
    };
    let settings = settings(documents);
    let authorized =
        Authorized { asker, makes_object: false, of_upload: None, settings: Some(Rc::clone(&settings)) };
    let key = ObjectKey::parse("k").unwrap();
    let key = (action.target() == Target::Object).then_some(&key);
    let decided = authorized.decide(&settings, action, key, object, facts::Given::Nothing);
    if authorized.is_plain_owner(&settings) {
        assert_eq!(decided, Ok(()), "the short way says the same");
    }
    decided
}

fn decide(documents: &[(ConfigKind, Bytes)], who: Who, action: Action) -> Result<(), Denial> {
    decide_on(documents, who, action, &Object::NotAsked)
}

fn of(owner: &str, grants: &[(Grantee, Permission)]) -> Object {
    let grants = grants.iter().cloned().map(|(grantee, permission)| Grant { grantee, permission }).collect();
    Object::Present(Some(Acl { owner: owner.to_owned(), grants }), TagSet::default())
}

#[test]
fn every_operation_of_the_router_has_its_action() {
    for operation in Operation::ALL {
        let name = operation.name();
        let (first, second) = match need_of(*operation) {
            Need::Action(first, second) => (first, second),
            Need::Attributes => (Action::GetObjectAttributes, Action::GetObjectVersionAttributes),
            Need::Nothing => {
                assert_eq!(name, "OptionsPreflight");
                continue;
            }
            Need::Account | Need::Owner | Need::EachKey => continue,
        };
        assert_eq!(first.target(), second.target(), "{name}");
        if first != second {
            let versioned = first.name().replacen("Object", "ObjectVersion", 1);
            assert_eq!(second.name(), versioned, "{name}");
        }
        // What changes something never needs only the right to look, and the other way round.
        let looks = |name: &str| ["Get", "List", "Head"].iter().any(|start| name.starts_with(start));
        assert_eq!(looks(name) || name == "SelectObjectContent", looks(first.name()), "{name}");
        if tells_of_object(*operation) {
            assert!(actions::is_on_existing_object(first), "{name}");
        }
    }
}

#[test]
fn a_bucket_without_configuration_is_its_owners_and_roots() {
    for action in Action::ALL {
        for who in [Who::Root, Who::Owner] {
            assert_eq!(decide(&[], who, *action), Ok(()), "{who:?} {action:?}");
        }
        assert_eq!(decide(&[], Who::Other, *action), Err(Denial::NotAllowed), "{action:?}");
        assert_eq!(decide(&[], Who::Anonymous, *action), Err(Denial::Anonymous), "{action:?}");
    }
}

#[test]
fn a_policy_opens_what_it_names_and_no_more() {
    let open = [policy("Allow", "s3:GetObject")];
    for who in [Who::Other, Who::Anonymous] {
        assert_eq!(decide(&open, who, Action::GetObject), Ok(()), "{who:?}");
        assert!(decide(&open, who, Action::PutObject).is_err(), "{who:?}");
        assert!(decide(&open, who, Action::ListBucket).is_err(), "{who:?}");
    }
    assert_eq!(decide(&open, Who::Owner, Action::PutObject), Ok(()));
}

#[test]
fn an_explicit_deny_holds_for_root_and_owner_but_not_on_the_policy_itself() {
    let closed = [policy("Deny", "s3:*")];
    for who in [Who::Root, Who::Owner] {
        assert_eq!(decide(&closed, who, Action::GetObject), Err(Denial::Explicit), "{who:?}");
        for action in [Action::GetBucketPolicy, Action::PutBucketPolicy, Action::DeleteBucketPolicy] {
            assert_eq!(decide(&closed, who, action), Ok(()), "{who:?} {action:?}");
        }
    }
    assert_eq!(decide(&closed, Who::Other, Action::GetBucketPolicy), Err(Denial::Explicit));
}

#[test]
fn a_restricted_bucket_does_not_open_by_a_public_policy() {
    let restricted = PublicAccessBlock { restrict_buckets: true, ..PublicAccessBlock::default() };
    let both = [policy("Allow", "s3:GetObject"), switches(restricted)];
    for who in [Who::Other, Who::Anonymous] {
        assert_eq!(decide(&both, who, Action::GetObject), Err(Denial::PublicBlocked), "{who:?}");
    }
    assert_eq!(decide(&both, Who::Owner, Action::GetObject), Ok(()));
    let named = format!(
        r#"{{"Statement":{{"Effect":"Allow","Principal":{{"AWS":"{OTHER}"}},"Action":"s3:GetObject",
            "Resource":"arn:aws:s3:::bkt/*"}}}}"#
    );
    let named = [(ConfigKind::Policy, Bytes::from(named)), switches(restricted)];
    assert_eq!(decide(&named, Who::Other, Action::GetObject), Ok(()));
}

#[test]
fn lists_count_only_where_the_owner_does_not_own_everything() {
    let list = (ConfigKind::Acl, Acl::canned("public-read-write", OWNER, OWNER).unwrap().to_kept());
    for who in [Who::Other, Who::Anonymous] {
        for action in [Action::ListBucket, Action::PutObject, Action::DeleteObject] {
            assert!(decide(std::slice::from_ref(&list), who, action).is_err(), "{who:?} {action:?}");
            let counting = [list.clone(), ownership(Ownership::Writer)];
            assert_eq!(decide(&counting, who, action), Ok(()), "{who:?} {action:?}");
            let ignored = PublicAccessBlock { ignore_acls: true, ..PublicAccessBlock::default() };
            let ignored = [list.clone(), ownership(Ownership::Writer), switches(ignored)];
            assert!(decide(&ignored, who, action).is_err(), "{who:?} {action:?}");
        }
        let counting = [list.clone(), ownership(Ownership::Preferred)];
        assert!(
            decide(&counting, who, Action::GetObject).is_err(),
            "a bucket's list says nothing of objects"
        );
        assert!(decide(&counting, who, Action::PutBucketPolicy).is_err());
    }
}

#[test]
fn an_object_of_another_is_read_by_its_own_list() {
    let writer = [ownership(Ownership::Writer)];
    let read = |who, object: &Object| decide_on(&writer, who, Action::GetObject, object);
    let others = of(OTHER, &[(Grantee::Account(OTHER.to_owned()), Permission::FullControl)]);
    assert_eq!(read(Who::Other, &others), Ok(()));
    assert_eq!(read(Who::Owner, &others), Err(Denial::NotAllowed));
    assert_eq!(read(Who::Root, &others), Ok(()));
    assert_eq!(decide_on(&writer, Who::Owner, Action::DeleteObject, &others), Ok(()));
    assert_eq!(decide_on(&writer, Who::Owner, Action::PutObject, &others), Ok(()));
    let public = of(OTHER, &[(Grantee::AllUsers, Permission::Read)]);
    assert_eq!(read(Who::Anonymous, &public), Ok(()));
    assert_eq!(decide_on(&writer, Who::Anonymous, Action::GetObjectAcl, &public), Err(Denial::Anonymous));
    assert_eq!(
        decide_on(&writer, Who::Other, Action::PutObjectAcl, &public),
        Ok(()),
        "an owner can repair it"
    );
    let shared = of(OTHER, &[(Grantee::Account(OWNER.to_owned()), Permission::FullControl)]);
    assert_eq!(read(Who::Owner, &shared), Ok(()));
    // A policy of the bucket's owner does not give away what is another's.
    let open = [policy("Allow", "s3:GetObject"), ownership(Ownership::Writer)];
    assert_eq!(decide_on(&open, Who::Anonymous, Action::GetObject, &others), Err(Denial::Anonymous));
    assert_eq!(
        decide_on(&open, Who::Anonymous, Action::GetObject, &Object::Present(None, TagSet::default())),
        Ok(())
    );
}

/// Story: conditions on the bypass of governance saw header fields that nothing acts on, and not the document.
#[test]
fn the_bypass_of_governance_is_asked_for_with_the_retention_of_the_body() {
    let condition = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:BypassGovernanceRetention",
        "Resource":"arn:aws:s3:::bkt/*","Condition":{"StringEquals":{"s3:object-lock-mode":"GOVERNANCE"}}}}"#;
    let settings = settings(&[(ConfigKind::Policy, Bytes::from(condition))]);
    let head = head("PUT /bkt/k?retention", "x-amz-object-lock-mode: GOVERNANCE\r\n");
    let asker = Asker {
        head: &head,
        identity: Who::Other.identity(),
        address: "10.0.0.1".parse().unwrap(),
        is_secure: false,
        now_ms: 0,
        note: &RequestNote::default(),
    };
    let authorized = Authorized { asker, makes_object: false, of_upload: None, settings: Some(settings) };
    let key = ObjectKey::parse("k").unwrap();
    let may = |mode| {
        let retention = Retention { mode, until_ms: 1 };
        let given = ObjectLock { retention: Some(retention), legal_hold: None };
        authorized.may_bypass_governance(&key, None, Some(&given))
    };
    assert!(may(RetentionMode::Governance));
    assert!(!may(RetentionMode::Compliance));
    assert!(!authorized.may_bypass_governance(&key, None, None));
}
