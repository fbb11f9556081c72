//! The body of a write: framing, signatures and digests taken off and checked, as the operations pull it.
//! Invariants: `End` is returned only when length, signatures and every digest that the client gave are right;
//! payload passes as slices of what was received.
//! Not here: where the bytes go (`ops`).

use bytes::Bytes;
use shardstore_reactor::{Executor, Stream};

use crate::auth::{BodySignature, ChunkSigner};
use crate::http::{AwsChunkedDecoder, BodyError as WireError, BodyFraming, Framed, RequestBody, RequestHead};
use crate::ops::api::{BODY_MAX_BYTES, BodyError, BodyEvent, BodySource, BodySummary, ChecksumAlgorithm};
use crate::s3::checksum::{Digested, Digests, Expected};
use crate::s3::error::{Code, S3Error};
use crate::s3::post::{FormDecoder, FormStep};

/// A body on its way to an operation.
pub struct S3Body<'b, 'c, S, E> {
    wire: &'b mut RequestBody<'c, S, E>,
    coding: Coding,
    /// Taken when the body ends.
    digests: Option<Digests>,
    len_bytes: Option<u64>,
}

enum Coding {
    Plain,
    Chunks {
        decoder: Box<AwsChunkedDecoder<ChunkSigner>>,
        pending: Bytes,
    },
    /// The file of a form; how many bytes it may have.
    Form {
        decoder: Box<FormDecoder>,
        pending: Bytes,
        length_range: (u64, u64),
    },
}

impl<'b, 'c, S: Stream, E: Executor> S3Body<'b, 'c, S, E> {
    /// Reads what the head says of the body; nothing of the body itself.
    ///
    /// # Errors
    /// `MissingContentLength`, `EntityTooLarge`, and what is wrong with digests as stated.
    pub fn new(
        head: &RequestHead,
        signature: BodySignature,
        wire: &'b mut RequestBody<'c, S, E>,
    ) -> Result<S3Body<'b, 'c, S, E>, S3Error> {
        let (coding, len_bytes, sha256) = match signature {
            BodySignature::Unsigned => (Coding::Plain, wire_length(head), None),
            BodySignature::Sha256(digest) => (Coding::Plain, wire_length(head), Some(digest)),
            BodySignature::Chunks(signer, trailers) => {
                let (coding, len_bytes) = chunks(head, Some(*signer), trailers)?;
                (coding, Some(len_bytes), None)
            }
            BodySignature::UnsignedChunks => {
                let (coding, len_bytes) = chunks(head, None, false)?;
                (coding, Some(len_bytes), None)
            }
        };
        if len_bytes.is_some_and(|len| len > BODY_MAX_BYTES) {
            return Err(Code::EntityTooLarge.into());
        }
        let digests = Some(Digests::new(Expected::of(head, sha256)?));
        Ok(S3Body { wire, coding, digests, len_bytes })
    }

    /// The file of a form that has begun: `put` is the head that the form stands for, `length_range` the least and
    /// most bytes that its policy allows.
    ///
    /// # Errors
    /// What is wrong with digests as stated.
    pub fn of_form(
        put: &RequestHead,
        decoder: FormDecoder,
        pending: Bytes,
        length_range: (u64, u64),
        wire: &'b mut RequestBody<'c, S, E>,
    ) -> Result<S3Body<'b, 'c, S, E>, S3Error> {
        let coding = Coding::Form { decoder: Box::new(decoder), pending, length_range };
        let digests = Some(Digests::new(Expected::of(put, None)?));
        Ok(S3Body { wire, coding, digests, len_bytes: None })
    }

    /// The decoded length, if the client said it.
    pub fn len_bytes(&self) -> Option<u64> {
        self.len_bytes
    }

    /// Whether the client gave a digest of the body beside its signature.
    pub fn has_integrity(&self) -> bool {
        self.digests.as_ref().is_some_and(Digests::has_integrity)
    }

    /// The same, taking `x-amz-checksum-*` for a statement about something else than this body.
    #[must_use]
    pub fn without_checksums(mut self) -> S3Body<'b, 'c, S, E> {
        self.digests = self.digests.map(Digests::without_checksums);
        self
    }

