//! Static websites: index and error documents, redirects.
//! Invariants: a site either redirects everything or has an index document; a rule without a condition is for all.
//! Not here: answering a browser (`handlers::website`).

use bytes::Bytes;

use super::{Document, leaf_if, malformed};
use crate::ops::api::ConfigKind;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::{Element, XmlWriter};

const RULES_MAX: usize = 50;

/// A bucket's site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Website {
    /// Every request goes to another host.
    RedirectAll {
        /// Which.
        host: String,
        /// By which protocol, if not that of the request.
        protocol: Option<Protocol>,
    },
    /// Pages.
    Pages(Pages),
}

/// What serves a site's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// What is appended to a key that is empty or ends in `/`.
    pub index_suffix: String,
    /// The key of what is shown for an error.
    pub error_key: Option<String>,
    /// Redirects, the first that holds counts.
    pub rules: Vec<RoutingRule>,
}

/// Of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// http.
    Http,
    /// https.
    Https,
}

impl Protocol {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }
}

/// A redirect and when it applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingRule {
    key_prefix: Option<String>,
    error_status: Option<u16>,
    host: Option<String>,
    protocol: Option<Protocol>,
    replace: Replace,
    status: Option<u16>,
}

/// What a redirect does to the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Replace {
    #[default]
    Nothing,
    Key(String),
    Prefix(String),
}

/// Where a rule sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 3xx.
    pub status: u16,
    /// By which protocol, if not that of the request.
    pub protocol: Option<Protocol>,
    /// To which host, if not that of the request.
    pub host: Option<String>,
    /// The key there.
    pub key: String,
}

impl Pages {
    /// The redirect of a request for `key`, before (`None`) or after it failed with a status.
    pub fn redirect(&self, key: &str, failed: Option<u16>) -> Option<Redirect> {
        let rule = self.rules.iter().find(|rule| {
            rule.error_status == failed
                && rule.key_prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_str()))
        })?;
        let key = match &rule.replace {
            Replace::Nothing => key.to_owned(),
            Replace::Key(key) => key.clone(),
            Replace::Prefix(with) => {
                let rest = key.strip_prefix(rule.key_prefix.as_deref().unwrap_or_default()).unwrap_or(key);
                format!("{with}{rest}")
            }
        };
        let (host, protocol) = (rule.host.clone(), rule.protocol);
        Some(Redirect { status: rule.status.unwrap_or(301), protocol, host, key })
    }
}

impl Document for Website {
    const KIND: ConfigKind = ConfigKind::Website;
    const ABSENT: Code = Code::NoSuchWebsiteConfiguration;

    fn parse(document: &[u8]) -> Result<Website, S3Error> {
        let root = Element::parse(document, "WebsiteConfiguration")?;
        root.only(&["ErrorDocument", "IndexDocument", "RedirectAllRequestsTo", "RoutingRules"])?;
        let Some(all) = root.child("RedirectAllRequestsTo")? else {
            return parse_pages(&root).map(Website::Pages);
        };
        if root.children().len() > 1 {
            return Err(request(
                "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.",
            ));
        }
        all.only(&["HostName", "Protocol"])?;
        let host = all.word_of("HostName")?.filter(|host| !host.is_empty()).ok_or_else(malformed)?.to_owned();
        Ok(Website::RedirectAll { host, protocol: parse_protocol(all)? })
    }

    fn to_kept(&self) -> Bytes {
        let mut xml = XmlWriter::s3_document("WebsiteConfiguration", 512);
        match self {
            Website::RedirectAll { host, protocol } => {
                xml.open("RedirectAllRequestsTo");
                xml.leaf("HostName", host);
                leaf_if(&mut xml, "Protocol", protocol.map(Protocol::as_str));
                xml.close("RedirectAllRequestsTo");
            }
            Website::Pages(pages) => write_pages(&mut xml, pages),
        }
        xml.close("WebsiteConfiguration");
        xml.finish()
    }
}

fn argument(message: &'static str) -> S3Error {
    S3Error::with_message(Code::InvalidArgument, message)
}

fn request(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(Code::InvalidRequest, message)
}

fn parse_protocol(element: &Element) -> Result<Option<Protocol>, S3Error> {
    match element.word_of("Protocol")? {
        None => Ok(None),
        Some("http") => Ok(Some(Protocol::Http)),
        Some("https") => Ok(Some(Protocol::Https)),
        Some(_) => Err(request(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected \
             automatically.",
        )),
    }
}

