//! The one place that decides whether a request may do what it asks.
//! Invariants: an explicit deny of the bucket's policy holds for everyone, root too, save that root and the owner may
//! always reach the policy itself; what nobody allowed is refused; a bucket that opens itself to no one is decided
//! by its row alone.
//! Not here: the policy language (`policy`), lists (`acl`), what a bucket is configured to (`bucket_access`).

mod actions;
mod facts;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use metrics::{Counter, counter};

use self::facts::{Asked, Given};
use crate::auth::is_canonical_id;
use crate::http::RequestHead;
use crate::ops::api::{
    BucketName, EncryptedBy, Header, ObjectInfo, ObjectKey, ObjectLock, OpError, Operations, UploadId,
    VersionId,
};
use crate::policy::{Action, Question, Target, Verdict};
use crate::s3::acl::{Acl, Permission, bucket_permission, object_permission};
use crate::s3::bucket_access::BucketAccess;
use crate::s3::bucket_settings::{BucketSettings, SettingsCache};
use crate::s3::conditions::unquote;
use crate::s3::error::{Code, S3Error};
use crate::s3::query::Query;
use crate::s3::route::Operation;
use crate::s3::tagging::TagSet;

pub use actions::{Need, need_of, tells_of_object};
pub use facts::{Asker, client_address, client_is_secure};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No one said who asks, and nothing is open to everyone.
    Anonymous,
    /// Nothing allows it.
    NotAllowed,
    /// A policy denies it.
    Explicit,
    /// Only a public policy allows it, and the bucket restricts those.
    PublicBlocked,
}

/// A request that may be dispatched, and what its handler may ask further.
pub struct Authorized<'r> {
    asker: Asker<'r>,
    /// Whether the request makes an object, which its header fields may lock.
    makes_object: bool,
    /// How the upload is encrypted that the request goes on with, where the bucket's policy asks for that.
    of_upload: Option<Option<EncryptedBy>>,
    /// Of the request's bucket, if it names one that must exist.
    settings: Option<Rc<BucketSettings>>,
}

/// What is known of the object that an action is on.
enum Object {
    /// Nothing that counts.
    NotAsked,
    /// There is none.
    Missing,
    /// Its list, unless it is its bucket owner's alone, and its tags.
    Present(Option<Acl>, TagSet),
}

/// What a request names.
#[derive(Clone, Debug)]
pub struct Named<'n> {
    /// The bucket.
    pub bucket: Option<&'n BucketName>,
    /// The key.
    pub key: Option<&'n ObjectKey>,
    /// What it copies from.
    pub source: Option<Source>,
}

/// The source of a copy.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its bucket.
    pub bucket: BucketName,
    /// Its key.
    pub key: ObjectKey,
    /// Its version, if one is named.
    pub version: Option<String>,
}

/// Decides for one core.
pub struct Authorizer {
    denied: [Counter; 4],
}

impl Default for Authorizer {
    fn default() -> Authorizer {
        let denied = |reason: &'static str| counter!("basalt_s3_denied_total", "reason" => reason);
        let reasons = ["anonymous", "not_allowed", "explicit_deny", "public_access_block"];
        Authorizer { denied: reasons.map(denied) }
    }
}

