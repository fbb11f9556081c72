//! Access control lists: who was granted what on a bucket or an object, in the forms of headers, XML and rows.
//! Invariants: a list has an owner and at most 100 grants; kept and read again it is the same; a grantee that cannot be
//! resolved is refused, never dropped.
//! Not here: whether lists count at all (`authorize`), the XML itself (`xml::acl`).

use bytes::Bytes;

use crate::http::RequestHead;
use crate::ops::api::{ACL_HEADER, Header, ObjectInfo};
use crate::policy::{Action, Caller};
use crate::s3::error::{Code, S3Error};

/// S3's limit.
pub const GRANTS_MAX: usize = 100;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// The service that writes access logs, as policies name it.
pub const LOGGING_SERVICE: &str = "logging.s3.amazonaws.com";

/// Who is granted something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// By canonical id.
    Account(String),
    /// Everyone.
    AllUsers,
    /// Everyone with an account.
    AuthenticatedUsers,
    /// What writes access logs.
    LogDelivery,
}

/// What is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// All of the others.
    FullControl,
    /// To list a bucket, to read an object.
    Read,
    /// To write into a bucket; nothing on an object.
    Write,
    /// To read the list.
    ReadAcp,
    /// To change the list.
    WriteAcp,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// An access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// Canonical id of whose the bucket or object is.
    pub owner: String,
    /// At most [`GRANTS_MAX`].
    pub grants: Vec<Grant>,
}

impl Grantee {
    /// By the name of a group.
    pub fn of_uri(uri: &str) -> Option<Grantee> {
        match uri {
            ALL_USERS => Some(Grantee::AllUsers),
            AUTHENTICATED_USERS => Some(Grantee::AuthenticatedUsers),
            LOG_DELIVERY => Some(Grantee::LogDelivery),
            _ => None,
        }
    }

    /// The name of the group, unless it is an account.
    pub fn uri(&self) -> Option<&'static str> {
        match self {
            Grantee::Account(_) => None,
            Grantee::AllUsers => Some(ALL_USERS),
            Grantee::AuthenticatedUsers => Some(AUTHENTICATED_USERS),
            Grantee::LogDelivery => Some(LOG_DELIVERY),
        }
    }

    /// Whether it is everyone, or everyone with an account.
    pub fn is_public(&self) -> bool {
        matches!(self, Grantee::AllUsers | Grantee::AuthenticatedUsers)
    }

    fn is(&self, caller: Caller<'_>) -> bool {
        match (self, caller) {
            (Grantee::AllUsers, _) | (Grantee::AuthenticatedUsers, Caller::Account { .. }) => true,
            (Grantee::Account(wanted), Caller::Account { id, .. }) => wanted == id,
            (Grantee::LogDelivery, Caller::Service(name)) => name == LOGGING_SERVICE,
            _ => false,
        }
    }
}

impl Permission {
    const ALL: [(Permission, &'static str); 5] = [
        (Permission::FullControl, "FULL_CONTROL"),
        (Permission::Read, "READ"),
        (Permission::Write, "WRITE"),
        (Permission::ReadAcp, "READ_ACP"),
        (Permission::WriteAcp, "WRITE_ACP"),
    ];

    /// By its name in XML.
    pub fn of_name(name: &str) -> Option<Permission> {
        Permission::ALL.into_iter().find(|(_, known)| *known == name).map(|(permission, _)| permission)
    }

    /// Its name in XML.
    pub fn name(self) -> &'static str {
        Permission::ALL.into_iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    fn includes(self, needed: Permission) -> bool {
        self == Permission::FullControl || self == needed
    }
}

/// The permission on a bucket that allows an action there.
pub fn bucket_permission(action: Action) -> Option<Permission> {
    match action {
        Action::ListBucket | Action::ListBucketVersions | Action::ListBucketMultipartUploads => {
            Some(Permission::Read)
        }
        Action::PutObject | Action::DeleteObject => Some(Permission::Write),
        Action::GetBucketAcl => Some(Permission::ReadAcp),
        Action::PutBucketAcl => Some(Permission::WriteAcp),
        _ => None,
    }
}

/// The permission on an object that allows an action on it.
pub fn object_permission(action: Action) -> Option<Permission> {
    match action {
        Action::GetObject
        | Action::GetObjectVersion
        | Action::GetObjectAttributes
        | Action::GetObjectVersionAttributes
        | Action::GetObjectTorrent
        | Action::GetObjectVersionTorrent => Some(Permission::Read),
        Action::GetObjectAcl | Action::GetObjectVersionAcl => Some(Permission::ReadAcp),
        Action::PutObjectAcl | Action::PutObjectVersionAcl => Some(Permission::WriteAcp),
        _ => None,
    }
}

impl Acl {
    /// The owner may do everything, nobody else anything.
    pub fn private(owner: &str) -> Acl {
        Acl { owner: owner.to_owned(), grants: vec![full_control(owner)] }
    }

