//! Static websites: index and error documents, redirects.
//! Invariants: a site either redirects everything or has an index document; a rule without a condition is for all; the
//! path of a redirect holds nothing that could not stand in a URL.
//! Not here: answering a browser (`handlers::website`).

use std::borrow::Cow;

use bytes::Bytes;

use super::{Document, leaf_if, malformed};
use crate::auth::encode_escapes;
use crate::ops::api::{ConfigKind, KEY_MAX_BYTES};
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::{Element, XmlWriter};

/// AWS's limit.
const RULES_MAX: usize = 50;

/// A bucket's site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Website {
    /// Every request goes to another host.
    RedirectAll {
        /// Which; sites also write a path behind it.
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
    rules: Vec<RoutingRule>,
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
struct RoutingRule {
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
    /// What follows the host and its `/`.
    pub path: String,
}

impl Pages {
    /// The key that is read for the one that a path names: an index document for a folder.
    pub fn key_of(&self, key: &str) -> String {
        if key.is_empty() || key.ends_with('/') {
            format!("{key}{}", self.index_suffix)
        } else {
            key.to_owned()
        }
    }

    /// The redirect of a request for `key`, before it is read (`None`) or after that failed with a status.
    pub fn redirect(&self, key: &str, failed: Option<u16>) -> Option<Redirect> {
        let holds = |rule: &&RoutingRule| {
            rule.error_status == failed && key.starts_with(rule.key_prefix.as_deref().unwrap_or_default())
        };
        let rule = self.rules.iter().find(holds)?;
        let path = match &rule.replace {
            Replace::Nothing => escaped(key),
            Replace::Key(key) => as_written(key).into_owned(),
            Replace::Prefix(with) => {
                let rest = key.strip_prefix(rule.key_prefix.as_deref().unwrap_or_default()).unwrap_or(key);
                as_written(with).into_owned() + &escaped(rest)
            }
        };
        let (host, protocol) = (rule.host.clone().filter(|host| !host.is_empty()), rule.protocol);
        Some(Redirect { status: rule.status.unwrap_or(301), protocol, host, path })
    }
}

/// A key as a URL's path has it.
pub fn escaped(key: &str) -> String {
    let mut path = Vec::with_capacity(key.len());
    encode_escapes(key.as_bytes(), &mut path);
    String::from_utf8_lossy(&path).into_owned()
}

/// What a rule writes, which may be more than a path, such as `#!/` or `resize?key=`: only what can stand in no URL is
/// escaped.
fn as_written(text: &str) -> Cow<'_, str> {
    let cannot_stand = |c: char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(c);
    if !text.contains(cannot_stand) {
        return Cow::Borrowed(text);
    }
    let mut path = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if cannot_stand(c) { path.push_str(&escaped(c.encode_utf8(&mut [0; 4]))) } else { path.push(c) }
    }
    Cow::Owned(path)
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

fn request(message: impl Into<Cow<'static, str>>) -> S3Error {
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
            Some(key) if (1..=KEY_MAX_BYTES).contains(&key.len()) => Some(key.to_owned()),
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
    let (key_prefix, error_status) = match element.child("Condition")? {
        Some(condition) => parse_condition(condition)?,
        None => (None, None),
    };
    let redirect = element.child("Redirect")?.ok_or_else(malformed)?;
    redirect.only(&["HostName", "HttpRedirectCode", "Protocol", "ReplaceKeyPrefixWith", "ReplaceKeyWith"])?;
    if redirect.children().is_empty() {
        return Err(malformed());
    }
    let status = numbered(redirect, "HttpRedirectCode", 301..400, |text| {
        format!("The provided HTTP redirect code ({text}) is not valid. Valid codes are 3XX except 300.")
    })?;
    let replace = match (redirect.text_of("ReplaceKeyWith")?, redirect.text_of("ReplaceKeyPrefixWith")?) {
        (Some(_), Some(_)) => {
            return Err(request("You can only define ReplaceKeyPrefix or ReplaceKey but not both."));
        }
        (Some(key), None) => Replace::Key(key.to_owned()),
        (None, Some(prefix)) => Replace::Prefix(prefix.to_owned()),
        (None, None) => Replace::Nothing,
    };
    let host = redirect.word_of("HostName")?.map(str::to_owned);
    Ok(RoutingRule { key_prefix, error_status, host, protocol: parse_protocol(redirect)?, replace, status })
}

/// The prefix and the status that a condition names.
fn parse_condition(condition: &Element) -> Result<(Option<String>, Option<u16>), S3Error> {
    condition.only(&["HttpErrorCodeReturnedEquals", "KeyPrefixEquals"])?;
    if condition.children().is_empty() {
        return Err(request(
            "Condition cannot be empty. To redirect all requests without a condition, the condition element \
             shouldn't be present.",
        ));
    }
    let error_status = numbered(condition, "HttpErrorCodeReturnedEquals", 400..600, |text| {
        format!("The provided HTTP error code ({text}) is not valid. Valid codes are 4XX or 5XX.")
    })?;
    Ok((condition.text_of("KeyPrefixEquals")?.map(str::to_owned), error_status))
}

fn numbered(
    element: &Element,
    name: &str,
    valid: std::ops::Range<u16>,
    refusal: impl Fn(&str) -> String,
) -> Result<Option<u16>, S3Error> {
    let Some(text) = element.word_of(name)? else { return Ok(None) };
    match text.parse().ok().filter(|status| valid.contains(status)) {
        Some(status) => Ok(Some(status)),
        None => Err(request(refusal(text))),
    }
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
    if !pages.rules.is_empty() {
        xml.open("RoutingRules");
        pages.rules.iter().for_each(|rule| write_rule(xml, rule));
        xml.close("RoutingRules");
    }
}

