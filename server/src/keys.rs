//! The master key, what it seals, and random credentials.
//! Invariants: secrets are sealed with AES-256-GCM under the master key and bound to what they belong to; the key
//! never appears in a log, an error or a Debug form.
//! Not here: where the key lies on drives (`startup`), who may do what (`auth`).
//! Source: NIST SP 800-38D (96-bit random nonces: at most 2^32 seals under one key).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// First word of a key file.
const KEY_FILE_MAGIC: &str = "basalt-master-key-1";
/// Version byte of the sealed form.
const SEALED_VERSION: u8 = 1;
const KEY_BYTES: usize = 32;

/// The key under which a pool's secrets are sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; KEY_BYTES]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Why a key or a sealed secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The key file is not `basalt-master-key-1 HEX` nor 64 hex digits.
    Malformed,
    /// The secret was sealed under another key, for something else, or is damaged.
    WrongKey,
    /// The sealed form is of a version that this build does not know.
    UnknownVersion,
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KeyError::Malformed => "the master key is not 64 hexadecimal digits",
            KeyError::WrongKey => "the secret was sealed under another master key, or is damaged",
            KeyError::UnknownVersion => "the secret was sealed by a newer version",
        })
    }
}

impl std::error::Error for KeyError {}

/// Fills an array from the operating system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    SystemRandom::new().fill(&mut bytes).expect("getrandom(2) does not fail once the machine is up");
    bytes
}

impl MasterKey {
    /// A key as it lies on a drive.
    pub fn from_bytes(key: [u8; KEY_BYTES]) -> MasterKey {
        MasterKey(key)
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when it is not one.
    pub fn parse(text: &[u8]) -> Result<MasterKey, KeyError> {
        let text = std::str::from_utf8(text).map_err(|_| KeyError::Malformed)?.trim();
        let digits = text.strip_prefix(KEY_FILE_MAGIC).unwrap_or(text).trim();
        let mut key = [0u8; KEY_BYTES];
        hex::decode_to_slice(digits, &mut key).map_err(|_| KeyError::Malformed)?;
        Ok(MasterKey(key))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn cipher(&self) -> LessSafeKey {
        let unbound = UnboundKey::new(&AES_256_GCM, &self.0).expect("the key has the cipher's length");
        LessSafeKey::new(unbound)
    }

    /// Seals `secret` for `purpose`: version, nonce, ciphertext and tag.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut sealed = secret.to_vec();
        self.cipher()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.as_bytes()),
                &mut sealed,
            )
            .expect("secrets are far below the cipher's limit of 64 GiB");
        let mut out = Vec::with_capacity(1 + NONCE_LEN + sealed.len());
        out.push(SEALED_VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        out
    }

    /// Opens what [`MasterKey::seal`] made for the same `purpose`.
    ///
    /// # Errors
    /// [`KeyError`]: nothing of the secret is returned.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let (&version, rest) = sealed.split_first().ok_or(KeyError::WrongKey)?;
        if version != SEALED_VERSION {
            return Err(KeyError::UnknownVersion);
        }
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeyError::WrongKey)?;
        let mut bytes = ciphertext.to_vec();
        let opened = self
            .cipher()
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose.as_bytes()), &mut bytes)
            .map_err(|_| KeyError::WrongKey)?;
        Ok(opened.to_vec())
    }
}

/// Random letters and digits: the alphabet has 32 signs, so each carries 5 bits.
pub fn random_name(len: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    std::iter::repeat_with(random_bytes::<1>)
        .map(|[byte]| char::from(ALPHABET[usize::from(byte & 31)]))
        .take(len)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_under_its_key_and_purpose() {
        let key = MasterKey::from_bytes(random_bytes());
        let sealed = key.seal("root", b"secret");
        assert_eq!(key.open("root", &sealed).unwrap(), b"secret");
        assert_eq!(key.open("user", &sealed), Err(KeyError::WrongKey));
        assert_eq!(MasterKey::from_bytes(random_bytes()).open("root", &sealed), Err(KeyError::WrongKey));
    }

    #[test]
    fn every_flipped_bit_of_a_sealed_secret_is_noticed() {
        let key = MasterKey::from_bytes(random_bytes());
        let sealed = key.seal("root", b"secret");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open("root", &bad).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(key.open("root", &sealed[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn a_key_file_reads_back_and_bare_hex_is_accepted() {
        let key = MasterKey::from_bytes([0xab; 32]);
        let text = format!("basalt-master-key-1 {}\n", "ab".repeat(32));
        assert_eq!(MasterKey::parse(text.as_bytes()).unwrap(), key);
        assert_eq!(MasterKey::parse(b"00").unwrap_err(), KeyError::Malformed);
        assert_eq!(MasterKey::parse("ab".repeat(32).as_bytes()).unwrap(), key);
    }

    #[test]
    fn the_key_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", MasterKey::from_bytes(random_bytes())), "MasterKey(..)");
    }
}
