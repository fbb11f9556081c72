//! Browser uploads: a form becomes the PUT that it stands for.
//! Invariants: the fields are read, and the caller known, before a byte of the file is; only fields that S3 knows become header
//! fields, none of which can hold a line end, so that a form says nothing that a PUT could not.
//! Not here: what a PUT does (`handlers`), signatures (`auth`).

mod form;
mod policy;

use bytes::{Bytes, BytesMut};
use shardstore_reactor::{Executor, Stream};

pub use self::form::{FIELDS_BYTES_MAX, FormDecoder, FormError, FormStep};
pub use self::policy::PostPolicy;
use crate::auth::{encode_escapes, shown_value};
use crate::http::{HeadLimits, HeadParse, RequestBody, RequestHead, is_token, parse_head};
use crate::s3::body::body_error;
use crate::s3::encryption::PASSED_ON;
use crate::s3::error::{Code, S3Error};
use crate::s3::tagging::TagSet;
use crate::s3::xml;

/// Fields that are header fields of a PUT under the same name.
const SAME: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];
/// And those that begin so.
const SAME_STARTS: [&str; 6] = [
    "x-amz-meta-",
    "x-amz-checksum-",
    "x-amz-grant-",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
    "x-amz-website-redirect-location",
];
/// Fields of the POST that policies of buckets ask for, besides those by which proxies say that they passed it on.
const ABOUT_CALLER: [&str; 2] = ["referer", "user-agent"];
/// A form of 20 KiB escapes to at most three times as much in a target.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 96 * 1024, headers_max: 128, target_bytes_max: 64 * 1024 };

/// What precedes the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostForm {
    /// Names are lower-case; in the order sent.
    fields: Vec<(String, String)>,
}

/// A form whose file has begun.
pub struct Begun {
    /// Its fields.
    pub form: PostForm,
    /// Goes on with the file.
    pub decoder: FormDecoder,
    /// What was received of the file.
    pub pending: Bytes,
}

impl PostForm {
    /// Reads a form up to its file.
    ///
    /// # Errors
    /// In AWS's words, by what is wrong with it.
    pub async fn read<S: Stream, E: Executor>(
        head: &RequestHead,
        wire: &mut RequestBody<'_, S, E>,
    ) -> Result<Begun, S3Error> {
        let content_type = head.header_str("content-type").unwrap_or_default();
        let mut decoder = FormDecoder::new(content_type).map_err(form_error)?;
        let mut form = PostForm::default();
        let mut pending = Bytes::new();
        loop {
            match decoder.decode(&mut pending).map_err(form_error)? {
                FormStep::Field(name, value) => form.add(name.to_ascii_lowercase(), value)?,
                FormStep::File(name) => {
                    form.name_file(&name);
                    return Ok(Begun { form, decoder, pending });
                }
                // No file has begun.
                FormStep::Data(_) => return Err(form_error(FormError::Malformed)),
                FormStep::More => match wire.next().await.map_err(body_error)? {
                    Some(more) => pending = more,
                    None => {
                        return Err(decoder
                            .finish()
                            .map_or_else(form_error, |()| Code::IncompleteBody.into()));
                    }
                },
            }
        }
    }

    /// A second field of a name is refused: the policy would look at one of them and the object keep both.
    fn add(&mut self, name: String, value: String) -> Result<(), S3Error> {
        if self.field(&name).is_some() {
            let shown = shown_value(&name, &value);
            return Err(S3Error::argument(&name, shown, "POST forms must have each field once."));
        }
        self.fields.push((name, value));
        Ok(())
    }

    /// Puts the file's name where the key asks for it.
    fn name_file(&mut self, file: &str) {
        for (name, value) in &mut self.fields {
            let expanded_bytes = value.len() + value.matches("${filename}").count() * file.len();
            // Left as it is where no key can be so long, and refused as one.
            if name == "key" && expanded_bytes <= FIELDS_BYTES_MAX {
                *value = value.replace("${filename}", file);
            }
        }
    }

