//! Values: what each row holds, and its bytes.
//! Invariants: every value begins with a version byte; what LIST needs of an object comes first, so that a listing
//! decodes no headers and no extents; decode(encode(x)) is x.
//! Not here: keys (`keyspace`), transactions. Bytes: docs/format.md.

use bytes::Bytes;
use shardstore_format::{DataId, Extent};

use super::codec::{DecodeError, Decoder, Encoder};
use super::encryption::{EncryptedBy, Encryption};
use super::keyspace::BucketId;
use super::value::{ChecksumAlgorithm, ChecksumKind, ETag, Header, StoredChecksum};
use super::version::{ObjectLock, Version};

/// Extents copied into the object's row: 8 x 30 bytes; an object of more is found by its data row.
pub const HINT_EXTENTS_MAX: usize = 8;
/// Items kept in the header of a byte sequence: 64 x 30 bytes, so that most objects have one data row.
pub const HEADER_ITEMS_MAX: usize = 64;
/// Items of one further data row: 2,000 x 30 bytes is 60 kB, under the 100 kB of a value.
pub const ROW_ITEMS_MAX: usize = 2_000;
/// Largest body kept in metadata. Up to here a PUT is one durable write (the metadata log's) instead of two, and a
/// GET is two rows of one snapshot. Above it the copies that the log and compaction make cost more than a stripe does.
pub const INLINE_MAX_BYTES: usize = 1_024;

const VERSION: u8 = 1;
/// 2 has versioning, object lock and the generation of the configuration at the end.
const BUCKET_VERSION: u8 = 2;

/// Whether a bucket keeps older versions of its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versioning {
    /// It never did: each object has the one version `null`.
    #[default]
    Never,
    /// It does.
    Enabled,
    /// It did: what it kept stays, new versions are `null`.
    Suspended,
}
/// Of an object's row that says which version it is and what protects it. One without either is written as before.
const OBJECT_VERSION_NAMED: u8 = 2;
/// Of an object's row that ends with how its bytes are sealed; what version 2 has it has too.
const OBJECT_VERSION_SEALED: u8 = 3;
/// Of a completion's row that says which version it made.
const COMPLETED_VERSION_NAMED: u8 = 2;
/// Of a completion's row that says by whom the object is encrypted, and whether it has a version.
const COMPLETED_VERSION_SEALED: u8 = 3;
/// Of an upload's row with a lock.
const UPLOAD_VERSION_LOCKED: u8 = 2;
/// Of an upload's row with a lock and how its parts are sealed.
const UPLOAD_VERSION_SEALED: u8 = 3;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRecord {
    /// Its number, under which everything in it is kept.
    pub id: BucketId,
    /// The account that made it.
    pub owner: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Whether it keeps older versions.
    pub versioning: Versioning,
    /// Whether its versions can be locked; once true it stays so.
    pub object_lock: bool,
    /// Goes up with every change of this record or of the bucket's configuration; 0: there never was any.
    pub config_generation: u64,
}

impl BucketRecord {
    /// A new bucket without versioning and configuration.
    pub(crate) fn new(id: BucketId, owner: &str, created_ms: u64) -> BucketRecord {
        BucketRecord {
            id,
            owner: owner.to_owned(),
            created_ms,
            versioning: Versioning::Never,
            object_lock: false,
            config_generation: 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(BUCKET_VERSION);
        out.number(self.id.0);
        out.text(self.owner.as_bytes());
        out.number(self.created_ms);
        out.byte(match self.versioning {
            Versioning::Never => 0,
            Versioning::Enabled => 1,
            Versioning::Suspended => 2,
        });
        out.byte(u8::from(self.object_lock));
        out.number(self.config_generation);
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<BucketRecord, DecodeError> {
        let (version, mut from) = Decoder::up_to("bucket", BUCKET_VERSION, value)?;
        let id = BucketId(from.number()?);
        let mut record = BucketRecord::new(id, &from.string()?, from.number()?);
        if version >= 2 {
            record.versioning = match from.byte()? {
                0 => Versioning::Never,
                1 => Versioning::Enabled,
                2 => Versioning::Suspended,
                _ => return Err(from.invalid()),
            };
            record.object_lock = match from.byte()? {
                0 => false,
                1 => true,
                _ => return Err(from.invalid()),
            };
            record.config_generation = from.number()?;
        }
        from.finish()?;
        Ok(record)
    }
}

/// An extent with what can be checked of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataExtent {
    /// Where.
    pub extent: Extent,
    /// CRC32C of all its bytes, for extents up to 64 KiB.
    pub crc32c: Option<u32>,
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the inline row of the data id: written and removed with the object, never shared.
    Inline,
    /// Behind the data rows, shared by reference count; a copy of the extents, all of them or none.
    Rows {
        /// The extents in order, if they are at most [`HINT_EXTENTS_MAX`] and not those of parts.
        hint: Vec<DataExtent>,
    },
}

/// A version of an object; in a bucket without versioning, the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// What listings show.
    pub listed: ListedRecord,
    /// The identity of its bytes.
    pub data: DataId,
    /// Where they are.
    pub place: Place,
    /// What the client gave to keep.
    pub headers: Vec<Header>,
    /// What keeps it from being removed.
    pub lock: ObjectLock,
    /// How its bytes are sealed; `None`: they are stored as they are.
    pub sealed: Option<Box<SealedBytes>>,
}