fn parse_pages(root: &Element) -> Result<Pages, S3Error> {
    let index = root.child("IndexDocument")?.ok_or_else(|| {
        argument("A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty")
    })?;
    let index_suffix = index.only(&["Suffix"])?.text_of("Suffix")?.unwrap_or_default().to_owned();
    if index_suffix.is_empty() || index_suffix.contains('/') {
        return Err(argument("The IndexDocument Suffix is not well formed"));
    }
    let error_key = match root.child("ErrorDocument")? {
        Some(error) => match error.only(&["Key"])?.text_of("Key")? {
            Some(key) if !key.is_empty() && key.len() <= crate::ops::api::KEY_MAX_BYTES => {
                Some(key.to_owned())
            }
            _ => return Err(argument("The ErrorDocument Key is not well formed")),
        },
        None => None,
    };
    let rules: Vec<RoutingRule> = match root.child("RoutingRules")? {
        Some(rules) => {
            rules.only(&["RoutingRule"])?.children().iter().map(parse_rule).collect::<Result<_, _>>()?
        }
        None => Vec::new(),
    };
    if rules.len() > RULES_MAX {
        let count = rules.len();
        return Err(request(format!(
            "{count} routing rules provided, the number of routing rules in a website configuration is limited to \
             {RULES_MAX}."
        )));
    }
    Ok(Pages { index_suffix, error_key, rules })
}

fn parse_rule(element: &Element) -> Result<RoutingRule, S3Error> {
    element.only(&["Condition", "Redirect"])?;
    let mut rule = RoutingRule::default();
    if let Some(condition) = element.child("Condition")? {
        condition.only(&["HttpErrorCodeReturnedEquals", "KeyPrefixEquals"])?;
        rule.key_prefix = condition.text_of("KeyPrefixEquals")?.map(str::to_owned);
        rule.error_status = match condition.word_of("HttpErrorCodeReturnedEquals")? {
            Some(text) => Some(status(text, 400..600).ok_or_else(|| {
                request(format!(
                    "The provided HTTP error code ({text}) is not valid. Valid codes are 4XX or 5XX."
                ))
            })?),
            None => None,
        };
        if condition.children().is_empty() {
            return Err(request(
                "Condition cannot be empty. To redirect all requests without a condition, the condition element \
                 shouldn't be present.",
            ));
        }
    }
    let redirect = element.child("Redirect")?.ok_or_else(malformed)?;
    redirect.only(&["HostName", "HttpRedirectCode", "Protocol", "ReplaceKeyPrefixWith", "ReplaceKeyWith"])?;
    if redirect.children().is_empty() {
        return Err(malformed());
    }
    rule.host = redirect.word_of("HostName")?.map(str::to_owned);
    rule.protocol = parse_protocol(redirect)?;
    rule.status = match redirect.word_of("HttpRedirectCode")? {
        Some(text) => Some(status(text, 301..400).ok_or_else(|| {
            request(format!(
                "The provided HTTP redirect code ({text}) is not valid. Valid codes are 3XX except 300."
            ))
        })?),
        None => None,
    };
    rule.replace = match (redirect.text_of("ReplaceKeyWith")?, redirect.text_of("ReplaceKeyPrefixWith")?) {
        (Some(_), Some(_)) => {
            return Err(request("You can only define ReplaceKeyPrefix or ReplaceKey but not both."));
        }
        (Some(key), None) => Replace::Key(key.to_owned()),
        (None, Some(prefix)) => Replace::Prefix(prefix.to_owned()),
        (None, None) => Replace::Nothing,
    };
    Ok(rule)
}

fn status(text: &str, valid: std::ops::Range<u16>) -> Option<u16> {
    text.parse().ok().filter(|status| valid.contains(status))
}

