//! Verifies the chain of signatures inside an aws-chunked body.
//! Invariants: each signature covers the one before it, so no chunk can be left out, repeated or moved.
//! Not here: the framing (`http::body`).

use aws_lc_rs::{constant_time, digest, hmac};

use crate::http::{ChunkCheck, ChunkMismatch};

/// The state of the chain.
pub struct ChunkSigner {
    key: hmac::Key,
    /// `20130524T000000Z`
    timestamp: String,
    /// `20130524/us-east-1/s3/aws4_request`
    scope: String,
    previous: [u8; 64],
    chunk: digest::Context,
}

impl std::fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkSigner(..)")
    }
}

impl ChunkSigner {
    /// Begins with the signature of the head.
    pub(super) fn new(key: hmac::Key, timestamp: String, scope: String, seed: [u8; 64]) -> ChunkSigner {
        ChunkSigner { key, timestamp, scope, previous: seed, chunk: digest::Context::new(&digest::SHA256) }
    }

    fn advance(&mut self, kind: &str, hashes: &[&[u8]], signature: &[u8]) -> Result<(), ChunkMismatch> {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [kind.as_bytes(), b"\n", self.timestamp.as_bytes(), b"\n", self.scope.as_bytes(), b"\n"] {
            context.update(part);
        }
        context.update(&self.previous);
        for hash in hashes {
            context.update(b"\n");
            context.update(hash);
        }
        let mut wanted = [0; 64];
        write_hex(context.sign().as_ref(), &mut wanted);
        constant_time::verify_slices_are_equal(&wanted, signature).map_err(|_| ChunkMismatch)?;
        self.previous = wanted;
        Ok(())
    }
}

/// SHA-256 of nothing.
pub(super) const EMPTY_SHA256: &[u8; 64] =
    b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl ChunkCheck for ChunkSigner {
    fn update(&mut self, data: &[u8]) {
        self.chunk.update(data);
    }

    fn finish_chunk(&mut self, signature: &[u8]) -> Result<(), ChunkMismatch> {
        let chunk = std::mem::replace(&mut self.chunk, digest::Context::new(&digest::SHA256));
        let mut hash = [0; 64];
        write_hex(chunk.finish().as_ref(), &mut hash);
        self.advance("AWS4-HMAC-SHA256-PAYLOAD", &[EMPTY_SHA256, &hash], signature)
    }

    fn finish_trailers(&mut self, lines: &[u8], signature: &[u8]) -> Result<(), ChunkMismatch> {
        let mut hash = [0; 64];
        write_hex(digest::digest(&digest::SHA256, lines).as_ref(), &mut hash);
        self.advance("AWS4-HMAC-SHA256-TRAILER", &[&hash], signature)
    }
}

/// Lower-case hex of as many bytes as `out` holds twice.
pub(super) fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, &byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}
