//! The keys of encrypted bodies: a data key for each object or upload, sealed under the pool's key or a customer's.
//! Invariants: a data key is random and used for one object or upload only; each part has a body key of its own; no
//! key shows in a log, an error or a Debug form; the customer's key is not kept in any form.
//! Not here: segments of bodies (`segments`), the pool's key (`keys` of the crate).
//! Source: RFC 5869 (HKDF); NIST SP 800-38D. A key derived with a random salt seals only once, so that the number of
//! objects under one master key is not bounded by random nonces.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use shardstore_format::DataId;

use super::BodyKey;
use crate::keys::{MasterKey, random_bytes};
use crate::ops::api::{CustomerKey, Encrypt, EncryptedBy, ObjectEncryption, ObjectInfo, OpError};

/// Version byte of a sealed data key.
const SEALED_VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Version, salt, ciphertext, tag.
const SEALED_BYTES: usize = 1 + SALT_BYTES + KEY_BYTES + TAG_BYTES;

const MANAGED_PURPOSE: &[u8] = b"basalt data key, managed";
const CUSTOMER_PURPOSE: &[u8] = b"basalt data key, of a customer";
const WHOLE_LABEL: &[u8] = b"basalt body, whole";
const PART_LABEL: &[u8] = b"basalt body, part";
const TAG_LABEL: &[u8] = b"basalt entity tag";

/// Which body a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyOf {
    /// An object of one piece.
    Object,
    /// A part, by the identity of its bytes: one that is uploaded again has another key.
    Part(DataId),
}

/// A data key at work, and what rows keep of it.
pub(crate) struct Sealing {
    data_key: [u8; KEY_BYTES],
    encryption: ObjectEncryption,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealing({:?}, ..)", self.encryption.by())
    }
}

impl Sealing {
    /// A new data key.
    pub(crate) fn new(encrypt: &Encrypt, master: &MasterKey) -> Sealing {
        Sealing::of(random_bytes(), encrypt, master)
    }

    /// The data key of what is there already.
    ///
    /// # Errors
    /// [`OpError::CustomerKeyMissing`], [`OpError::CustomerKeyWrong`], [`OpError::CustomerKeyUnexpected`];
    /// [`OpError::Damaged`] if the pool's key does not open it.
    pub(crate) fn open(
        encryption: &ObjectEncryption,
        customer_key: Option<&CustomerKey>,
        master: &MasterKey,
    ) -> Result<Sealing, OpError> {
        let data_key = match (encryption.by(), customer_key) {
            (EncryptedBy::Managed, None) => open(encryption.sealed_key(), master.as_bytes(), MANAGED_PURPOSE)
                .ok_or_else(|| {
                    OpError::Damaged("a data key was sealed under another master key".to_owned())
                })?,
            (EncryptedBy::Managed, Some(_)) => return Err(OpError::CustomerKeyUnexpected),
            (EncryptedBy::Customer, None) => return Err(OpError::CustomerKeyMissing),
            (EncryptedBy::Customer, Some(key)) => {
                open(encryption.sealed_key(), key.as_bytes(), CUSTOMER_PURPOSE)
                    .ok_or(OpError::CustomerKeyWrong)?
            }
        };
        Ok(Sealing { data_key, encryption: encryption.clone() })
    }

    /// The same data key, sealed for another holder: no byte under it changes.
    pub(crate) fn sealed_again(&self, encrypt: &Encrypt, master: &MasterKey) -> ObjectEncryption {
        Sealing::of(self.data_key, encrypt, master).encryption
    }

    fn of(data_key: [u8; KEY_BYTES], encrypt: &Encrypt, master: &MasterKey) -> Sealing {
        let sealed = match encrypt {
            Encrypt::Managed => seal(&data_key, master.as_bytes(), MANAGED_PURPOSE),
            Encrypt::Customer(key) => seal(&data_key, key.as_bytes(), CUSTOMER_PURPOSE),
        };
        Sealing { data_key, encryption: ObjectEncryption::new(encrypt.by(), sealed.into()) }
    }

    /// What rows keep.
    pub(crate) fn encryption(&self) -> &ObjectEncryption {
        &self.encryption
    }

    /// The key of one body.
    pub(crate) fn body_key(&self, body: BodyOf) -> BodyKey {
        let prk = self.prk();
        let cipher = match body {
            BodyOf::Object => cipher_of(&prk, &[WHOLE_LABEL]),
            BodyOf::Part(data) => {
                let (writer, counter) = (data.writer.0.to_le_bytes(), data.counter.to_le_bytes());
                cipher_of(&prk, &[PART_LABEL, &writer, &counter])
            }
        };
        BodyKey::new(cipher)
    }