impl Authorizer {
    /// Decides. Cost: one read of the bucket's row; of the object's too where its list or its tags count.
    ///
    /// # Errors
    /// `AccessDenied`; `NoSuchBucket`; `NoSuchKey` where the caller could not read the object but may know that there
    /// is none; or why metadata cannot be read.
    pub async fn authorize<'r, O: Operations>(
        &self,
        ops: &O,
        cache: &SettingsCache,
        operation: Operation,
        asker: Asker<'r>,
        named: Named<'_>,
    ) -> Result<Authorized<'r>, S3Error> {
        let (need, key) = (need_of(operation), named.key);
        let Some(bucket) = named.bucket.filter(|_| !matches!(need, Need::Nothing | Need::Account)) else {
            if need != Need::Nothing && asker.identity.account().is_none() {
                return Err(self.refuse(Denial::Anonymous));
            }
            return Ok(Authorized { asker, makes_object: false, of_upload: None, settings: None });
        };
        let settings = cache.get(ops, bucket).await;
        asker.note.found(settings.as_ref().ok(), |_| key.cloned());
        let settings = settings?;
        self.require_owner(&asker, "x-amz-expected-bucket-owner", &settings)?;
        let makes_object = makes_object(operation);
        let mut authorized =
            Authorized { asker, makes_object, of_upload: None, settings: Some(Rc::clone(&settings)) };
        if goes_on_with_upload(operation) && asks_for_encryption(&settings) {
            authorized.of_upload = Some(upload_encryption(ops, &authorized, &settings, key).await?);
        }
        let has_version = authorized.names_version();
        let version = |plain, versioned| if has_version { versioned } else { plain };
        match need {
            Need::EachKey if authorized.may_delete_nothing(&settings) => {
                return Err(self.refuse(Denial::Anonymous));
            }
            Need::Nothing | Need::Account | Need::EachKey => {}
            Need::Owner if authorized.owns(&settings) => {}
            Need::Owner => return Err(self.refuse(authorized.lacking())),
            // Only a policy has conditions. What its body gives is not read yet: its handler asks.
            Need::Action(..)
                if actions::is_decided_by_body(operation) && settings.access.policy.is_some() => {}
            Need::Action(plain, versioned) => {
                let action = version(plain, versioned);
                self.require(ops, &authorized, &settings, action, key, Given::Nothing).await?;
                if operation == Operation::DeleteObject && demands_tag(authorized.asker.head) {
                    let reads = version(Action::GetObject, Action::GetObjectVersion);
                    self.require(ops, &authorized, &settings, reads, key, Given::Nothing).await?;
                }
            }
            Need::Attributes => {
                for (plain, versioned) in [
                    (Action::GetObject, Action::GetObjectVersion),
                    (Action::GetObjectAttributes, Action::GetObjectVersionAttributes),
                ] {
                    self.require(ops, &authorized, &settings, version(plain, versioned), key, Given::Nothing)
                        .await?;
                }
            }
        }
        self.require_for_headers(operation, &authorized, &settings, key)?;
        if let Some(source) = &named.source {
            self.require_source(ops, cache, &authorized, source, operation).await?;
        }
        Ok(authorized)
    }

    /// Asks for the tags that a body gives an object; the handler of PutObjectTagging calls it.
    ///
    /// # Errors
    /// As [`Authorizer::authorize`].
    pub async fn authorize_tags<O: Operations>(
        &self,
        ops: &O,
        authorized: &Authorized<'_>,
        key: &ObjectKey,
        tags: &TagSet,
    ) -> Result<(), S3Error> {
        let settings = authorized.settings()?;
        let has_version = authorized.names_version();
        let action = if has_version { Action::PutObjectVersionTagging } else { Action::PutObjectTagging };
        self.require(ops, authorized, settings, action, Some(key), Given::Tags(tags)).await
    }

    /// Asks for the retention or the legal hold that a body gives an object; the handlers of PutObjectRetention and
    /// PutObjectLegalHold call it.
    ///
    /// # Errors
    /// As [`Authorizer::authorize`].
    pub async fn authorize_lock<O: Operations>(
        &self,
        ops: &O,
        authorized: &Authorized<'_>,
        key: &ObjectKey,
        lock: &ObjectLock,
    ) -> Result<(), S3Error> {
        let settings = authorized.settings()?;
        let is_hold = lock.legal_hold.is_some();
        let action = if is_hold { Action::PutObjectLegalHold } else { Action::PutObjectRetention };
        self.require(ops, authorized, settings, action, Some(key), Given::Lock(lock)).await
    }

    /// Asks for one of many deletes: of `key`, or of its `version`, if it has the tag `if_match`. Cost: where its list or
    /// its tags count for who asks with a tag, one read of the object.
    ///
    /// # Errors
    /// `AccessDenied`; or why metadata cannot be read.
    pub async fn authorize_delete<O: Operations>(
        &self,
        ops: &O,
        authorized: &Authorized<'_>,
        key: &ObjectKey,
        version: Option<&str>,
        if_match: Option<&str>,
    ) -> Result<(), S3Error> {
        let settings = authorized.settings()?;
        if authorized.is_plain_owner(settings) {
            return Ok(());
        }
        let (deletes, reads) = match version {
            None => (Action::DeleteObject, Action::GetObject),
            Some(_) => (Action::DeleteObjectVersion, Action::GetObjectVersion),
        };
        let ask = |action, object: &Object| {
            let known = Known { object, given: Given::Delete(if_match), version };
            let decided = authorized.decide_with(settings, action, Some(key), &known);
            decided.map_err(|_| S3Error::from(Code::AccessDenied))
        };
        ask(deletes, &Object::NotAsked)?;
        if if_match.is_none_or(|tag| tag == "*") {
            return Ok(());
        }
        let object = match authorized.needs_object(settings, reads) {
            true => find_version(ops, settings, key, version).await?,
            false => Object::NotAsked,
        };
        ask(reads, &object)
    }

    /// One action on the request's bucket or on a key of it.
    async fn require<O: Operations>(
        &self,
        ops: &O,
        authorized: &Authorized<'_>,
        settings: &BucketSettings,
        action: Action,
        key: Option<&ObjectKey>,
        given: Given<'_>,
    ) -> Result<(), S3Error> {
        if authorized.is_plain_owner(settings) {
            return Ok(());
        }
        let mut object = Object::NotAsked;
        if let Some(key) = key.filter(|_| authorized.needs_object(settings, action)) {
            object = find_object(ops, authorized, settings, key).await?;
        }
        let Err(denial) = authorized.decide(settings, action, key, &object, given) else { return Ok(()) };
        if let Some(key) = key.filter(|_| denial != Denial::Explicit) {
            if is_upload_action(action) && is_initiator(ops, authorized, settings, key).await? {
                return Ok(());
            }
            // Who may list the bucket may know that there is no such key.
            if actions::is_on_existing_object(action) && authorized.may_list(settings, key) {
                if matches!(object, Object::NotAsked) {
                    object = find_object(ops, authorized, settings, key).await?;
                }
                if matches!(object, Object::Missing) {
                    return Err(Code::NoSuchKey.into());
                }
            }
        }
        Err(self.refuse(denial))
    }

    /// What the headers of a write ask for besides the object.
    fn require_for_headers(
        &self,
        operation: Operation,
        authorized: &Authorized<'_>,
        settings: &BucketSettings,
        key: Option<&ObjectKey>,
    ) -> Result<(), S3Error> {
        if !makes_object(operation) || authorized.is_plain_owner(settings) {
            return Ok(());
        }
        let has = |name| authorized.asker.head.header(name).is_some();
        let needs = [
            (has("x-amz-tagging"), Action::PutObjectTagging),
            (has("x-amz-object-lock-mode"), Action::PutObjectRetention),
            (has("x-amz-object-lock-legal-hold"), Action::PutObjectLegalHold),
        ];
        for (_, action) in needs.into_iter().filter(|(needed, _)| *needed) {
            self.require_now(authorized, settings, action, key)?;
        }
        // Who may write an object may say who else gets it, unless a policy denies that.
        let grants = authorized.asker.head.headers().any(|(name, _)| is_acl_header(name));
        let denied = |action| {
            authorized.decide(settings, action, key, &Object::NotAsked, Given::Nothing)
                == Err(Denial::Explicit)
        };
        if grants && denied(Action::PutObjectAcl) {
            return Err(self.refuse(Denial::Explicit));
        }
        Ok(())
    }

    fn require_now(
        &self,
        authorized: &Authorized<'_>,
        settings: &BucketSettings,
        action: Action,
        key: Option<&ObjectKey>,
    ) -> Result<(), S3Error> {
        authorized
            .decide(settings, action, key, &Object::NotAsked, Given::Nothing)
            .map_err(|denial| self.refuse(denial))
    }

    /// A copy reads its source, and the source's tags if it takes them along; a rename takes the source away.
    async fn require_source<O: Operations>(
        &self,
        ops: &O,
        cache: &SettingsCache,
        target: &Authorized<'_>,
        source: &Source,
        operation: Operation,
    ) -> Result<(), S3Error> {
        let head = target.asker.head;
        let settings = cache.get(ops, &source.bucket).await?;
        if operation != Operation::RenameObject {
            target.asker.note.reads(&settings, &source.key, source.version.as_deref());
        }
        self.require_owner(&target.asker, "x-amz-source-expected-bucket-owner", &settings)?;
        let asker = target.asker.clone();
        let settings_of_source = Some(Rc::clone(&settings));
        let authorized =
            Authorized { asker, makes_object: false, of_upload: None, settings: settings_of_source };
        if authorized.is_plain_owner(&settings) {
            return Ok(());
        }
        let object = find_version(ops, &settings, &source.key, source.version.as_deref()).await?;
        let has_version = source.version.is_some();
        let action = if has_version { Action::GetObjectVersion } else { Action::GetObject };
        let asked = |action| {
            let known = Known { object: &object, given: Given::Nothing, version: source.version.as_deref() };
            authorized.decide_with(&settings, action, Some(&source.key), &known)
        };
        if let Err(denial) = asked(action) {
            let may_know = denial != Denial::Explicit && authorized.may_list(&settings, &source.key);
            if may_know && matches!(object, Object::Missing) {
                return Err(Code::NoSuchKey.into());
            }
            return Err(self.refuse(denial));
        }
        if matches!(object, Object::Missing) && !authorized.may_list(&settings, &source.key) {
            return Err(self.refuse(Denial::NotAllowed));
        }
        if operation == Operation::RenameObject {
            return asked(Action::DeleteObject).map_err(|denial| self.refuse(denial));
        }
        let replaces_tags = head
            .header_str("x-amz-tagging-directive")
            .is_some_and(|directive| directive.eq_ignore_ascii_case("REPLACE"));
        let takes_tags = operation == Operation::CopyObject && !replaces_tags;
        if matches!(&object, Object::Present(_, tags) if takes_tags && !tags.tags().is_empty()) {
            let action = if has_version { Action::GetObjectVersionTagging } else { Action::GetObjectTagging };
            asked(action).map_err(|denial| self.refuse(denial))?;
        }
        Ok(())
    }

    /// A caller may say whose bucket it means, so that nothing reaches one of the same name that another made.
    fn require_owner(
        &self,
        asker: &Asker<'_>,
        name: &'static str,
        settings: &BucketSettings,
    ) -> Result<(), S3Error> {
        let Some(asked) = asker.head.header(name) else { return Ok(()) };
        // Owners from before there were accounts are shown as root, whose id is not known here.
        let owner = settings.info.owner.as_str();
        if !is_canonical_id(owner) || asked == owner.as_bytes() {
            return Ok(());
        }
        Err(self.refuse(Denial::NotAllowed))
    }

    fn refuse(&self, denial: Denial) -> S3Error {
        self.denied[denial as usize].increment(1);
        Code::AccessDenied.into()
    }

    /// Whether the caller may know that there is no such object: who may list the bucket may.
    pub fn may_know(
        &self,
        operation: Operation,
        authorized: &Authorized<'_>,
        key: Option<&ObjectKey>,
    ) -> bool {
        match (&authorized.settings, key) {
            (Some(settings), Some(key)) if tells_of_object(operation) => authorized.may_list(settings, key),
            _ => true,
        }
    }

    /// The same answer without what its caller may not know.
    ///
    /// # Errors
    /// Those of the answer, but `AccessDenied` where it says that there is no such object.
    pub fn hide_missing<T>(&self, result: Result<T, S3Error>) -> Result<T, S3Error> {
        result.map_err(|error| match error.code {
            Code::NoSuchKey | Code::NoSuchVersion | Code::MethodNotAllowed => self.refuse(Denial::NotAllowed),
            _ => error,
        })
    }
}