/// How the bytes of an object are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBytes {
    /// The key of its bytes.
    pub encryption: Encryption,
    /// Length of the sealed bytes.
    pub stored_bytes: u64,
}

/// What listings show of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecord {
    /// Length in bytes.
    pub size_bytes: u64,
    /// Its tag.
    pub etag: ETag,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// Its checksums.
    pub checksums: Vec<StoredChecksum>,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// Where it stands among the versions of its key.
    pub version: Version,
}

impl ObjectRecord {
    /// Length of its bytes as its byte sequence has them.
    pub fn stored_bytes(&self) -> u64 {
        self.sealed.as_ref().map_or(self.listed.size_bytes, |sealed| sealed.stored_bytes)
    }

    /// How it is encrypted.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.sealed.as_ref().map(|sealed| &sealed.encryption)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let listed = &self.listed;
        let is_sealed = self.sealed.is_some();
        let is_named = is_sealed || listed.version != Version::UNVERSIONED || self.lock != ObjectLock::NONE;
        let mut out = Encoder::new(match (is_sealed, is_named) {
            (true, _) => OBJECT_VERSION_SEALED,
            (false, true) => OBJECT_VERSION_NAMED,
            (false, false) => VERSION,
        });
        out.number(listed.size_bytes);
        out.raw(&listed.etag.md5);
        out.number(listed.etag.part_count.map_or(0, u64::from));
        out.number(listed.modified_ms);
        encode_checksums(&mut out, &listed.checksums);
        encode_class(&mut out, listed.storage_class.as_deref());
        if is_named {
            listed.version.encode_into(&mut out);
        }
        out.data_id(self.data);
        match &self.place {
            Place::Inline => out.byte(1),
            Place::Rows { hint } => {
                assert!(hint.len() <= HINT_EXTENTS_MAX);
                out.byte(2);
                out.count(hint.len());
                for item in hint {
                    encode_extent(&mut out, item);
                }
            }
        }
        encode_headers(&mut out, &self.headers);
        if is_named {
            self.lock.encode_into(&mut out);
        }
        if let Some(sealed) = &self.sealed {
            encode_encryption(&mut out, &sealed.encryption);
            out.number(sealed.stored_bytes);
        }
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<ObjectRecord, DecodeError> {
        let (format, mut from) = Decoder::up_to("object", OBJECT_VERSION_SEALED, value)?;
        let listed = ListedRecord::decode_from(&mut from, format)?;
        let data = from.data_id()?;
        let place = match from.byte()? {
            1 => Place::Inline,
            2 => {
                let count = from.count()?;
                if count > HINT_EXTENTS_MAX {
                    return Err(from.invalid());
                }
                let hint = (0..count).map(|_| decode_extent(&mut from)).collect::<Result<_, _>>()?;
                Place::Rows { hint }
            }
            _ => return Err(from.invalid()),
        };
        let headers = decode_headers(&mut from)?;
        let lock = match format {
            VERSION => ObjectLock::NONE,
            _ => ObjectLock::decode_from(&mut from)?,
        };
        let sealed = match format {
            OBJECT_VERSION_SEALED => {
                let encryption = decode_encryption(&mut from)?;
                Some(Box::new(SealedBytes { encryption, stored_bytes: from.number()? }))
            }
            _ => None,
        };
        from.finish()?;
        Ok(ObjectRecord { listed, data, place, headers, lock, sealed })
    }
}

impl ListedRecord {
    /// Decodes only the beginning of an object's row.
    pub(crate) fn decode(value: &Bytes) -> Result<ListedRecord, DecodeError> {
        let (format, mut from) = Decoder::up_to("object", OBJECT_VERSION_SEALED, value)?;
        ListedRecord::decode_from(&mut from, format)
    }

    fn decode_from(from: &mut Decoder<'_>, format: u8) -> Result<ListedRecord, DecodeError> {
        let size_bytes = from.number()?;
        let md5 = from.array()?;
        let part_count = Some(from.number_u16()?).filter(|count| *count > 0);
        let etag = ETag { md5, part_count };
        let modified_ms = from.number()?;
        let checksums = decode_checksums(from)?;
        let storage_class = decode_class(from)?;
        let version = match format {
            VERSION => Version::UNVERSIONED,
            _ => Version::decode_from(from)?,
        };
        Ok(ListedRecord { size_bytes, etag, modified_ms, checksums, storage_class, version })
    }
}