    /// The tag of bytes with this MD5. Under a customer's key it tells nothing of them to who does not have it, as in
    /// S3.
    pub(crate) fn etag(&self, md5: [u8; 16]) -> [u8; 16] {
        match self.encryption.by() {
            EncryptedBy::Managed => md5,
            EncryptedBy::Customer => {
                let mut tag = [0; 16];
                let prk = self.prk();
                let info = [TAG_LABEL, &md5];
                let okm = prk.expand(&info, TagLength).expect("16 bytes are below the limit");
                okm.fill(&mut tag).expect("the length is that of the output");
                tag
            }
        }
    }

    fn prk(&self) -> Prk {
        Salt::new(HKDF_SHA256, &[]).extract(&self.data_key)
    }
}

/// Whether `key` is what reads an object, without reading it.
///
/// # Errors
/// As [`Sealing::open`]; whether the pool's key opens it is not looked at.
pub(crate) fn check_key(
    info: &ObjectInfo,
    key: Option<&CustomerKey>,
    master: &MasterKey,
) -> Result<(), OpError> {
    match &info.encryption {
        Some(encryption) if encryption.by() == EncryptedBy::Customer => {
            Sealing::open(encryption, key, master).map(drop)
        }
        _ if key.is_some() => Err(OpError::CustomerKeyUnexpected),
        _ => Ok(()),
    }
}

/// How the data key of a copy is sealed, if the copy can share the bytes of its source. What was encrypted does not become
/// plain by being copied: where nothing is asked, its copy is under the pool's key.
///
/// # Errors
/// [`OpError::CopyMovesBytes`] if it cannot, and as [`Sealing::open`], of the source.
pub(crate) fn seal_of_copy(
    source: Option<&ObjectEncryption>,
    source_key: Option<&CustomerKey>,
    encrypt: Option<&Encrypt>,
    master: &MasterKey,
) -> Result<Option<ObjectEncryption>, OpError> {
    let by = source.map(ObjectEncryption::by);
    match source {
        Some(source) if by == Some(EncryptedBy::Customer) => {
            let opened = Sealing::open(source, source_key, master)?;
            match encrypt {
                Some(encrypt @ Encrypt::Customer(_)) => Ok(Some(opened.sealed_again(encrypt, master))),
                Some(Encrypt::Managed) | None => Err(OpError::CopyMovesBytes),
            }
        }
        _ if source_key.is_some() => Err(OpError::CustomerKeyUnexpected),
        _ if encrypt.map(Encrypt::by).or(by) == by => Ok(source.cloned()),
        _ => Err(OpError::CopyMovesBytes),
    }
}

/// The length of a tag.
struct TagLength;

impl KeyType for TagLength {
    fn len(&self) -> usize {
        16
    }
}

fn cipher_of(prk: &Prk, info: &[&[u8]]) -> LessSafeKey {
    let okm = prk.expand(info, &AES_256_GCM).expect("a key is below the limit of an expansion");
    LessSafeKey::new(UnboundKey::from(okm))
}

fn seal(data_key: &[u8; KEY_BYTES], under: &[u8; KEY_BYTES], purpose: &[u8]) -> Vec<u8> {
    let salt: [u8; SALT_BYTES] = random_bytes();
    let cipher = cipher_of(&Salt::new(HKDF_SHA256, &salt).extract(under), &[purpose]);
    let mut sealed = Vec::with_capacity(SEALED_BYTES);
    sealed.push(SEALED_VERSION);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(data_key);
    let (_, secret) = sealed.split_at_mut(1 + SALT_BYTES);
    let tag = cipher.seal_in_place_separate_tag(only_nonce(), Aad::from(purpose), secret);
    sealed.extend_from_slice(tag.expect("a key is below the cipher's limit").as_ref());
    sealed
}

fn open(sealed: &[u8], under: &[u8; KEY_BYTES], purpose: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let (version, rest) = sealed.split_first()?;
    let (salt, secret) = rest.split_first_chunk::<SALT_BYTES>()?;
    if *version != SEALED_VERSION || sealed.len() != SEALED_BYTES {
        return None;
    }
    let cipher = cipher_of(&Salt::new(HKDF_SHA256, salt).extract(under), &[purpose]);
    let mut secret = secret.to_vec();
    let opened = cipher.open_in_place(only_nonce(), Aad::from(purpose), &mut secret).ok()?;
    (*opened).try_into().ok()
}

