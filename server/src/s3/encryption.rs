//! What a request says of encryption at rest: which encryption a write asks for, customers' keys, and what answers say back.
//! Invariants: a customer's key is never part of an error, a log or an answer; it is taken only over a secure way; what is not
//! built is refused, never dropped.
//! Not here: a bucket's default (`config::encryption`), how bytes are sealed (`ops`).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::http::{HeaderText, RequestHead};
use crate::ops::api::{CustomerKey, Encrypt, EncryptedBy};
use crate::s3::authorize::Asker;
use crate::s3::bucket_settings::BucketSettings;
use crate::s3::config::encryption::DefaultEncryption;
use crate::s3::error::{Code, S3Error};

/// The field by which a write asks for encryption with keys of ours, and by which answers confirm it.
const ENCRYPTION: &str = "x-amz-server-side-encryption";
/// The one algorithm that there is, with our keys and with customers'.
pub const AES256: &str = "AES256";

/// A customer's key as a request gave it.
#[derive(Clone, Debug)]
pub struct GivenKey {
    /// The key.
    pub key: CustomerKey,
    /// Base64 of its MD5, which answers repeat.
    md5: String,
}

/// Fields by which a proxy says that it passed a request on.
pub const PASSED_ON: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Which three fields hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
    /// Those of the object that a request reads or makes.
    Object,
    /// Those of the source of a copy.
    Source,
}

impl Fields {
    /// Algorithm, key and digest.
    fn names(self) -> [&'static str; 3] {
        match self {
            Fields::Object => [
                "x-amz-server-side-encryption-customer-algorithm",
                "x-amz-server-side-encryption-customer-key",
                "x-amz-server-side-encryption-customer-key-md5",
            ],
            Fields::Source => [
                "x-amz-copy-source-server-side-encryption-customer-algorithm",
                "x-amz-copy-source-server-side-encryption-customer-key",
                "x-amz-copy-source-server-side-encryption-customer-key-md5",
            ],
        }
    }
}

/// What a write asks for.
#[derive(Clone, Debug)]
pub enum AskedEncryption {
    /// Nothing: the bucket's default counts.
    Default,
    /// With keys of ours.
    Managed,
    /// With the customer's key.
    Customer(GivenKey),
}

impl AskedEncryption {
    /// Of a request that makes an object or begins an upload.
    ///
    /// # Errors
    /// `InvalidArgument`, `InvalidEncryptionAlgorithmError`; `NotImplemented` for keys of a key management service.
    pub fn of_write(asker: &Asker<'_>) -> Result<AskedEncryption, S3Error> {
        let head = asker.head;
        check_private(asker, Fields::Object)?;
        let method = head.header(ENCRYPTION).map(String::from_utf8_lossy);
        if let Some(method) = &method
            && has_any(head, Fields::Object)
        {
            let what = "Server Side Encryption with Customer provided key is incompatible with the encryption method \
                 specified";
            return Err(S3Error::argument(ENCRYPTION, method, what));
        }
        match method.as_deref() {
            None | Some(AES256) => {}
            Some("aws:kms" | "aws:kms:dsse") => return Err(not_built(ENCRYPTION)),
            Some(other) => {
                let what = "The encryption method specified is not supported";
                return Err(S3Error::argument(ENCRYPTION, other, what));
            }
        }
        refuse_kms_fields(head)?;
        Ok(match (key_of_object(asker)?, method) {
            (Some(key), _) => AskedEncryption::Customer(key),
            (None, Some(_)) => AskedEncryption::Managed,
            (None, None) => AskedEncryption::Default,
        })
    }

    /// How the object is to be encrypted in a bucket of these settings.
    ///
    /// # Errors
    /// `AccessDenied` where the bucket takes no customers' keys.
    pub fn in_bucket(&self, settings: &BucketSettings) -> Result<Option<Encrypt>, S3Error> {
        check_taken(self.key(), settings)?;
        Ok(match self {
            AskedEncryption::Managed => Some(Encrypt::Managed),
            AskedEncryption::Default => by_default(settings),
            AskedEncryption::Customer(given) => Some(Encrypt::Customer(given.key.clone())),
        })
    }

