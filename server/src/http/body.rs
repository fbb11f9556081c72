//! Sans-io decoders of request bodies: by length, by HTTP chunked coding, and aws-chunked on top of either.
//! Invariants: payload is handed on as slices of the received buffer, never gathered; a line or trailer that is
//! being gathered is bounded; `End` is returned only when the whole body was well-formed and of the stated length.
//! Not here: reading sockets (`connection`), keys and hashes (`auth`, `s3::checksum`).

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use super::head::BodyFraming;

/// Longest size line of a chunk: 16 hex digits, `;chunk-signature=` and 64 more make 100; 512 leaves room for
/// extensions.
const LINE_BYTES_MAX: usize = 512;
/// Longest trailer section: a checksum and a signature make about 200 bytes.
const TRAILER_BYTES_MAX: usize = 4096;

/// Why a body ended before its end. None of it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The peer closed, or sent fewer or more bytes than it stated.
    Incomplete,
    /// The chunked or aws-chunked framing is broken.
    Malformed,
    /// A signature of aws-chunked does not match.
    Signature,
    /// The client sent too little for too long.
    Timeout,
    /// The connection failed, or the server is going away.
    Disconnected,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BodyError::Incomplete => "the body is not of the stated length",
            BodyError::Malformed => "the framing of the body is malformed",
            BodyError::Signature => "the signature of a chunk does not match",
            BodyError::Timeout => "the body came too slowly",
            BodyError::Disconnected => "the connection failed while the body was read",
        })
    }
}

impl std::error::Error for BodyError {}

/// One step of a decoder.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed {
    /// Payload, never empty.
    Data(Bytes),
    /// The input is used up.
    More,
    /// The body is complete.
    End,
}

/// Decodes the framing of RFC 9112 from the connection's read buffer; bytes after the body stay there.
#[derive(Debug)]
pub struct FrameDecoder {
    state: FrameState,
}

#[derive(Debug)]
enum FrameState {
    Length { left: u64 },
    ChunkSize,
    ChunkData { left: u64 },
    ChunkDataEnd,
    ChunkTrailers { seen: usize },
    End,
}

impl FrameDecoder {
    /// A decoder at the start of a body.
    pub fn new(framing: BodyFraming) -> FrameDecoder {
        let state = match framing {
            BodyFraming::Length(0) => FrameState::End,
            BodyFraming::Length(left) => FrameState::Length { left },
            BodyFraming::Chunked => FrameState::ChunkSize,
        };
        FrameDecoder { state }
    }

    /// Whether the whole body has been decoded.
    pub fn is_end(&self) -> bool {
        matches!(self.state, FrameState::End)
    }

    /// Wire bytes known to be still to come; `None` where the coding does not say.
    pub fn left_bytes(&self) -> Option<u64> {
        match self.state {
            FrameState::Length { left } => Some(left),
            FrameState::End => Some(0),
            _ => None,
        }
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// [`BodyError::Malformed`].
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Framed, BodyError> {
        loop {
            match &mut self.state {
                FrameState::End => return Ok(Framed::End),
                FrameState::Length { left } | FrameState::ChunkData { left } => {
                    let Some(data) = take_up_to(input, *left) else { return Ok(Framed::More) };
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.state = match self.state {
                            FrameState::Length { .. } => FrameState::End,
                            _ => FrameState::ChunkDataEnd,
                        };
                    }
                    return Ok(Framed::Data(data));
                }
                FrameState::ChunkDataEnd => match input.get(..2) {
                    None => return Ok(Framed::More),
                    Some(b"\r\n") => {
                        input.advance(2);
                        self.state = FrameState::ChunkSize;
                    }
                    Some(_) => return Err(BodyError::Malformed),
                },
                FrameState::ChunkSize => {
                    let Some(line) = take_line(input, LINE_BYTES_MAX)? else { return Ok(Framed::More) };
                    let size = line[..].split(|&byte| byte == b';').next().unwrap_or_default();
                    self.state = match parse_hex_size(size)? {
                        0 => FrameState::ChunkTrailers { seen: 0 },
                        left => FrameState::ChunkData { left },
                    };
                }
                FrameState::ChunkTrailers { seen } => {
                    let Some(line) = take_line(input, TRAILER_BYTES_MAX)? else { return Ok(Framed::More) };
                    *seen += line.len();
                    if *seen > TRAILER_BYTES_MAX {
                        return Err(BodyError::Malformed);
                    }
                    if line.is_empty() {
                        self.state = FrameState::End;
                    }
                }
            }
        }
    }
}

