//! Which entries of a version listing are older versions, since when and behind how many, and which delete markers stand
//! alone: what lifecycle rules ask of versions.
//! Invariants: entries come by key and then the newest first, over any number of pages; a marker stands alone only once an
//! entry of another key, or the end, has shown that nothing is behind it.
//! Not here: what rules make of it (`config::lifecycle`), reading pages and removing (`lifecycle_pass`).

use bytes::Bytes;

use crate::ops::api::VersionEntry;

/// An older version's place among those of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// When the version that is next newer was made, and this one became an older one: milliseconds since 1970.
    pub since_ms: u64,
    /// How many older versions of the key are newer than this one.
    pub newer: u32,
}

/// What an entry shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The entry is an older version.
    pub older: Option<Older>,
    /// The delete marker before the entry stands alone.
    pub lone_marker: Option<VersionEntry>,
}

/// What is remembered between two entries.
#[derive(Debug, Default)]
pub struct VersionWalk {
    /// The key of the last entry, and when that was made.
    last: Option<(Bytes, u64)>,
    /// Older versions of that key so far.
    older: u32,
    /// Its newest version, if that is a delete marker and nothing came behind it yet.
    marker: Option<VersionEntry>,
    /// The key before it.
    done: Bytes,
}

impl VersionWalk {
    /// A walk that begins behind all versions of a key; empty: with the first of all.
    pub fn after(key: Bytes) -> VersionWalk {
        VersionWalk { done: key, ..VersionWalk::default() }
    }

    /// Takes the next entry.
    pub fn take(&mut self, entry: &VersionEntry) -> Shown {
        let newer_ms = self.last.as_ref().filter(|(key, _)| *key == entry.key).map(|(_, made_ms)| *made_ms);
        let shown = match newer_ms {
            Some(since_ms) => {
                self.marker = None;
                let older = Older { since_ms, newer: self.older };
                self.older += 1;
                Shown { older: Some(older), lone_marker: None }
            }
            None => {
                let lone_marker = self.marker.take();
                self.older = 0;
                if let Some((key, _)) = self.last.take() {
                    self.done = key;
                }
                let is_marker = entry.is_latest && entry.object.is_none();
                self.marker = is_marker.then(|| entry.clone());
                Shown { older: None, lone_marker }
            }
        };
        self.last = Some((entry.key.clone(), entry.modified_ms));
        shown
    }

    /// There are no more entries: the last delete marker, if it stands alone.
    pub fn end(&mut self) -> Option<VersionEntry> {
        self.marker.take()
    }

    /// The last key of which every version was taken.
    pub fn done(&self) -> &Bytes {
        &self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::api::{ETag, ListedObject, VersionId};

    fn entry(key: &'static str, modified_ms: u64, is_latest: bool, is_marker: bool) -> VersionEntry {
        let key = Bytes::from_static(key.as_bytes());
        let object = (!is_marker).then(|| ListedObject {
            key: key.clone(),
            size_bytes: 1,
            etag: ETag::whole([0; 16]),
            modified_ms,
            checksum: None,
            storage_class: None,
            headers: None,
            owner: None,
        });
        let version = VersionId::Named { count: modified_ms, nonce: 0 };
        VersionEntry { key, version, is_latest, modified_ms, object }
    }

    #[test]
    fn a_version_is_an_older_one_since_the_next_newer_was_made() {
        let mut walk = VersionWalk::default();
        let shown = [(9, true, false), (7, false, true), (4, false, false)]
            .map(|(ms, is_latest, is_marker)| walk.take(&entry("a", ms, is_latest, is_marker)).older);
        let older = |since_ms, newer| Some(Older { since_ms, newer });
        assert_eq!(shown, [None, older(9, 0), older(7, 1)]);
        assert_eq!(walk.take(&entry("b", 1, true, false)), Shown::default());
        assert_eq!(walk.done(), "a");
    }

    #[test]
    fn a_marker_stands_alone_once_nothing_came_behind_it() {
        let mut walk = VersionWalk::default();
        assert_eq!(walk.take(&entry("a", 9, true, true)), Shown::default());
        assert!(walk.take(&entry("a", 8, false, false)).lone_marker.is_none());
        assert!(walk.take(&entry("b", 7, true, true)).lone_marker.is_none());
        let lone = walk.take(&entry("c", 6, true, true)).lone_marker;
        assert_eq!(lone, Some(entry("b", 7, true, true)));
        assert_eq!(walk.end(), Some(entry("c", 6, true, true)));
        assert_eq!(walk.end(), None);
    }

    #[test]
    fn a_walk_that_goes_on_says_where_it_began_until_a_key_is_done() {
        let mut walk = VersionWalk::after(Bytes::from_static(b"a"));
        drop(walk.take(&entry("b", 9, true, false)));
        assert_eq!(walk.done(), "a");
        drop(walk.take(&entry("c", 9, true, false)));
        assert_eq!(walk.done(), "b");
    }
}