    /// The customer's key, if it is to be encrypted by one.
    pub fn key(&self) -> Option<&GivenKey> {
        match self {
            AskedEncryption::Customer(given) => Some(given),
            AskedEncryption::Default | AskedEncryption::Managed => None,
        }
    }
}

/// How a bucket encrypts new objects of which nothing is asked.
pub fn by_default(settings: &BucketSettings) -> Option<Encrypt> {
    settings.encryption.as_ref().map(|_| Encrypt::Managed)
}

/// Refuses a key for what is written to a bucket that takes none.
///
/// # Errors
/// `AccessDenied`.
pub fn check_taken(given: Option<&GivenKey>, settings: &BucketSettings) -> Result<(), S3Error> {
    let are_refused = settings.encryption.as_ref().is_some_and(DefaultEncryption::refuses_customer_keys);
    if given.is_none() || !are_refused {
        return Ok(());
    }
    let what = "This bucket has blocked upload requests that specify Server Side Encryption with Customer provided keys \
         (SSE-C). Please specify a different server-side encryption type";
    Err(S3Error::with_message(Code::AccessDenied, what))
}

/// The key that a request gives for the object that it reads, or for the part that it writes.
///
/// # Errors
/// `InvalidArgument`, `InvalidEncryptionAlgorithmError`.
pub fn key_of_object(asker: &Asker<'_>) -> Result<Option<GivenKey>, S3Error> {
    given_key(asker, Fields::Object)
}

/// The key that a copy gives for its source.
///
/// # Errors
/// As [`key_of_object`].
pub fn key_of_source(asker: &Asker<'_>) -> Result<Option<GivenKey>, S3Error> {
    given_key(asker, Fields::Source)
}

/// The key of a request that makes no object: how that is encrypted cannot be asked any more.
///
/// # Errors
/// As [`key_of_object`]; `InvalidArgument` where encryption is asked for.
pub fn key_of_existing(asker: &Asker<'_>) -> Result<Option<GivenKey>, S3Error> {
    check_private(asker, Fields::Object)?;
    if let Some(method) = asker.head.header(ENCRYPTION) {
        let what = "x-amz-server-side-encryption header is not supported for this operation.";
        return Err(S3Error::argument(ENCRYPTION, &String::from_utf8_lossy(method), what));
    }
    key_of_object(asker)
}

/// Adds what an answer says of an object's encryption; `given` is the key that the request gave for it.
pub fn push_encryption(headers: &mut HeaderText, by: Option<EncryptedBy>, given: Option<&GivenKey>) {
    match (by, given) {
        (None, _) | (Some(EncryptedBy::Customer), None) => {}
        (Some(EncryptedBy::Managed), _) => headers.push(ENCRYPTION, AES256),
        (Some(EncryptedBy::Customer), Some(given)) => {
            headers.push("x-amz-server-side-encryption-customer-algorithm", AES256);
            headers.push("x-amz-server-side-encryption-customer-key-MD5", &given.md5);
        }
    }
}

fn has_any(head: &RequestHead, fields: Fields) -> bool {
    fields.names().iter().any(|name| head.header(name).is_some())
}

fn given_key(asker: &Asker<'_>, fields: Fields) -> Result<Option<GivenKey>, S3Error> {
    let head = asker.head;
    if !has_any(head, fields) {
        return Ok(None);
    }
    check_private(asker, fields)?;
    let [algorithm, key, md5] = fields.names().map(|name| head.header(name));
    let Some(algorithm) = algorithm else {
        return Err(refused(
            "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption \
             algorithm.",
        ));
    };
    if algorithm != AES256.as_bytes() {
        // AWS names this field for all of them.
        return Err(S3Error::from(Code::InvalidEncryptionAlgorithmError)
            .and("ArgumentName", ENCRYPTION.to_owned())
            .and("ArgumentValue", String::from_utf8_lossy(algorithm).into_owned()));
    }
    let Some(key) = key else {
        return Err(refused(
            "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.",
        ));
    };
    let Some(md5) = md5 else {
        return Err(refused(
            "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 \
             of the secret key.",
        ));
    };
    read_key(key, md5).map(Some)
}

