//! Who may do what: the bucket's policy, public access block, ownership controls and access lists.
//! Invariants: what is put was understood, so that it can be obeyed; a public access block is obeyed where lists and
//! policies are put; lists are refused where they would not count.
//! Not here: what follows for a request (`s3::authorize`).

use bytes::Bytes;
use shardstore_reactor::{Executor, Stream};

use super::copy::{CopySource, of_source};
use super::documents::{absent, xml_reply};
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::{ACL_HEADER, ConfigKind, ETag, Header, ObjectInfo, Operations, TAGGING_HEADER};
use crate::policy::{Action, POLICY_BYTES_MAX, Policy};
use crate::s3::acl::{Acl, Asked, Grant, Grantee, invalid_uri};
use crate::s3::body::S3Body;
use crate::s3::bucket_access::{BucketAccess, OWNERSHIP_DELETED, Ownership};
use crate::s3::error::{Code, S3Error, of_subject};
use crate::s3::versions::push_version;
use crate::s3::xml::{self, NamedGrantee};

/// Longest document of a list: 100 grants of two ids and names.
const DOCUMENT_BYTES_MAX: usize = 128 * 1024;
/// A policy over its limit is read as far as that, to say so in the right words.
const POLICY_READ_MAX: usize = 64 * 1024;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) fn get_bucket_policy(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let settings = request.access.settings()?;
        let _permit = self.ops.admit(Some(0))?;
        let text = settings
            .document(ConfigKind::Policy)
            .cloned()
            .ok_or_else(|| absent(request, Code::NoSuchBucketPolicy))?;
        Ok(Response::new(200).with_bytes("application/json", text))
    }

    pub(super) async fn put_bucket_policy<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let settings = request.access.settings()?;
        let bucket = request.bucket()?;
        if body.len_bytes().is_some_and(|len| len > POLICY_BYTES_MAX as u64) {
            return Err(Code::PolicyTooLarge.into());
        }
        let (_permit, document) = self.read_document(body, POLICY_READ_MAX).await?;
        if document.is_empty() {
            return Err(S3Error::with_message(
                Code::MalformedPolicy,
                "Policies must be valid JSON and the first byte must be '{'",
            ));
        }
        if document.len() > POLICY_BYTES_MAX {
            return Err(Code::PolicyTooLarge.into());
        }
        let policy = Policy::parse(&document, bucket.as_str())
            .map_err(|why| S3Error::with_message(Code::MalformedPolicy, why.0))?;
        if settings.access.switches().refuse_policy && policy.is_public() {
            return Err(Code::AccessDenied.into());
        }
        self.ops.put_bucket_config(bucket, ConfigKind::Policy, Bytes::from(document)).await?;
        Ok(Response::new(204))
    }

    pub(super) fn get_bucket_policy_status(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let is_public = request.access.settings()?.access.is_public();
        Ok(xml_reply(xml::policy_status(is_public)))
    }

    pub(super) fn get_public_access_block(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let switches = request.access.settings()?.access.public_access;
        let switches = switches.ok_or_else(|| absent(request, Code::NoSuchPublicAccessBlockConfiguration))?;
        Ok(xml_reply(xml::public_access_block(&switches)))
    }

    pub(super) async fn put_public_access_block<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let switches = xml::parse_public_access_block(&document)?;
        let kept = xml::public_access_block(&switches);
        self.ops.put_bucket_config(request.bucket()?, ConfigKind::PublicAccessBlock, kept).await?;
        Ok(Response::new(200))
    }

    pub(super) fn get_ownership_controls(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let ownership = request.access.settings()?.access.ownership;
        let ownership = ownership.ok_or_else(|| absent(request, Code::OwnershipControlsNotFoundError))?;
        Ok(xml_reply(xml::ownership(ownership)))
    }

    pub(super) async fn put_ownership_controls<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let ownership = xml::parse_ownership(&document)?;
        let acl = &request.access.settings()?.access.acl;
        if ownership == Ownership::Enforced && acl.as_ref().is_some_and(|acl| !acl.is_private()) {
            return Err(Code::InvalidBucketAclWithObjectOwnership.into());
        }
        let kept = xml::ownership(ownership);
        self.ops.put_bucket_config(request.bucket()?, ConfigKind::Ownership, kept).await?;
        Ok(Response::new(200))
    }

    pub(super) async fn delete_ownership_controls(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let kept = Bytes::from_static(OWNERSHIP_DELETED);
        self.ops.put_bucket_config(request.bucket()?, ConfigKind::Ownership, kept).await?;
        Ok(Response::new(204))
    }

    pub(super) fn get_bucket_acl(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        Ok(self.acl_reply(&bucket_acl(request)?))
    }

    pub(super) async fn put_bucket_acl<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let owner = request.access.settings()?.info.owner.clone();
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let acl = self.put_acl(request, &document, &owner)?;
        self.ops.put_bucket_config(request.bucket()?, ConfigKind::Acl, acl.to_kept()).await?;
        Ok(Response::new(200))
    }

    pub(super) async fn get_object_acl(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let info = self.ops.head_object(request.bucket()?, request.key()?, request.version()?).await?;
        let mut response = self.acl_reply(&object_acl(request, &info)?);
        push_version(&mut response.headers, info.version);
        Ok(response)
    }

    pub(super) async fn put_object_acl<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (bucket, key, version) = (request.bucket()?, request.key()?, request.version()?);
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let info = self.ops.head_object(bucket.clone(), key.clone(), version).await.map_err(of_subject)?;
        // The body took time: it may be another object by now.
        let action = if version.is_some() { Action::PutObjectVersionAcl } else { Action::PutObjectAcl };
        request.access.also_on(action, &key, &info.headers)?;
        let owner = object_acl(request, &info)?.owner;
        let acl = self.put_acl(request, &document, &owner)?;
        let kept = kept_acl(request, &acl)?.map(|header| header.value);
        let version = self.ops.put_acl(bucket, key, version, kept).await.map_err(of_subject)?;
        let mut response = Response::new(200);
        push_version(&mut response.headers, version);
        Ok(response)
    }

    /// The list that a request puts, by its headers or its document.
    fn put_acl(&self, request: &Request<'_>, document: &[u8], owner: &str) -> Result<Acl, S3Error> {
        let access = &request.access.settings()?.access;
        let bucket_owner = &request.access.settings()?.info.owner;
        if !document.is_empty() && Asked::is_in(request.head) {
            return Err(Code::UnexpectedContent.into());
        }
        let asked = match self.asked(request) {
            // Where no list counts it does not matter what is wrong with this one.
            Err(_) if !access.has_acls() => return Err(Code::AccessControlListNotSupported.into()),
            asked => asked?,
        };
        let acl = match asked.to_acl(owner, bucket_owner) {
            Some(acl) => acl,
            None if document.is_empty() => {
                return Err(Code::MissingSecurityHeader.into());
            }
            None => self.named_acl(document, owner)?,
        };
        if !access.has_acls() {
            let is_default = matches!(asked, Asked::Nothing) && acl == Acl::private(bucket_owner);
            return if is_default { Ok(acl) } else { Err(Code::AccessControlListNotSupported.into()) };
        }
        if access.switches().refuse_acls && acl.is_public() {
            return Err(Code::AccessDenied.into());
        }
        Ok(acl)
    }

    /// Reads a document and resolves whom it names.
    fn named_acl(&self, document: &[u8], owner: &str) -> Result<Acl, S3Error> {
        let parsed = xml::parse_acl(document).map_err(|_| S3Error::from(Code::MalformedACLError))?;
        let shown = self.verifier.credentials().person(owner).id;
        if parsed.owner != shown {
            return Err(Code::AccessDenied.into());
        }
        let grants = parsed.grants.into_iter().map(|(grantee, permission)| {
            let grantee = match grantee {
                // An owner from before there were accounts is shown as root and kept as it is.
                NamedGrantee::Id(id) if id == shown => Grantee::Account(owner.to_owned()),
                NamedGrantee::Id(id) if self.knows(&id) => Grantee::Account(id),
                NamedGrantee::Id(id) => {
                    return Err(S3Error::argument("CanonicalUser/ID", &id, "Invalid id"));
                }
                NamedGrantee::Uri(uri) => Grantee::of_uri(&uri).ok_or_else(|| invalid_uri(&uri))?,
                NamedGrantee::Email => return Err(Code::UnresolvableGrantByEmailAddress.into()),
            };
            Ok(Grant { grantee, permission })
        });
        Ok(Acl { owner: owner.to_owned(), grants: grants.collect::<Result<_, _>>()? })
    }

    /// What the list of a new object is kept as; nothing where it is its bucket's owner's alone.
    pub(super) fn new_object_acl(&self, request: &Request<'_>) -> Result<Option<Header>, S3Error> {
        let settings = request.access.settings()?;
        let asked = self.asked(request)?;
        let bucket_owner = &settings.info.owner;
        if !settings.access.has_acls() {
            let shown = self.verifier.credentials().person(bucket_owner).id;
            let suits = asked.suits_enforced(&shown);
            return if suits { Ok(None) } else { Err(Code::AccessControlListNotSupported.into()) };
        }
        let is_given = settings.access.ownership == Some(Ownership::Preferred)
            && asked == Asked::Canned("bucket-owner-full-control".to_owned());
        let is_own = request.identity.account().is_some_and(|account| account.owns(bucket_owner));
        let owner = if is_given || is_own { bucket_owner } else { request.identity.canonical_id() };
        let acl = asked.to_acl(owner, bucket_owner).unwrap_or_else(|| Acl::private(owner));
        if settings.access.switches().refuse_acls && acl.is_public() {
            return Err(Code::AccessDenied.into());
        }
        kept_acl(request, &acl)
    }

    /// The headers that a copy replaces, with the list of the target among them; the source's is never taken along.
    /// Where headers had to be read from the source for that: its tag and time, which the copy must find again.
    pub(super) async fn with_new_acl(
        &self,
        request: &Request<'_>,
        replace_headers: Option<Vec<Header>>,
        source: &CopySource,
    ) -> Result<(Option<Vec<Header>>, Option<(ETag, u64)>), S3Error> {
        let Some(acl) = self.new_object_acl(request)? else { return Ok((replace_headers, None)) };
        let (mut headers, as_read) = match replace_headers {
            Some(headers) => (headers, None),
            None => {
                let (bucket, key) = (source.bucket.clone(), source.key.clone());
                let info = self.ops.head_object(bucket, key, source.version).await.map_err(of_source)?;
                (info.headers, Some((info.etag, info.modified_ms)))
            }
        };
        headers.retain(|header| header.name != ACL_HEADER && header.name != TAGGING_HEADER);
        headers.push(acl);
        Ok((Some(headers), as_read))
    }

    /// What a new bucket is configured to by its request's headers.
    pub(super) fn new_bucket_configs(
        &self,
        request: &Request<'_>,
    ) -> Result<Vec<(ConfigKind, Bytes)>, S3Error> {
        let ownership = match request.head.header_str("x-amz-object-ownership") {
            None => self.config.object_ownership,
            Some(name) => Ownership::of_name(name).ok_or_else(|| {
                S3Error::argument("x-amz-object-ownership", name, "Invalid x-amz-object-ownership header")
            })?,
        };
        let owner = request.identity.canonical_id();
        let acl = self.asked(request)?.to_acl(owner, owner).filter(|acl| *acl != Acl::private(owner));
        if ownership == Ownership::Enforced && acl.is_some() {
            return Err(Code::InvalidBucketAclWithObjectOwnership.into());
        }
        let mut configs = Vec::new();
        if ownership != Ownership::default() {
            configs.push((ConfigKind::Ownership, xml::ownership(ownership)));
        }
        configs.extend(acl.map(|acl| (ConfigKind::Acl, acl.to_kept())));
        Ok(configs)
    }

    fn asked(&self, request: &Request<'_>) -> Result<Asked, S3Error> {
        Asked::of_head(request.head, |id| self.knows(id))
    }

    fn knows(&self, id: &str) -> bool {
        self.verifier.credentials().name_of(id).is_some()
    }

    fn acl_reply(&self, acl: &Acl) -> Reply<O> {
        let document = xml::acl(acl, |id| self.verifier.credentials().person(id));
        xml_reply(document)
    }
}

/// The list of the request's bucket, as it counts.
fn bucket_acl(request: &Request<'_>) -> Result<Acl, S3Error> {
    let settings = request.access.settings()?;
    let private = || Acl::private(&settings.info.owner);
    Ok(counting(&settings.access, settings.access.acl.clone()).unwrap_or_else(private))
}

/// The list of an object of the request's bucket, as it counts.
fn object_acl(request: &Request<'_>, info: &ObjectInfo) -> Result<Acl, S3Error> {
    let settings = request.access.settings()?;
    let private = || Acl::private(&settings.info.owner);
    Ok(counting(&settings.access, Acl::of_object(info)?).unwrap_or_else(private))
}

fn counting(access: &BucketAccess, acl: Option<Acl>) -> Option<Acl> {
    acl.filter(|_| access.has_acls())
}

fn kept_acl(request: &Request<'_>, acl: &Acl) -> Result<Option<Header>, S3Error> {
    let is_default = *acl == Acl::private(&request.access.settings()?.info.owner);
    Ok((!is_default).then(|| acl.to_header()))
}