fn write_pages(xml: &mut XmlWriter, pages: &Pages) {
    xml.open("IndexDocument");
    xml.leaf("Suffix", &pages.index_suffix);
    xml.close("IndexDocument");
    if let Some(key) = &pages.error_key {
        xml.open("ErrorDocument");
        xml.leaf("Key", key);
        xml.close("ErrorDocument");
    }
    if pages.rules.is_empty() {
        return;
    }
    xml.open("RoutingRules");
    for rule in &pages.rules {
        xml.open("RoutingRule");
        if rule.key_prefix.is_some() || rule.error_status.is_some() {
            xml.open("Condition");
            if let Some(status) = rule.error_status {
                xml.number("HttpErrorCodeReturnedEquals", u64::from(status));
            }
            leaf_if(xml, "KeyPrefixEquals", rule.key_prefix.as_deref());
            xml.close("Condition");
        }
        xml.open("Redirect");
        leaf_if(xml, "HostName", rule.host.as_deref());
        if let Some(status) = rule.status {
            xml.number("HttpRedirectCode", u64::from(status));
        }
        leaf_if(xml, "Protocol", rule.protocol.map(Protocol::as_str));
        match &rule.replace {
            Replace::Nothing => {}
            Replace::Key(key) => xml.leaf("ReplaceKeyWith", key),
            Replace::Prefix(prefix) => xml.leaf("ReplaceKeyPrefixWith", prefix),
        }
        xml.close("Redirect");
        xml.close("RoutingRule");
    }
    xml.close("RoutingRules");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(inside: &str) -> Result<Website, S3Error> {
        Website::parse(format!("<WebsiteConfiguration>{inside}</WebsiteConfiguration>").as_bytes())
    }

    const INDEX: &str = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>";

    fn rule(condition: &str, redirect: &str) -> String {
        format!(
            "{INDEX}<RoutingRules><RoutingRule>{condition}<Redirect>{redirect}</Redirect></RoutingRule></RoutingRules>"
        )
    }

    #[test]
    fn sites_read_back_as_they_were_sent() {
        let sites = [
            INDEX.to_owned(),
            format!("{INDEX}<ErrorDocument><Key>404.html</Key></ErrorDocument>"),
            "<RedirectAllRequestsTo><HostName>example.com</HostName><Protocol>https</Protocol></RedirectAllRequestsTo>"
                .to_owned(),
            rule(
                "<Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals><KeyPrefixEquals>a/</KeyPrefixEquals></Condition>",
                "<HostName>h</HostName><HttpRedirectCode>302</HttpRedirectCode><Protocol>http</Protocol><ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith>",
            ),
        ];
        for inside in sites {
            let site = parse(&inside).unwrap();
            assert!(String::from_utf8_lossy(&site.to_kept()).contains(&inside), "{inside}");
            assert_eq!(Website::parse(&site.to_kept()).unwrap(), site);
        }
    }

    #[test]
    fn sites_that_aws_refuses_are_refused() {
        let code = |inside: &str| parse(inside).unwrap_err().code;
        assert_eq!(code(""), Code::InvalidArgument);
        assert_eq!(code("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>"), Code::InvalidArgument);
        assert_eq!(code("<IndexDocument><Suffix/></IndexDocument>"), Code::InvalidArgument);
        assert_eq!(code(&format!("{INDEX}<ErrorDocument><Key/></ErrorDocument>")), Code::InvalidArgument);
        let all = "<RedirectAllRequestsTo><HostName>h</HostName></RedirectAllRequestsTo>";
        assert_eq!(code(&format!("{INDEX}{all}")), Code::InvalidRequest);
        assert_eq!(code("<RedirectAllRequestsTo/>"), Code::MalformedXML);
        for (condition, redirect) in [
            ("<Condition/>", "<HostName>h</HostName>"),
            (
                "<Condition><HttpErrorCodeReturnedEquals>200</HttpErrorCodeReturnedEquals></Condition>",
                "<HostName>h</HostName>",
            ),
            ("", "<HttpRedirectCode>300</HttpRedirectCode>"),
            ("", "<Protocol>ftp</Protocol>"),
            ("", "<ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith>"),
        ] {
            assert_eq!(code(&rule(condition, redirect)), Code::InvalidRequest, "{condition}{redirect}");
        }
        assert_eq!(code(&rule("", "")), Code::MalformedXML);
    }

    #[test]
    fn the_first_rule_that_holds_sends_a_request_elsewhere() {
        let site = parse(&format!(
            "{INDEX}<RoutingRules>\
             <RoutingRule><Condition><KeyPrefixEquals>docs/</KeyPrefixEquals></Condition>\
             <Redirect><ReplaceKeyPrefixWith>documents/</ReplaceKeyPrefixWith></Redirect></RoutingRule>\
             <RoutingRule><Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>\
             <Redirect><HostName>other</HostName><ReplaceKeyWith>gone</ReplaceKeyWith>\
             <HttpRedirectCode>307</HttpRedirectCode></Redirect></RoutingRule></RoutingRules>"
        ))
        .unwrap();
        let Website::Pages(pages) = site else { panic!("pages") };
        let early = pages.redirect("docs/a.html", None).unwrap();
        assert_eq!((early.status, early.key.as_str(), early.host), (301, "documents/a.html", None));
        assert_eq!(pages.redirect("a.html", None), None);
        let late = pages.redirect("a.html", Some(404)).unwrap();
        assert_eq!((late.status, late.key.as_str(), late.host.as_deref()), (307, "gone", Some("other")));
        assert_eq!(pages.redirect("a.html", Some(403)), None);
    }
}
