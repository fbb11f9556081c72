//! Bodies on their way in: received, made durable, committed, in this order.
//! Invariants: what can be refused without the body is refused before its first byte; nothing is committed unless the
//! source said that all of it was right; a body that ends early leaves bytes that no one owns, and nothing else.
//! Not here: hashing (`s3`), sealing (`seal`), pages and stripes (`shardstore`).

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::{
    ETag, Failure, INLINE_MAX_BYTES, NewBytes, NewObject, Refusal, WriteCondition, sealed_len,
};
use shardstore::{Evidence, ObjectWriter};
use shardstore_reactor::{Drive, Executor};

use super::api::{
    BODY_MAX_BYTES, BodyError, BodyEvent, BodySource, BodySummary, ChecksumAlgorithm, Header, ObjectLock,
    OpError, PutObject, Written,
};
use super::catalog::StoreCatalog;
use super::core::{CoreInner, CoreStore, written};
use super::error::{of_conditional, of_failure, of_put};
use super::seal::{BodyKey, BodyOf, BodySealer, Sealing};

/// Headers to keep: with extents and checksums they stay under the 100 kB of a row.
const HEADERS_MAX_BYTES: usize = 64 * 1024;

/// What an object of one piece is checked by if the client names nothing else, as in S3.
const DEFAULT_CHECKSUM: ChecksumAlgorithm = ChecksumAlgorithm::Crc64Nvme;

/// Bytes that came whole and right.
pub(crate) enum Received {
    /// Small enough to be durable with the commit.
    Inline(Bytes),
    /// Durable already.
    Stored(Evidence),
}

pub(crate) fn check_headers(headers: &[Header]) -> Result<(), OpError> {
    let len: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if len > HEADERS_MAX_BYTES { Err(OpError::MetadataTooLarge) } else { Ok(()) }
}

pub(crate) fn check_length(len_bytes: Option<u64>) -> Result<(), OpError> {
    if len_bytes.is_some_and(|len| len > BODY_MAX_BYTES) { Err(OpError::EntityTooLarge) } else { Ok(()) }
}

pub(crate) async fn put_object<D: Drive, E: Engine, X: Executor>(
    core: &CoreInner<D, E, X>,
    put: PutObject,
    body: &mut impl BodySource,
) -> Result<Written, OpError> {
    check_headers(&put.headers)?;
    check_length(put.len_bytes)?;
    precheck(core, &put).await?;
    body.want_checksum(DEFAULT_CHECKSUM);
    let sealing = put.encrypt.as_ref().map(|encrypt| Sealing::new(encrypt, &core.master_key));
    let key = sealing.as_ref().map(|sealing| sealing.body_key(BodyOf::Object));
    let (received, summary) = receive(&core.store, put.len_bytes, INLINE_MAX_BYTES, key, body).await?;
    let condition = put.condition.clone();
    let new = NewObject {
        bucket: put.bucket.as_str(),
        key: put.key.as_bytes(),
        headers: put.headers,
        etag: ETag::whole(sealing.as_ref().map_or(summary.md5, |sealing| sealing.etag(summary.md5))),
        checksums: summary.checksum.into_iter().collect(),
        storage_class: put.storage_class,
        condition: put.condition,
        lock: put.lock,
        encryption: sealing.map(|sealing| sealing.encryption().clone()),
    };
    let bytes = match received {
        Received::Inline(bytes) => NewBytes::Inline(bytes),
        Received::Stored(evidence) => {
            let crc32c = evidence.crc32c();
            NewBytes::Stored { evidence, crc32c }
        }
    };
    match core.metadata.put_object(new, bytes).await {
        Ok(made) => Ok(written(made)),
        Err(failure) if condition == WriteCondition::Always => Err(of_failure(failure)),
        Err(failure) => Err(of_conditional(failure)),
    }
}

