//! What clients know: for every key the writes that may be what it holds now.
//! Invariants: a write is begun before the system hears of it; one that was never answered may have happened or not,
//! once and as a whole, until a look at rest decides; a read may see a write only if that began before the read ended
//! and no acknowledged later write ended before the read began.
//! Not here: the system (`world`), what is asked of it (`client`).

use std::collections::{BTreeMap, BTreeSet};

use server::ops::api::{ETag, ObjectLock, UploadId, VersionId};

use crate::content::{Content, Part};

/// Counts what happens, so that "before" has a meaning.
type Moment = u64;

/// One attempt to change a key.
#[derive(Clone, Debug)]
struct Write {
    id: u64,
    value: Value,
    begun: Moment,
    /// When it was surely done; `None` while that is not known.
    done: Option<Moment>,
}

/// What a key holds after a write.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// This; `None` after a delete.
    Known(Option<Content>),
    /// What another key held at some moment since the copy began.
    CopyOf(String),
}

/// Copies of copies that are followed; more never wait on one another here.
const COPIES_MAX: u32 = 4;

/// An upload under way.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) id: UploadId,
    /// What it will have.
    pub(crate) lock: ObjectLock,
    pub(crate) parts: BTreeMap<u16, UploadedPart>,
    /// Its completion or abort was begun: it may be gone.
    pub(crate) is_ending: bool,
    /// Some client works on it.
    pub(crate) is_busy: bool,
}

/// A part of an upload under way, as far as clients know.
#[derive(Clone, Debug, Default)]
pub(crate) struct UploadedPart {
    pub(crate) acknowledged: Option<Part>,
    /// Asked for after that, and never answered.
    pub(crate) possible: Vec<Part>,
}

impl UploadedPart {
    pub(crate) fn begin(&mut self, part: Part) {
        self.possible.push(part);
    }

    pub(crate) fn end(&mut self, part: Part) {
        self.acknowledged = Some(part);
        self.possible.clear();
    }
}

impl Upload {
    /// All parts that were begun are there for sure.
    pub(crate) fn is_complete(&self) -> bool {
        let is_sure = |part: &UploadedPart| part.acknowledged.is_some() && part.possible.is_empty();
        !self.parts.is_empty() && self.parts.values().all(is_sure)
    }
}

/// What clients know. Outlives every crash.
#[derive(Default)]
pub(crate) struct Model {
    now: Moment,
    keys: BTreeMap<String, Vec<Write>>,
    pub(crate) uploads: Vec<Upload>,
    /// By key and id, in a bucket with versions: what was acknowledged and not removed since, null versions aside.
    pub(crate) versions: BTreeMap<(String, String), Content>,
    /// Of those the ones that must not go, with what is known to lock them.
    pub(crate) locked: BTreeMap<(String, String), ObjectLock>,
    /// Every write may turn out to be one of its key's null version.
    follows_nulls: bool,
    /// Acknowledged changes so far.
    pub(crate) acknowledged: u64,
}

/// What stands before a key where its null version is meant and not what is current: no key of a plan begins so.
const NULL_MARK: char = '\0';

/// The name under which the model follows a key's null version.
pub(crate) fn null_of(key: &str) -> String {
    format!("{NULL_MARK}{key}")
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged.
    Done,
    /// Refused: it did not and will not happen.
    Refused,
}

impl Model {
    pub(crate) fn new(follows_nulls: bool) -> Model {
        Model { follows_nulls, ..Model::default() }
    }

    pub(crate) fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A write is about to be asked for.
    pub(crate) fn begin(&mut self, key: &str, value: Value) -> u64 {
        let begun = self.moment();
        let write = Write { id: begun, value, begun, done: None };
        if self.follows_nulls {
            let nulls = self.keys.entry(null_of(key)).or_insert_with(|| vec![Write::nothing()]);
            nulls.push(write.clone());
        }
        self.keys.entry(key.to_owned()).or_insert_with(|| vec![Write::nothing()]).push(write);
        begun
    }

    /// The system said what a write wrote.
    pub(crate) fn learn(&mut self, key: &str, id: u64, value: Option<Content>) {
        let writes = self.keys.get_mut(key).expect("it was begun");
        for write in writes.iter_mut().filter(|write| write.id == id) {
            write.value = Value::Known(value.clone());
        }
    }

    /// The system answered it. A write that is never answered stays possible.
    pub(crate) fn end(&mut self, key: &str, id: u64, outcome: Outcome) {
        self.acknowledged += u64::from(outcome == Outcome::Done);
        self.end_write(key, id, outcome);
    }

    /// The system said of a write whether it was one of the null version.
    pub(crate) fn end_null(&mut self, key: &str, id: u64, outcome: Outcome) {
        if self.follows_nulls {
            self.end_write(&null_of(key), id, outcome);
        }
    }

    fn end_write(&mut self, key: &str, id: u64, outcome: Outcome) {
        let now = self.moment();
        let writes = self.keys.get_mut(key).expect("it was begun");
        match outcome {
            Outcome::Refused => {
                let was_seen = writes.iter().any(|write| write.id == id && write.done.is_some());
                assert!(!was_seen, "a write of {key} was refused and seen: {writes:#?}");
                writes.retain(|write| write.id != id);
            }
            Outcome::Done => {
                for write in writes.iter_mut().filter(|write| write.id == id) {
                    write.done = Some(now.min(write.done.unwrap_or(now)));
                }
            }
        }
    }

    /// The system said under which version it keeps what a write wrote.
    pub(crate) fn keeps(&mut self, key: &str, version: Option<VersionId>, content: Option<&Content>) {
        if let (Some(version @ VersionId::Named { .. }), Some(content)) = (version, content) {
            let before = self.versions.insert((key.to_owned(), version.to_string()), content.clone());
            assert!(before.is_none_or(|before| before.etag() == content.etag()), "{version} of {key} twice");
        }
    }