/// AWS compares the digest before it looks at the length.
fn read_key(key: &[u8], md5: &[u8]) -> Result<GivenKey, S3Error> {
    let invalid = || refused("The secret key was invalid for the specified algorithm.");
    let key = STANDARD.decode(key.trim_ascii()).map_err(|_| invalid())?;
    let computed = STANDARD.encode(Md5::digest(&key));
    if verify_slices_are_equal(computed.as_bytes(), md5.trim_ascii()).is_err() {
        return Err(refused("The calculated MD5 hash of the key did not match the hash that was provided."));
    }
    let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| invalid())?;
    Ok(GivenKey { key: CustomerKey::new(key), md5: computed })
}

/// Comes first: a key that came over an open wire is lost, whatever else is wrong with the request.
fn check_private(asker: &Asker<'_>, fields: Fields) -> Result<(), S3Error> {
    if is_private(asker) || !has_any(asker.head, fields) {
        return Ok(());
    }
    Err(refused(
        "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection.",
    ))
}

/// Whether nobody on the way can have read the request: it came by TLS, or never left this machine, which is what browsers
/// take for a secure context too. What a proxy passed on did leave some machine.
fn is_private(asker: &Asker<'_>) -> bool {
    let is_passed_on = || PASSED_ON.iter().any(|name| asker.head.header(name).is_some());
    asker.is_secure || (asker.address.is_loopback() && !is_passed_on())
}

/// Fields that only keys of a key management service have.
fn refuse_kms_fields(head: &RequestHead) -> Result<(), S3Error> {
    let of_kms = ["x-amz-server-side-encryption-aws-kms-key-id", "x-amz-server-side-encryption-context"];
    if of_kms.iter().any(|name| head.header(name).is_some()) {
        let what = "Server Side Encryption with AWS KMS managed key requires HTTP header \
             x-amz-server-side-encryption : aws:kms";
        return Err(refused(what));
    }
    const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
    match head.header(BUCKET_KEY) {
        Some(value) if value.eq_ignore_ascii_case(b"true") => Err(not_built(BUCKET_KEY)),
        _ => Ok(()),
    }
}

fn not_built(name: &'static str) -> S3Error {
    let what = "Server Side Encryption with AWS KMS managed keys is not implemented.";
    S3Error::with_message(Code::NotImplemented, what).and("Header", name.to_owned())
}

