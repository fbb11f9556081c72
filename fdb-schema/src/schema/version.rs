//! Versions of a key: what they are called, where each stands, and what protects it; their rows.
//! Invariants: the counts of one key's versions are distinct and grow with every write, whatever the clock does; an
//! object that was stored before versioning has count 0 and no nonce; text that is no id of ours never parses.
//! Not here: how a key's versions change (`history`), listing (`list_versions`). Bytes: docs/format.md.

use bytes::Bytes;

use super::codec::{DecodeError, Decoder, Encoder};
use super::record::ObjectRecord;

const VERSION: u8 = 1;

/// A version's id as clients use it: `null`, or 32 hex digits that sort the newest of a key first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VersionId {
    /// `null`: of an object stored while its bucket's versioning was not enabled. A key has at most one.
    Null,
    /// Any other.
    Named {
        /// Where it stands among those of its key.
        count: u64,
        /// So that ids cannot be guessed from the time of a write.
        nonce: u64,
    },
}

impl VersionId {
    /// Reads the text form; `None` if no version of ours can have such an id.
    pub fn parse(text: &str) -> Option<VersionId> {
        if text == "null" {
            return Some(VersionId::Null);
        }
        let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if text.len() != 32 || !text.as_bytes().iter().all(is_hex) {
            return None;
        }
        let half = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let (inverted, nonce) = (half(text.get(..16)?)?, half(text.get(16..)?)?);
        Some(VersionId::Named { count: !inverted, nonce })
    }
}

impl std::fmt::Display for VersionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VersionId::Null => f.write_str("null"),
            VersionId::Named { count, nonce } => write!(f, "{:016x}{nonce:016x}", !count),
        }
    }
}

/// Where a version stands among those of its key, and whether it has a name of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Greater than that of every older version: microseconds since 1970 of its commit, or one more than the last.
    pub count: u64,
    /// `None` for the null version.
    pub nonce: Option<u64>,
}

impl Version {
    /// That of an object in a bucket whose versioning was never set.
    pub const UNVERSIONED: Version = Version { count: 0, nonce: None };

    /// What clients call it.
    pub fn id(self) -> VersionId {
        match self.nonce {
            None => VersionId::Null,
            Some(nonce) => VersionId::Named { count: self.count, nonce },
        }
    }

    /// Whether it is the null version.
    pub fn is_null(self) -> bool {
        self.nonce.is_none()
    }

    pub(crate) fn encode_into(self, out: &mut Encoder) {
        out.number(self.count);
        match self.nonce {
            None => out.byte(0),
            Some(nonce) => {
                out.byte(1);
                out.raw(&nonce.to_le_bytes());
            }
        }
    }

    pub(crate) fn decode_from(from: &mut Decoder<'_>) -> Result<Version, DecodeError> {
        let count = from.number()?;
        let nonce = match from.byte()? {
            0 => None,
            1 => Some(u64::from_le_bytes(from.array()?)),
            _ => return Err(from.invalid()),
        };
        Ok(Version { count, nonce })
    }
}

/// How a retention may be ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetentionMode {
    /// By those who may bypass governance.
    Governance,
    /// By no one.
    Compliance,
}

/// Until when a version stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Who may end it early.
    pub mode: RetentionMode,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// What keeps a version from being removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectLock {
    /// Until a time.
    pub retention: Option<Retention>,
    /// `Some` once it was set: until it is set to false.
    pub legal_hold: Option<bool>,
}

impl ObjectLock {
    /// Nothing was ever set.
    pub const NONE: ObjectLock = ObjectLock { retention: None, legal_hold: None };

    /// Whether the version may be removed at `now_ms`; `bypass`: by someone who may bypass governance, and says so.
    pub fn permits_removal(&self, now_ms: u64, bypass: bool) -> bool {
        let is_retained = self.retention.is_some_and(|retention| {
            let is_active = now_ms < retention.until_ms;
            is_active && !(bypass && retention.mode == RetentionMode::Governance)
        });
        !is_retained && self.legal_hold != Some(true)
    }

