//! The condition keys of a request.
//! Invariants: a key is made only when a condition asks for it; an address counts as forwarded only behind proxies that
//! the operator trusts, and then it is the last one that none of them is.
//! Not here: what conditions make of them (`policy`).

use std::borrow::Cow;
use std::net::IpAddr;

use smallvec::smallvec;

use crate::auth::{Identity, decode_query_escapes};
use crate::http::RequestHead;
use crate::ops::api::{EncryptedBy, ObjectLock};
use crate::policy::{Caller, Facts, Network, Values, address_of};
use crate::s3::access_log::RequestNote;
use crate::s3::encryption::AES256;
use crate::s3::object_lock::{hold_name, mode_name};
use crate::s3::query::Query;
use crate::s3::tagging::TagSet;
use crate::s3::time_text::{iso_8601, parse_amz_date_s, parse_date_s};

/// Who asks, and by which way.
#[derive(Clone, Debug)]
pub struct Asker<'r> {
    /// The request.
    pub head: &'r RequestHead,
    /// Who.
    pub identity: Identity,
    /// From where.
    pub address: IpAddr,
    /// Whether by TLS.
    pub is_secure: bool,
    /// When, in milliseconds since 1970.
    pub now_ms: u64,
    /// What the access log is to know of it.
    pub note: &'r RequestNote,
}

impl Asker<'_> {
    /// As policies see them.
    pub fn caller(&self) -> Caller<'_> {
        match &self.identity {
            Identity::Anonymous => Caller::Anonymous,
            Identity::Account(account) => {
                Caller::Account { id: &account.id, name: &account.name, is_root: account.is_root }
            }
        }
    }
}

/// The client's address: the peer's, or behind trusted proxies the last entry of `X-Forwarded-For` that is none.
pub fn client_address(head: &RequestHead, peer: IpAddr, proxies: &[Network]) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.holds(address));
    if proxies.is_empty() || !is_proxy(peer) {
        return peer.to_canonical();
    }
    // A proxy may add a field of its own after the client's: only together, in order, are they the list.
    let forwarded: Vec<&str> = fields(head, "x-forwarded-for").flat_map(|value| value.split(',')).collect();
    let mut address = peer;
    for entry in forwarded.into_iter().rev() {
        let Some(next) = address_of(entry) else { break };
        address = next;
        if !is_proxy(next) {
            break;
        }
    }
    address.to_canonical()
}

/// Whether the client came by TLS, to us or to a trusted proxy.
pub fn client_is_secure(head: &RequestHead, peer: IpAddr, is_tls: bool, proxies: &[Network]) -> bool {
    let by_proxy = || {
        proxies.iter().any(|network| network.holds(peer))
            && fields(head, "x-forwarded-proto")
                .last()
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    };
    is_tls || by_proxy()
}

/// Every field of that name that is text.
fn fields<'h>(head: &'h RequestHead, wanted: &'static str) -> impl Iterator<Item = &'h str> {
    let named = head.headers().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted));
    named.filter_map(|(_, value)| std::str::from_utf8(value).ok())
}