impl<'r> Authorized<'r> {
    /// Who asks.
    pub fn asker(&self) -> &Asker<'r> {
        &self.asker
    }

    /// The settings of the request's bucket.
    ///
    /// # Errors
    /// `InvalidBucketName` where the request names none.
    pub fn settings(&self) -> Result<&Rc<BucketSettings>, S3Error> {
        self.settings.as_ref().ok_or(Code::InvalidBucketName.into())
    }

    /// Whether an action on another key of the same bucket is allowed; `version` is the one that is named for it.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn also(&self, action: Action, key: &ObjectKey, version: Option<&str>) -> Result<(), S3Error> {
        let settings = self.settings()?;
        if self.is_plain_owner(settings) {
            return Ok(());
        }
        let known = Known { object: &Object::NotAsked, given: Given::Nothing, version };
        self.decide_with(settings, action, Some(key), &known).map_err(|_| Code::AccessDenied.into())
    }

    /// Whether the caller may pass over governance retention on a key of the bucket; `given` is the retention that the
    /// request's body gives instead.
    pub fn may_bypass_governance(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        given: Option<&ObjectLock>,
    ) -> bool {
        let Some(settings) = &self.settings else { return false };
        let given = given.map_or(Given::Nothing, Given::Lock);
        let known = Known { object: &Object::NotAsked, given, version };
        let action = Action::BypassGovernanceRetention;
        self.is_plain_owner(settings) || self.decide_with(settings, action, Some(key), &known).is_ok()
    }

    /// Whether the caller may know that there is no such key in the bucket: who may list it may.
    pub fn may_know_missing(&self, key: &ObjectKey) -> bool {
        self.settings.as_ref().is_some_and(|settings| self.may_list(settings, key))
    }

    /// As [`Authorized::also`], on an object that is there and has these headers: its list and its tags count.
    ///
    /// # Errors
    /// `AccessDenied`; `InternalError` if what the object keeps is damaged.
    pub fn also_on(&self, action: Action, key: &ObjectKey, headers: &[Header]) -> Result<(), S3Error> {
        let settings = self.settings()?;
        if self.is_plain_owner(settings) {
            return Ok(());
        }
        let object = Object::Present(Acl::of_headers(headers)?, TagSet::of_headers(headers)?);
        let known = Known { object: &object, given: Given::Nothing, version: None };
        self.decide_with(settings, action, Some(key), &known).map_err(|_| Code::AccessDenied.into())
    }

    /// Whether the request names a version. An empty id names none.
    fn names_version(&self) -> bool {
        let query = Query::new(self.asker.head.raw_query());
        query.may_hold("versionId") && query.get("versionId").is_some_and(|id| !id.is_empty())
    }

    /// The upload that the request names.
    fn upload_id(&self) -> Option<UploadId> {
        let id = Query::new(self.asker.head.raw_query()).get("uploadId")?;
        UploadId::parse(&id).ok()
    }

    /// Whether it is known already that the caller may delete no key of the bucket: nobody is known, and without a
    /// policy all keys are alike.
    fn may_delete_nothing(&self, settings: &BucketSettings) -> bool {
        self.asker.identity.account().is_none()
            && settings.access.policy.is_none()
            && self.decide(settings, Action::DeleteObject, None, &Object::NotAsked, Given::Nothing).is_err()
    }

    /// Whether the caller is root or owns the bucket.
    fn owns(&self, settings: &BucketSettings) -> bool {
        self.asker
            .identity
            .account()
            .is_some_and(|account| account.is_root || account.owns(&settings.info.owner))
    }

    /// The owner of a bucket in which nothing else counts.
    fn is_plain_owner(&self, settings: &BucketSettings) -> bool {
        let is_root = || self.asker.identity.account().is_some_and(|account| account.is_root);
        settings.access.policy.is_none() && self.owns(settings) && (!settings.access.has_acls() || is_root())
    }

    fn lacking(&self) -> Denial {
        if self.asker.identity.account().is_none() { Denial::Anonymous } else { Denial::NotAllowed }
    }

    fn needs_object(&self, settings: &BucketSettings, action: Action) -> bool {
        let access = &settings.access;
        let by_tags = access.policy.as_ref().is_some_and(|(policy, _)| policy.asks_for_existing_tags());
        actions::is_on_existing_object(action) && (access.has_acls() || by_tags)
    }

    /// Whether the caller could find a key by listing.
    fn may_list(&self, settings: &BucketSettings, key: &ObjectKey) -> bool {
        if self.is_plain_owner(settings) {
            return true;
        }
        let prefix = text_of(key);
        let (prefix, given) = (Some(prefix), Given::Nothing);
        let (asker, makes_object) = (&self.asker, self.makes_object);
        let of_upload = self.of_upload;
        let asked = Asked { asker, makes_object, of_upload, prefix, existing: None, given, version: None };
        // What is asked besides is no reason why the request was allowed.
        let by_acl = self.asker.note.by_acl();
        let may = self.decide_asked(settings, Action::ListBucket, None, &Object::NotAsked, &asked).is_ok();
        self.asker.note.set_by_acl(by_acl);
        may
    }

    fn decide(
        &self,
        settings: &BucketSettings,
        action: Action,
        key: Option<&ObjectKey>,
        object: &Object,
        given: Given<'_>,
    ) -> Result<(), Denial> {
        self.decide_with(settings, action, key, &Known { object, given, version: None })
    }

    fn decide_with(
        &self,
        settings: &BucketSettings,
        action: Action,
        key: Option<&ObjectKey>,
        known: &Known<'_>,
    ) -> Result<(), Denial> {
        let existing = match known.object {
            Object::Present(_, tags) => Some(tags),
            Object::NotAsked | Object::Missing => None,
        };
        let (asker, makes_object) = (&self.asker, self.makes_object);
        let Known { given, version, .. } = *known;
        let of_upload = self.of_upload;
        let asked = Asked { asker, makes_object, of_upload, prefix: None, existing, given, version };
        self.decide_asked(settings, action, key, known.object, &asked)
    }

    /// The decision itself.
    fn decide_asked(
        &self,
        settings: &BucketSettings,
        action: Action,
        key: Option<&ObjectKey>,
        object: &Object,
        asked: &Asked<'_>,
    ) -> Result<(), Denial> {
        let access = &settings.access;
        let owns = self.owns(settings);
        let verdict = self.verdict(settings, action, key, asked);
        if verdict == Verdict::Deny && !(owns && is_on_policy(action)) {
            return Err(Denial::Explicit);
        }
        if self.asker.identity.account().is_some_and(|account| account.is_root) {
            return Ok(());
        }
        let is_others = access.has_acls()
            && actions::is_on_existing_object(action)
            && matches!(object, Object::Present(Some(acl), _) if acl.owner != settings.info.owner);
        if owns && !is_others {
            return Ok(());
        }
        let is_restricted = access.switches().restrict_buckets
            && access.policy.as_ref().is_some_and(|(_, is_public)| *is_public);
        if verdict == Verdict::Allow && !is_others && !is_restricted {
            return Ok(());
        }
        if access.has_acls() && self.is_granted(access, action, object) {
            self.asker.note.set_by_acl(true);
            return Ok(());
        }
        Err(if verdict == Verdict::Allow && is_restricted { Denial::PublicBlocked } else { self.lacking() })
    }

    fn verdict(
        &self,
        settings: &BucketSettings,
        action: Action,
        key: Option<&ObjectKey>,
        asked: &Asked<'_>,
    ) -> Verdict {
        let Some((policy, _)) = &settings.access.policy else { return Verdict::Silent };
        let bucket = settings.info.name.as_str();
        let on_object;
        let resource = match key {
            Some(key) if action.target() == Target::Object => {
                on_object = format!("{bucket}/{}", text_of(key));
                &on_object
            }
            _ => bucket,
        };
        policy.ask(&Question { caller: self.asker.caller(), action, resource, facts: asked })
    }

    /// Whether a list grants it: the bucket's or the object's.
    fn is_granted(&self, access: &BucketAccess, action: Action, object: &Object) -> bool {
        let (caller, ignore_public) = (self.asker.caller(), access.switches().ignore_acls);
        if let (Some(acl), Some(needed)) = (&access.acl, bucket_permission(action))
            && acl.grants(caller, needed, ignore_public)
        {
            return true;
        }
        let (Object::Present(Some(acl), _), Some(needed)) = (object, object_permission(action)) else {
            return false;
        };
        // An owner who granted nothing to itself can still repair the list.
        let is_own = self.asker.identity.account().is_some_and(|account| *account.id == *acl.owner);
        let repairs = is_own && matches!(needed, Permission::ReadAcp | Permission::WriteAcp);
        repairs || acl.grants(caller, needed, ignore_public)
    }
}