fn write_rule(xml: &mut XmlWriter, rule: &RoutingRule) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const INDEX: &str = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>";

    fn parse(inside: &str) -> Result<Website, S3Error> {
        Website::parse(format!("<WebsiteConfiguration>{inside}</WebsiteConfiguration>").as_bytes())
    }

    fn rule(condition: &str, redirect: &str) -> String {
        format!("<RoutingRule>{condition}<Redirect>{redirect}</Redirect></RoutingRule>")
    }

    fn ruled(rules: &str) -> String {
        format!("{INDEX}<RoutingRules>{rules}</RoutingRules>")
    }

    fn pages(rules: &str) -> Pages {
        let Website::Pages(pages) = parse(&ruled(rules)).unwrap() else { panic!("pages") };
        pages
    }

    #[test]
    fn sites_read_back_as_they_were_sent() {
        let of_one_rule = ruled(&rule(
            "<Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>\
             <KeyPrefixEquals>a/</KeyPrefixEquals></Condition>",
            "<HostName>h</HostName><HttpRedirectCode>302</HttpRedirectCode><Protocol>http</Protocol>\
             <ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith>",
        ));
        let all = "<RedirectAllRequestsTo><HostName>example.com</HostName><Protocol>https</Protocol>\
                   </RedirectAllRequestsTo>";
        let with_error = format!("{INDEX}<ErrorDocument><Key>404.html</Key></ErrorDocument>");
        let replaced = ruled(&rule("", "<ReplaceKeyWith>&lt;b&gt;</ReplaceKeyWith>"));
        for inside in [INDEX, with_error.as_str(), all, of_one_rule.as_str(), replaced.as_str()] {
            let site = parse(inside).unwrap();
            assert!(String::from_utf8_lossy(&site.to_kept()).contains(inside), "{inside}");
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
        assert_eq!(code(&format!("{INDEX}<Other/>")), Code::MalformedXML);
        for (condition, redirect) in [
            ("<Condition/>", "<HostName>h</HostName>"),
            (
                "<Condition><HttpErrorCodeReturnedEquals>200</HttpErrorCodeReturnedEquals></Condition>",
                "<HostName>h</HostName>",
            ),
            ("", "<HttpRedirectCode>300</HttpRedirectCode>"),
            ("", "<HttpRedirectCode>404</HttpRedirectCode>"),
            ("", "<Protocol>ftp</Protocol>"),
            ("", "<ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith>"),
        ] {
            assert_eq!(
                code(&ruled(&rule(condition, redirect))),
                Code::InvalidRequest,
                "{condition}{redirect}"
            );
        }
        assert_eq!(code(&ruled(&rule("", ""))), Code::MalformedXML);
        let one = rule("", "<HostName>h</HostName>");
        assert!(parse(&ruled(&one.repeat(50))).is_ok());
        assert_eq!(code(&ruled(&one.repeat(51))), Code::InvalidRequest);
    }

    #[test]
    fn the_first_rule_that_holds_sends_a_request_elsewhere() {
        let pages = pages(&[
            rule(
                "<Condition><KeyPrefixEquals>docs/</KeyPrefixEquals></Condition>",
                "<ReplaceKeyPrefixWith>documents/</ReplaceKeyPrefixWith>",
            ),
            rule(
                "<Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>\
                 <KeyPrefixEquals>old/</KeyPrefixEquals></Condition>",
                "<HostName>archive</HostName><Protocol>https</Protocol>",
            ),
            rule(
                "<Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals></Condition>",
                "<HostName>other</HostName><ReplaceKeyWith>gone</ReplaceKeyWith><HttpRedirectCode>307</HttpRedirectCode>",
            ),
        ]
        .concat());
        let early = pages.redirect("docs/a.html", None).unwrap();
        assert_eq!((early.status, early.path.as_str(), early.host), (301, "documents/a.html", None));
        assert_eq!(pages.redirect("a.html", None), None);
        let old = pages.redirect("old/a.html", Some(404)).unwrap();
        assert_eq!((old.path.as_str(), old.protocol), ("old/a.html", Some(Protocol::Https)));
        let late = pages.redirect("a.html", Some(404)).unwrap();
        assert_eq!((late.status, late.path.as_str(), late.host.as_deref()), (307, "gone", Some("other")));
        assert_eq!(pages.redirect("a.html", Some(403)), None);
    }

    #[test]
    fn keys_are_escaped_in_redirects_and_what_a_rule_writes_stands() {
        let with = |element: &str, text: &str| pages(&rule("", &format!("<{element}>{text}</{element}>")));
        let path = |pages: Pages, key: &str| pages.redirect(key, None).unwrap().path;
        assert_eq!(path(with("HostName", "h"), "a b/?#\r\n"), "a%20b/%3F%23%0D%0A");
        assert_eq!(with("HostName", "").redirect("a", None).unwrap().host, None);
        assert_eq!(path(with("ReplaceKeyPrefixWith", "#!/"), "a b"), "#!/a%20b");
        assert_eq!(path(with("ReplaceKeyPrefixWith", "resize?key="), "a&b"), "resize?key=a%26b");
        assert_eq!(path(with("ReplaceKeyWith", "a%20\u{e9} \n&quot;"), "k"), "a%20%C3%A9%20%0A%22");
    }

    #[test]
    fn folders_are_read_by_their_index_document() {
        let pages = pages(&rule("", "<HostName>h</HostName>"));
        for (key, read) in [("", "index.html"), ("a/", "a/index.html"), ("a", "a"), ("/", "/index.html")] {
            assert_eq!(pages.key_of(key), read);
        }
    }
}