fn encryption_code(by: EncryptedBy) -> u8 {
    match by {
        EncryptedBy::Managed => 1,
        EncryptedBy::Customer => 2,
    }
}

fn decode_encrypted_by(from: &mut Decoder<'_>) -> Result<EncryptedBy, DecodeError> {
    match from.byte()? {
        1 => Ok(EncryptedBy::Managed),
        2 => Ok(EncryptedBy::Customer),
        _ => Err(from.invalid()),
    }
}

fn encode_encryption(out: &mut Encoder, encryption: &Encryption) {
    out.byte(encryption_code(encryption.by()));
    out.text(encryption.sealed_key());
}

fn decode_encryption(from: &mut Decoder<'_>) -> Result<Encryption, DecodeError> {
    Ok(Encryption::new(decode_encrypted_by(from)?, from.text()?))
}

fn encode_extent(out: &mut Encoder, item: &DataExtent) {
    out.extent(&item.extent);
    match item.crc32c {
        None => out.byte(0),
        Some(crc32c) => {
            out.byte(1);
            out.raw(&crc32c.to_le_bytes());
        }
    }
}

fn decode_extent(from: &mut Decoder<'_>) -> Result<DataExtent, DecodeError> {
    let extent = from.extent()?;
    let crc32c = match from.byte()? {
        0 => None,
        1 => Some(u32::from_le_bytes(from.array()?)),
        _ => return Err(from.invalid()),
    };
    Ok(DataExtent { extent, crc32c })
}

fn encode_headers(out: &mut Encoder, headers: &[Header]) {
    out.count(headers.len());
    for header in headers {
        out.text(header.name.as_bytes());
        out.text(&header.value);
    }
}

fn decode_headers(from: &mut Decoder<'_>) -> Result<Vec<Header>, DecodeError> {
    let count = from.count()?;
    (0..count).map(|_| Ok(Header { name: from.string()?, value: from.text()? })).collect()
}

fn encode_class(out: &mut Encoder, storage_class: Option<&str>) {
    out.text(storage_class.unwrap_or_default().as_bytes());
}

fn decode_class(from: &mut Decoder<'_>) -> Result<Option<String>, DecodeError> {
    Ok(Some(from.string()?).filter(|class| !class.is_empty()))
}

fn algorithm_code(algorithm: ChecksumAlgorithm) -> u8 {
    match algorithm {
        ChecksumAlgorithm::Crc32 => 1,
        ChecksumAlgorithm::Crc32c => 2,
        ChecksumAlgorithm::Crc64Nvme => 3,
        ChecksumAlgorithm::Sha1 => 4,
        ChecksumAlgorithm::Sha256 => 5,
        ChecksumAlgorithm::Sha512 => 6,
        ChecksumAlgorithm::Md5 => 7,
        ChecksumAlgorithm::XxHash64 => 8,
        ChecksumAlgorithm::XxHash3 => 9,
        ChecksumAlgorithm::XxHash128 => 10,
    }
}

fn decode_algorithm(from: &mut Decoder<'_>) -> Result<ChecksumAlgorithm, DecodeError> {
    let code = from.byte()?;
    ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm_code(*algorithm) == code)
        .ok_or_else(|| from.invalid())
}

fn kind_code(kind: ChecksumKind) -> u8 {
    match kind {
        ChecksumKind::FullObject => 1,
        ChecksumKind::Composite => 2,
    }
}

fn decode_kind(from: &mut Decoder<'_>) -> Result<ChecksumKind, DecodeError> {
    match from.byte()? {
        1 => Ok(ChecksumKind::FullObject),
        2 => Ok(ChecksumKind::Composite),
        _ => Err(from.invalid()),
    }
}

fn encode_checksums(out: &mut Encoder, checksums: &[StoredChecksum]) {
    out.count(checksums.len());
    for checksum in checksums {
        assert_eq!(checksum.value.len(), checksum.algorithm.len_bytes());
        out.byte(algorithm_code(checksum.algorithm));
        out.byte(kind_code(checksum.kind));
        out.raw(&checksum.value);
    }
}

fn decode_checksums(from: &mut Decoder<'_>) -> Result<Vec<StoredChecksum>, DecodeError> {
    let count = from.count()?;
    let one = |_| {
        let (algorithm, kind) = (decode_algorithm(from)?, decode_kind(from)?);
        Ok(StoredChecksum { algorithm, kind, value: from.take(algorithm.len_bytes())? })
    };
    (0..count).map(one).collect()
}

