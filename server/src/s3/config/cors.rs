//! Cross-origin rules: which pages of other origins a browser lets use a bucket.
//! Invariants: a rule holds only if its origin, its method and every requested header match; the first that does counts.
//! Not here: preflight requests and header fields of responses (`handlers::cors`).

use bytes::Bytes;

use super::{Document, leaf_if, malformed};
use crate::ops::api::ConfigKind;
use crate::s3::error::{Code, S3Error};
use crate::s3::xml::{Element, XmlWriter};

const RULES_MAX: usize = 100;
const ID_CHARS_MAX: usize = 255;
/// Most patterns of one kind in a rule, and most header fields of a request that are looked at: every request with an
/// origin compares them all, 100 x 100 x 100 short texts at most.
const LIST_MAX: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// A bucket's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    id: Option<String>,
    /// Allowed request header fields; each may hold one `*`.
    headers: Vec<String>,
    /// The same in lower case.
    headers_lower: Vec<String>,
    /// In the order sent.
    pub methods: Vec<String>,
    /// Each may hold one `*`.
    origins: Vec<String>,
    /// Response header fields that a page may read.
    pub expose: Vec<String>,
    /// How long a browser may remember the answer to a preflight.
    pub max_age_s: Option<u32>,
}

impl Cors {
    /// The rule that lets a page of `origin` send `method` with the header fields `headers`.
    pub fn find<'h>(
        &self,
        origin: &str,
        method: &str,
        headers: impl Iterator<Item = &'h str> + Clone,
    ) -> Option<&Rule> {
        if headers.clone().nth(LIST_MAX).is_some() {
            return None;
        }
        self.rules.iter().find(|rule| {
            rule.origins.iter().any(|pattern| matches(pattern, origin))
                && rule.methods.iter().any(|allowed| allowed == method)
                && headers.clone().all(|header| rule.allows_header(header))
        })
    }
}

impl Rule {
    /// Whether it is for every origin: then the answer names none.
    pub fn is_for_all(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }

    fn allows_header(&self, header: &str) -> bool {
        let header = header.to_ascii_lowercase();
        self.headers_lower.iter().any(|pattern| matches(pattern, &header))
    }
}

/// Whether `text` is `pattern`, in which one `*` may stand for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

impl Document for Cors {
    const KIND: ConfigKind = ConfigKind::Cors;
    const ABSENT: Code = Code::NoSuchCORSConfiguration;

    fn parse(document: &[u8]) -> Result<Cors, S3Error> {
        let root = Element::parse(document, "CORSConfiguration")?;
        let rules: Vec<Rule> =
            root.only(&["CORSRule"])?.children().iter().map(parse_rule).collect::<Result<_, _>>()?;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(malformed());
        }
        Ok(Cors { rules })
    }

    fn to_kept(&self) -> Bytes {
        let mut xml = XmlWriter::s3_document("CORSConfiguration", 256 * self.rules.len());
        for rule in &self.rules {
            xml.open("CORSRule");
            leaf_if(&mut xml, "ID", rule.id.as_deref());
            rule.headers.iter().for_each(|text| xml.leaf("AllowedHeader", text));
            rule.methods.iter().for_each(|text| xml.leaf("AllowedMethod", text));
            rule.origins.iter().for_each(|text| xml.leaf("AllowedOrigin", text));
            rule.expose.iter().for_each(|text| xml.leaf("ExposeHeader", text));
            if let Some(max_age_s) = rule.max_age_s {
                xml.number("MaxAgeSeconds", u64::from(max_age_s));
            }
            xml.close("CORSRule");
        }
        xml.close("CORSConfiguration");
        xml.finish()
    }
}

