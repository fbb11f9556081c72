//! Fuzzes the XML documents that clients send.
//! Invariants: what is accepted is within S3's limits and no longer than what was sent.
#![no_main]

use server::s3::acl::{Acl, GRANTS_MAX};
use server::s3::config::Document;
use server::s3::config::cors::Cors;
use server::s3::config::encryption::DefaultEncryption;
use server::s3::config::lifecycle::Lifecycle;
use server::s3::config::logging::Logging;
use server::s3::config::switches::{SuspendedAcceleration, check_notification, check_request_payment};
use server::s3::config::website::Website;
use server::s3::tagging::TagSet;
use server::s3::xml::{
    legal_hold, parse_acl, parse_complete_upload, parse_create_bucket, parse_delete, parse_legal_hold,
    parse_object_lock, parse_ownership, parse_public_access_block, parse_retention, parse_tagging,
    parse_versioning, public_access_block, versioning,
};

/// What is kept of a document reads back as the same.
fn again<D: Document + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(document) = D::parse(bytes) {
        assert_eq!(D::parse(&document.to_kept()).ok(), Some(document));
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(delete) = parse_delete(bytes) {
        assert!((1..=1_000).contains(&delete.keys.len()));
        assert!(delete.keys.iter().map(|key| key.key.len()).sum::<usize>() <= bytes.len());
    }
    if let Ok(complete) = parse_complete_upload(bytes) {
        assert!((1..=10_000).contains(&complete.parts.len()));
    }
    if let Ok(tags) = parse_tagging(bytes) {
        assert!(tags.iter().map(|tag| tag.key.len() + tag.value.len()).sum::<usize>() <= bytes.len());
        if let Ok(set) = TagSet::new(tags) {
            let kept = set.to_kept().unwrap_or_default();
            assert_eq!(TagSet::of_header(&kept).ok(), Some(set));
        }
    }
    if let Ok(list) = parse_acl(bytes) {
        assert!(list.grants.len() <= GRANTS_MAX);
    }
    if let Ok(switches) = parse_public_access_block(bytes) {
        assert_eq!(parse_public_access_block(&public_access_block(&switches)), Ok(switches));
    }
    parse_ownership(bytes).ok();
    if let Some(acl) = Acl::of_kept(bytes) {
        assert_eq!(Acl::of_kept(&acl.to_kept()), Some(acl));
    }
    if let Ok(Some(status)) = parse_versioning(bytes).map(|asked| asked.status) {
        assert_eq!(parse_versioning(&versioning(status)).map(|asked| asked.status), Ok(Some(status)));
    }
    if let Ok(Some(asked)) = parse_object_lock(bytes) {
        assert!(asked.days.is_some() != asked.years.is_some());
    }
    if let Ok(Some((_, until))) = parse_retention(bytes) {
        assert!(until.len() <= bytes.len());
    }
    if let Ok(is_held) = parse_legal_hold(bytes) {
        assert_eq!(parse_legal_hold(&legal_hold(is_held)), Ok(is_held));
    }
    if let Ok(create) = parse_create_bucket(bytes) {
        assert!(create.location.is_none_or(|location| !location.is_empty()));
    }
    again::<Cors>(bytes);
    again::<Lifecycle>(bytes);
    again::<Website>(bytes);
    if let Ok(Website::Pages(pages)) = Website::parse(bytes) {
        for failed in [None, Some(404)] {
            let redirect = pages.redirect("a /%\u{e9}\n", failed);
            assert!(
                redirect.is_none_or(|redirect| redirect.path.bytes().all(|byte| byte.is_ascii_graphic()))
            );
        }
    }
    again::<Logging>(bytes);
    again::<DefaultEncryption>(bytes);
    check_notification(bytes).ok();
    check_request_payment(bytes).ok();
    SuspendedAcceleration::parse(bytes).ok();
});