/// At most one checksum.
fn decode_checksum(from: &mut Decoder<'_>) -> Result<Option<StoredChecksum>, DecodeError> {
    let mut checksums = decode_checksums(from)?;
    let checksum = checksums.pop();
    if checksums.is_empty() { Ok(checksum) } else { Err(from.invalid()) }
}

fn decode_flag(from: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    match from.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(from.invalid()),
    }
}

/// A part of a composite byte sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPart {
    /// The part's own data id.
    pub data: DataId,
    /// Its length; may be 0.
    pub len_bytes: u64,
}

/// What a byte sequence is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataItems {
    /// Extents, in order.
    Extents(Vec<DataExtent>),
    /// Parts, in order.
    Parts(Vec<DataPart>),
}

impl DataItems {
    pub(crate) fn len(&self) -> usize {
        match self {
            DataItems::Extents(items) => items.len(),
            DataItems::Parts(items) => items.len(),
        }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        match self {
            DataItems::Extents(items) => items.iter().map(|item| item.extent.len_bytes).sum(),
            DataItems::Parts(items) => items.iter().map(|item| item.len_bytes).sum(),
        }
    }

    /// The same items in groups of at most `items_max`.
    pub(crate) fn split(self, items_max: usize) -> Vec<DataItems> {
        match self {
            DataItems::Extents(items) => {
                items.chunks(items_max).map(|group| DataItems::Extents(group.to_vec())).collect()
            }
            DataItems::Parts(items) => {
                items.chunks(items_max).map(|group| DataItems::Parts(group.to_vec())).collect()
            }
        }
    }

    pub(crate) fn none_like(&self) -> DataItems {
        match self {
            DataItems::Extents(_) => DataItems::Extents(Vec::new()),
            DataItems::Parts(_) => DataItems::Parts(Vec::new()),
        }
    }

    fn encode_into(&self, out: &mut Encoder) {
        out.byte(match self {
            DataItems::Extents(_) => 1,
            DataItems::Parts(_) => 2,
        });
        out.count(self.len());
        match self {
            DataItems::Extents(items) => items.iter().for_each(|item| encode_extent(out, item)),
            DataItems::Parts(items) => {
                for item in items {
                    out.data_id(item.data);
                    out.number(item.len_bytes);
                }
            }
        }
    }

    fn decode_from(from: &mut Decoder<'_>) -> Result<DataItems, DecodeError> {
        let kind = from.byte()?;
        let count = from.count()?;
        match kind {
            1 => (0..count).map(|_| decode_extent(from)).collect::<Result<_, _>>().map(DataItems::Extents),
            2 => {
                let part = |_| Ok(DataPart { data: from.data_id()?, len_bytes: from.number()? });
                (0..count).map(part).collect::<Result<_, _>>().map(DataItems::Parts)
            }
            _ => Err(from.invalid()),
        }
    }

    /// The value of a further data row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        self.encode_into(&mut out);
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<DataItems, DecodeError> {
        let mut from = Decoder::new("data", VERSION, value)?;
        let items = DataItems::decode_from(&mut from)?;
        from.finish()?;
        Ok(items)
    }
}

/// Row 0 of a byte sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// Objects that point here, at least 1.
    pub reference_count: u32,
    /// Length in bytes.
    pub len_bytes: u64,
    /// For each further row (1, 2, ...) the offset of its first byte. If there are any, `items` is empty.
    pub row_starts: Vec<u64>,
    /// The items, if they are at most [`HEADER_ITEMS_MAX`]; its kind is that of all rows.
    pub items: DataItems,
    /// Whether a part of these may belong to another byte sequence too, so that its count must be looked at when
    /// these go.
    pub is_sharing: bool,
    /// Of the bytes, if they came as a part: it outlives the upload.
    pub checksum: Option<StoredChecksum>,
}

/// Version of a data header's row: 1 ends with the items.
const DATA_HEADER_VERSION: u8 = 2;

impl DataHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(DATA_HEADER_VERSION);
        out.number(u64::from(self.reference_count));
        out.number(self.len_bytes);
        out.count(self.row_starts.len());
        for start in &self.row_starts {
            out.number(*start);
        }
        self.items.encode_into(&mut out);
        out.byte(u8::from(self.is_sharing));
        encode_checksums(&mut out, self.checksum.as_slice());
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<DataHeader, DecodeError> {
        let (version, mut from) = Decoder::up_to("data header", DATA_HEADER_VERSION, value)?;
        let (reference_count, len_bytes) = (from.number_u32()?, from.number()?);
        let count = from.count()?;
        let row_starts: Vec<u64> = (0..count).map(|_| from.number()).collect::<Result<_, _>>()?;
        let items = DataItems::decode_from(&mut from)?;
        let both = !row_starts.is_empty() && items.len() > 0;
        if reference_count == 0 || both || !row_starts.is_sorted() {
            return Err(from.invalid());
        }
        let (is_sharing, checksum) = match version {
            VERSION => (false, None),
            _ => (decode_flag(&mut from)?, decode_checksum(&mut from)?),
        };
        from.finish()?;
        Ok(DataHeader { reference_count, len_bytes, row_starts, items, is_sharing, checksum })
    }
}