/// What a question knows besides the request.
struct Known<'a> {
    object: &'a Object,
    given: Given<'a>,
    version: Option<&'a str>,
}

/// Keys are UTF-8: they were checked when they were parsed.
fn text_of(key: &ObjectKey) -> &str {
    std::str::from_utf8(key.as_bytes()).unwrap_or_default()
}

fn is_on_policy(action: Action) -> bool {
    matches!(action, Action::GetBucketPolicy | Action::PutBucketPolicy | Action::DeleteBucketPolicy)
}

fn makes_object(operation: Operation) -> bool {
    matches!(operation, Operation::PutObject | Operation::CopyObject | Operation::CreateMultipartUpload)
}

/// Whether a delete demands a tag, and so would tell it to who guesses it. `*` demands any.
fn demands_tag(head: &RequestHead) -> bool {
    head.header("if-match").is_some_and(|tag| std::str::from_utf8(tag).map(unquote) != Ok("*"))
}

fn is_upload_action(action: Action) -> bool {
    matches!(action, Action::AbortMultipartUpload | Action::ListMultipartUploadParts)
}

fn is_acl_header(name: &str) -> bool {
    name.eq_ignore_ascii_case("x-amz-acl")
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-grant-"))
}

async fn find_object<O: Operations>(
    ops: &O,
    authorized: &Authorized<'_>,
    settings: &BucketSettings,
    key: &ObjectKey,
) -> Result<Object, S3Error> {
    let version = Query::new(authorized.asker.head.raw_query()).get("versionId");
    find_version(ops, settings, key, version.as_deref()).await
}

