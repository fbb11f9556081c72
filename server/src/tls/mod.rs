//! Certificates: read, chosen by the host that a client asks for, renewed while connections go on.
//! Invariants: what is served always parsed and fits its key; a file that does not is named and changes nothing.
//! Not here: the bytes of a connection (`http::tls`), which addresses are https (`config`). Expiry is not judged:
//! that is the client's to do.

mod certificates;
mod renewal;
mod self_signed;

pub use certificates::{CertificateError, server_config};
pub use renewal::TlsRenewal;
pub use self_signed::self_signed;