/// What a request's body says of an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    /// Nothing that conditions can be on.
    Nothing,
    /// The tags that it gets.
    Tags(&'a TagSet),
    /// The retention or the legal hold that it gets.
    Lock(&'a ObjectLock),
    /// That it is to be deleted, if it has this tag.
    Delete(Option<&'a str>),
}

/// One question about a request: what its head does not say.
pub(super) struct Asked<'a> {
    pub(super) asker: &'a Asker<'a>,
    /// Whether the request makes an object, so that its header fields say of that how it is locked.
    pub(super) makes_object: bool,
    /// Of a request that goes on with an upload: how that is encrypted. What the request itself says does not count then.
    pub(super) of_upload: Option<Option<EncryptedBy>>,
    /// Instead of the query's: a key, where the question is whether it could be listed.
    pub(super) prefix: Option<&'a str>,
    /// The tags that the object has.
    pub(super) existing: Option<&'a TagSet>,
    /// What the body gives it.
    pub(super) given: Given<'a>,
    /// Instead of the query's.
    pub(super) version: Option<&'a str>,
}

impl Facts for Asked<'_> {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        match key.split_once('/') {
            Some(("s3:existingobjecttag", tag)) => {
                return self.existing.and_then(|tags| tag_value(tags, tag));
            }
            Some(("s3:requestobjecttag", tag)) => {
                let tags = self.request_tags()?;
                return tag_value(&tags, tag).map(own);
            }
            Some(_) => return None,
            None => {}
        }
        if key == "s3:requestobjecttagkeys" {
            let tags = self.request_tags()?;
            return Some(tags.tags().iter().map(|tag| Cow::Owned(tag.key.clone())).collect());
        }
        let one = if key.starts_with("aws:") { self.global(key) } else { self.of_s3(key) };
        one.map(|value| smallvec![value])
    }
}