/// What would be refused after the body too, as things stand. The commit decides again.
async fn precheck<D: Drive, E: Engine, X: Executor>(
    core: &CoreInner<D, E, X>,
    put: &PutObject,
) -> Result<(), OpError> {
    let bucket = put.bucket.as_str();
    if put.condition == WriteCondition::Always {
        let record = core.metadata.bucket(bucket).await.map_err(of_failure)?;
        let is_refused = put.lock != ObjectLock::NONE && !record.object_lock;
        return if is_refused { Err(OpError::NoObjectLock) } else { Ok(()) };
    }
    let old = match core.metadata.object(bucket, put.key.as_bytes(), None).await {
        Ok(found) => Some(found.record),
        Err(Failure::Refused(Refusal::NoSuchKey | Refusal::DeleteMarker { .. })) => None,
        Err(failure) => return Err(of_failure(failure)),
    };
    put.condition.check(old.as_ref()).map_err(|refusal| of_failure(refusal.into()))
}

/// Takes a body to its end, sealed if there is a key. Bodies that are stored as up to `inline_max` bytes are kept, larger
/// ones are durable when this returns.
pub(crate) async fn receive<D: Drive, E: Engine, X: Executor>(
    store: &CoreStore<D, E, X>,
    len_bytes: Option<u64>,
    inline_max: usize,
    key: Option<BodyKey>,
    body: &mut impl BodySource,
) -> Result<(Received, BodySummary), OpError> {
    let mut sealer = key.map(|key| BodySealer::new(key, len_bytes));
    let len_bytes = if sealer.is_some() { len_bytes.map(sealed_len) } else { len_bytes };
    let mut sink = Sink { store, len_bytes, inline_max, gathered: Vec::new(), writer: None };
    if len_bytes.is_some_and(|len| usize::try_from(len).map_or(true, |len| len > inline_max)) {
        sink.open()?;
    }
    let mut received_bytes = 0u64;
    loop {
        match body.next().await? {
            BodyEvent::Data(bytes) => {
                received_bytes += u64::try_from(bytes.len()).expect("usize fits");
                if received_bytes > BODY_MAX_BYTES {
                    return Err(BodyError::TooLarge.into());
                }
                match &mut sealer {
                    None => sink.take(&bytes).await?,
                    Some(sealer) => sink.take_sealed(sealer, &bytes).await?,
                }
            }
            BodyEvent::End(summary) => {
                if summary.len_bytes != received_bytes {
                    return Err(OpError::Internal("a body's source lost count".to_owned()));
                }
                if let Some(sealer) = sealer {
                    sink.take(&sealer.finish()).await?;
                }
                return Ok((sink.finish().await?, summary));
            }
        }
    }
}

/// Where a body goes: memory while it is small, then the store.
struct Sink<'a, D: Drive, E: Engine, X: Executor> {
    store: &'a CoreStore<D, E, X>,
    len_bytes: Option<u64>,
    inline_max: usize,
    gathered: Vec<u8>,
    writer: Option<ObjectWriter<D, X, StoreCatalog<E, X>>>,
}

impl<D: Drive, E: Engine, X: Executor> Sink<'_, D, E, X> {
    /// Turns to the store; refused at once if it cannot take anything.
    fn open(&mut self) -> Result<&mut ObjectWriter<D, X, StoreCatalog<E, X>>, OpError> {
        let writer = self.store.put(self.len_bytes).map_err(of_put)?;
        Ok(self.writer.insert(writer))
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), OpError> {
        if let Some(writer) = &mut self.writer {
            return writer.write(bytes).await.map_err(of_put);
        }
        if self.gathered.len() + bytes.len() <= self.inline_max {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        let writer = self.open()?;
        writer.write(&gathered).await.map_err(of_put)?;
        writer.write(bytes).await.map_err(of_put)
    }

    /// Takes what `bytes` complete of a body's segments.
    async fn take_sealed(&mut self, sealer: &mut BodySealer, mut bytes: &[u8]) -> Result<(), OpError> {
        while !bytes.is_empty() {
            if let Some(segment) = sealer.take(&mut bytes) {
                self.take(segment).await?;
            }
        }
        Ok(())
    }

    async fn finish(self) -> Result<Received, OpError> {
        match self.writer {
            Some(writer) => Ok(Received::Stored(writer.finish().await.map_err(of_put)?)),
            None => Ok(Received::Inline(Bytes::from(self.gathered))),
        }
    }
}