    /// A canned list; `None` for a name that AWS does not know.
    pub fn canned(name: &str, owner: &str, bucket_owner: &str) -> Option<Acl> {
        let mut acl = Acl::private(owner);
        let mut grant = |grantee, permission| acl.grants.push(Grant { grantee, permission });
        match name {
            "private" => {}
            "public-read" => grant(Grantee::AllUsers, Permission::Read),
            "public-read-write" => {
                grant(Grantee::AllUsers, Permission::Read);
                grant(Grantee::AllUsers, Permission::Write);
            }
            "authenticated-read" => grant(Grantee::AuthenticatedUsers, Permission::Read),
            "log-delivery-write" => {
                grant(Grantee::LogDelivery, Permission::Write);
                grant(Grantee::LogDelivery, Permission::ReadAcp);
            }
            "bucket-owner-read" | "bucket-owner-full-control" if owner == bucket_owner => {}
            "bucket-owner-read" => grant(Grantee::Account(bucket_owner.to_owned()), Permission::Read),
            "bucket-owner-full-control" => {
                grant(Grantee::Account(bucket_owner.to_owned()), Permission::FullControl);
            }
            _ => return None,
        }
        Some(acl)
    }

    /// Whether a caller was granted a permission; with `ignore_public` grants to everyone do not count.
    pub fn grants(&self, caller: Caller<'_>, needed: Permission, ignore_public: bool) -> bool {
        self.grants.iter().any(|grant| {
            grant.permission.includes(needed)
                && grant.grantee.is(caller)
                && !(ignore_public && grant.grantee.is_public())
        })
    }

    /// Whether something is granted to everyone, or to everyone with an account.
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|grant| grant.grantee.is_public())
    }

    /// Whether only the owner was granted anything.
    pub fn is_private(&self) -> bool {
        self.grants.iter().all(|grant| grant.grantee == Grantee::Account(self.owner.clone()))
    }

    /// What a row keeps: the owner, then each grant as its permission and its grantee.
    pub fn to_kept(&self) -> Bytes {
        let mut out = self.owner.clone();
        for grant in &self.grants {
            out.push(';');
            out.push_str(grant.permission.name());
            out.push('=');
            match &grant.grantee {
                Grantee::Account(id) => out.push_str(id),
                group => out.push_str(group.uri().unwrap_or_default()),
            }
        }
        Bytes::from(out)
    }

    /// Reads what a row keeps; `None` if it is damaged.
    pub fn of_kept(kept: &[u8]) -> Option<Acl> {
        let mut parts = std::str::from_utf8(kept).ok()?.split(';');
        let owner = parts.next().filter(|owner| !owner.is_empty())?.to_owned();
        let grants = parts.map(|part| {
            let (permission, grantee) = part.split_once('=')?;
            let grantee = match Grantee::of_uri(grantee) {
                Some(group) => group,
                None if grantee.is_empty() => return None,
                None => Grantee::Account(grantee.to_owned()),
            };
            Some(Grant { grantee, permission: Permission::of_name(permission)? })
        });
        Some(Acl { owner, grants: grants.collect::<Option<Vec<Grant>>>()? })
    }

    /// The list of an object; `None` where it keeps none: then it is its bucket's owner's alone.
    ///
    /// # Errors
    /// `InternalError` if what it keeps is damaged: nothing may be allowed then.
    pub fn of_object(info: &ObjectInfo) -> Result<Option<Acl>, S3Error> {
        Acl::of_headers(&info.headers)
    }

    /// The list among what an object keeps.
    ///
    /// # Errors
    /// As [`Acl::of_object`].
    pub fn of_headers(headers: &[Header]) -> Result<Option<Acl>, S3Error> {
        let Some(kept) = headers.iter().find(|header| header.name == ACL_HEADER) else {
            return Ok(None);
        };
        let damaged = || S3Error {
            detail: Some("an object's access list is damaged".to_owned()),
            ..Code::InternalError.into()
        };
        Acl::of_kept(&kept.value).map(Some).ok_or_else(damaged)
    }

    /// The form in which an object keeps it.
    pub fn to_header(&self) -> Header {
        Header { name: ACL_HEADER.to_owned(), value: self.to_kept() }
    }
}

