//! What a request's handling notes for the access log, if its bucket has one.
//! Invariants: of a request whose bucket is not logged nothing is kept but who asks; that its bucket was asked for is
//! noted, found or not, so that nobody asks again.
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
    identity: OnceCell<Identity>,
    /// Set once the bucket was asked for; its settings if it is logged.
    bucket: OnceCell<Option<Rc<BucketSettings>>>,
    key: OnceCell<ObjectKey>,
    source: OnceCell<Source>,
    deletes: RefCell<Vec<BatchDelete>>,
    object_bytes: Cell<Option<u64>>,
    by_acl: Cell<bool>,
    error: Cell<Option<Code>>,
}

/// Who asked for what.
#[derive(Debug)]
pub struct Subject {
    /// Of the request's bucket, if it is logged.
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
    /// Notes who asks, as soon as that is known.
    pub fn asks(&self, identity: &Identity) {
        drop(self.identity.set(identity.clone()));
    }

    /// Notes that the bucket was asked for: what was found, and of a logged one the key. The first note counts: what a
    /// website looks for after that is of the same visit.
    pub fn found(
        &self,
        settings: Option<&Rc<BucketSettings>>,
        key: impl FnOnce(&BucketSettings) -> Option<ObjectKey>,
    ) {
        if self.bucket.get().is_some() {
            return;
        }
        let logged = settings.filter(|settings| settings.logging.is_some());
        if let Some(key) = logged.and_then(|settings| key(settings)) {
            drop(self.key.set(key));
        }
        drop(self.bucket.set(logged.cloned()));
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
        matches!(self.bucket.get(), Some(Some(_)))
    }

    /// Whether it was refused by its own fault before its bucket was asked for. Not where it could not prove who it is
    /// nor where the server is at fault: neither is to cost a read of metadata.
    pub fn needs_look_up(&self) -> bool {
        let is_own_fault = self.error().is_some_and(|error| error.status() < 500);
        is_own_fault && self.identity.get().is_some() && self.bucket.get().is_none()
    }

    /// Notes one of many deletes.
    pub fn push_delete(&self, delete: BatchDelete) {
        self.deletes.borrow_mut().push(delete);
    }

    /// What was noted: who asked for what, what it reads, what it deletes.
    pub fn into_parts(self) -> (Subject, Option<Source>, Vec<BatchDelete>) {
        let subject = Subject {
            settings: self.bucket.into_inner().flatten(),
            identity: self.identity.into_inner().unwrap_or(Identity::Anonymous),
            key: self.key.into_inner(),
        };
        (subject, self.source.into_inner(), self.deletes.into_inner())
    }
}