/// A multipart upload under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRecord {
    /// The account that began it.
    pub initiator: String,
    /// Milliseconds since 1970.
    pub initiated_ms: u64,
    /// The checksum of its parts and object.
    pub algorithm: ChecksumAlgorithm,
    /// What the object's checksum will cover.
    pub kind: ChecksumKind,
    /// Whether the client named the algorithm.
    pub checksum_named: bool,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// What the client gave to keep.
    pub headers: Vec<Header>,
    /// What will keep the object from being removed.
    pub lock: ObjectLock,
    /// How its parts are sealed.
    pub encryption: Option<Encryption>,
}

impl UploadRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let is_locked = self.encryption.is_some() || self.lock != ObjectLock::NONE;
        let mut out = Encoder::new(match (&self.encryption, is_locked) {
            (Some(_), _) => UPLOAD_VERSION_SEALED,
            (None, true) => UPLOAD_VERSION_LOCKED,
            (None, false) => VERSION,
        });
        out.text(self.initiator.as_bytes());
        out.number(self.initiated_ms);
        out.byte(algorithm_code(self.algorithm));
        out.byte(kind_code(self.kind));
        out.byte(u8::from(self.checksum_named));
        encode_class(&mut out, self.storage_class.as_deref());
        encode_headers(&mut out, &self.headers);
        if is_locked {
            self.lock.encode_into(&mut out);
        }
        if let Some(encryption) = &self.encryption {
            encode_encryption(&mut out, encryption);
        }
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<UploadRecord, DecodeError> {
        let (format, mut from) = Decoder::up_to("upload", UPLOAD_VERSION_SEALED, value)?;
        let (initiator, initiated_ms) = (from.string()?, from.number()?);
        let (algorithm, kind) = (decode_algorithm(&mut from)?, decode_kind(&mut from)?);
        let checksum_named = decode_flag(&mut from)?;
        let storage_class = decode_class(&mut from)?;
        let headers = decode_headers(&mut from)?;
        let lock = match format {
            VERSION => ObjectLock::NONE,
            _ => ObjectLock::decode_from(&mut from)?,
        };
        let encryption = match format {
            UPLOAD_VERSION_SEALED => Some(decode_encryption(&mut from)?),
            _ => None,
        };
        from.finish()?;
        Ok(UploadRecord {
            initiator,
            initiated_ms,
            algorithm,
            kind,
            checksum_named,
            storage_class,
            headers,
            lock,
            encryption,
        })
    }
}

/// An uploaded part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    /// The identity of its bytes.
    pub data: DataId,
    /// Length in bytes; of sealed ones if they are.
    pub size_bytes: u64,
    /// Its tag: MD5 of its bytes, unless they are encrypted under a customer's key.
    pub md5: [u8; 16],
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// Its checksum.
    pub checksum: Option<StoredChecksum>,
}

impl PartRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        out.data_id(self.data);
        out.number(self.size_bytes);
        out.raw(&self.md5);
        out.number(self.modified_ms);
        encode_checksums(&mut out, self.checksum.as_slice());
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<PartRecord, DecodeError> {
        let mut from = Decoder::new("part", VERSION, value)?;
        let (data, size_bytes, md5) = (from.data_id()?, from.number()?, from.array()?);
        let modified_ms = from.number()?;
        let checksum = decode_checksum(&mut from)?;
        from.finish()?;
        Ok(PartRecord { data, size_bytes, md5, modified_ms, checksum })
    }
}

/// What a completion answered, kept for its repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompletedRecord {
    pub(crate) bucket: BucketId,
    pub(crate) key: Bytes,
    pub(crate) completed_ms: u64,
    pub(crate) size_bytes: u64,
    pub(crate) etag: ETag,
    pub(crate) checksums: Vec<StoredChecksum>,
    /// As the answer showed it.
    pub(crate) version: Option<Version>,
    pub(crate) encryption: Option<EncryptedBy>,
}