fn full_control(id: &str) -> Grant {
    Grant { grantee: Grantee::Account(id.to_owned()), permission: Permission::FullControl }
}

/// What a request's headers ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// A canned list, by name.
    Canned(String),
    /// Grants.
    Grants(Vec<Grant>),
}

const GRANT_HEADERS: [(&str, Permission); 5] = [
    ("x-amz-grant-read", Permission::Read),
    ("x-amz-grant-write", Permission::Write),
    ("x-amz-grant-read-acp", Permission::ReadAcp),
    ("x-amz-grant-write-acp", Permission::WriteAcp),
    ("x-amz-grant-full-control", Permission::FullControl),
];

impl Asked {
    /// Reads `x-amz-acl` and `x-amz-grant-*`. `knows` says whether there is an account with a canonical id.
    ///
    /// # Errors
    /// `InvalidRequest` for both at once, `InvalidArgument` for what names nobody.
    pub fn of_head(head: &RequestHead, knows: impl Fn(&str) -> bool) -> Result<Asked, S3Error> {
        let has_grants = GRANT_HEADERS.iter().any(|(name, _)| head.header(name).is_some());
        if has_grants && head.header("x-amz-acl").is_some() {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "Specifying both Canned ACLs and Header Grants is not allowed",
            ));
        }
        let mut grants = Vec::new();
        for (name, permission) in GRANT_HEADERS {
            let Some(value) = head.header_str(name) else { continue };
            for grantee in value.split(',') {
                let (kind, id) = grantee.split_once('=').ok_or_else(|| invalid_grantee(name, value))?;
                let grantee = grantee_of(kind.trim(), id.trim().trim_matches('"'), &knows)?;
                grants.push(Grant { grantee, permission });
            }
        }
        if grants.len() > GRANTS_MAX {
            return Err(Code::MalformedACLError.into());
        }
        match head.header_str("x-amz-acl") {
            Some(name) if Acl::canned(name, "", "").is_none() => {
                Err(S3Error::argument("x-amz-acl", name, "Invalid Argument"))
            }
            Some(name) => Ok(Asked::Canned(name.to_owned())),
            None if has_grants => Ok(Asked::Grants(grants)),
            None => Ok(Asked::Nothing),
        }
    }

    /// Whether a head asks for anything, be it right or wrong.
    pub fn is_in(head: &RequestHead) -> bool {
        head.header("x-amz-acl").is_some()
            || GRANT_HEADERS.iter().any(|(name, _)| head.header(name).is_some())
    }

    /// The list that it makes for `owner`; `None` where nothing is asked.
    pub fn to_acl(&self, owner: &str, bucket_owner: &str) -> Option<Acl> {
        match self {
            Asked::Nothing => None,
            Asked::Canned(name) => Acl::canned(name, owner, bucket_owner),
            Asked::Grants(grants) => Some(Acl { owner: owner.to_owned(), grants: grants.clone() }),
        }
    }

    /// Whether a bucket whose owner owns everything accepts it on a write of an object.
    pub fn suits_enforced(&self, bucket_owner: &str) -> bool {
        match self {
            Asked::Nothing => true,
            Asked::Canned(name) => name == "bucket-owner-full-control",
            Asked::Grants(grants) => *grants == [full_control(bucket_owner)],
        }
    }
}

/// A grantee by the kind of its name in a header.
fn grantee_of(kind: &str, id: &str, knows: &impl Fn(&str) -> bool) -> Result<Grantee, S3Error> {
    match kind {
        _ if kind.eq_ignore_ascii_case("id") && knows(id) => Ok(Grantee::Account(id.to_owned())),
        _ if kind.eq_ignore_ascii_case("id") => Err(S3Error::argument("CanonicalUser/ID", id, "Invalid id")),
        _ if kind.eq_ignore_ascii_case("uri") => Grantee::of_uri(id).ok_or_else(|| invalid_uri(id)),
        _ if kind.eq_ignore_ascii_case("emailAddress") => Err(Code::UnresolvableGrantByEmailAddress.into()),
        _ => Err(invalid_grantee(kind, id)),
    }
}