    /// The keys that anything was ever asked for.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.keys().filter(|key| !key.starts_with(NULL_MARK)).cloned().collect()
    }

    /// What a version that was acknowledged holds; of a null version, what the last look at rest found.
    pub(crate) fn content_of(&self, key: &str, version: VersionId) -> Option<Content> {
        if version != VersionId::Null {
            return self.versions.get(&(key.to_owned(), version.to_string())).cloned();
        }
        let writes = self.keys.get(&null_of(key))?;
        match &writes.last()?.value {
            Value::Known(content) => content.clone(),
            Value::CopyOf(_) => None,
        }
    }

    /// What a read between two moments may see, the write `except` aside.
    pub(crate) fn possible(
        &self,
        key: &str,
        begun: Moment,
        ended: Moment,
        except: Option<u64>,
    ) -> Vec<Option<Content>> {
        let explaining = self.explaining(key, begun, ended, COPIES_MAX);
        explaining.into_iter().filter(|(id, _)| Some(*id) != except).map(|(_, value)| value).collect()
    }

    /// The writes that such a read may see, each with everything that it may have written.
    fn explaining(
        &self,
        key: &str,
        begun: Moment,
        ended: Moment,
        copies_max: u32,
    ) -> Vec<(u64, Option<Content>)> {
        let Some(writes) = self.keys.get(key) else { return vec![(0, None)] };
        let mut explaining = Vec::new();
        for write in writes.iter().filter(|write| write.is_visible(writes, begun, ended)) {
            match &write.value {
                Value::Known(value) => explaining.push((write.id, value.clone())),
                Value::CopyOf(_) if copies_max == 0 => {}
                Value::CopyOf(from) => {
                    let sources = self.explaining(from, write.begun, ended, copies_max - 1);
                    let copied = sources.into_iter().filter(|(_, value)| value.is_some());
                    explaining.extend(copied.map(|(_, value)| (write.id, value)));
                }
            }
        }
        explaining
    }

    /// A read between two moments saw this; returns the content that it must have.
    ///
    /// Panics if no write explains it.
    pub(crate) fn saw(
        &mut self,
        key: &str,
        begun: Moment,
        ended: Moment,
        etag: Option<ETag>,
    ) -> Option<Content> {
        let mut explaining = self.explaining(key, begun, ended, COPIES_MAX);
        explaining.retain(|(_, value)| value.as_ref().map(Content::etag) == etag);
        let Some((first, value)) = explaining.first().cloned() else {
            let text = etag.map_or_else(|| "nothing".to_owned(), |etag| etag.to_string());
            let writes = self.keys.get(key);
            panic!("{key} holds {text}, which no write explains between {begun} and {ended}: {writes:#?}");
        };
        // Seen once, it has happened, and no later read may miss it.
        if explaining.iter().all(|(id, _)| *id == first)
            && let Some(writes) = self.keys.get_mut(key)
            && let Some(write) = writes.iter_mut().find(|write| write.id == first)
        {
            write.value = Value::Known(value.clone());
            write.done = Some(ended.min(write.done.unwrap_or(ended)));
        }
        value
    }

    /// At rest the key holds `value`, and nothing that was asked for before can change it any more.
    pub(crate) fn settle(&mut self, key: &str, value: Option<Content>) {
        let now = self.moment();
        let settled = Write { id: now, value: Value::Known(value), begun: now, done: Some(now) };
        self.keys.insert(key.to_owned(), vec![settled]);
    }

    /// Checks a listing between two moments: `seen` by key, and the prefixes that were rolled up at `delimiter`.
    pub(crate) fn saw_listing(
        &mut self,
        prefix: &str,
        delimiter: Option<char>,
        moments: (Moment, Moment),
        seen: &BTreeMap<String, ETag>,
        rolled: &BTreeSet<String>,
    ) {
        let (begun, ended) = moments;
        let roll = |key: &str| {
            let rest = key.strip_prefix(prefix)?;
            let at = rest.find(delimiter?)?;
            Some(key[..prefix.len() + at + 1].to_owned())
        };
        let mut explained = BTreeSet::new();
        for key in self.keys().iter().filter(|key| key.starts_with(prefix)) {
            let possible = self.possible(key, begun, ended, None);
            match roll(key) {
                Some(rolled_up) => {
                    let may_be_there = possible.iter().any(Option::is_some);
                    let must_be_there = possible.iter().all(Option::is_some);
                    assert!(!must_be_there || rolled.contains(&rolled_up), "{rolled_up} is not listed");
                    if may_be_there {
                        explained.insert(rolled_up);
                    }
                }
                None => {
                    self.saw(key, begun, ended, seen.get(key).copied());
                }
            }
        }
        for key in seen.keys() {
            assert!(self.keys.contains_key(key), "{key} is listed and nobody ever wrote it");
            assert!(key.starts_with(prefix) && roll(key).is_none(), "{key} is listed under {prefix:?}");
        }
        assert!(rolled.is_subset(&explained), "{rolled:?} are listed, {explained:?} can be");
    }
}

impl Write {
    /// The state before the first write.
    fn nothing() -> Write {
        Write { id: 0, value: Value::Known(None), begun: 0, done: Some(0) }
    }

    fn is_visible(&self, all: &[Write], begun: Moment, ended: Moment) -> bool {
        let is_over = |later: &Write| {
            let (Some(done), Some(later_done)) = (self.done, later.done) else { return false };
            done < later.begun && later_done < begun
        };
        self.begun < ended && !all.iter().any(is_over)
    }
}