impl CompletedRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(match (self.encryption, self.version) {
            (Some(_), _) => COMPLETED_VERSION_SEALED,
            (None, Some(_)) => COMPLETED_VERSION_NAMED,
            (None, None) => VERSION,
        });
        out.number(self.bucket.0);
        out.text(&self.key);
        out.number(self.completed_ms);
        out.number(self.size_bytes);
        out.raw(&self.etag.md5);
        out.number(self.etag.part_count.map_or(0, u64::from));
        encode_checksums(&mut out, &self.checksums);
        if let Some(by) = self.encryption {
            out.byte(encryption_code(by));
            out.byte(u8::from(self.version.is_some()));
        }
        if let Some(version) = self.version {
            version.encode_into(&mut out);
        }
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<CompletedRecord, DecodeError> {
        let (format, mut from) = Decoder::up_to("completed upload", COMPLETED_VERSION_SEALED, value)?;
        let (bucket, key) = (BucketId(from.number()?), from.text()?);
        let (completed_ms, size_bytes, md5) = (from.number()?, from.number()?, from.array()?);
        let part_count = Some(from.number_u16()?).filter(|count| *count > 0);
        let checksums = decode_checksums(&mut from)?;
        let (encryption, has_version) = match format {
            COMPLETED_VERSION_SEALED => (Some(decode_encrypted_by(&mut from)?), decode_flag(&mut from)?),
            format => (None, format == COMPLETED_VERSION_NAMED),
        };
        let version = if has_version { Some(Version::decode_from(&mut from)?) } else { None };
        from.finish()?;
        let etag = ETag { md5, part_count };
        Ok(CompletedRecord { bucket, key, completed_ms, size_bytes, etag, checksums, version, encryption })
    }
}

/// What a client's token renamed, kept for its repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenamedRecord {
    pub(crate) source_key: Bytes,
    pub(crate) key: Bytes,
}

impl RenamedRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        out.text(&self.source_key);
        out.text(&self.key);
        out.finish()
    }

    pub(crate) fn decode(value: &Bytes) -> Result<RenamedRecord, DecodeError> {
        let mut from = Decoder::new("renamed", VERSION, value)?;
        let record = RenamedRecord { source_key: from.text()?, key: from.text()? };
        from.finish()?;
        Ok(record)
    }
}

/// The value of an owner row: the rest of the extent that its key begins, and whose it is.
pub(crate) fn encode_owner(extent: &Extent, data: DataId) -> Vec<u8> {
    let mut out = Encoder::new(VERSION);
    out.extent(extent);
    out.data_id(data);
    out.finish()
}

pub(crate) fn decode_owner(value: &Bytes) -> Result<(Extent, DataId), DecodeError> {
    let mut from = Decoder::new("owner", VERSION, value)?;
    let owner = (from.extent()?, from.data_id()?);
    from.finish()?;
    Ok(owner)
}