async fn find_version<O: Operations>(
    ops: &O,
    settings: &BucketSettings,
    key: &ObjectKey,
    version: Option<&str>,
) -> Result<Object, S3Error> {
    let version = match version.map(VersionId::parse) {
        // No version has such an id: who may ask is told so.
        Some(None) => return Ok(Object::Missing),
        version => version.flatten(),
    };
    match ops.head_object(settings.info.name.clone(), key.clone(), version).await {
        Ok(info) => present(&info),
        Err(OpError::NoSuchKey | OpError::NoSuchVersion | OpError::DeleteMarker { .. }) => {
            Ok(Object::Missing)
        }
        Err(error) => Err(error.into()),
    }
}

fn present(info: &ObjectInfo) -> Result<Object, S3Error> {
    Ok(Object::Present(Acl::of_object(info)?, TagSet::of_object(info)?))
}

/// Whether the request adds to an upload or ends it: it says nothing of encryption with keys of ours, its upload does.
fn goes_on_with_upload(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::UploadPart | O::UploadPartCopy | O::CompleteMultipartUpload)
}

fn asks_for_encryption(settings: &BucketSettings) -> bool {
    settings.access.policy.as_ref().is_some_and(|(policy, _)| policy.asks_for_encryption())
}

/// How the upload that the query names is encrypted.
async fn upload_encryption<O: Operations>(
    ops: &O,
    authorized: &Authorized<'_>,
    settings: &BucketSettings,
    key: Option<&ObjectKey>,
) -> Result<Option<EncryptedBy>, S3Error> {
    let Some((key, upload)) = key.zip(authorized.upload_id()) else { return Ok(None) };
    match ops.list_parts(settings.info.name.clone(), key.clone(), upload, 0, 1).await {
        Ok(page) => Ok(page.upload.encryption),
        Err(OpError::NoSuchUpload) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the caller began the upload that the query names: then it may list and abort it.
async fn is_initiator<O: Operations>(
    ops: &O,
    authorized: &Authorized<'_>,
    settings: &BucketSettings,
    key: &ObjectKey,
) -> Result<bool, S3Error> {
    let Some(account) = authorized.asker.identity.account() else { return Ok(false) };
    let Some(upload) = authorized.upload_id() else { return Ok(false) };
    let bucket = settings.info.name.clone();
    match ops.list_parts(bucket, key.clone(), upload, 0, 1).await {
        Ok(page) => Ok(*page.upload.initiator == *account.id),
        Err(OpError::NoSuchUpload) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