/// The salt is random, so the key that comes of it seals once.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use shardstore_format::WriterId;

    fn customer(byte: u8) -> CustomerKey {
        CustomerKey::new([byte; 32])
    }

    #[test]
    fn a_data_key_opens_only_for_who_it_was_sealed_for() {
        let (master, other) = (MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32]));
        let managed = Sealing::new(&Encrypt::Managed, &master);
        let opened = Sealing::open(managed.encryption(), None, &master).unwrap();
        assert_eq!(opened.data_key, managed.data_key);
        let refused = Sealing::open(managed.encryption(), None, &other).unwrap_err();
        assert!(matches!(refused, OpError::Damaged(_)));
        let unexpected = Sealing::open(managed.encryption(), Some(&customer(1)), &master).unwrap_err();
        assert_eq!(unexpected, OpError::CustomerKeyUnexpected);

        let theirs = Sealing::new(&Encrypt::Customer(customer(3)), &master);
        let open = |key: Option<CustomerKey>| Sealing::open(theirs.encryption(), key.as_ref(), &master);
        assert_eq!(open(Some(customer(3))).unwrap().data_key, theirs.data_key);
        assert_eq!(open(None).unwrap_err(), OpError::CustomerKeyMissing);
        assert_eq!(open(Some(customer(4))).unwrap_err(), OpError::CustomerKeyWrong);
    }

    #[test]
    fn a_customer_with_the_masters_bytes_opens_nothing_of_the_pools() {
        let master = MasterKey::from_bytes([3; 32]);
        let managed = Sealing::new(&Encrypt::Managed, &master);
        let claimed = ObjectEncryption::new(EncryptedBy::Customer, managed.encryption().sealed_key().clone());
        assert_eq!(
            Sealing::open(&claimed, Some(&customer(3)), &master).unwrap_err(),
            OpError::CustomerKeyWrong
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_sealed_key_is_noticed() {
        let master = MasterKey::from_bytes([1; 32]);
        let sealed = Sealing::new(&Encrypt::Managed, &master).encryption().sealed_key().clone();
        let opens = |bytes: &[u8]| open(bytes, master.as_bytes(), MANAGED_PURPOSE).is_some();
        assert!(opens(&sealed));
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&bad), "bit {bit}");
        }
        assert!((0..sealed.len()).all(|len| !opens(&sealed[..len])));
    }

    #[test]
    fn what_is_sealed_again_is_the_same_data_key() {
        let master = MasterKey::from_bytes([1; 32]);
        let first = Sealing::new(&Encrypt::Customer(customer(3)), &master);
        let again = first.sealed_again(&Encrypt::Customer(customer(4)), &master);
        assert_eq!(Sealing::open(&again, Some(&customer(4)), &master).unwrap().data_key, first.data_key);
        assert_eq!(
            Sealing::open(&again, Some(&customer(3)), &master).unwrap_err(),
            OpError::CustomerKeyWrong
        );
    }

    #[test]
    fn each_body_has_a_key_of_its_own() {
        let sealing = Sealing::new(&Encrypt::Managed, &MasterKey::from_bytes([1; 32]));
        let part = |counter| BodyOf::Part(DataId { writer: WriterId(1), counter });
        let sealed = |body| {
            let mut segment = b"the same bytes".to_vec();
            sealing.body_key(body).seal(0, true, &mut segment);
            segment
        };
        let all = [BodyOf::Object, part(1), part(2)].map(sealed);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }

    #[test]
    fn a_tag_under_a_customers_key_is_no_md5_and_differs_with_the_data_key() {
        let master = MasterKey::from_bytes([1; 32]);
        let md5 = [7; 16];
        assert_eq!(Sealing::new(&Encrypt::Managed, &master).etag(md5), md5);
        let of_customer = || Sealing::new(&Encrypt::Customer(customer(3)), &master);
        let (first, second) = (of_customer(), of_customer());
        assert_eq!(first.etag(md5), first.etag(md5));
        assert_ne!(first.etag(md5), md5);
        assert_ne!(first.etag(md5), second.etag(md5));
    }

    #[test]
    fn no_key_shows_in_debug_output() {
        let customer = Encrypt::Customer(customer(0xab));
        let sealing = Sealing::new(&customer, &MasterKey::from_bytes([1; 32]));
        assert_eq!(format!("{customer:?} {sealing:?}"), "Customer(CustomerKey(..)) Sealing(Customer, ..)");
    }
}