impl Asked<'_> {
    fn global(&self, key: &str) -> Option<Cow<'_, str>> {
        let account = self.asker.identity.account();
        Some(match key {
            "aws:sourceip" => self.asker.address.to_string().into(),
            "aws:securetransport" => truth(self.asker.is_secure),
            "aws:currenttime" => iso_8601(self.asker.now_ms).into(),
            "aws:epochtime" => (self.asker.now_ms / 1000).to_string().into(),
            "aws:referer" => self.header("referer")?,
            "aws:useragent" => self.header("user-agent")?,
            "aws:username" => {
                account.filter(|account| !account.is_root).map(|account| (&*account.name).into())?
            }
            "aws:userid" | "aws:principalaccount" => (&*account?.id).into(),
            "aws:principaltype" => match account {
                None => "Anonymous".into(),
                Some(account) if account.is_root => "Account".into(),
                Some(_) => "User".into(),
            },
            "aws:principalarn" => match account? {
                account if account.is_root => format!("arn:aws:iam::{}:root", account.id).into(),
                account => format!("arn:aws:iam::{}:user/{}", account.id, account.name).into(),
            },
            "aws:principalisawsservice" | "aws:viaawsservice" => truth(false),
            _ => return None,
        })
    }

    fn of_s3(&self, key: &str) -> Option<Cow<'_, str>> {
        match key {
            "s3:prefix" => self.prefix.map(Cow::Borrowed).or_else(|| self.query("prefix")),
            "s3:delimiter" => self.query("delimiter"),
            "s3:max-keys" => self.query("max-keys"),
            "s3:versionid" => match (self.version, self.given) {
                (Some(version), _) => Some(version.into()),
                (None, Given::Delete(_)) => None,
                (None, _) => self.query("versionId"),
            },
            "s3:signatureversion" => self.signature().map(|(version, _)| version.into()),
            "s3:authtype" => self.signature().map(|(_, place)| place.into()),
            "s3:signatureage" => self.signature_age_ms().map(|age_ms| age_ms.to_string().into()),
            "s3:x-amz-copy-source" => self.copy_source(),
            _ if key.starts_with("s3:object-lock-") => self.lock(key),
            "s3:if-match" => match self.given {
                Given::Delete(tag) => tag.map(Cow::Borrowed),
                _ => self.header("if-match"),
            },
            "s3:if-none-match" => self.header("if-none-match"),
            "s3:x-amz-server-side-encryption" => self.encryption(key, EncryptedBy::Managed),
            "s3:x-amz-server-side-encryption-customer-algorithm" => {
                self.encryption(key, EncryptedBy::Customer)
            }
            _ if key.starts_with("s3:x-amz-") => self.header(&key[3..]),
            _ => None,
        }
    }

    fn encryption(&self, key: &str, by: EncryptedBy) -> Option<Cow<'_, str>> {
        match self.of_upload {
            Some(of_upload) => (of_upload == Some(by)).then(|| AES256.into()),
            None => self.header(&key[3..]),
        }
    }

    /// `bucket/key`, decoded, with the version as it was sent.
    fn copy_source(&self) -> Option<Cow<'_, str>> {
        let source = self.asker.head.header_str("x-amz-copy-source")?;
        let source = source.strip_prefix('/').unwrap_or(source);
        let (path, version) = match source.find("?versionId=") {
            Some(at) => source.split_at(at),
            None => (source, ""),
        };
        let mut decoded = Vec::with_capacity(path.len());
        decode_query_escapes(path.as_bytes(), &mut decoded).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        Some(format!("{}{version}", decoded.strip_prefix('/').unwrap_or(&decoded)).into())
    }

    /// Of the lock that the body gives, else of the one that the header fields of a write ask for.
    fn lock(&self, key: &str) -> Option<Cow<'_, str>> {
        let now_s = self.asker.now_ms / 1000;
        let days = |until_s: u64| until_s.saturating_sub(now_s).div_ceil(24 * 60 * 60).to_string().into();
        let Given::Lock(lock) = self.given else {
            return match key {
                // Elsewhere nothing acts on these fields: who asks could write anything into them.
                _ if !self.makes_object => None,
                "s3:object-lock-mode" => self.header("x-amz-object-lock-mode"),
                "s3:object-lock-legal-hold" => self.header("x-amz-object-lock-legal-hold"),
                "s3:object-lock-retain-until-date" => self.header("x-amz-object-lock-retain-until-date"),
                "s3:object-lock-remaining-retention-days" => {
                    let until = self.asker.head.header_str("x-amz-object-lock-retain-until-date")?;
                    parse_date_s(until).map(days)
                }
                _ => None,
            };
        };
        match key {
            "s3:object-lock-legal-hold" => lock.legal_hold.map(|is_held| hold_name(is_held).into()),
            "s3:object-lock-mode" => Some(mode_name(lock.retention?.mode).into()),
            "s3:object-lock-retain-until-date" => Some(iso_8601(lock.retention?.until_ms).into()),
            "s3:object-lock-remaining-retention-days" => Some(days(lock.retention?.until_ms / 1000)),
            _ => None,
        }
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.asker.head.header_str(name).map(Cow::Borrowed)
    }

    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        Query::new(self.asker.head.raw_query()).get(name)
    }

    /// The tags that the request gives an object, by its body or its header.
    fn request_tags(&self) -> Option<Cow<'_, TagSet>> {
        match self.given {
            Given::Tags(tags) => Some(Cow::Borrowed(tags)),
            Given::Nothing | Given::Lock(_) | Given::Delete(_) => {
                TagSet::of_header(self.asker.head.header("x-amz-tagging")?).ok().map(Cow::Owned)
            }
        }
    }

    /// The version of the signature and where it stands.
    fn signature(&self) -> Option<(&'static str, &'static str)> {
        self.asker.identity.account()?;
        let head = self.asker.head;
        // The verifier takes a blank one for none, too.
        if let Some(text) = head.header_str("authorization").filter(|text| !text.trim().is_empty()) {
            let version = if text.starts_with("AWS ") { "AWS" } else { "AWS4-HMAC-SHA256" };
            return Some((version, "REST-HEADER"));
        }
        if self.query("X-Amz-Signature").is_some() {
            return Some(("AWS4-HMAC-SHA256", "REST-QUERY-STRING"));
        }
        if self.query("AWSAccessKeyId").is_some() {
            return Some(("AWS", "REST-QUERY-STRING"));
        }
        Some(("AWS4-HMAC-SHA256", "POST"))
    }

    fn signature_age_ms(&self) -> Option<u64> {
        let text = self.query("X-Amz-Date").or_else(|| self.header("x-amz-date"))?;
        let signed_s = parse_amz_date_s(&text).or_else(|| parse_date_s(&text))?;
        Some(self.asker.now_ms.saturating_sub(signed_s.saturating_mul(1000)))
    }
}