fn parse_rule(element: &Element) -> Result<Rule, S3Error> {
    let invalid = |message: String| Err(S3Error::with_message(Code::InvalidRequest, message));
    let known = ["ID", "AllowedHeader", "AllowedMethod", "AllowedOrigin", "ExposeHeader", "MaxAgeSeconds"];
    element.only(&known)?;
    let words = |name: &str| -> Vec<String> {
        element.all(name).map(|child| child.text().trim().to_owned()).collect()
    };
    let max_age_s = element.word_of("MaxAgeSeconds")?.map(str::parse).transpose().map_err(|_| malformed())?;
    let rule = Rule {
        id: element.text_of("ID")?.map(str::to_owned),
        headers_lower: words("AllowedHeader").iter().map(|text| text.to_ascii_lowercase()).collect(),
        headers: words("AllowedHeader"),
        methods: words("AllowedMethod"),
        origins: words("AllowedOrigin"),
        expose: words("ExposeHeader"),
        max_age_s,
    };
    let lists = [&rule.headers, &rule.methods, &rule.origins, &rule.expose];
    if rule.methods.is_empty() || rule.origins.is_empty() || lists.iter().any(|list| list.len() > LIST_MAX) {
        return Err(malformed());
    }
    if rule.id.as_ref().is_some_and(|id| id.chars().count() > ID_CHARS_MAX) {
        return Err(malformed());
    }
    if let Some(method) = rule.methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
        return invalid(format!(
            "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
        ));
    }
    for (name, patterns) in [("AllowedOrigin", &rule.origins), ("AllowedHeader", &rule.headers)] {
        if let Some(pattern) = patterns.iter().find(|pattern| pattern.matches('*').count() > 1) {
            return invalid(format!("{name} \"{pattern}\" can not have more than one wildcard."));
        }
    }
    if let Some(header) = rule.expose.iter().find(|header| header.contains('*')) {
        return invalid(format!(
            "ExposeHeader \"{header}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
        ));
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(rules: &str) -> Result<Cors, S3Error> {
        Cors::parse(format!("<CORSConfiguration>{rules}</CORSConfiguration>").as_bytes())
    }

    const RULE: &str = "<CORSRule><ID>one</ID><AllowedHeader>x-*</AllowedHeader><AllowedMethod>GET</AllowedMethod>\
        <AllowedMethod>PUT</AllowedMethod><AllowedOrigin>https://*.example.com</AllowedOrigin>\
        <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds></CORSRule>";

    #[test]
    fn rules_read_back_as_they_were_sent() {
        let cors = parse(RULE).unwrap();
        let kept = cors.to_kept();
        assert!(String::from_utf8_lossy(&kept).contains(RULE));
        assert_eq!(Cors::parse(&kept).unwrap(), cors);
    }

    #[test]
    fn lists_that_would_cost_much_to_compare_are_refused() {
        let with = |count: usize| {
            let headers = "<AllowedHeader>b</AllowedHeader>".repeat(count);
            let rest = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>";
            parse(&format!("<CORSRule>{headers}{rest}</CORSRule>"))
        };
        assert!(with(101).is_err());
        let cors = with(100).unwrap();
        assert!(cors.find("o", "GET", std::iter::repeat_n("b", 100)).is_some());
        assert!(cors.find("o", "GET", std::iter::repeat_n("b", 101)).is_none());
    }

    #[test]
    fn a_rule_holds_only_for_its_origin_method_and_headers() {
        let cors = parse(RULE).unwrap();
        let finds = |origin: &str, method: &str, headers: &[&str]| {
            cors.find(origin, method, headers.iter().copied()).is_some()
        };
        assert!(finds("https://a.example.com", "GET", &[]));
        assert!(finds("https://a.b.example.com", "PUT", &["X-Amz-Date", "x-"]));
        assert!(!finds("https://example.com", "GET", &[]));
        assert!(!finds("http://a.example.com", "GET", &[]));
        assert!(!finds("https://a.example.com", "DELETE", &[]));
        assert!(!finds("https://a.example.com", "GET", &["authorization"]));
        assert!(matches("a*a", "aa") && !matches("a*a", "a") && matches("*", ""));
    }

    #[test]
    fn rules_that_aws_refuses_are_refused() {
        let rule = |inside: &str| parse(&format!("<CORSRule>{inside}</CORSRule>")).unwrap_err().code;
        let (get, all) = ("<AllowedMethod>GET</AllowedMethod>", "<AllowedOrigin>*</AllowedOrigin>");
        assert_eq!(parse("").unwrap_err().code, Code::MalformedXML);
        assert_eq!(parse(&RULE.repeat(101)).unwrap_err().code, Code::MalformedXML);
        assert!(parse(&RULE.repeat(100)).is_ok());
        assert_eq!(rule(get), Code::MalformedXML);
        assert_eq!(rule(all), Code::MalformedXML);
        assert_eq!(rule(&format!("{get}{all}<Odd/>")), Code::MalformedXML);
        assert_eq!(rule(&format!("{get}{all}<MaxAgeSeconds>x</MaxAgeSeconds>")), Code::MalformedXML);
        let invalid = [
            format!("{all}<AllowedMethod>PATCH</AllowedMethod>"),
            format!("{get}<AllowedOrigin>*.*</AllowedOrigin>"),
            format!("{get}{all}<AllowedHeader>**</AllowedHeader>"),
            format!("{get}{all}<ExposeHeader>x-*</ExposeHeader>"),
        ];
        for inside in invalid {
            assert_eq!(rule(&inside), Code::InvalidRequest, "{inside}");
        }
    }
}