    /// A byte of what is set, then the time if there is one.
    pub(crate) fn encode_into(&self, out: &mut Encoder) {
        let mode = match self.retention.map(|retention| retention.mode) {
            None => 0,
            Some(RetentionMode::Governance) => 1,
            Some(RetentionMode::Compliance) => 2,
        };
        let hold = match self.legal_hold {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        out.byte(hold << 4 | mode);
        if let Some(retention) = self.retention {
            out.number(retention.until_ms);
        }
    }

    pub(crate) fn decode_from(from: &mut Decoder<'_>) -> Result<ObjectLock, DecodeError> {
        let set = from.byte()?;
        let mode = match set & 0x0f {
            0 => None,
            1 => Some(RetentionMode::Governance),
            2 => Some(RetentionMode::Compliance),
            _ => return Err(from.invalid()),
        };
        let legal_hold = match set >> 4 {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            _ => return Err(from.invalid()),
        };
        let retention = match mode {
            None => None,
            Some(mode) => Some(Retention { mode, until_ms: from.number()? }),
        };
        Ok(ObjectLock { retention, legal_hold })
    }
}

/// A delete marker: what a delete without a version id leaves in a bucket with versioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteMarker {
    /// Where it stands.
    pub version: Version,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
}

/// The value of a version row: a version that is not current, or a delete marker, current or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionRecord {
    /// An object that another version hides.
    Object(ObjectRecord),
    /// A delete marker.
    Marker(DeleteMarker),
}

const OBJECT: u8 = 1;
const MARKER: u8 = 2;

impl VersionRecord {
    /// Where it stands.
    pub fn version(&self) -> Version {
        match self {
            VersionRecord::Object(record) => record.listed.version,
            VersionRecord::Marker(marker) => marker.version,
        }
    }

    /// The object, if it is one.
    pub fn object(&self) -> Option<&ObjectRecord> {
        match self {
            VersionRecord::Object(record) => Some(record),
            VersionRecord::Marker(_) => None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        match self {
            VersionRecord::Object(record) => {
                out.byte(OBJECT);
                out.raw(&record.encode());
            }
            VersionRecord::Marker(marker) => {
                out.byte(MARKER);
                marker.version.encode_into(&mut out);
                out.number(marker.modified_ms);
            }
        }
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<VersionRecord, DecodeError> {
        let mut from = Decoder::new("version", VERSION, value)?;
        match from.byte()? {
            OBJECT => Ok(VersionRecord::Object(ObjectRecord::decode(&value.slice(2..))?)),
            MARKER => {
                let version = Version::decode_from(&mut from)?;
                let marker = DeleteMarker { version, modified_ms: from.number()? };
                from.finish()?;
                Ok(VersionRecord::Marker(marker))
            }
            _ => Err(from.invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_id_reads_back_and_newer_ones_sort_first() {
        let id = |count| VersionId::Named { count, nonce: 7 };
        for id in [id(0), id(1), id(u64::MAX), VersionId::Null] {
            assert_eq!(VersionId::parse(&id.to_string()), Some(id));
        }
        assert!(id(1_790_000_000_000_001).to_string() < id(1_790_000_000_000_000).to_string());
    }

    #[test]
    fn text_that_is_no_id_of_ours_is_none() {
        let long = "0".repeat(33);
        for text in [
            "",
            "Null",
            "abc",
            "+0000000000000000000000000000000",
            &"A".repeat(32),
            &"\u{e9}".repeat(16),
            &long,
        ] {
            assert_eq!(VersionId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_lock_holds_until_its_time_and_only_governance_is_bypassed() {
        let retained =
            |mode| ObjectLock { retention: Some(Retention { mode, until_ms: 100 }), legal_hold: None };
        let (governance, compliance) =
            (retained(RetentionMode::Governance), retained(RetentionMode::Compliance));
        assert!(!governance.permits_removal(99, false));
        assert!(governance.permits_removal(99, true));
        assert!(!compliance.permits_removal(99, true));
        assert!(compliance.permits_removal(100, false));
        let held = ObjectLock { legal_hold: Some(true), ..governance };
        assert!(!held.permits_removal(1_000, true));
        assert!(ObjectLock { legal_hold: Some(false), ..held }.permits_removal(1_000, false));
    }
}
