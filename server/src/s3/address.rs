//! Which bucket and key a request names: by path, or by host where a domain is configured.
//! Invariants: the path is decoded once and never normalised.
//! Not here: the rules of names (`ops::api`).

use crate::auth::decode_escapes;
use crate::s3::error::{Code, S3Error};

/// What a request names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// The bucket as sent.
    pub bucket: Option<String>,
    /// The key's bytes; never empty.
    pub key: Option<Vec<u8>>,
    /// Whether the host named the bucket.
    pub by_host: bool,
}

impl Address {
    /// Reads the host and the path as sent.
    ///
    /// # Errors
    /// `InvalidURI` for broken escapes; `InvalidBucketName` for a bucket that is no text.
    pub fn parse(host: Option<&str>, raw_path: &str, domains: &[String]) -> Result<Address, S3Error> {
        let path = raw_path.strip_prefix('/').unwrap_or_default();
        if let Some(bucket) = host.and_then(|host| host_bucket(host, domains)) {
            return Ok(Address {
                bucket: Some(bucket.to_ascii_lowercase()),
                key: decode_key(path)?,
                by_host: true,
            });
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if bucket.is_empty() {
            // `//key` names no bucket, and is no request for the list of buckets either.
            return if key.is_empty() { Ok(Address::default()) } else { Err(Code::InvalidBucketName.into()) };
        }
        let mut name = Vec::with_capacity(bucket.len());
        decode_escapes(bucket.as_bytes(), &mut name).map_err(|_| S3Error::from(Code::InvalidURI))?;
        let name = String::from_utf8(name).map_err(|_| S3Error::from(Code::InvalidBucketName))?;
        Ok(Address { bucket: Some(name), key: decode_key(key)?, by_host: false })
    }
}

fn decode_key(raw: &str) -> Result<Option<Vec<u8>>, S3Error> {
    if raw.is_empty() {
        return Ok(None);
    }
    let mut key = Vec::with_capacity(raw.len());
    decode_escapes(raw.as_bytes(), &mut key).map_err(|_| S3Error::from(Code::InvalidURI))?;
    Ok(Some(key))
}

/// The bucket whose website a host names: the part before one of `domains`, or the whole host where it is one of them,
/// as a domain of its own that a site is reached by. Of several domains the first counts.
pub fn website_bucket(host: &str, domains: &[String]) -> Option<String> {
    let name = without_port(host);
    let is_whole = domains.iter().any(|domain| name.eq_ignore_ascii_case(domain));
    let bucket = if is_whole { Some(name) } else { host_bucket(name, domains) };
    bucket.map(str::to_ascii_lowercase)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The part of the host before `.domain`; `None` where the host is no such name.
fn host_bucket<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let name = without_port(host);
    domains.iter().find_map(|domain| {
        let split = name.len().checked_sub(domain.len() + 1)?;
        let (bucket, rest) = (name.get(..split)?, name.get(split..)?);
        let rest = rest.strip_prefix('.')?;
        (!bucket.is_empty() && rest.eq_ignore_ascii_case(domain)).then_some(bucket)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(host: &str, path: &str) -> (Option<String>, Option<String>) {
        let address = Address::parse(Some(host), path, &["s3.example.com".to_owned()]).unwrap();
        (address.bucket, address.key.map(|key| String::from_utf8(key).unwrap()))
    }

    fn named(bucket: &str, key: Option<&str>) -> (Option<String>, Option<String>) {
        (Some(bucket.to_owned()), key.map(str::to_owned))
    }

    #[test]
    fn the_path_names_bucket_and_key() {
        assert_eq!(parse("127.0.0.1:9000", "/"), (None, None));
        assert_eq!(parse("h", "/b"), named("b", None));
        assert_eq!(parse("h", "/b/"), named("b", None));
        assert_eq!(parse("h", "/b//"), named("b", Some("/")));
        assert_eq!(parse("h", "/b/a/../%2e/c+%20%2F/"), named("b", Some("a/.././c+ //")));
        assert_eq!(parse("s3.example.com", "/b/k"), named("b", Some("k")));
        assert!(Address::parse(None, "//k", &[]).is_err());
        assert!(Address::parse(None, "/b/%", &[]).is_err());
    }

    #[test]
    fn the_host_names_the_bucket_below_a_domain() {
        assert_eq!(parse("my.b.s3.example.com:9000", "/b/k"), named("my.b", Some("b/k")));
        assert_eq!(parse("B.S3.Example.com", "/"), named("b", None));
        assert_eq!(parse("xs3.example.com", "/b"), named("b", None));
        assert_eq!(parse(".s3.example.com", "/b"), named("b", None));
    }

    #[test]
    fn the_host_names_a_website_below_a_domain_or_by_a_domain_of_its_own() {
        let domains = ["www.example.com".to_owned(), "web.test".to_owned()];
        let bucket = |host: &str| website_bucket(host, &domains);
        assert_eq!(bucket("My-Site.Web.Test:8080").as_deref(), Some("my-site"));
        assert_eq!(bucket("a.b.web.test").as_deref(), Some("a.b"));
        assert_eq!(bucket("WWW.example.com").as_deref(), Some("www.example.com"));
        for host in ["s3.test", "example.com", "xweb.test", ".web.test", "127.0.0.1:9000", "[::1]:9000", ""] {
            assert_eq!(bucket(host), None, "{host}");
        }
    }
}