/// The error for a group that does not exist.
pub fn invalid_uri(uri: &str) -> S3Error {
    S3Error::argument("Group/URI", uri, "Invalid group uri")
}

fn invalid_grantee(name: &str, value: &str) -> S3Error {
    S3Error::argument(name, value, "Argument format not recognized")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    const ANNA: Caller<'static> = Caller::Account { id: "a1", name: "anna", is_root: false };

    #[test]
    fn canned_lists_grant_what_aws_says() {
        let may = |name: &str, caller, needed| {
            Acl::canned(name, "owner", "bucket").unwrap().grants(caller, needed, false)
        };
        let bucket_owner = Caller::Account { id: "bucket", name: "b", is_root: false };
        assert!(!may("private", ANNA, Permission::Read));
        assert!(may("public-read", Caller::Anonymous, Permission::Read));
        assert!(!may("public-read", Caller::Anonymous, Permission::Write));
        assert!(may("public-read-write", Caller::Anonymous, Permission::Write));
        assert!(may("authenticated-read", ANNA, Permission::Read));
        assert!(!may("authenticated-read", Caller::Anonymous, Permission::Read));
        assert!(may("bucket-owner-read", bucket_owner, Permission::Read));
        assert!(!may("bucket-owner-read", bucket_owner, Permission::WriteAcp));
        assert!(may("bucket-owner-full-control", bucket_owner, Permission::WriteAcp));
        assert_eq!(Acl::canned("public", "o", "b"), None);
        assert!(!Acl::canned("public-read", "o", "b").unwrap().grants(ANNA, Permission::Read, true));
    }

    #[test]
    fn a_kept_list_reads_back_the_same_and_damage_is_seen() {
        for name in ["private", "public-read-write", "log-delivery-write", "bucket-owner-read"] {
            let acl = Acl::canned(name, "owner", "bucket").unwrap();
            assert_eq!(Acl::of_kept(&acl.to_kept()), Some(acl));
        }
        let none = Acl { owner: "o".to_owned(), grants: Vec::new() };
        assert_eq!(Acl::of_kept(&none.to_kept()), Some(none));
        for damaged in [&b""[..], b"o;", b"o;READ", b"o;READ=", b"o;SEE=x", b"\xff"] {
            assert_eq!(Acl::of_kept(damaged), None);
        }
    }

    #[test]
    fn headers_name_grantees_by_id_and_group() {
        let read = |fields: &str| Asked::of_head(&head("PUT /b/k", fields), |id| id == "a1");
        let given = read(&format!(
            "x-amz-grant-read: id=\"a1\", uri=\"{ALL_USERS}\"\r\nx-amz-grant-write-acp: id=a1\r\n"
        ));
        let grants = [
            (Grantee::Account("a1".to_owned()), Permission::Read),
            (Grantee::AllUsers, Permission::Read),
            (Grantee::Account("a1".to_owned()), Permission::WriteAcp),
        ];
        let grants = grants.map(|(grantee, permission)| Grant { grantee, permission });
        assert_eq!(given.unwrap(), Asked::Grants(grants.to_vec()));
        assert_eq!(read("x-amz-acl: public-read\r\n").unwrap(), Asked::Canned("public-read".to_owned()));
        assert_eq!(read("").unwrap(), Asked::Nothing);
        for (fields, code) in [
            ("x-amz-acl: public\r\n", Code::InvalidArgument),
            ("x-amz-acl: private\r\nx-amz-grant-read: id=a1\r\n", Code::InvalidRequest),
            ("x-amz-acl: private\r\nx-amz-grant-read: a1\r\n", Code::InvalidRequest),
            ("x-amz-grant-read: id=nobody\r\n", Code::InvalidArgument),
            ("x-amz-grant-read: uri=nothing\r\n", Code::InvalidArgument),
            ("x-amz-grant-read: emailAddress=a@example.com\r\n", Code::UnresolvableGrantByEmailAddress),
            ("x-amz-grant-read: a1\r\n", Code::InvalidArgument),
        ] {
            assert_eq!(read(fields).unwrap_err().code, code, "{fields}");
        }
    }
}
