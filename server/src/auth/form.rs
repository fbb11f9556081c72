//! Who signed the policy of a browser's upload: SigV4, SigV2 or nobody.
//! Invariants: the policy is covered as it was sent; a form with a policy is signed.
//! Not here: what the policy says (`s3::post`). Source: AWS, "Authenticating requests in browser-based uploads using POST".

use std::borrow::Cow;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::chunk_signer::write_hex;
use super::identity::{Credential, Credentials, Identity, Secret};
use super::shown::shown_policy;
use super::sigv4::{ALGORITHM, AuthError, ScopeSpans, SignatureMismatch, SignedTime, check_date};
use super::verify::{Verifier, derive_key};

impl<C: Credentials> Verifier<C> {
    /// Authenticates a form, whose fields have lower-case names. When its policy ends is the policy's to say.
    ///
    /// # Errors
    /// [`AuthError`], by what is wrong.
    pub fn authenticate_form(&self, fields: &[(String, String)], now_ms: u64) -> Result<Identity, AuthError> {
        let form = Form(fields);
        if form.find("x-amz-security-token").is_some() {
            return Err(AuthError::SessionToken);
        }
        let names = |wanted: &[&str]| wanted.iter().any(|name| form.find(name).is_some());
        let is_v4 = names(&["x-amz-signature", "x-amz-credential", "x-amz-algorithm"]);
        let is_v2 = names(&["signature", "awsaccesskeyid"]);
        match (is_v4, is_v2) {
            (true, true) => Err(AuthError::Ambiguous),
            (true, false) => self.verify_form_v4(&form, now_ms),
            (false, true) => self.verify_form_v2(&form, now_ms),
            (false, false) if form.find("policy").is_some() => Err(AuthError::MissingField("AWSAccessKeyId")),
            (false, false) => Ok(Identity::Anonymous),
        }
    }

    fn verify_form_v4(&self, form: &Form<'_>, now_ms: u64) -> Result<Identity, AuthError> {
        let policy = form.need("policy")?;
        let algorithm = form.need("x-amz-algorithm")?;
        if algorithm != ALGORITHM {
            return Err(wrong(
                "X-Amz-Algorithm",
                algorithm,
                "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
            ));
        }
        let credential = form.need("x-amz-credential")?;
        let wrong_credential = |why: String| wrong("x-amz-credential", credential, why);
        let scope = ScopeSpans::parse(credential).map_err(|why| wrong_credential(why.to_string()))?;
        let given = form.need("x-amz-date")?;
        let time = SignedTime::parse_basic(given).ok_or_else(|| {
            let message = "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"";
            wrong("X-Amz-Date", given, message)
        })?;
        let (date, region) = (scope.date(credential), scope.region(credential));
        check_date(&time, date).map_err(&wrong_credential)?;
        if region != self.region() {
            let expected = self.region();
            return Err(wrong_credential(format!("the region '{region}' is wrong; expecting '{expected}'")));
        }
        let signature = form.need("x-amz-signature")?;
        let Credential { secret, account } = self.find(scope.access_key(credential))?;
        let mut wanted = [0; 64];
        write_hex(hmac::sign(&derive_key(&secret, date, region), policy.as_bytes()).as_ref(), &mut wanted);
        check(&wanted, signature, (policy, form), &account.access_key)?;
        account.note_use(now_ms);
        Ok(Identity::Account(account))
    }

    fn verify_form_v2(&self, form: &Form<'_>, now_ms: u64) -> Result<Identity, AuthError> {
        let (access_key, policy) = (form.need("AWSAccessKeyId")?, form.need("policy")?);
        let signature = form.need("signature")?;
        let Credential { secret, account } = self.find(access_key)?;
        check(v2_signature(&secret, policy).as_bytes(), signature, (policy, form), access_key)?;
        account.note_use(now_ms);
        Ok(Identity::Account(account))
    }
}

fn wrong(field: &'static str, value: &str, message: impl Into<Cow<'static, str>>) -> AuthError {
    AuthError::WrongField { field, value: value.to_owned(), message: message.into() }
}

/// Fields by their lower-case names.
struct Form<'f>(&'f [(String, String)]);

impl<'f> Form<'f> {
    fn find(&self, name: &str) -> Option<&'f str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &'static str) -> Result<&'f str, AuthError> {
        self.find(&name.to_ascii_lowercase()).ok_or(AuthError::MissingField(name))
    }
}

fn v2_signature(secret: &Secret, policy: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, policy.as_bytes()))
}

