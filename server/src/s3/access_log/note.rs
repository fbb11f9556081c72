//! What a request's handling notes for the access log, if its bucket has one.
//! Invariants: nothing is kept of a request whose bucket is not logged, but for one that was refused: its bucket is
//! looked up then.
//! Not here: the record that becomes of it (`handlers::logging`).

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use bytes::Bytes;

use crate::auth::Identity;
use crate::ops::api::ObjectKey;
use crate::s3::bucket_settings::BucketSettings;
use crate::s3::error::Code;

/// The notes of one request.
#[derive(Debug, Default)]
pub struct RequestNote {
    subject: OnceCell<Subject>,
    source: OnceCell<Source>,
    deletes: RefCell<Vec<BatchDelete>>,
    object_bytes: Cell<Option<u64>>,
    by_acl: Cell<bool>,
    error: Cell<Option<Code>>,
}

/// Who asked for what.
#[derive(Debug)]
pub struct Subject {
    /// Of the request's bucket; none where the request was refused before it was known to be logged.
    pub settings: Option<Rc<BucketSettings>>,
    /// Who asked.
    pub identity: Identity,
    /// For which key.
    pub key: Option<ObjectKey>,
}

/// What a copy reads.
#[derive(Clone, Debug)]
pub struct Source {
    /// Of its bucket, which is logged.
    pub settings: Rc<BucketSettings>,
    /// Its key.
    pub key: ObjectKey,
    /// Its version, if one was named.
    pub version: Option<String>,
}

/// One of many deletes in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchDelete {
    /// The key.
    pub key: Bytes,
    /// The version, if one was named.
    pub version: Option<String>,
    /// Why it was not carried out.
    pub error: Option<Code>,
}

impl RequestNote {
    /// Notes who asks for what, if the bucket is logged.
    pub fn allowed(
        &self,
        settings: Option<&Rc<BucketSettings>>,
        identity: &Identity,
        key: Option<&ObjectKey>,
    ) {
        if let Some(settings) = settings.filter(|settings| settings.logging.is_some()) {
            self.note(Some(Rc::clone(settings)), identity, key);
        }
    }

    /// Notes who asked for what was refused.
    pub fn refused(&self, identity: &Identity, key: Option<&ObjectKey>) {
        self.note(None, identity, key);
    }

    fn note(&self, settings: Option<Rc<BucketSettings>>, identity: &Identity, key: Option<&ObjectKey>) {
        let subject = Subject { settings, identity: identity.clone(), key: key.cloned() };
        // The first note counts: what a website looks for after that is of the same visit.
        drop(self.subject.set(subject));
    }

    /// Notes what a copy reads, if its bucket is logged.
    pub fn reads(&self, settings: &Rc<BucketSettings>, key: &ObjectKey, version: Option<&str>) {
        if settings.logging.is_some() {
            let settings = Rc::clone(settings);
            drop(self.source.set(Source { settings, key: key.clone(), version: version.map(str::to_owned) }));
        }
    }

    /// Notes why it was refused or failed.
    pub fn fail(&self, error: Code) {
        self.error.set(Some(error));
    }

    /// Why it was refused or failed.
    pub fn error(&self) -> Option<Code> {
        self.error.get()
    }

    /// Notes that only an access list allowed it.
    pub fn set_by_acl(&self, by_acl: bool) {
        self.by_acl.set(by_acl);
    }

    /// Whether only an access list allowed it.
    pub fn by_acl(&self) -> bool {
        self.by_acl.get()
    }

    /// Notes the size of the object that was made or read, where neither head nor response says it.
    pub fn set_object_bytes(&self, bytes: u64) {
        self.object_bytes.set(Some(bytes));
    }

    /// The size of the object.
    pub fn object_bytes(&self) -> Option<u64> {
        self.object_bytes.get()
    }

    /// Whether something will be recorded.
    pub fn is_logged(&self) -> bool {
        self.source.get().is_some() || self.has_logged_bucket()
    }

    /// Whether the request's own bucket is known to be logged.
    pub fn has_logged_bucket(&self) -> bool {
        self.subject.get().is_some_and(|subject| subject.settings.is_some())
    }

    /// Notes one of many deletes.
    pub fn push_delete(&self, delete: BatchDelete) {
        self.deletes.borrow_mut().push(delete);
    }

    /// What was noted: who asked for what, what it reads, what it deletes.
    pub fn into_parts(self) -> (Option<Subject>, Option<Source>, Vec<BatchDelete>) {
        (self.subject.into_inner(), self.source.into_inner(), self.deletes.into_inner())
    }
}
