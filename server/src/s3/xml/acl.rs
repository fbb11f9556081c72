//! Access control lists, public access blocks and ownership controls as XML.
//! Invariants: an unknown word is an error, since a rule that is not understood must not be dropped.
//! Not here: what they allow (`s3::acl`, `s3::authorize`).

use bytes::Bytes;

use super::reader::{MalformedXml, XmlEvent, walk};
use super::writer::XmlWriter;
use crate::auth::Person;
use crate::s3::acl::{Acl, GRANTS_MAX, Grant, Grantee, Permission};
use crate::s3::bucket_access::{Ownership, PublicAccessBlock};

/// A grantee as a document names it; not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedGrantee {
    /// By canonical id.
    Id(String),
    /// By the name of a group.
    Uri(String),
    /// By an address of mail.
    Email,
}

/// An `AccessControlPolicy` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessControlPolicy {
    /// The id of the owner; empty if the document has none.
    pub owner: String,
    /// The grants.
    pub grants: Vec<(NamedGrantee, Permission)>,
}

/// Reads an `AccessControlPolicy` document.
///
/// # Errors
/// [`MalformedXml`], also without an owner or a list, and for more than 100 grants.
pub fn parse_acl(document: &[u8]) -> Result<AccessControlPolicy, MalformedXml> {
    let mut parsed = AccessControlPolicy::default();
    let (mut grantee, mut permission) = (None, None);
    let (mut has_owner, mut has_list) = (false, false);
    let mut in_owner = false;
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "AccessControlPolicy" => return Err(MalformedXml),
            XmlEvent::Open("Owner", 2) => (has_owner, in_owner) = (true, true),
            XmlEvent::Close("Owner", 2, _) => in_owner = false,
            XmlEvent::Close("ID", 3, text) if in_owner => parsed.owner = text.trim().to_owned(),
            XmlEvent::Open("AccessControlList", 2) => has_list = true,
            XmlEvent::Open("Grant", 3) => (grantee, permission) = (None, None),
            XmlEvent::Close("ID", 5, text) => grantee = Some(NamedGrantee::Id(text.trim().to_owned())),
            XmlEvent::Close("URI", 5, text) => grantee = Some(NamedGrantee::Uri(text.trim().to_owned())),
            XmlEvent::Close("EmailAddress", 5, _) => grantee = Some(NamedGrantee::Email),
            XmlEvent::Close("Permission", 4, text) => {
                permission = Some(Permission::of_name(text.trim()).ok_or(MalformedXml)?);
            }
            XmlEvent::Close("Grant", 3, _) => {
                let (Some(grantee), Some(permission)) = (grantee.take(), permission.take()) else {
                    return Err(MalformedXml);
                };
                if parsed.grants.len() == GRANTS_MAX {
                    return Err(MalformedXml);
                }
                parsed.grants.push((grantee, permission));
            }
            _ => {}
        }
        Ok(())
    })?;
    if has_owner && has_list { Ok(parsed) } else { Err(MalformedXml) }
}

/// Writes a list; `person` shows the accounts in it.
pub fn acl(acl: &Acl, person: impl Fn(&str) -> Person) -> Bytes {
    let mut xml = XmlWriter::s3_document("AccessControlPolicy", 256 + 256 * acl.grants.len());
    let owner = person(&acl.owner);
    xml.open("Owner");
    xml.leaf("ID", &owner.id);
    xml.leaf("DisplayName", &owner.name);
    xml.close("Owner");
    xml.open("AccessControlList");
    // Groups come first, as RGW lists them: its suite, which other servers run too, compares by position.
    let is_group = |grant: &&Grant| grant.grantee.uri().is_some();
    let (groups, accounts): (Vec<&Grant>, Vec<&Grant>) = acl.grants.iter().partition(is_group);
    for grant in groups.into_iter().chain(accounts) {
        xml.open("Grant");
        push_grantee(&mut xml, &grant.grantee, &person);
        xml.leaf("Permission", grant.permission.name());
        xml.close("Grant");
    }
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    xml.finish()
}

fn push_grantee(xml: &mut XmlWriter, grantee: &Grantee, person: &impl Fn(&str) -> Person) {
    let kind = if grantee.uri().is_some() { "Group" } else { "CanonicalUser" };
    let attributes = format!("xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"{kind}\"");
    xml.open_with("Grantee", &attributes);
    match grantee {
        Grantee::Account(id) => {
            let shown = person(id);
            xml.leaf("ID", &shown.id);
            xml.leaf("DisplayName", &shown.name);
        }
        group => xml.leaf("URI", group.uri().unwrap_or_default()),
    }
    xml.close("Grantee");
}