fn check(
    wanted: &[u8],
    signature: &str,
    (policy, form): (&str, &Form<'_>),
    access_key: &str,
) -> Result<(), AuthError> {
    constant_time::verify_slices_are_equal(wanted, signature.as_bytes()).map_err(|_| {
        AuthError::Mismatch(Box::new(SignatureMismatch {
            access_key: access_key.to_owned(),
            string_to_sign: shown_policy(policy, form.0),
            signature: signature.to_owned(),
            canonical_request: String::new(),
        }))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::auth::{AccountTable, Accounts, CoreAccounts};

    const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const NOW_MS: u64 = 1_451_347_200_000;
    /// AWS's published example of a policy for SigV4, as it is sent.
    const POLICY: &str = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1\
        Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8i\
        XSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDov\
        L3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0\
        YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUx\
        MjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFy\
        dHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZP\
        RE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGht\
        IjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
    const SIGNATURE: &str = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";

    fn verifier() -> Verifier<CoreAccounts> {
        let id = "a".repeat(64);
        let mut table = AccountTable::new(&id, "root");
        table.add_key(&id, KEY, SECRET);
        Verifier::new(Accounts::new(table).on_core(), "us-east-1")
    }

    fn authenticate(fields: &[(&str, &str)]) -> Result<Identity, AuthError> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        verifier().authenticate_form(&fields, NOW_MS)
    }

    fn example() -> Vec<(&'static str, &'static str)> {
        vec![
            ("policy", POLICY),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"),
            ("x-amz-date", "20151229T000000Z"),
            ("x-amz-signature", SIGNATURE),
        ]
    }

    #[test]
    fn sigv4_example_browser_upload() {
        let identity = authenticate(&example()).unwrap();
        assert_eq!(&*identity.account().unwrap().access_key, KEY);
    }

    #[test]
    fn a_form_that_was_tampered_with_is_refused() {
        let other = POLICY.replacen('a', "b", 1);
        type Case<'t> = (&'static str, &'t str, fn(&AuthError) -> bool);
        let cases: [Case<'_>; 6] = [
            ("policy", &other, |e| matches!(e, AuthError::Mismatch(_))),
            ("x-amz-signature", "00", |e| matches!(e, AuthError::Mismatch(_))),
            ("x-amz-credential", "AKIANOBODY/20151229/us-east-1/s3/aws4_request", |e| {
                matches!(e, AuthError::UnknownAccessKey(_))
            }),
            ("x-amz-credential", "AKIAIOSFODNN7EXAMPLE/20151229/eu-west-1/s3/aws4_request", |e| {
                matches!(e, AuthError::WrongField { field: "x-amz-credential", message, .. }
                    if message == "the region 'eu-west-1' is wrong; expecting 'us-east-1'")
            }),
            (
                "x-amz-algorithm",
                "AWS4-HMAC-SHA1",
                |e| matches!(e, AuthError::WrongField { field: "X-Amz-Algorithm", value, .. } if value == "AWS4-HMAC-SHA1"),
            ),
            ("x-amz-date", "20151230T000000Z", |e| {
                matches!(e, AuthError::WrongField { field: "x-amz-credential", .. })
            }),
        ];
        for (name, value, is_expected) in cases {
            let mut fields: Vec<(&str, &str)> = example();
            fields.retain(|(field, _)| *field != name);
            assert!(
                matches!(authenticate(&fields), Err(AuthError::MissingField(missing)) if missing == name)
            );
            fields.push((name, value));
            let refused = authenticate(&fields).unwrap_err();
            assert!(is_expected(&refused), "{name}: {refused:?}");
        }
    }

    #[test]
    fn sigv2_signs_the_policy_as_sent_and_a_policy_alone_is_not_enough() {
        let secret = Secret::new(SECRET);
        let signature = v2_signature(&secret, "cG9saWN5");
        let signed = [("awsaccesskeyid", KEY), ("policy", "cG9saWN5"), ("signature", signature.as_str())];
        assert!(authenticate(&signed).unwrap().account().is_some());
        assert!(matches!(authenticate(&signed[..2]), Err(AuthError::MissingField("signature"))));
        assert!(matches!(authenticate(&signed[1..2]), Err(AuthError::MissingField("AWSAccessKeyId"))));
        assert!(authenticate(&[("key", "k")]).unwrap().account().is_none());
        let token = [&signed[..], &[("x-amz-security-token", "t")]].concat();
        assert_eq!(authenticate(&token).unwrap_err(), AuthError::SessionToken);
    }
}
