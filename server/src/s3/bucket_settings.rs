//! What a bucket is configured to do, parsed once and remembered by each core.
//! Invariants: what is handed out is the bucket's configuration at the moment of the call: each call reads the bucket's
//! row, which has a generation, and parsed documents count only beside an equal row; memory is bounded by documents' bytes.
//! Not here: how documents are parsed (each has its own module), who may read or change them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use bytes::Bytes;

use crate::ops::api::{BucketConfigs, BucketInfo, BucketName, ConfigKind, Operations};
use crate::s3::bucket_access::BucketAccess;
use crate::s3::config::Document;
use crate::s3::config::cors::Cors;
use crate::s3::config::encryption::DefaultEncryption;
use crate::s3::config::lifecycle::Lifecycle;
use crate::s3::config::logging::Logging;
use crate::s3::config::website::Website;
use crate::s3::error::{Code, S3Error};

/// A bucket's parsed configuration. Each part of the protocol adds the field that it needs.
#[derive(Debug)]
pub struct BucketSettings {
    /// The bucket itself.
    pub info: BucketInfo,
    /// Who may do what in it.
    pub access: BucketAccess,
    /// Its cross-origin rules.
    pub cors: Option<Cors>,
    /// Its lifecycle rules.
    pub lifecycle: Option<Lifecycle>,
    /// Its static website.
    pub website: Option<Website>,
    /// How new objects are encrypted whose requests ask for nothing.
    pub encryption: Option<DefaultEncryption>,
    /// Where its requests are logged.
    pub logging: Option<Rc<Logging>>,
    documents: BTreeMap<ConfigKind, Bytes>,
}

impl BucketSettings {
    /// Parses all documents. They were checked when they were put, so an error means damage: the caller must refuse
    /// the request rather than go on without a rule.
    pub(super) fn parse(configs: BucketConfigs) -> Result<BucketSettings, S3Error> {
        let documents = configs.documents;
        Ok(BucketSettings {
            access: BucketAccess::parse(configs.info.name.as_str(), &documents)?,
            info: configs.info,
            cors: parsed(&documents)?,
            lifecycle: parsed(&documents)?,
            website: parsed(&documents)?,
            encryption: parsed(&documents)?,
            logging: parsed(&documents)?.map(Rc::new),
            documents,
        })
    }

    /// A document as it is kept.
    pub fn document(&self, kind: ConfigKind) -> Option<&Bytes> {
        self.documents.get(&kind)
    }

    /// Roughly what it takes: the parsed forms are of the documents' size.
    fn cost_bytes(&self) -> usize {
        512 + 2 * self.documents.values().map(Bytes::len).sum::<usize>()
    }
}

/// A document that is there; one that does not read any more is damage.
fn parsed<D: Document>(documents: &BTreeMap<ConfigKind, Bytes>) -> Result<Option<D>, S3Error> {
    let damaged = |error: S3Error| S3Error {
        detail: Some(format!("the kept {:?} document does not read: {error}", D::KIND)),
        ..S3Error::from(Code::InternalError)
    };
    documents.get(&D::KIND).map(|kept| D::parse(kept)).transpose().map_err(damaged)
}

/// Remembered settings of one core: at most two halves of so much.
const HALF_BYTES: usize = 8 * 1024 * 1024;

/// The settings that one core remembers.
#[derive(Default)]
pub struct SettingsCache {
    halves: RefCell<Halves>,
}

/// New entries go into one half; when it is full it becomes the old one, and what nobody asked for since is forgotten.
#[derive(Default)]
struct Halves {
    young: HashMap<BucketName, Rc<BucketSettings>>,
    young_bytes: usize,
    old: HashMap<BucketName, Rc<BucketSettings>>,
}

impl SettingsCache {
    /// A bucket's settings as they are now. Cost: one point read and a lookup; after a change one more read of a few rows.
    ///
    /// # Errors
    /// `NoSuchBucket`, or why metadata cannot be read.
    pub async fn get(
        &self,
        ops: &impl Operations,
        bucket: &BucketName,
    ) -> Result<Rc<BucketSettings>, S3Error> {
        let info = ops.head_bucket(bucket.clone()).await?;
        if let Some(found) = self.halves.borrow_mut().find(bucket, &info) {
            return Ok(found);
        }
        let configs = match info.config_generation {
            0 => BucketConfigs { info, documents: BTreeMap::new() },
            _ => ops.bucket_configs(bucket.clone()).await?,
        };
        let settings = Rc::new(BucketSettings::parse(configs)?);
        self.halves.borrow_mut().keep(bucket.clone(), Rc::clone(&settings));
        Ok(settings)
    }
}

impl Halves {
    fn find(&mut self, bucket: &BucketName, info: &BucketInfo) -> Option<Rc<BucketSettings>> {
        if let Some(found) = self.young.get(bucket) {
            return (found.info == *info).then(|| Rc::clone(found));
        }
        let found = self.old.remove(bucket).filter(|found| found.info == *info)?;
        self.keep(bucket.clone(), Rc::clone(&found));
        Some(found)
    }

    fn keep(&mut self, bucket: BucketName, settings: Rc<BucketSettings>) {
        if self.young_bytes >= HALF_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += settings.cost_bytes();
        if let Some(before) = self.young.insert(bucket, settings) {
            self.young_bytes = self.young_bytes.saturating_sub(before.cost_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ops::api::Versioning;

    fn name(text: &str) -> BucketName {
        BucketName::parse(text).unwrap()
    }

    fn settings(text: &str, id: u64, config_generation: u64, len: usize) -> Rc<BucketSettings> {
        let info = BucketInfo {
            name: name(text),
            owner: "root".to_owned(),
            created_ms: 0,
            id,
            versioning: Versioning::Never,
            object_lock: false,
            config_generation,
        };
        let documents = BTreeMap::from([(ConfigKind::Tagging, Bytes::from(vec![b'x'; len]))]);
        Rc::new(BucketSettings::parse(BucketConfigs { info, documents }).unwrap())
    }

    #[test]
    fn settings_count_only_for_their_bucket_and_generation() {
        let mut halves = Halves::default();
        let kept = settings("abc", 1, 4, 10);
        halves.keep(name("abc"), Rc::clone(&kept));
        assert!(halves.find(&name("abc"), &kept.info).is_some());
        assert!(halves.find(&name("abc"), &settings("abc", 1, 5, 0).info).is_none());
        assert!(halves.find(&name("abc"), &settings("abc", 2, 4, 0).info).is_none());
        assert!(halves.find(&name("abd"), &kept.info).is_none());
    }

    #[test]
    fn what_is_asked_for_stays_and_memory_is_bounded() {
        let mut halves = Halves::default();
        let hot = settings("hot", 1, 1, 10);
        halves.keep(name("hot"), Rc::clone(&hot));
        for number in 0..100u64 {
            let text = format!("cold{number}");
            halves.keep(name(&text), settings(&text, number, 1, 1024 * 1024));
            assert!(halves.find(&name("hot"), &hot.info).is_some(), "after {number}");
            let held = halves.young.values().chain(halves.old.values());
            let held_bytes: usize = held.map(|settings| settings.cost_bytes()).sum();
            assert!(held_bytes <= 2 * HALF_BYTES + 8 * 1024 * 1024, "{held_bytes}");
        }
    }
}