fn truth(value: bool) -> Cow<'static, str> {
    if value { "true".into() } else { "false".into() }
}

fn tag_value<'t>(tags: &'t TagSet, key: &str) -> Option<Values<'t>> {
    let tag = tags.tags().iter().find(|tag| tag.key == key)?;
    Some(smallvec![Cow::Borrowed(tag.value.as_str())])
}

fn own<'a>(values: Values<'_>) -> Values<'a> {
    values.into_iter().map(|value| Cow::Owned(value.into_owned())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use super::*;
    use crate::auth::Account;
    use crate::ops::api::{Retention, RetentionMode};
    use crate::s3::test_heads::head;

    fn value(line: &str, fields: &str, key: &str) -> Option<String> {
        given(Given::Nothing, line, fields, key)
    }

    fn given(given: Given<'_>, line: &str, fields: &str, key: &str) -> Option<String> {
        asked(true, given, line, fields, key)
    }

    fn asked(makes_object: bool, given: Given<'_>, line: &str, fields: &str, key: &str) -> Option<String> {
        let head = head(line, fields);
        let account = Account::new("a1", "anna", "AK", false);
        let asker = Asker {
            head: &head,
            identity: Identity::Account(Arc::new(account)),
            address: "10.0.0.1".parse().unwrap(),
            is_secure: false,
            now_ms: 1_369_353_600_000,
            note: &RequestNote::default(),
        };
        let asked = Asked {
            asker: &asker,
            makes_object,
            of_upload: None,
            prefix: None,
            existing: None,
            given,
            version: None,
        };
        let values = asked.values(key)?;
        Some(values.join("|"))
    }

    #[test]
    fn keys_are_what_the_request_says() {
        let fields = "Referer: https://a/\r\nx-amz-acl: public-read\r\nx-amz-tagging: a=1&b=2\r\n\
             x-amz-copy-source: /src/k\r\nx-amz-date: 20130523T235900Z\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n\
             x-amz-object-lock-retain-until-date: 2013-05-26T00:00:00Z\r\n";
        for (key, expected) in [
            ("aws:referer", Some("https://a/")),
            ("aws:sourceip", Some("10.0.0.1")),
            ("aws:securetransport", Some("false")),
            ("aws:currenttime", Some("2013-05-24T00:00:00.000Z")),
            ("aws:epochtime", Some("1369353600")),
            ("aws:username", Some("anna")),
            ("aws:principalarn", Some("arn:aws:iam::a1:user/anna")),
            ("aws:principaltype", Some("User")),
            ("s3:prefix", Some("p/")),
            ("s3:max-keys", Some("7")),
            ("s3:x-amz-acl", Some("public-read")),
            ("s3:x-amz-copy-source", Some("src/k")),
            ("s3:requestobjecttag/b", Some("2")),
            ("s3:requestobjecttag/c", None),
            ("s3:requestobjecttagkeys", Some("a|b")),
            ("s3:signatureversion", Some("AWS4-HMAC-SHA256")),
            ("s3:authtype", Some("REST-HEADER")),
            ("s3:signatureage", Some("60000")),
            ("s3:object-lock-remaining-retention-days", Some("2")),
            ("s3:delimiter", None),
            ("s3:existingobjecttag/a", None),
            ("aws:useragent", None),
        ] {
            assert_eq!(value("PUT /b/k?prefix=p%2F&max-keys=7", fields, key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn the_lock_of_a_body_counts_and_not_that_of_header_fields() {
        let fields = "x-amz-object-lock-mode: COMPLIANCE\r\nx-amz-object-lock-legal-hold: ON\r\n";
        let until_ms = 1_369_353_600_000 + 3 * 24 * 3600 * 1000;
        let retention = Some(Retention { mode: RetentionMode::Governance, until_ms });
        let retained = ObjectLock { retention, legal_hold: None };
        let held = ObjectLock { retention: None, legal_hold: Some(false) };
        for (lock, key, expected) in [
            (&retained, "s3:object-lock-mode", Some("GOVERNANCE")),
            (&retained, "s3:object-lock-retain-until-date", Some("2013-05-27T00:00:00.000Z")),
            (&retained, "s3:object-lock-remaining-retention-days", Some("3")),
            (&retained, "s3:object-lock-legal-hold", None),
            (&held, "s3:object-lock-legal-hold", Some("OFF")),
            (&held, "s3:object-lock-mode", None),
        ] {
            let found = given(Given::Lock(lock), "PUT /b/k?retention", fields, key);
            assert_eq!(found.as_deref(), expected, "{key}");
        }
    }

    /// Story: who deleted a locked object was asked for the bypass by conditions on header fields that it had made up.
    #[test]
    fn header_fields_say_nothing_of_a_lock_where_no_object_is_made() {
        let fields = "x-amz-object-lock-mode: GOVERNANCE\r\nx-amz-object-lock-legal-hold: OFF\r\n\
             x-amz-object-lock-retain-until-date: 2013-05-26T00:00:00Z\r\n";
        for key in ["mode", "legal-hold", "retain-until-date", "remaining-retention-days"] {
            let key = format!("s3:object-lock-{key}");
            let found = |makes_object| asked(makes_object, Given::Nothing, "DELETE /b/k", fields, &key);
            assert_eq!((found(true).is_some(), found(false)), (true, None), "{key}");
        }
    }

    #[test]
    fn of_many_deletes_each_has_the_tag_and_the_version_of_its_entry_and_not_those_of_the_head() {
        let (line, fields) = ("POST /b?delete&versionId=v", "If-Match: *\r\n");
        let of_entry = |tag, key: &str| given(Given::Delete(tag), line, fields, key);
        assert_eq!(of_entry(Some("t"), "s3:if-match").as_deref(), Some("t"));
        assert_eq!(of_entry(None, "s3:if-match"), None);
        assert_eq!(of_entry(None, "s3:versionid"), None);
        assert_eq!(value("DELETE /b/k", fields, "s3:if-match").as_deref(), Some("*"));
        assert_eq!(value("DELETE /b/k?versionId=v", "", "s3:versionid").as_deref(), Some("v"));
    }

    #[test]
    fn the_source_of_a_copy_is_seen_decoded() {
        let seen = |source: &str| {
            value("PUT /b/k", &format!("x-amz-copy-source: {source}\r\n"), "s3:x-amz-copy-source")
        };
        assert_eq!(seen("/src/a%20b%2Fc").as_deref(), Some("src/a b/c"));
        assert_eq!(seen("%2Fsrc/a+b?versionId=v%31").as_deref(), Some("src/a b?versionId=v%31"));
        assert_eq!(seen("src/%zz"), None);
    }

    #[test]
    fn forwarded_addresses_count_only_behind_trusted_proxies() {
        let forwarded = head(
            "GET /",
            "X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.2\r\nX-Forwarded-Proto: https\r\n",
        );
        let of = |peer: &str, networks: &[&str]| {
            let networks: Vec<Network> = networks.iter().map(|text| Network::parse(text).unwrap()).collect();
            let secure = client_is_secure(&forwarded, peer.parse().unwrap(), false, &networks);
            (client_address(&forwarded, peer.parse().unwrap(), &networks).to_string(), secure)
        };
        assert_eq!(of("10.0.0.1", &[]), ("10.0.0.1".to_owned(), false));
        assert_eq!(of("9.9.9.9", &["10.0.0.0/8"]), ("9.9.9.9".to_owned(), false));
        assert_eq!(of("10.0.0.1", &["10.0.0.0/8"]), ("2.2.2.2".to_owned(), true));
        assert_eq!(of("10.0.0.1", &["10.0.0.1"]), ("10.0.0.2".to_owned(), true));
        assert_eq!(of("::ffff:9.9.9.9", &["10.0.0.0/8"]).0, "9.9.9.9");
    }
}