/// A counter's value, or a sum kept by atomic adds; absent is 0.
pub(crate) fn decode_counter(row: &'static str, value: Option<&Bytes>) -> Result<u64, DecodeError> {
    let Some(value) = value else { return Ok(0) };
    let bytes: [u8; 8] = value
        .as_ref()
        .try_into()
        .map_err(|_| DecodeError { row, why: super::codec::DecodeReason::Truncated })?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::schema::codec::DecodeReason;
    use crate::schema::version::{DeleteMarker, Retention, RetentionMode, VersionRecord};
    use proptest::prelude::*;
    use shardstore_format::{EXTENT_MAX_BYTES, VolumeId, WriterId};

    fn data_ids() -> impl Strategy<Value = DataId> {
        (any::<u32>(), any::<u64>())
            .prop_map(|(writer, counter)| DataId { writer: WriterId(writer), counter })
    }

    fn extents() -> impl Strategy<Value = DataExtent> {
        (any::<u64>(), any::<u32>(), any::<u32>(), 1..=EXTENT_MAX_BYTES, 1u8..=16, any::<Option<u32>>())
            .prop_map(|(volume, sector, byte_in_stripe, len_bytes, page_len_sectors, crc32c)| DataExtent {
                extent: Extent {
                    volume: VolumeId(volume),
                    sector,
                    byte_in_stripe,
                    len_bytes,
                    page_len_sectors,
                },
                crc32c,
            })
    }

    fn checksums() -> impl Strategy<Value = StoredChecksum> {
        let algorithms = proptest::sample::select(ChecksumAlgorithm::ALL.to_vec());
        let kinds = prop_oneof![Just(ChecksumKind::FullObject), Just(ChecksumKind::Composite)];
        (algorithms, kinds, any::<u8>()).prop_map(|(algorithm, kind, fill)| StoredChecksum {
            algorithm,
            kind,
            value: Bytes::from(vec![fill; algorithm.len_bytes()]),
        })
    }

    fn headers() -> impl Strategy<Value = Vec<Header>> {
        let header = ("[a-z-]{1,20}", proptest::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(name, value)| Header { name, value: Bytes::from(value) });
        proptest::collection::vec(header, 0..5)
    }

    fn versions() -> impl Strategy<Value = (Version, ObjectLock)> {
        let modes = prop_oneof![Just(RetentionMode::Governance), Just(RetentionMode::Compliance)];
        let retentions = (modes, any::<u64>()).prop_map(|(mode, until_ms)| Retention { mode, until_ms });
        (any::<u64>(), any::<Option<u64>>(), proptest::option::of(retentions), any::<Option<bool>>())
            .prop_map(|(count, nonce, retention, legal_hold)| {
                (Version { count, nonce }, ObjectLock { retention, legal_hold })
            })
    }

    fn encryptions() -> impl Strategy<Value = Encryption> {
        let by = prop_oneof![Just(EncryptedBy::Managed), Just(EncryptedBy::Customer)];
        (by, proptest::collection::vec(any::<u8>(), 0..70))
            .prop_map(|(by, key)| Encryption::new(by, Bytes::from(key)))
    }

    fn objects() -> impl Strategy<Value = ObjectRecord> {
        let etags = (any::<[u8; 16]>(), proptest::option::of(1u16..=10_000))
            .prop_map(|(md5, part_count)| ETag { md5, part_count });
        let places = prop_oneof![
            Just(Place::Inline),
            proptest::collection::vec(extents(), 0..=8).prop_map(|hint| Place::Rows { hint })
        ];
        let checksums = proptest::collection::vec(checksums(), 0..3);
        let class = proptest::option::of("[A-Z]{1,12}");
        let versions = prop_oneof![Just((Version::UNVERSIONED, ObjectLock::NONE)), versions()];
        let sealed =
            (proptest::option::of(encryptions()), any::<u64>()).prop_map(|(encryption, stored_bytes)| {
                encryption.map(|encryption| Box::new(SealedBytes { encryption, stored_bytes }))
            });
        let named = (versions, sealed);
        (any::<(u64, u64)>(), etags, checksums, class, data_ids(), places, headers(), named).prop_map(
            |((size_bytes, modified_ms), etag, checksums, storage_class, data, place, headers, named)| {
                let ((version, lock), sealed) = named;
                let listed =
                    ListedRecord { size_bytes, etag, modified_ms, checksums, storage_class, version };
                ObjectRecord { listed, data, place, headers, lock, sealed }
            },
        )
    }

    proptest! {
        #[test]
        fn the_rows_of_an_upload_and_of_its_completion_read_back(
            (version, lock) in versions(), has_version: bool, encryption in proptest::option::of(encryptions()),
        ) {
            let upload = UploadRecord {
                initiator: "root".to_owned(),
                initiated_ms: 5,
                algorithm: ChecksumAlgorithm::Crc64Nvme,
                kind: ChecksumKind::FullObject,
                checksum_named: true,
                storage_class: None,
                headers: Vec::new(),
                lock,
                encryption: encryption.clone(),
            };
            prop_assert_eq!(UploadRecord::decode(&Bytes::from(upload.encode())), Ok(upload));
            let completed = CompletedRecord {
                bucket: BucketId(1),
                key: Bytes::from_static(b"k"),
                completed_ms: 9,
                size_bytes: 300,
                etag: ETag { md5: [1; 16], part_count: Some(2) },
                checksums: Vec::new(),
                version: has_version.then_some(version),
                encryption: encryption.as_ref().map(Encryption::by),
            };
            prop_assert_eq!(CompletedRecord::decode(&Bytes::from(completed.encode())), Ok(completed));
        }

        #[test]
        fn an_object_row_reads_back_whole_and_in_part(record in objects()) {
            let value = Bytes::from(record.encode());
            prop_assert_eq!(ObjectRecord::decode(&value), Ok(record.clone()));
            prop_assert_eq!(ListedRecord::decode(&value), Ok(record.listed));
        }

        #[test]
        fn a_version_row_reads_back(record in objects(), (version, _) in versions(), modified_ms: u64) {
            let marker = VersionRecord::Marker(DeleteMarker { version, modified_ms });
            for record in [VersionRecord::Object(record), marker] {
                let value = record.encode();
                prop_assert_eq!(VersionRecord::decode(&Bytes::from(value.clone())), Ok(record));
                for cut in 0..value.len() {
                    prop_assert!(VersionRecord::decode(&Bytes::copy_from_slice(&value[..cut])).is_err());
                }
            }
        }

        #[test]
        fn data_rows_read_back(items in proptest::collection::vec(extents(), 0..64), count in 1u32.., is_sharing: bool, checksum in proptest::option::of(checksums()), ids in proptest::collection::vec((data_ids(), any::<u64>()), 0..64)) {
            for items in [
                DataItems::Extents(items),
                DataItems::Parts(ids.into_iter().map(|(data, len_bytes)| DataPart { data, len_bytes }).collect()),
            ] {
                prop_assert_eq!(DataItems::decode(&Bytes::from(items.encode())), Ok(items.clone()));
                let (checksum, row_starts) = (checksum.clone(), Vec::new());
                let header =
                    DataHeader { reference_count: count, len_bytes: 7, row_starts, items, is_sharing, checksum };
                prop_assert_eq!(DataHeader::decode(&Bytes::from(header.encode())), Ok(header));
            }
        }

        #[test]
        fn a_row_cut_anywhere_or_followed_by_anything_is_an_error(record in objects(), cut in any::<prop::sample::Index>()) {
            let value = record.encode();
            let short = Bytes::copy_from_slice(&value[..cut.index(value.len())]);
            prop_assert!(ObjectRecord::decode(&short).is_err());
            let mut long = value;
            long.push(0);
            prop_assert!(ObjectRecord::decode(&Bytes::from(long)).is_err());
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0u8..4) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            let value = Bytes::from(bytes);
            BucketRecord::decode(&value).ok();
            DataHeader::decode(&value).ok();
            let is_read = [
                ObjectRecord::decode(&value).is_ok(),
                DataItems::decode(&value).is_ok(),
                UploadRecord::decode(&value).is_ok(),
                PartRecord::decode(&value).is_ok(),
                CompletedRecord::decode(&value).is_ok(),
                RenamedRecord::decode(&value).is_ok(),
                decode_owner(&value).is_ok(),
                VersionRecord::decode(&value).is_ok(),
                decode_counter("x", Some(&value)).is_ok(),
            ];
            prop_assert!((1..=3).contains(&first) || is_read[..8].iter().all(|ok| !ok));
        }
    }

    #[test]
    fn a_bucket_row_of_the_first_version_still_reads() {
        let mut old = Encoder::new(1);
        old.number(7);
        old.text(b"root");
        old.number(1_790_000_000_000);
        let record = BucketRecord::decode(&Bytes::from(old.finish())).unwrap();
        assert_eq!(record, BucketRecord::new(BucketId(7), "root", 1_790_000_000_000));
        let changed = BucketRecord {
            versioning: Versioning::Suspended,
            object_lock: true,
            config_generation: 1 << 40,
            ..record
        };
        assert_eq!(BucketRecord::decode(&Bytes::from(changed.encode())), Ok(changed));
    }

    #[test]
    fn an_object_that_is_not_encrypted_is_written_as_releases_before_encryption_wrote_it() {
        let listed = ListedRecord {
            size_bytes: 5,
            etag: ETag::whole([0xee; 16]),
            modified_ms: 7,
            checksums: Vec::new(),
            storage_class: None,
            version: Version::UNVERSIONED,
        };
        let data = DataId { writer: WriterId(9), counter: 7 };
        let (place, headers, lock, sealed) = (Place::Inline, Vec::new(), ObjectLock::NONE, None);
        let mut record = ObjectRecord { listed, data, place, headers, lock, sealed };
        let id = [9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let first = [&[1, 5][..], &[0xee; 16], &[0, 7, 0, 0], &id, &[1, 0]].concat();
        assert_eq!(record.encode(), first);
        record.lock.legal_hold = Some(true);
        let second = [&[2, 5][..], &[0xee; 16], &[0, 7, 0, 0, 0, 0], &id, &[1, 0, 0x20]].concat();
        assert_eq!(record.encode(), second);
        let encryption = Encryption::new(EncryptedBy::Customer, Bytes::from_static(b"key"));
        record.sealed = Some(Box::new(SealedBytes { encryption, stored_bytes: 21 }));
        let third =
            [&[3, 5][..], &[0xee; 16], &[0, 7, 0, 0, 0, 0], &id, &[1, 0, 0x20, 2, 3], b"key", &[21]].concat();
        assert_eq!(record.encode(), third);
        for value in [first, second, third] {
            assert!(ObjectRecord::decode(&Bytes::from(value)).is_ok());
        }
    }

    #[test]
    fn a_data_header_of_the_first_version_still_reads() {
        // Count 1, 300 bytes, no further rows, one part of 300 bytes.
        let id = [9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let value = [&[1, 1, 0xac, 2, 0, 2, 1][..], &id, &[0xac, 2]].concat();
        let data = DataId { writer: WriterId(9), counter: 7 };
        let header = DataHeader {
            reference_count: 1,
            len_bytes: 300,
            row_starts: Vec::new(),
            items: DataItems::Parts(vec![DataPart { data, len_bytes: 300 }]),
            is_sharing: false,
            checksum: None,
        };
        assert_eq!(DataHeader::decode(&Bytes::from(value)), Ok(header));
    }

    #[test]
    fn a_row_of_a_newer_release_is_refused_by_name() {
        let record = BucketRecord::new(BucketId(1), "root", 5);
        let mut value = record.encode();
        value[0] = 9;
        let error = BucketRecord::decode(&Bytes::from(value)).unwrap_err();
        assert_eq!(error.why, DecodeReason::UnknownVersion(9));
        assert_eq!(error.to_string(), "bucket row has unknown version 9");
    }
}