fn take_up_to(input: &mut BytesMut, left: u64) -> Option<Bytes> {
    if input.is_empty() {
        return None;
    }
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    Some(input.split_to(len).freeze())
}

/// A line without its line end; `None` while it is not whole.
fn take_line(input: &mut BytesMut, len_max: usize) -> Result<Option<BytesMut>, BodyError> {
    let Some(newline) = input.iter().take(len_max).position(|&byte| byte == b'\n') else {
        return if input.len() >= len_max { Err(BodyError::Malformed) } else { Ok(None) };
    };
    let mut line = input.split_to(newline + 1);
    line.truncate(newline);
    if line.last() != Some(&b'\r') {
        return Err(BodyError::Malformed);
    }
    line.truncate(newline - 1);
    Ok(Some(line))
}

/// RFC 9112 7.1 chunk-size; blanks around it are refused except trailing ones, which old clients pad with.
fn parse_hex_size(text: &[u8]) -> Result<u64, BodyError> {
    let text = text.trim_ascii_end();
    if text.is_empty() || text.len() > 16 || !text.iter().all(u8::is_ascii_hexdigit) {
        return Err(BodyError::Malformed);
    }
    let text = std::str::from_utf8(text).map_err(|_| BodyError::Malformed)?;
    u64::from_str_radix(text, 16).map_err(|_| BodyError::Malformed)
}

/// A chunk or trailer signature does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMismatch;

/// What verifies the signatures inside an aws-chunked body.
pub trait ChunkCheck {
    /// Adds payload of the current chunk.
    fn update(&mut self, data: &[u8]);
    /// Ends the current chunk.
    ///
    /// # Errors
    /// [`ChunkMismatch`]: nothing of the body may be accepted.
    fn finish_chunk(&mut self, signature: &[u8]) -> Result<(), ChunkMismatch>;
    /// Ends the trailers, given as `name:value\n` lines.
    ///
    /// # Errors
    /// [`ChunkMismatch`]: nothing of the body may be accepted.
    fn finish_trailers(&mut self, lines: &[u8], signature: &[u8]) -> Result<(), ChunkMismatch>;
}

/// The trailers of an aws-chunked body: names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    fields: SmallVec<[(String, String); 1]>,
}

impl Trailers {
    /// The first trailer of that lower-case name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a checksum among them.
    pub fn have_checksum(&self) -> bool {
        self.fields.iter().any(|(field, _)| field.starts_with("x-amz-checksum-"))
    }
}

/// Decodes aws-chunked: `size[;chunk-signature=...]`, payload, and trailers after the last chunk.
#[derive(Debug)]
pub struct AwsChunkedDecoder<C> {
    check: Option<C>,
    signed_trailers: bool,
    state: AwsState,
    payload_left: u64,
    /// The unfinished line, at most [`LINE_BYTES_MAX`] or, in trailers, [`TRAILER_BYTES_MAX`] bytes.
    line: Vec<u8>,
    signature: [u8; 64],
    trailer_lines: Vec<u8>,
    trailer_signature_seen: bool,
    trailers: Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AwsState {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailers,
    End,
}

/// What may end a line of aws-chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    CrLf,
    /// minio-go ends its trailers with a bare newline, which they are signed with.
    CrLfOrLf,
}

impl<C: ChunkCheck> AwsChunkedDecoder<C> {
    /// A decoder for `payload_bytes` of payload. With a `check`, every chunk must carry a signature; with
    /// `signed_trailers`, so must the trailers.
    pub fn new(payload_bytes: u64, check: Option<C>, signed_trailers: bool) -> AwsChunkedDecoder<C> {
        AwsChunkedDecoder {
            check,
            signed_trailers,
            state: AwsState::Size,
            payload_left: payload_bytes,
            line: Vec::new(),
            signature: [0; 64],
            trailer_lines: Vec::new(),
            trailer_signature_seen: false,
            trailers: Trailers::default(),
        }
    }

    /// The trailers; complete only after `End`.
    pub fn trailers(&self) -> &Trailers {
        &self.trailers
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// [`BodyError::Malformed`], [`BodyError::Signature`], or [`BodyError::Incomplete`] where the chunks hold
    /// another length than was stated.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Framed, BodyError> {
        loop {
            match self.state {
                AwsState::End => {
                    if input.iter().any(|&byte| byte != b'\r' && byte != b'\n') {
                        return Err(BodyError::Malformed);
                    }
                    input.clear();
                    return Ok(Framed::End);
                }
                AwsState::Data { left } => {
                    if input.is_empty() {
                        return Ok(Framed::More);
                    }
                    return self.take_data(input, left).map(Framed::Data);
                }
                AwsState::Size => {
                    if !self.gather_line(input, LINE_BYTES_MAX, LineEnd::CrLf)? {
                        return Ok(Framed::More);
                    }
                    self.begin_chunk()?;
                }
                AwsState::DataEnd => {
                    if !self.gather_line(input, 2, LineEnd::CrLf)? {
                        return Ok(Framed::More);
                    }
                    if !self.line.is_empty() {
                        return Err(BodyError::Malformed);
                    }
                    self.finish_chunk()?;
                    self.state = AwsState::Size;
                }
                AwsState::Trailers => {
                    if !self.gather_line(input, TRAILER_BYTES_MAX, LineEnd::CrLfOrLf)? {
                        return Ok(Framed::More);
                    }
                    self.read_trailer_line()?;
                }
            }
        }
    }

