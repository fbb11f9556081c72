//! Who sent a request: SigV4 (and SigV2) signatures over the head as it was received, and over streamed bodies.
//! Invariants: an [`Authenticated`] that names an account is made only by a signature that matched; secrets and digests are compared in
//! constant time; nothing here touches a socket or a clock.
//! Anonymous requests pass with [`Identity::Anonymous`]: whoever authorizes refuses them.
//! Not here: what a sender may do.

mod accounts;
mod canonical;
mod chunk_signer;
mod form;
mod identity;
mod shown;
mod sigv2;
mod sigv4;
mod verify;

pub use accounts::{AccountTable, Accounts, CoreAccounts};
pub(crate) use canonical::{decode_escapes, decode_query_escapes, encode_escapes};
pub use chunk_signer::ChunkSigner;
pub use identity::{
    ANONYMOUS_ID, Account, Credential, Credentials, Identity, Person, Secret, is_canonical_id,
};
pub(crate) use shown::shown_value;
pub use sigv4::{AuthError, BodySignature, Claim, PayloadHash, SignatureMismatch};
pub use verify::{Authenticated, SignedBy, Verifier, signed_by};
