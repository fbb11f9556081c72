//! What errors show of a request: all that helps to find a wrong signature, and no customer's key.
//! Invariants: in what is made here no value stands of a field that holds a key, whichever way that was sent: as a header
//! field, in a query or in a form.
//! Not here: the errors (`sigv4`), what the fields mean (`s3::encryption`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The fields that hold a customer's key: of the object, and of a copy's source.
const KEY_FIELDS: [&str; 2] =
    ["x-amz-server-side-encryption-customer-key", "x-amz-copy-source-server-side-encryption-customer-key"];

/// What stands for a key; AWS's word in its audit logs.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// The value of a field as an error may show it. A policy can pin a key.
pub(crate) fn shown_value<'v>(name: &str, value: &'v str) -> &'v str {
    if holds_key(name) || name.eq_ignore_ascii_case("policy") { HIDDEN } else { value }
}

/// A canonical request, or a text to sign.
pub(super) fn shown_text(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(shown_line).collect();
    lines.join("\n")
}

/// The policy of a form, as it was sent, unless it may tell a key.
pub(super) fn shown_policy(policy: &str, fields: &[(String, String)]) -> String {
    let document = STANDARD.decode(policy.trim()).unwrap_or_default();
    let document = String::from_utf8_lossy(&document).to_ascii_lowercase();
    let tells_key = fields.iter().any(|(name, _)| holds_key(name))
        || KEY_FIELDS.iter().any(|field| document.contains(field));
    if tells_key { HIDDEN } else { policy }.to_owned()
}

/// Forms have names with all that was pasted around them.
fn holds_key(name: &str) -> bool {
    let name = name.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    KEY_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name))
}

/// A line is a header field, a query or neither.
fn shown_line(line: &str) -> Cow<'_, str> {
    if let Some((name, _)) = line.split_once(':').filter(|(name, _)| holds_key(name)) {
        return format!("{name}:{HIDDEN}").into();
    }
    let pairs = || line.split('&').map(|pair| (pair, pair.split_once('=').map_or(pair, |(name, _)| name)));
    if !pairs().any(|(_, name)| holds_key(name)) {
        return line.into();
    }
    let shown = pairs().map(|(pair, name)| match holds_key(name) {
        true => format!("{name}={HIDDEN}"),
        false => pair.to_owned(),
    });
    shown.collect::<Vec<_>>().join("&").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hidden_wherever_it_was_sent_and_nothing_else_is() {
        for field in KEY_FIELDS {
            let upper = field.to_ascii_uppercase();
            let text = format!(
                "GET\n/b/k\na=1&{upper}=KEY&b=2\n{field}:KEY,KEY\n{field}-md5:MD5\n\nhost;{field}\nH"
            );
            let shown = shown_text(text.as_bytes());
            assert_eq!(shown, text.replace("KEY,KEY", HIDDEN).replace("=KEY&", &format!("={HIDDEN}&")));
            assert_eq!(shown_value(&upper, "KEY"), HIDDEN);
            assert_eq!(shown_value(&format!(" {field}\n"), "KEY"), HIDDEN);
            assert_eq!(shown_value(&format!("{field}-md5"), "MD5"), "MD5");
        }
        let text = "AWS4-HMAC-SHA256\n20130524T000000Z\nx:y\na=b&c";
        assert_eq!(shown_text(text.as_bytes()), text);
    }

    #[test]
    fn a_policy_is_shown_unless_it_may_tell_a_key() {
        let plain = STANDARD.encode("{\"conditions\": [{\"x-amz-meta-a\": \"1\"}]}");
        assert_eq!(shown_policy(&plain, &[]), plain);
        let key = ("x-amz-server-side-encryption-customer-key".to_owned(), "KEY".to_owned());
        assert_eq!(shown_policy(&plain, &[key]), HIDDEN);
        let pinned = STANDARD.encode("[\"eq\", \"$X-Amz-Server-Side-Encryption-Customer-Key\", \"KEY\"]");
        assert_eq!(shown_policy(&pinned, &[]), HIDDEN);
    }
}