/// Reads a `PublicAccessBlockConfiguration` document; a switch that is not named is off.
///
/// # Errors
/// [`MalformedXml`].
pub fn parse_public_access_block(document: &[u8]) -> Result<PublicAccessBlock, MalformedXml> {
    let mut parsed = PublicAccessBlock::default();
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "PublicAccessBlockConfiguration" => return Err(MalformedXml),
            XmlEvent::Close(name, 2, text) => {
                let switch = match name {
                    "BlockPublicAcls" => &mut parsed.refuse_acls,
                    "IgnorePublicAcls" => &mut parsed.ignore_acls,
                    "BlockPublicPolicy" => &mut parsed.refuse_policy,
                    "RestrictPublicBuckets" => &mut parsed.restrict_buckets,
                    _ => return Err(MalformedXml),
                };
                *switch = match text.trim() {
                    "true" | "TRUE" | "True" | "1" => true,
                    "false" | "FALSE" | "False" | "0" => false,
                    _ => return Err(MalformedXml),
                };
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(parsed)
}

/// Writes a public access block.
pub fn public_access_block(switches: &PublicAccessBlock) -> Bytes {
    let mut xml = XmlWriter::s3_document("PublicAccessBlockConfiguration", 256);
    xml.flag("BlockPublicAcls", switches.refuse_acls);
    xml.flag("IgnorePublicAcls", switches.ignore_acls);
    xml.flag("BlockPublicPolicy", switches.refuse_policy);
    xml.flag("RestrictPublicBuckets", switches.restrict_buckets);
    xml.close("PublicAccessBlockConfiguration");
    xml.finish()
}

/// Reads an `OwnershipControls` document.
///
/// # Errors
/// [`MalformedXml`], also for no rule, more than one, or a word that S3 does not know.
pub fn parse_ownership(document: &[u8]) -> Result<Ownership, MalformedXml> {
    let mut found = None;
    walk(document, |event| {
        match event {
            XmlEvent::Open(name, 1) if name != "OwnershipControls" => return Err(MalformedXml),
            XmlEvent::Close("ObjectOwnership", 3, text) => {
                let ownership = Ownership::of_name(text.trim()).ok_or(MalformedXml)?;
                if found.replace(ownership).is_some() {
                    return Err(MalformedXml);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    found.ok_or(MalformedXml)
}

/// Writes ownership controls.
pub fn ownership(ownership: Ownership) -> Bytes {
    let mut xml = XmlWriter::s3_document("OwnershipControls", 128);
    xml.open("Rule");
    xml.leaf("ObjectOwnership", ownership.name());
    xml.close("Rule");
    xml.close("OwnershipControls");
    xml.finish()
}

/// `PolicyStatus`.
pub fn policy_status(is_public: bool) -> Bytes {
    let mut xml = XmlWriter::s3_document("PolicyStatus", 64);
    xml.flag("IsPublic", is_public);
    xml.close("PolicyStatus");
    xml.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn named(id: &str) -> Person {
        Person { id: id.to_owned(), name: format!("name of {id}") }
    }

    #[test]
    fn a_list_that_is_written_reads_back() {
        let written = acl(&Acl::canned("public-read", "a1", "b1").unwrap(), named);
        let parsed = parse_acl(&written).unwrap();
        assert_eq!(parsed.owner, "a1");
        assert_eq!(
            parsed.grants,
            [
                (NamedGrantee::Uri(Grantee::AllUsers.uri().unwrap().to_owned()), Permission::Read),
                (NamedGrantee::Id("a1".to_owned()), Permission::FullControl),
            ]
        );
        let text = String::from_utf8(written.to_vec()).unwrap();
        assert!(text.contains("xsi:type=\"Group\"><URI>") && text.contains("<DisplayName>name of a1<"));
    }

    #[test]
    fn a_list_without_owner_or_with_an_unknown_word_is_malformed() {
        let list = |grant: &str| {
            format!(
                "<AccessControlPolicy><Owner><ID>a</ID></Owner><AccessControlList>{grant}</AccessControlList>\
                 </AccessControlPolicy>"
            )
        };
        assert_eq!(parse_acl(list("").as_bytes()).unwrap().grants, []);
        for document in [
            "<AccessControlPolicy><AccessControlList/></AccessControlPolicy>".to_owned(),
            "<AccessControlPolicy><Owner><ID>a</ID></Owner></AccessControlPolicy>".to_owned(),
            list("<Grant><Grantee><ID>a</ID></Grantee></Grant>"),
            list("<Grant><Permission>READ</Permission></Grant>"),
            list("<Grant><Grantee><ID>a</ID></Grantee><Permission>SEE</Permission></Grant>"),
            list(&"<Grant><Grantee><ID>a</ID></Grantee><Permission>READ</Permission></Grant>".repeat(101)),
        ] {
            assert_eq!(parse_acl(document.as_bytes()), Err(MalformedXml), "{document}");
        }
    }

    #[test]
    fn switches_and_ownership_read_back() {
        let switches =
            PublicAccessBlock { refuse_acls: true, restrict_buckets: true, ..PublicAccessBlock::default() };
        assert_eq!(parse_public_access_block(&public_access_block(&switches)), Ok(switches));
        assert_eq!(
            parse_public_access_block(b"<PublicAccessBlockConfiguration><BlockPublicAcls>x</BlockPublicAcls></PublicAccessBlockConfiguration>"),
            Err(MalformedXml)
        );
        for kind in [Ownership::Enforced, Ownership::Preferred, Ownership::Writer] {
            assert_eq!(parse_ownership(&ownership(kind)), Ok(kind));
        }
        for wrong in [
            "<OwnershipControls/>",
            "<OwnershipControls><Rule><ObjectOwnership>Mine</ObjectOwnership></Rule></OwnershipControls>",
        ] {
            assert_eq!(parse_ownership(wrong.as_bytes()), Err(MalformedXml));
        }
    }
}