/// AWS names this argument and no value, whichever field it is.
fn refused(what: &'static str) -> S3Error {
    S3Error::argument(ENCRYPTION, "null", what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::auth::Identity;
    use crate::s3::access_log::RequestNote;
    use crate::s3::test_heads::head;

    const KEY: &str = "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=";
    const MD5: &str = "DWygnHRtgiJ77HCm+1rvHw==";

    fn customer(algorithm: &str, key: &str, md5: &str) -> String {
        let field = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!("x-amz-server-side-encryption-customer-{name}: {value}\r\n"),
        };
        [field("algorithm", algorithm), field("key", key), field("key-MD5", md5)].concat()
    }

    fn asked(fields: &str, address: &str, is_secure: bool) -> Result<AskedEncryption, S3Error> {
        let (head, note) = (head("PUT /b/k", fields), RequestNote::default());
        AskedEncryption::of_write(&Asker {
            head: &head,
            identity: Identity::Anonymous,
            address: address.parse().unwrap(),
            is_secure,
            now_ms: 0,
            note: &note,
        })
    }

    fn refused_as(fields: &str) -> (Code, String) {
        let error = asked(fields, "10.0.0.1", true).unwrap_err();
        (error.code, error.text().to_owned())
    }

    #[test]
    fn a_write_asks_for_our_keys_for_its_own_or_for_nothing() {
        let of = |fields: &str| asked(fields, "10.0.0.1", true).unwrap();
        assert!(matches!(of(""), AskedEncryption::Default));
        assert!(matches!(of("x-amz-server-side-encryption: AES256\r\n"), AskedEncryption::Managed));
        let given = of(&customer("AES256", KEY, MD5));
        let mut headers = HeaderText::default();
        push_encryption(&mut headers, Some(EncryptedBy::Customer), given.key());
        let shown = String::from_utf8(headers.as_bytes().to_vec()).unwrap();
        assert!(shown.contains(MD5) && !shown.contains(KEY), "{shown}");
        assert!(!format!("{given:?}").contains("164, 237"), "{given:?}");
    }

    #[test]
    fn keys_that_are_not_given_whole_or_not_right_are_refused_in_aws_words() {
        let short = STANDARD.encode([7u8; 24]);
        let short_md5 = STANDARD.encode(Md5::digest([7u8; 24]));
        for (fields, code, words) in [
            (customer("", KEY, MD5), Code::InvalidArgument, "must provide a valid encryption algorithm."),
            (customer("AES256", "", MD5), Code::InvalidArgument, "must provide an appropriate secret key."),
            (customer("AES256", KEY, ""), Code::InvalidArgument, "client calculated MD5"),
            (customer("AES192", KEY, MD5), Code::InvalidEncryptionAlgorithmError, "Supported value: AES256."),
            (customer("aes256", KEY, MD5), Code::InvalidEncryptionAlgorithmError, "Supported value: AES256."),
            (customer("AES256", KEY, "AAAAAAAAAAAAAAAAAAAAAA=="), Code::InvalidArgument, "did not match"),
            (customer("AES256", &short, MD5), Code::InvalidArgument, "did not match"),
            (customer("AES256", &short, &short_md5), Code::InvalidArgument, "secret key was invalid"),
            (customer("AES256", "no base64!", MD5), Code::InvalidArgument, "secret key was invalid"),
        ] {
            let (found, text) = refused_as(&fields);
            assert_eq!(found, code, "{fields}");
            assert!(text.contains(words) && !text.contains(KEY), "{fields}: {text}");
        }
    }

    #[test]
    fn two_encryptions_at_once_and_unknown_ones_are_refused_and_what_needs_kms_is_not_built() {
        let sse = |value: &str| format!("x-amz-server-side-encryption: {value}\r\n");
        let kms_id = "x-amz-server-side-encryption-aws-kms-key-id: k\r\n".to_owned();
        let bucket_key = "x-amz-server-side-encryption-bucket-key-enabled: true\r\n".to_owned();
        for (fields, code) in [
            (sse("AES256") + &customer("AES256", KEY, MD5), Code::InvalidArgument),
            (sse("aws:kms") + &customer("AES256", KEY, MD5), Code::InvalidArgument),
            (sse("aes256"), Code::InvalidArgument),
            (sse("aes:kms"), Code::InvalidArgument),
            (sse(""), Code::InvalidArgument),
            (sse("AES256") + &kms_id, Code::InvalidArgument),
            (kms_id.clone(), Code::InvalidArgument),
            (sse("aws:kms"), Code::NotImplemented),
            (sse("aws:kms:dsse") + &kms_id, Code::NotImplemented),
            (bucket_key, Code::NotImplemented),
        ] {
            assert_eq!(refused_as(&fields).0, code, "{fields}");
        }
        let off = "x-amz-server-side-encryption-bucket-key-enabled: false\r\n";
        assert!(asked(off, "10.0.0.1", true).is_ok());
    }

    #[test]
    fn keys_are_taken_by_tls_or_from_this_machine_and_no_other_way() {
        let key = customer("AES256", KEY, MD5);
        let passed_on = format!("X-Forwarded-For: 10.9.9.9\r\n{key}");
        // A proxy on this machine that says so in fewer words than most.
        let only_proto = format!("X-Forwarded-Proto: http\r\n{key}");
        // Whatever else is wrong with it.
        let with_method = format!("x-amz-server-side-encryption: aws:kms\r\n{key}");
        for (fields, address, is_secure, is_taken) in [
            (&key, "10.0.0.1", true, true),
            (&key, "127.0.0.1", false, true),
            (&key, "::1", false, true),
            (&key, "10.0.0.1", false, false),
            (&passed_on, "127.0.0.1", false, false),
            (&passed_on, "127.0.0.1", true, true),
            (&only_proto, "127.0.0.1", false, false),
            (&with_method, "10.0.0.1", false, false),
        ] {
            let taken = asked(fields, address, is_secure);
            assert_eq!(taken.is_ok(), is_taken, "{address} {is_secure} {fields}");
            if let Err(error) = taken {
                assert_eq!(error.code, Code::InvalidArgument);
                assert!(error.text().contains("secure connection"));
            }
        }
    }
}