    /// The whole of a small body, checked.
    ///
    /// # Errors
    /// `MalformedXML` for more than `len_max` bytes, as AWS answers; else what is wrong with the body.
    pub async fn collect(mut self, len_max: usize) -> Result<Vec<u8>, S3Error> {
        let mut whole = Vec::new();
        loop {
            match self.next().await? {
                BodyEvent::End(_) => return Ok(whole),
                BodyEvent::Data(data) if whole.len() + data.len() > len_max => {
                    return Err(Code::MalformedXML.into());
                }
                BodyEvent::Data(data) => whole.extend_from_slice(&data),
            }
        }
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, BodyError> {
        match &mut self.coding {
            Coding::Plain => self.wire.next().await.map_err(body_error),
            Coding::Chunks { decoder, pending } => loop {
                match decoder.decode(pending).map_err(body_error)? {
                    Framed::Data(data) => return Ok(Some(data)),
                    // After the last chunk the decoder still refuses anything but line ends.
                    Framed::More | Framed::End => match self.wire.next().await.map_err(body_error)? {
                        Some(more) => *pending = more,
                        None => {
                            decoder.finish().map_err(body_error)?;
                            return Ok(None);
                        }
                    },
                }
            },
            Coding::Form { decoder, pending, .. } => loop {
                match decoder.decode(pending).map_err(|_| BodyError::MalformedForm)? {
                    FormStep::Data(data) => return Ok(Some(data)),
                    // The file has begun, and there is one.
                    FormStep::Field(..) | FormStep::File(_) => return Err(BodyError::MalformedForm),
                    FormStep::More => match self.wire.next().await.map_err(body_error)? {
                        Some(more) => *pending = more,
                        None => {
                            decoder.finish().map_err(|_| BodyError::MalformedForm)?;
                            return Ok(None);
                        }
                    },
                }
            },
        }
    }

    fn finish(&mut self) -> Result<BodyEvent, BodyError> {
        let digests = self.digests.take().ok_or(BodyError::ClientGone)?;
        let trailers = match &self.coding {
            Coding::Form { length_range: (min, _), .. } if digests.len_bytes() < *min => {
                return Err(BodyError::TooSmall);
            }
            Coding::Plain | Coding::Form { .. } => None,
            Coding::Chunks { decoder, .. } => Some(decoder.trailers()),
        };
        digests.finish(trailers).map(summary)
    }
}

impl<S: Stream, E: Executor> BodySource for S3Body<'_, '_, S, E> {
    fn want_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.want(algorithm);
        }
    }

    fn need_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.need(algorithm);
        }
    }

    async fn next(&mut self) -> Result<BodyEvent, BodyError> {
        let Some(data) = self.next_data().await? else { return self.finish() };
        let digests = self.digests.as_mut().ok_or(BodyError::ClientGone)?;
        digests.update(&data);
        let most = match &self.coding {
            Coding::Form { length_range: (_, most), .. } => BODY_MAX_BYTES.min(*most),
            _ => BODY_MAX_BYTES,
        };
        if digests.len_bytes() > most {
            return Err(BodyError::TooLarge);
        }
        Ok(BodyEvent::Data(data))
    }
}

/// A body that is in memory and was not sent as one: a member of an archive, a log.
pub(crate) struct GatheredBody {
    bytes: Bytes,
    /// Taken at the end.
    digests: Option<Digests>,
}

impl GatheredBody {
    pub(crate) fn new(bytes: Bytes) -> GatheredBody {
        GatheredBody { bytes, digests: Some(Digests::new(Expected::default())) }
    }
}

impl BodySource for GatheredBody {
    fn want_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.want(algorithm);
        }
    }

    fn need_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.need(algorithm);
        }
    }

    async fn next(&mut self) -> Result<BodyEvent, BodyError> {
        let bytes = std::mem::take(&mut self.bytes);
        match &mut self.digests {
            Some(digests) if !bytes.is_empty() => {
                digests.update(&bytes);
                Ok(BodyEvent::Data(bytes))
            }
            digests => end_of(digests),
        }
    }
}

/// The end of a body without trailers; takes its digests.
pub(crate) fn end_of(digests: &mut Option<Digests>) -> Result<BodyEvent, BodyError> {
    digests.take().ok_or(BodyError::Incomplete)?.finish(None).map(summary)
}

fn summary(digested: Digested) -> BodyEvent {
    let Digested { md5, checksum, needed, len_bytes } = digested;
    BodyEvent::End(BodySummary { md5, checksum, needed, len_bytes })
}

/// The length of a body without aws-chunked.
fn wire_length(head: &RequestHead) -> Option<u64> {
    match head.framing() {
        BodyFraming::Length(len_bytes) => Some(len_bytes),
        BodyFraming::Chunked => None,
    }
}

fn chunks(
    head: &RequestHead,
    signer: Option<ChunkSigner>,
    signed_trailers: bool,
) -> Result<(Coding, u64), S3Error> {
    let text =
        head.header_str("x-amz-decoded-content-length").ok_or(S3Error::from(Code::MissingContentLength))?;
    let len_bytes = text.parse().map_err(|_| {
        S3Error::argument("x-amz-decoded-content-length", text, "The decoded length is not a number")
    })?;
    let decoder = Box::new(AwsChunkedDecoder::new(len_bytes, signer, signed_trailers));
    Ok((Coding::Chunks { decoder, pending: Bytes::new() }, len_bytes))
}

pub(crate) fn body_error(error: WireError) -> BodyError {
    match error {
        WireError::Incomplete => BodyError::Incomplete,
        WireError::Malformed => BodyError::MalformedFraming,
        WireError::Signature => BodyError::SignatureMismatch,
        WireError::Timeout => BodyError::TimedOut,
        WireError::Disconnected => BodyError::ClientGone,
    }
}