    /// Called when the framing below has ended: clients may leave out the last empty line.
    ///
    /// # Errors
    /// As [`AwsChunkedDecoder::decode`]; [`BodyError::Incomplete`] where chunks are missing.
    pub fn finish(&mut self) -> Result<(), BodyError> {
        match self.state {
            AwsState::End => Ok(()),
            AwsState::Trailers => {
                if !self.line.is_empty() {
                    self.read_trailer_line()?;
                }
                if self.state == AwsState::Trailers {
                    self.end_trailers()?;
                }
                Ok(())
            }
            _ => Err(BodyError::Incomplete),
        }
    }

    fn take_data(&mut self, input: &mut Bytes, left: u64) -> Result<Bytes, BodyError> {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let data = input.split_to(len);
        if let Some(check) = &mut self.check {
            check.update(&data);
        }
        let left = left - data.len() as u64;
        self.state = if left == 0 { AwsState::DataEnd } else { AwsState::Data { left } };
        self.payload_left = self.payload_left.checked_sub(data.len() as u64).ok_or(BodyError::Incomplete)?;
        Ok(data)
    }

    /// Moves input to `line` up to a line end; true when the line is whole (its end is dropped).
    fn gather_line(&mut self, input: &mut Bytes, len_max: usize, end: LineEnd) -> Result<bool, BodyError> {
        let newline = input.iter().position(|&byte| byte == b'\n');
        let take = newline.map_or(input.len(), |at| at + 1);
        if self.line.len() + take > len_max {
            return Err(BodyError::Malformed);
        }
        self.line.extend_from_slice(&input[..take]);
        input.advance(take);
        if newline.is_none() {
            return Ok(false);
        }
        self.line.pop();
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        } else if end == LineEnd::CrLf {
            return Err(BodyError::Malformed);
        }
        Ok(true)
    }

    fn begin_chunk(&mut self) -> Result<(), BodyError> {
        let mut fields = self.line.split(|&byte| byte == b';');
        let size = parse_hex_size(fields.next().unwrap_or_default())?;
        let signature = fields.find_map(|field| field.trim_ascii().strip_prefix(b"chunk-signature="));
        if self.check.is_some() {
            let signature = signature.ok_or(BodyError::Malformed)?;
            self.signature = signature.try_into().map_err(|_| BodyError::Signature)?;
        }
        self.line.clear();
        if size > self.payload_left {
            return Err(BodyError::Incomplete);
        }
        if size > 0 {
            self.state = AwsState::Data { left: size };
            return Ok(());
        }
        if self.payload_left > 0 {
            return Err(BodyError::Incomplete);
        }
        self.finish_chunk()?;
        self.state = AwsState::Trailers;
        Ok(())
    }

    fn finish_chunk(&mut self) -> Result<(), BodyError> {
        match &mut self.check {
            Some(check) => check.finish_chunk(&self.signature).map_err(|ChunkMismatch| BodyError::Signature),
            None => Ok(()),
        }
    }

    fn read_trailer_line(&mut self) -> Result<(), BodyError> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            // minio-go puts an empty line between the trailers and their signature.
            if self.signed_trailers && !self.trailer_signature_seen {
                return Ok(());
            }
            return self.end_trailers();
        }
        let line = std::str::from_utf8(&line).map_err(|_| BodyError::Malformed)?;
        let (name, value) = line.split_once(':').ok_or(BodyError::Malformed)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "x-amz-trailer-signature" {
            if let Some(check) = &mut self.check {
                check
                    .finish_trailers(&self.trailer_lines, value.as_bytes())
                    .map_err(|ChunkMismatch| BodyError::Signature)?;
            }
            self.trailer_signature_seen = true;
            return Ok(());
        }
        // A trailer after the signature would not be covered by it.
        if self.trailer_signature_seen || self.trailer_lines.len() + line.len() > TRAILER_BYTES_MAX {
            return Err(BodyError::Malformed);
        }
        self.trailer_lines.extend_from_slice(name.as_bytes());
        self.trailer_lines.push(b':');
        self.trailer_lines.extend_from_slice(value.as_bytes());
        self.trailer_lines.push(b'\n');
        self.trailers.fields.push((name, value.to_owned()));
        Ok(())
    }

    fn end_trailers(&mut self) -> Result<(), BodyError> {
        if self.signed_trailers && !self.trailer_signature_seen {
            return Err(BodyError::Signature);
        }
        self.state = AwsState::End;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Accepts signatures that repeat one byte: the number of payload bytes of their chunk.
    #[derive(Debug, Default)]
    struct CountCheck {
        len: usize,
    }

    impl ChunkCheck for CountCheck {
        fn update(&mut self, data: &[u8]) {
            self.len += data.len();
        }
        fn finish_chunk(&mut self, signature: &[u8]) -> Result<(), ChunkMismatch> {
            let want = b'0' + u8::try_from(self.len).unwrap();
            self.len = 0;
            if signature.iter().all(|&byte| byte == want) { Ok(()) } else { Err(ChunkMismatch) }
        }
        fn finish_trailers(&mut self, lines: &[u8], signature: &[u8]) -> Result<(), ChunkMismatch> {
            if lines == b"x-amz-checksum-crc32c:abc=\n" && signature == b"ok" {
                Ok(())
            } else {
                Err(ChunkMismatch)
            }
        }
    }

    fn decode_frames(decoder: &mut FrameDecoder, wire: &[u8], step: usize) -> Result<Vec<u8>, BodyError> {
        let mut input = BytesMut::new();
        let mut payload = Vec::new();
        let mut pieces = wire.chunks(step.max(1));
        loop {
            match decoder.decode(&mut input)? {
                Framed::Data(data) => payload.extend_from_slice(&data),
                Framed::End => return Ok(payload),
                Framed::More => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => return Err(BodyError::Incomplete),
                },
            }
        }
    }

    fn decode_aws<C: ChunkCheck>(
        decoder: &mut AwsChunkedDecoder<C>,
        wire: &[u8],
        step: usize,
    ) -> Result<Vec<u8>, BodyError> {
        let mut payload = Vec::new();
        for piece in wire.chunks(step.max(1)) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Framed::Data(data) = decoder.decode(&mut input)? {
                payload.extend_from_slice(&data);
            }
        }
        decoder.finish()?;
        Ok(payload)
    }

    #[test]
    fn a_body_by_length_leaves_the_next_request_in_the_buffer() {
        let mut input = BytesMut::from(&b"abcGET"[..]);
        let mut decoder = FrameDecoder::new(BodyFraming::Length(3));
        assert_eq!(decoder.decode(&mut input), Ok(Framed::Data(Bytes::from_static(b"abc"))));
        assert_eq!(decoder.decode(&mut input), Ok(Framed::End));
        assert_eq!(&input[..], b"GET");
    }

    #[test]
    fn chunked_bodies_decode_at_every_split() {
        let wire = b"3\r\nabc\r\nA ;x=y\r\n0123456789\r\n0\r\nX-T: v\r\n\r\n";
        for step in 1..wire.len() {
            let mut decoder = FrameDecoder::new(BodyFraming::Chunked);
            assert_eq!(decode_frames(&mut decoder, wire, step).unwrap(), b"abc0123456789");
        }
    }

    #[test]
    fn broken_chunked_framing_is_refused() {
        for wire in [
            &b"zz\r\nabc\r\n"[..],
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n",
            b"-1\r\n",
            b"11111111111111111\r\n",
        ] {
            let mut decoder = FrameDecoder::new(BodyFraming::Chunked);
            assert_eq!(decode_frames(&mut decoder, wire, 64), Err(BodyError::Malformed), "{wire:?}");
        }
        let endless = vec![b'1'; 4096];
        let mut decoder = FrameDecoder::new(BodyFraming::Chunked);
        assert_eq!(decode_frames(&mut decoder, &endless, 100), Err(BodyError::Malformed));
    }

    fn signed_wire() -> Vec<u8> {
        let sig = |digit: char| digit.to_string().repeat(64);
        format!(
            "3;chunk-signature={}\r\nabc\r\n5;chunk-signature={}\r\n01234\r\n0;chunk-signature={}\r\n",
            sig('3'),
            sig('5'),
            sig('0')
        )
        .into_bytes()
    }

    #[test]
    fn signed_chunks_decode_at_every_split() {
        let mut wire = signed_wire();
        wire.extend_from_slice(b"\r\n");
        for step in 1..wire.len() {
            let mut decoder = AwsChunkedDecoder::new(8, Some(CountCheck::default()), false);
            assert_eq!(decode_aws(&mut decoder, &wire, step).unwrap(), b"abc01234");
        }
    }

    #[test]
    fn signed_trailers_decode_in_the_forms_of_aws_and_minio_go() {
        for tail in [
            "x-amz-checksum-crc32c:abc=\r\nx-amz-trailer-signature:ok\r\n\r\n",
            "x-amz-checksum-crc32c:abc=\n\r\nx-amz-trailer-signature:ok\r\n\r\n",
            "x-amz-checksum-crc32c:abc=\r\nx-amz-trailer-signature:ok",
        ] {
            let mut wire = signed_wire();
            wire.extend_from_slice(tail.as_bytes());
            for step in 1..wire.len() {
                let mut decoder = AwsChunkedDecoder::new(8, Some(CountCheck::default()), true);
                assert_eq!(decode_aws(&mut decoder, &wire, step).unwrap(), b"abc01234", "{tail:?}");
                assert_eq!(decoder.trailers().get("x-amz-checksum-crc32c"), Some("abc="));
            }
        }
    }

    #[test]
    fn a_missing_trailer_signature_is_refused() {
        let mut wire = signed_wire();
        wire.extend_from_slice(b"x-amz-checksum-crc32c:abc=\r\n\r\n");
        let mut decoder = AwsChunkedDecoder::new(8, Some(CountCheck::default()), true);
        assert_eq!(decode_aws(&mut decoder, &wire, 7), Err(BodyError::Signature));
    }

    #[test]
    fn unsigned_trailers_decode() {
        let wire = b"8\r\nabc01234\r\n0\r\nX-Amz-Checksum-CRC32: AAAA \r\n\r\n";
        for step in 1..wire.len() {
            let mut decoder = AwsChunkedDecoder::<CountCheck>::new(8, None, false);
            assert_eq!(decode_aws(&mut decoder, wire, step).unwrap(), b"abc01234");
            assert_eq!(decoder.trailers().get("x-amz-checksum-crc32"), Some("AAAA"));
        }
    }

    #[test]
    fn a_bare_newline_ends_no_chunk() {
        let good = b"3\r\nabc\r\n0\r\n\r\n";
        for at in good.iter().enumerate().filter(|(_, byte)| **byte == b'\r').map(|(at, _)| at).take(3) {
            let mut wire = good.to_vec();
            wire.remove(at);
            for step in 1..wire.len() {
                let mut decoder = AwsChunkedDecoder::<CountCheck>::new(3, None, false);
                assert_eq!(decode_aws(&mut decoder, &wire, step), Err(BodyError::Malformed), "{at}");
            }
        }
    }

    #[test]
    fn a_changed_byte_or_length_is_refused() {
        let wire = signed_wire();
        let mut decoder = AwsChunkedDecoder::new(9, Some(CountCheck::default()), false);
        assert_eq!(decode_aws(&mut decoder, &wire, 64), Err(BodyError::Incomplete));
        let mut decoder = AwsChunkedDecoder::new(7, Some(CountCheck::default()), false);
        assert_eq!(decode_aws(&mut decoder, &wire, 64), Err(BodyError::Incomplete));
        let mut decoder = AwsChunkedDecoder::new(8, Some(CountCheck::default()), false);
        assert_eq!(decode_aws(&mut decoder, &wire[..100], 64), Err(BodyError::Incomplete));
        let mut broken = wire.clone();
        broken[30] = b'9';
        let mut decoder = AwsChunkedDecoder::new(8, Some(CountCheck::default()), false);
        assert_eq!(decode_aws(&mut decoder, &broken, 64), Err(BodyError::Signature));
    }

    #[test]
    fn random_and_mutated_bodies_never_panic() {
        let mut rng = fastrand::Rng::new();
        let mut good = signed_wire();
        good.extend_from_slice(b"x-amz-checksum-crc32c:abc=\r\nx-amz-trailer-signature:ok\r\n\r\n");
        for _ in 0..5_000 {
            let mut wire = good.clone();
            for _ in 0..rng.usize(0..5) {
                let at = rng.usize(0..wire.len());
                wire[at] = rng.u8(..);
            }
            let step = rng.usize(1..40);
            let mut aws = AwsChunkedDecoder::<CountCheck>::new(8, None, rng.bool());
            drop(decode_aws(&mut aws, &wire, step));
            let mut frames = FrameDecoder::new(BodyFraming::Chunked);
            drop(decode_frames(&mut frames, &wire, step));
        }
    }
}