    /// All fields.
    pub fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// The value of a field; of several the first counts.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The key.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none.
    pub fn key(&self) -> Result<&str, S3Error> {
        self.field("key").filter(|key| !key.is_empty()).ok_or_else(|| missing_field("key"))
    }

    /// Checks the policy, if there is one; how long the file may be.
    ///
    /// # Errors
    /// `InvalidPolicyDocument`, `AccessDenied`.
    pub fn check_policy(&self, bucket: &str, now_ms: u64) -> Result<(u64, u64), S3Error> {
        let Some(encoded) = self.field("policy") else { return Ok((0, u64::MAX)) };
        let policy = PostPolicy::parse(encoded)?;
        let mut fields: Vec<_> = self.fields.iter().filter(|(name, _)| name != "bucket").cloned().collect();
        fields.push(("bucket".to_owned(), bucket.to_owned()));
        policy.check(&fields, now_ms)?;
        Ok(policy.length_range())
    }

    /// The head of the PUT that the form stands for.
    ///
    /// # Errors
    /// `InvalidArgument` for a field that cannot be a header field, `MalformedXML` for tags that are none.
    pub fn to_put(&self, post: &RequestHead, bucket: &str) -> Result<RequestHead, S3Error> {
        let mut text = format!("PUT /{bucket}/").into_bytes();
        encode_escapes(self.key()?.as_bytes(), &mut text);
        text.extend_from_slice(b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: ");
        text.extend_from_slice(post.header("host").unwrap_or(b"localhost"));
        text.extend_from_slice(b"\r\n");
        for name in ABOUT_CALLER.into_iter().chain(PASSED_ON) {
            // All of a name, in order: a proxy may have added its own.
            for (_, value) in post.headers().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
                text.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
        }
        for (name, value) in &self.fields {
            let (name, value) = match name.as_str() {
                "acl" => ("x-amz-acl", value.clone()),
                "x-amz-storage-class" => ("x-amz-storage-class", value.clone()),
                "tagging" => ("x-amz-tagging", tagging(value)?),
                same if SAME.contains(&same) || SAME_STARTS.iter().any(|start| same.starts_with(start)) => {
                    (same, value.clone())
                }
                _ => continue,
            };
            push_field(name, &value, &mut text)?;
        }
        text.extend_from_slice(b"\r\n");
        let mut text = BytesMut::from(&text[..]);
        match parse_head(&mut text, 0, &HEAD_LIMITS) {
            Ok(HeadParse::Complete(head)) => Ok(head),
            _ => Err(S3Error::from(Code::InvalidArgument)),
        }
    }

    /// Where a browser goes on, if the form says so.
    pub fn redirect(&self, bucket: &str, etag: &str) -> Option<String> {
        let target = self.field("success_action_redirect").or_else(|| self.field("redirect"))?;
        let is_url = target.starts_with("http://") || target.starts_with("https://");
        if !is_url || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (target, fragment) = target.split_once('#').map_or((target, ""), |(target, rest)| (target, rest));
        let joint = if target.contains('?') { '&' } else { '?' };
        let hash = if fragment.is_empty() { "" } else { "#" };
        let key = escaped(self.field("key").unwrap_or_default());
        let etag = escaped(etag);
        Some(format!("{target}{joint}bucket={bucket}&key={key}&etag={etag}{hash}{fragment}"))
    }
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn tagging(document: &str) -> Result<String, S3Error> {
    let tags = xml::parse_tagging(document.as_bytes())?;
    let kept = TagSet::new(tags)?.to_kept().unwrap_or_default();
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

fn push_field(name: &str, value: &str, text: &mut Vec<u8>) -> Result<(), S3Error> {
    if !name.bytes().all(is_token) || value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        let shown = shown_value(name, value);
        return Err(S3Error::argument(name, shown, "The value of this form field cannot be stored."));
    }
    for part in [name.as_bytes(), b": ", value.trim().as_bytes(), b"\r\n"] {
        text.extend_from_slice(part);
    }
    Ok(())
}

/// AWS's words for a field that must be there.
pub fn missing_field(name: &'static str) -> S3Error {
    let message = format!(
        "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
    );
    S3Error::with_message(Code::InvalidArgument, message)
        .and("ArgumentName", name.to_owned())
        .and("ArgumentValue", String::new())
}

fn form_error(error: FormError) -> S3Error {
    match error {
        FormError::NotMultipart => S3Error::from(Code::PreconditionFailed)
            .and("Condition", "Bucket POST must be of the enclosure-type multipart/form-data".to_owned()),
        FormError::Malformed => Code::MalformedPOSTRequest.into(),
        FormError::FieldsTooLarge => S3Error::from(Code::MaxPostPreDataLengthExceededError)
            .and("MaxPostPreDataLengthBytes", FIELDS_BYTES_MAX.to_string()),
        FormError::NoFile => Code::IncorrectNumberOfFilesInPostRequest.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    fn form(fields: &[(&str, &str)]) -> PostForm {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PostForm { fields }
    }

    #[test]
    fn fields_become_the_header_fields_of_a_put_and_nothing_else() {
        let mut form = form(&[
            ("key", "a b/${filename}"),
            ("acl", "private"),
            ("content-type", "text/plain"),
            ("x-amz-meta-colour", "red"),
            ("x-amz-write-offset-bytes", "0"),
            ("x-amz-copy-source", "/other/secret"),
            ("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"),
        ]);
        form.name_file("c.txt");
        let put = form.to_put(&head("POST /b", ""), "b").unwrap();
        assert_eq!(put.raw_path(), "/b/a%20b/c.txt");
        for (name, value) in [
            ("x-amz-acl", Some("private")),
            ("content-type", Some("text/plain")),
            ("x-amz-meta-colour", Some("red")),
            ("x-amz-tagging", Some("a=1")),
            ("x-amz-write-offset-bytes", None),
            ("x-amz-copy-source", None),
        ] {
            assert_eq!(put.header_str(name), value, "{name}");
        }
    }

    #[test]
    fn a_field_cannot_smuggle_another() {
        for (name, value) in [("x-amz-meta-a", "1\r\nx-amz-copy-source: b/k"), ("x-amz-meta-a: b\r\nc", "1")]
        {
            let refused = form(&[("key", "k"), (name, value)]).to_put(&head("POST /b", ""), "b").unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument);
        }
        assert_eq!(form(&[]).to_put(&head("POST /b", ""), "b").unwrap_err().code, Code::InvalidArgument);
    }

    /// A key that is pasted with its line end is the likeliest mistake there is.
    #[test]
    fn no_error_of_a_form_tells_a_customers_key() {
        let name = "x-amz-server-side-encryption-customer-key";
        let key = "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=";
        let pasted = form(&[("key", "k"), (name, &format!("{key}\n"))]);
        let refused = pasted.to_put(&head("POST /b", ""), "b").unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(!format!("{refused:?}").contains(key), "{refused:?}");
        let mut twice = form(&[(name, key)]);
        let refused = twice.add(name.to_owned(), key.to_owned()).unwrap_err();
        assert!(!format!("{refused:?}").contains(key), "{refused:?}");
    }

    #[test]
    fn a_form_says_as_much_of_the_proxies_before_it_as_a_put() {
        let fields: String = PASSED_ON.iter().map(|name| format!("{name}: v\r\n")).collect();
        let put = form(&[("key", "k")]).to_put(&head("POST /b", &fields), "b").unwrap();
        for name in PASSED_ON {
            assert_eq!(put.header_str(name), Some("v"), "{name}");
        }
    }

    #[test]
    fn a_browser_is_sent_on_with_what_was_stored() {
        let to = |target: &str| {
            form(&[("key", "a b"), ("success_action_redirect", target)]).redirect("b", "\"1\"")
        };
        assert_eq!(to("http://h/x").unwrap(), "http://h/x?bucket=b&key=a%20b&etag=%221%22");
        assert_eq!(to("https://h/x?y=1#z").unwrap(), "https://h/x?y=1&bucket=b&key=a%20b&etag=%221%22#z");
        assert_eq!(to("javascript:alert(1)"), None);
        assert_eq!(to("http://h/\r\nSet-Cookie: a"), None);
    }
}
