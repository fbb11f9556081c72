//! Who sent a request: SigV4 (and SigV2) signatures over the head as it was received, and over streamed bodies.
//! Invariants: an [`Authenticated`] is made only by a signature that matched; secrets and digests are compared in
//! constant time; nothing here touches a socket or a clock.
//! Not here: what a sender may do.

mod canonical;
mod chunk_signer;
mod identity;
mod sigv2;
mod sigv4;
mod verify;

pub(crate) use canonical::{decode_escapes, decode_query_escapes, encode_escapes};
pub use chunk_signer::ChunkSigner;
pub use identity::{Credentials, Identity, Secret};
pub use sigv4::{AuthError, BodySignature, Claim, PayloadHash, SignatureMismatch};
pub use verify::{Authenticated, Verifier};
