//! Lifecycle rules: when objects, older versions, lone delete markers and unfinished uploads go.
//! Invariants: a rule whose scope or action is not understood whole is refused, so nothing goes that no rule names; of
//! several rules the one that comes first counts; a time is a whole day after the count of days, as AWS reckons.
//! Not here: the pass that acts on them (`s3::lifecycle_pass`).

use bytes::Bytes;

use super::{Document, leaf_if, malformed};
use crate::ops::api::ConfigKind;
use crate::s3::error::{Code, S3Error};
use crate::s3::tagging::Tag;
use crate::s3::time_text::{iso_8601, parse_date_s};
use crate::s3::xml::{Element, XmlWriter};

const RULES_MAX: usize = 1_000;
const ID_CHARS_MAX: usize = 255;
const DAYS_MAX: u32 = i32::MAX.cast_unsigned();
const NEWER_VERSIONS_MAX: u32 = 100;
const DAY_S: u64 = 24 * 3600;
/// The header, and the element in which it is kept, that says whether small objects change class.
pub const TRANSITION_MINIMUM: &str = "x-amz-transition-default-minimum-object-size";
const TRANSITION_MINIMUM_ELEMENT: &str = "TransitionDefaultMinimumObjectSize";

/// A bucket's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// In the order sent.
    pub rules: Vec<Rule>,
    /// The value of [`TRANSITION_MINIMUM`].
    pub transition_minimum: TransitionMinimum,
}

/// Which objects a transition passes over. No transition is done yet; the word is kept as AWS keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransitionMinimum {
    /// Those under 128 KiB.
    #[default]
    AllClasses128K,
    /// It depends on the class.
    VariesByClass,
}

impl TransitionMinimum {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            TransitionMinimum::AllClasses128K => "all_storage_classes_128K",
            TransitionMinimum::VariesByClass => "varies_by_storage_class",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// `InvalidRequest`.
    pub fn parse(word: &str) -> Result<TransitionMinimum, S3Error> {
        [TransitionMinimum::AllClasses128K, TransitionMinimum::VariesByClass]
            .into_iter()
            .find(|known| known.as_str() == word)
            .ok_or_else(|| {
                S3Error::with_message(
                    Code::InvalidRequest,
                    "Invalid TransitionDefaultMinimumObjectSize found",
                )
            })
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in the bucket; empty if the client gave none, until one is made.
    pub id: String,
    /// Whether it acts.
    pub is_enabled: bool,
    /// On what.
    pub scope: Scope,
    /// Of current versions.
    pub expiration: Option<Expiration>,
    /// Of older versions.
    pub noncurrent: Option<Noncurrent>,
    /// Days after its start on which an unfinished upload goes.
    pub abort_days: Option<u32>,
}

/// How a rule's scope was written, so that it is answered in the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `Prefix` of the rule itself, the older form.
    OfRule,
    /// `Filter` with at most one condition.
    Filter,
    /// `Filter` with `And`.
    And,
}

/// What a rule is for: everything that meets all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    form: Form,
    prefix: Option<String>,
    tags: Vec<Tag>,
    size_above: Option<u64>,
    size_below: Option<u64>,
}

/// When a current version goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// So many days after it was made.
    Days(u32),
    /// From a day on, milliseconds since 1970.
    Date(u64),
    /// A delete marker, once nothing is left behind it, if true.
    DeleteMarker(bool),
}

/// When an older version goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noncurrent {
    /// So many days after a newer one took its place.
    pub days: u32,
    /// But never the newest of the older ones, so many of them.
    pub newer_kept: Option<u32>,
}

/// What a rule looks at of an object.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its length.
    pub size_bytes: u64,
    /// Its tags.
    pub tags: &'a [Tag],
}

/// How long a day of lifecycle is: a day, or less for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayLength {
    seconds: u64,
}

impl Default for DayLength {
    fn default() -> DayLength {
        DayLength { seconds: DAY_S }
    }
}

impl DayLength {
    /// Of so many seconds, at least 1.
    pub fn of_seconds(seconds: u64) -> DayLength {
        DayLength { seconds: seconds.max(1) }
    }

    /// `days` days after `from_ms`, and on to the next midnight where days are days.
    pub fn after(self, from_ms: u64, days: u32) -> u64 {
        let day_ms = self.seconds.saturating_mul(1_000);
        let at_ms = from_ms.saturating_add(day_ms.saturating_mul(u64::from(days)));
        if self.seconds == DAY_S { at_ms.div_ceil(day_ms).saturating_mul(day_ms) } else { at_ms }
    }
}

impl Scope {
    /// Whether all conditions hold.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.matches_key(subject.key)
            && self.size_above.is_none_or(|size| subject.size_bytes > size)
            && self.size_below.is_none_or(|size| subject.size_bytes < size)
            && self.tags.iter().all(|tag| subject.tags.contains(tag))
    }

    /// Whether a key has its prefix.
    pub fn matches_key(&self, key: &[u8]) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_bytes()))
    }

    /// Whether it looks at more than the key.
    fn is_by_key_only(&self) -> bool {
        self.tags.is_empty() && self.size_above.is_none() && self.size_below.is_none()
    }
}

impl Rule {
    /// When a current version that was made at `modified_ms` goes by this rule.
    fn expires_ms(&self, subject: &Subject<'_>, modified_ms: u64, day: DayLength) -> Option<u64> {
        if !self.is_enabled || !self.scope.matches(subject) {
            return None;
        }
        match self.expiration? {
            Expiration::Days(days) => Some(day.after(modified_ms, days)),
            Expiration::Date(at_ms) => Some(at_ms),
            Expiration::DeleteMarker(_) => None,
        }
    }
}

impl Lifecycle {
    /// When a current version goes, and by which rule.
    pub fn expiry(&self, subject: &Subject<'_>, modified_ms: u64, day: DayLength) -> Option<(u64, &str)> {
        let at = |rule: &'_ Rule| rule.expires_ms(subject, modified_ms, day);
        self.rules
            .iter()
            .filter_map(|rule| Some((at(rule)?, rule.id.as_str())))
            .min_by_key(|(at_ms, _)| *at_ms)
    }

    /// Whether an older version goes by now: `newer` older versions are newer than it, and it has been one since
    /// `since_ms`.
    pub fn noncurrent_expired(
        &self,
        subject: &Subject<'_>,
        since_ms: u64,
        newer: u32,
        now_ms: u64,
        day: DayLength,
    ) -> bool {
        self.rules.iter().filter(|rule| rule.is_enabled && rule.scope.matches(subject)).any(|rule| {
            rule.noncurrent.is_some_and(|noncurrent| {
                noncurrent.newer_kept.is_none_or(|kept| newer >= kept)
                    && day.after(since_ms, noncurrent.days) <= now_ms
            })
        })
    }

    /// Whether a delete marker with nothing behind it, made at `modified_ms`, goes by now.
    pub fn marker_expired(&self, key: &[u8], modified_ms: u64, now_ms: u64, day: DayLength) -> bool {
        let subject = Subject { key, size_bytes: 0, tags: &[] };
        self.rules
            .iter()
            .filter(|rule| rule.is_enabled && rule.scope.is_by_key_only() && rule.scope.matches(&subject))
            .any(|rule| match rule.expiration {
                Some(Expiration::DeleteMarker(goes)) => goes,
                // AWS removes lone markers by the age of a rule of days or dates, too.
                Some(Expiration::Days(days)) => day.after(modified_ms, days) <= now_ms,
                Some(Expiration::Date(at_ms)) => at_ms <= now_ms,
                None => false,
            })
    }

    /// When an upload begun at `initiated_ms` goes, and by which rule.
    pub fn abort(&self, key: &[u8], initiated_ms: u64, day: DayLength) -> Option<(u64, &str)> {
        let rules = self.rules.iter().filter(|rule| rule.is_enabled && rule.scope.matches_key(key));
        rules
            .filter_map(|rule| Some((day.after(initiated_ms, rule.abort_days?), rule.id.as_str())))
            .min_by_key(|(at_ms, _)| *at_ms)
    }

    /// Whether an upload begun at `initiated_ms` goes by now.
    pub fn upload_expired(&self, key: &[u8], initiated_ms: u64, now_ms: u64, day: DayLength) -> bool {
        self.abort(key, initiated_ms, day).is_some_and(|(at_ms, _)| at_ms <= now_ms)
    }

    /// Whether any rule that acts looks at tags: else they need not be read.
    pub fn looks_at_tags(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_enabled && !rule.scope.tags.is_empty())
    }

    /// Whether any rule that acts has to do with older versions or delete markers.
    pub fn looks_at_versions(&self) -> bool {
        let looks = |rule: &Rule| rule.noncurrent.is_some() || rule.expiration.is_some();
        self.rules.iter().any(|rule| rule.is_enabled && looks(rule))
    }

    /// Whether any rule that acts has to do with uploads.
    pub fn looks_at_uploads(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_enabled && rule.abort_days.is_some())
    }

    /// Gives rules without an id one each.
    pub fn name_rules(&mut self, mut random: impl FnMut() -> u64) {
        for rule in self.rules.iter_mut().filter(|rule| rule.id.is_empty()) {
            rule.id = format!("{:016x}{:016x}", random(), random());
        }
    }
}

impl Document for Lifecycle {
    const KIND: ConfigKind = ConfigKind::Lifecycle;
    const ABSENT: Code = Code::NoSuchLifecycleConfiguration;

    fn parse(document: &[u8]) -> Result<Lifecycle, S3Error> {
        let root = Element::parse(document, "LifecycleConfiguration")?;
        root.only(&["Rule", TRANSITION_MINIMUM_ELEMENT])?;
        let transition_minimum = match root.word_of(TRANSITION_MINIMUM_ELEMENT)? {
            Some(word) => TransitionMinimum::parse(word)?,
            None => TransitionMinimum::default(),
        };
        if !(1..=RULES_MAX).contains(&root.all("Rule").count()) {
            return Err(malformed());
        }
        let rules: Vec<Rule> = root.all("Rule").map(parse_rule).collect::<Result<_, _>>()?;
        let mut ids: Vec<&str> =
            rules.iter().map(|rule| rule.id.as_str()).filter(|id| !id.is_empty()).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(argument("Rule ID must be unique. Found same ID for more than one rule"));
        }
        Ok(Lifecycle { rules, transition_minimum })
    }

    fn to_kept(&self) -> Bytes {
        self.write(true)
    }

    fn to_reply(&self) -> Bytes {
        self.write(false)
    }
}

impl Lifecycle {
    fn write(&self, with_minimum: bool) -> Bytes {
        let mut xml = XmlWriter::s3_document("LifecycleConfiguration", 256 * self.rules.len());
        for rule in &self.rules {
            write_rule(&mut xml, rule);
        }
        if with_minimum {
            xml.leaf(TRANSITION_MINIMUM_ELEMENT, self.transition_minimum.as_str());
        }
        xml.close("LifecycleConfiguration");
        xml.finish()
    }
}

fn argument(message: &'static str) -> S3Error {
    S3Error::with_message(Code::InvalidArgument, message)
}

fn request(message: &'static str) -> S3Error {
    S3Error::with_message(Code::InvalidRequest, message)
}

fn parse_rule(element: &Element) -> Result<Rule, S3Error> {
    element.only(&[
        "ID",
        "Prefix",
        "Filter",
        "Status",
        "Expiration",
        "NoncurrentVersionExpiration",
        "AbortIncompleteMultipartUpload",
        "Transition",
        "NoncurrentVersionTransition",
    ])?;
    let id = element.text_of("ID")?.unwrap_or_default().to_owned();
    if id.chars().count() > ID_CHARS_MAX {
        return Err(argument("ID length should not exceed allowed limit of 255"));
    }
    let is_enabled = match element.word_of("Status")? {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(malformed()),
    };
    let rule = Rule {
        id,
        is_enabled,
        scope: parse_scope(element)?,
        expiration: element.child("Expiration")?.map(parse_expiration).transpose()?,
        noncurrent: element.child("NoncurrentVersionExpiration")?.map(parse_noncurrent).transpose()?,
        abort_days: element.child("AbortIncompleteMultipartUpload")?.map(parse_abort).transpose()?,
    };
    refuse_transitions(element)?;
    if rule.expiration.is_none() && rule.noncurrent.is_none() && rule.abort_days.is_none() {
        return Err(request("At least one action needs to be specified in a rule"));
    }
    if !rule.scope.tags.is_empty() {
        if rule.abort_days.is_some() {
            return Err(request("AbortIncompleteMultipartUpload cannot be specified with Tags."));
        }
        if matches!(rule.expiration, Some(Expiration::DeleteMarker(_))) {
            return Err(request("ExpiredObjectDeleteMarker cannot be specified with Tags."));
        }
    }
    if (rule.scope.size_above.is_some() || rule.scope.size_below.is_some()) && rule.abort_days.is_some() {
        return Err(request("AbortIncompleteMultipartUpload cannot be specified with Object Size."));
    }
    Ok(rule)
}

fn parse_scope(rule: &Element) -> Result<Scope, S3Error> {
    let empty =
        Scope { form: Form::Filter, prefix: None, tags: Vec::new(), size_above: None, size_below: None };
    match (rule.text_of("Prefix")?, rule.child("Filter")?) {
        (Some(prefix), None) => Ok(Scope { form: Form::OfRule, prefix: Some(prefix.to_owned()), ..empty }),
        (None, Some(filter)) => match filter.child("And")? {
            Some(and) if filter.children().len() == 1 => parse_conditions(and, Form::And),
            Some(_) => Err(malformed()),
            None if filter.children().len() > 1 => Err(malformed()),
            None => parse_conditions(filter, Form::Filter),
        },
        (None, None) | (Some(_), Some(_)) => Err(malformed()),
    }
}

fn parse_conditions(element: &Element, form: Form) -> Result<Scope, S3Error> {
    element.only(&["Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"])?;
    let size = |name: &str| -> Result<Option<u64>, S3Error> {
        element.word_of(name)?.map(str::parse).transpose().map_err(|_| malformed())
    };
    let mut tags: Vec<Tag> = Vec::new();
    for tag in element.all("Tag") {
        tag.only(&["Key", "Value"])?;
        let (Some(key), Some(value)) = (tag.text_of("Key")?, tag.text_of("Value")?) else {
            return Err(malformed());
        };
        if key.is_empty() || key.chars().count() > 128 {
            return Err(S3Error::with_message(Code::InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > 256 {
            return Err(S3Error::with_message(Code::InvalidTag, "The TagValue you have provided is invalid"));
        }
        if tags.iter().any(|other| other.key == key) {
            return Err(request("Duplicate Tag Keys are not allowed."));
        }
        tags.push(Tag { key: key.to_owned(), value: value.to_owned() });
    }
    let prefix = element.text_of("Prefix")?.map(str::to_owned);
    let scope = Scope {
        form,
        prefix,
        tags,
        size_above: size("ObjectSizeGreaterThan")?,
        size_below: size("ObjectSizeLessThan")?,
    };
    if let (Some(above), Some(below)) = (scope.size_above, scope.size_below)
        && above >= below
    {
        return Err(request("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."));
    }
    if form == Form::And && element.children().is_empty() {
        return Err(malformed());
    }
    Ok(scope)
}

/// A number of days; `wrong` for one that is not positive.
fn days(text: &str, wrong: &'static str) -> Result<u32, S3Error> {
    let days: i64 = text.parse().map_err(|_| malformed())?;
    match u32::try_from(days) {
        Ok(days) if (1..=DAYS_MAX).contains(&days) => Ok(days),
        Ok(_) | Err(_) => Err(argument(wrong)),
    }
}

fn parse_expiration(element: &Element) -> Result<Expiration, S3Error> {
    element.only(&["Days", "Date", "ExpiredObjectDeleteMarker"])?;
    match element.children() {
        [one] if one.name() == "Days" => {
            days(one.text().trim(), "'Days' for Expiration action must be a positive integer")
                .map(Expiration::Days)
        }
        [one] if one.name() == "Date" => parse_midnight(one.text()).map(Expiration::Date),
        [one] => match one.text().trim() {
            "true" => Ok(Expiration::DeleteMarker(true)),
            "false" => Ok(Expiration::DeleteMarker(false)),
            _ => Err(malformed()),
        },
        _ => Err(malformed()),
    }
}

fn parse_midnight(text: &str) -> Result<u64, S3Error> {
    let text = text.trim();
    // A date without a time is taken as its midnight.
    let at_s =
        parse_date_s(text).or_else(|| parse_date_s(&format!("{text}T00:00:00Z"))).ok_or_else(malformed)?;
    if at_s % DAY_S != 0 {
        return Err(argument("'Date' must be at midnight GMT"));
    }
    Ok(at_s * 1_000)
}

fn parse_noncurrent(element: &Element) -> Result<Noncurrent, S3Error> {
    element.only(&["NoncurrentDays", "NewerNoncurrentVersions"])?;
    let of_days = element.word_of("NoncurrentDays")?.ok_or_else(malformed)?;
    let wrong = "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer";
    let newer_kept = match element.word_of("NewerNoncurrentVersions")? {
        Some(text) => {
            let wrong =
                "'NewerNoncurrentVersions' for NoncurrentVersionExpiration action must be a positive integer";
            Some(days(text, wrong)?)
                .filter(|kept| *kept <= NEWER_VERSIONS_MAX)
                .ok_or_else(|| argument(wrong))?
                .into()
        }
        None => None,
    };
    Ok(Noncurrent { days: days(of_days, wrong)?, newer_kept })
}

fn parse_abort(element: &Element) -> Result<u32, S3Error> {
    element.only(&["DaysAfterInitiation"])?;
    days(
        element.word_of("DaysAfterInitiation")?.ok_or_else(malformed)?,
        "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer",
    )
}

/// There is no class to move objects to; a wrong date is told first, as it is wrong anywhere.
fn refuse_transitions(rule: &Element) -> Result<(), S3Error> {
    for transition in rule.all("Transition") {
        if let Some(date) = transition.text_of("Date")? {
            parse_midnight(date)?;
        }
    }
    let transitions = rule.all("Transition").chain(rule.all("NoncurrentVersionTransition"));
    match transitions.into_iter().next() {
        Some(_) => Err(S3Error::from(Code::NotImplemented).and("Element", "Transition".to_owned())),
        None => Ok(()),
    }
}

fn write_rule(xml: &mut XmlWriter, rule: &Rule) {
    xml.open("Rule");
    xml.leaf("ID", &rule.id);
    write_scope(xml, &rule.scope);
    xml.leaf("Status", if rule.is_enabled { "Enabled" } else { "Disabled" });
    if let Some(expiration) = rule.expiration {
        xml.open("Expiration");
        match expiration {
            Expiration::Days(days) => xml.number("Days", u64::from(days)),
            Expiration::Date(at_ms) => xml.leaf("Date", &iso_8601(at_ms)),
            Expiration::DeleteMarker(goes) => xml.flag("ExpiredObjectDeleteMarker", goes),
        }
        xml.close("Expiration");
    }
    if let Some(noncurrent) = rule.noncurrent {
        xml.open("NoncurrentVersionExpiration");
        xml.number("NoncurrentDays", u64::from(noncurrent.days));
        if let Some(kept) = noncurrent.newer_kept {
            xml.number("NewerNoncurrentVersions", u64::from(kept));
        }
        xml.close("NoncurrentVersionExpiration");
    }
    if let Some(days) = rule.abort_days {
        xml.open("AbortIncompleteMultipartUpload");
        xml.number("DaysAfterInitiation", u64::from(days));
        xml.close("AbortIncompleteMultipartUpload");
    }
    xml.close("Rule");
}

fn write_scope(xml: &mut XmlWriter, scope: &Scope) {
    if scope.form == Form::OfRule {
        leaf_if(xml, "Prefix", scope.prefix.as_deref());
        return;
    }
    xml.open("Filter");
    if scope.form == Form::And {
        xml.open("And");
    }
    leaf_if(xml, "Prefix", scope.prefix.as_deref());
    for tag in &scope.tags {
        xml.open("Tag");
        xml.leaf("Key", &tag.key);
        xml.leaf("Value", &tag.value);
        xml.close("Tag");
    }
    if let Some(size) = scope.size_above {
        xml.number("ObjectSizeGreaterThan", size);
    }
    if let Some(size) = scope.size_below {
        xml.number("ObjectSizeLessThan", size);
    }
    if scope.form == Form::And {
        xml.close("And");
    }
    xml.close("Filter");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const DAY_MS: u64 = DAY_S * 1_000;

    fn parse(rules: &str) -> Result<Lifecycle, S3Error> {
        let root = "LifecycleConfiguration";
        Lifecycle::parse(format!("<{root} xmlns=\"x\">{rules}</{root}>").as_bytes())
    }

    fn rule(inside: &str) -> Result<Lifecycle, S3Error> {
        parse(&format!("<Rule>{inside}<Status>Enabled</Status></Rule>"))
    }

    fn code(result: Result<Lifecycle, S3Error>) -> Option<Code> {
        result.err().map(|error| error.code)
    }

    const EXPIRE: &str = "<Expiration><Days>1</Days></Expiration>";

    #[test]
    fn rules_of_every_form_read_back_as_they_were_sent() {
        let rules = "<Rule><ID>a b</ID><Prefix>logs/</Prefix><Status>Enabled</Status><Expiration><Date>\
            2030-01-01T00:00:00.000Z</Date></Expiration></Rule><Rule><ID>2</ID><Filter></Filter><Status>Disabled\
            </Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>\
            <Rule><ID>3</ID><Filter><And><Prefix>a</Prefix><Tag><Key>k</Key><Value>&amp;</Value></Tag>\
            <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>\
            <Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays>\
            <NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>\
            <Rule><ID>4</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
            <AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation>\
            </AbortIncompleteMultipartUpload></Rule>";
        let lifecycle = parse(rules).unwrap();
        assert!(String::from_utf8_lossy(&lifecycle.to_reply()).contains(rules));
        assert_eq!(Lifecycle::parse(&lifecycle.to_kept()).unwrap(), lifecycle);
    }

    #[test]
    fn rules_that_aws_refuses_are_refused_with_its_codes() {
        let filter = "<Filter/>";
        assert_eq!(code(parse("")), Some(Code::MalformedXML));
        let wrong_words = [
            EXPIRE.to_owned(),
            format!("<Prefix/>{filter}{EXPIRE}"),
            format!("{filter}<Odd/>{EXPIRE}"),
            format!("{filter}<Expiration/>"),
            format!("{filter}<Expiration><Days>x</Days></Expiration>"),
            format!("{filter}<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>"),
            format!("{filter}<Expiration><Date>20200101</Date></Expiration>"),
            format!("<Filter><Prefix>a</Prefix><ObjectSizeLessThan>1</ObjectSizeLessThan></Filter>{EXPIRE}"),
            format!("<Filter><And/></Filter>{EXPIRE}"),
            format!("{filter}<NoncurrentVersionExpiration/>"),
        ];
        for inside in wrong_words {
            assert_eq!(code(rule(&inside)), Some(Code::MalformedXML), "{inside}");
        }
        let status = format!("<Rule>{filter}{EXPIRE}<Status>enabled</Status></Rule>");
        assert_eq!(code(parse(&status)), Some(Code::MalformedXML));
        let wrong_values = [
            format!("<ID>{}</ID>{filter}{EXPIRE}", "i".repeat(256)),
            format!("{filter}<Expiration><Days>0</Days></Expiration>"),
            format!("{filter}<Expiration><Days>-1</Days></Expiration>"),
            format!("{filter}<Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>"),
            format!(
                "{filter}<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
            ),
        ];
        for inside in wrong_values {
            assert_eq!(code(rule(&inside)), Some(Code::InvalidArgument), "{inside}");
        }
        let twice = format!("<Rule><ID>i</ID>{filter}{EXPIRE}<Status>Enabled</Status></Rule>").repeat(2);
        assert_eq!(code(parse(&twice)), Some(Code::InvalidArgument));
        let tag = "<Tag><Key>k</Key><Value>v</Value></Tag>";
        let wrong_together = [
            filter.to_owned(),
            format!(
                "<Filter>{tag}</Filter><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
            ),
            format!(
                "<Filter>{tag}</Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
            ),
            format!("<Filter><And>{tag}{tag}</And></Filter>{EXPIRE}"),
            format!(
                "<Filter><And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan></And></Filter>{EXPIRE}"
            ),
        ];
        for inside in wrong_together {
            assert_eq!(code(rule(&inside)), Some(Code::InvalidRequest), "{inside}");
        }
        let transition = "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>";
        assert_eq!(code(rule(&format!("{filter}{EXPIRE}{transition}"))), Some(Code::NotImplemented));
        let odd_date = "<Transition><Date>20220927</Date><StorageClass>GLACIER</StorageClass></Transition>";
        assert_eq!(code(rule(&format!("{filter}{odd_date}"))), Some(Code::MalformedXML));
        assert!(
            parse(&format!("<Rule>{filter}{EXPIRE}<Status>Enabled</Status></Rule>").repeat(1_000)).is_ok()
        );
        let many = format!("<Rule>{filter}{EXPIRE}<Status>Enabled</Status></Rule>").repeat(1_001);
        assert_eq!(code(parse(&many)), Some(Code::MalformedXML));
    }

    #[test]
    fn a_current_version_goes_at_the_midnight_after_its_days_by_the_earliest_rule() {
        let lifecycle = parse(
            "<Rule><ID>late</ID><Filter/><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule>\
             <Rule><ID>off</ID><Filter/><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>\
             <Rule><ID>soon</ID><Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
             <ObjectSizeGreaterThan>10</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status>\
             <Expiration><Days>2</Days></Expiration></Rule>",
        )
        .unwrap();
        let made_ms = 100 * DAY_MS + 3_600_000;
        let tags = [Tag { key: "k".to_owned(), value: "v".to_owned() }];
        let expiry = |key: &str, size_bytes: u64, tags: &[Tag]| {
            let subject = Subject { key: key.as_bytes(), size_bytes, tags };
            lifecycle
                .expiry(&subject, made_ms, DayLength::default())
                .map(|(at_ms, id)| (at_ms / DAY_MS, id.to_owned()))
        };
        assert_eq!(expiry("a/b", 11, &tags), Some((103, "soon".to_owned())));
        assert_eq!(expiry("a/b", 10, &tags), Some((110, "late".to_owned())));
        assert_eq!(expiry("a/b", 11, &[]), Some((110, "late".to_owned())));
        assert_eq!(expiry("b", 11, &tags), Some((110, "late".to_owned())));
        assert_eq!(DayLength::default().after(5 * DAY_MS, 1), 6 * DAY_MS);
        assert_eq!(DayLength::of_seconds(10).after(7, 3), 30_007);
    }

    #[test]
    fn older_versions_markers_and_uploads_go_by_their_own_rules() {
        let lifecycle = parse(
            "<Rule><Filter><Prefix>a</Prefix></Filter><Status>Enabled</Status><NoncurrentVersionExpiration>\
             <NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>2</NewerNoncurrentVersions>\
             </NoncurrentVersionExpiration><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>\
             </Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload></Rule>",
        )
        .unwrap();
        let day = DayLength::of_seconds(1);
        let old = |key: &str, newer: u32, now_ms: u64| {
            let subject = Subject { key: key.as_bytes(), size_bytes: 1, tags: &[] };
            lifecycle.noncurrent_expired(&subject, 5_000, newer, now_ms, day)
        };
        assert!(old("ab", 2, 6_000));
        assert!(!old("ab", 1, 60_000));
        assert!(!old("ab", 2, 5_999));
        assert!(!old("b", 2, 60_000));
        assert!(lifecycle.marker_expired(b"a", 0, 0, day));
        assert!(!lifecycle.marker_expired(b"b", 0, u64::MAX, day));
        assert!(lifecycle.upload_expired(b"a", 1_000, 4_000, day));
        assert!(!lifecycle.upload_expired(b"a", 1_000, 3_999, day));
        assert!(!lifecycle.upload_expired(b"b", 1_000, 9_000, day));
    }

    #[test]
    fn rules_without_an_id_get_one_and_keep_it() {
        let mut lifecycle = rule(&format!("<Filter/>{EXPIRE}")).unwrap();
        let mut next = 7;
        lifecycle.name_rules(|| {
            next += 1;
            next
        });
        assert_eq!(lifecycle.rules[0].id, "00000000000000080000000000000009");
        assert_eq!(Lifecycle::parse(&lifecycle.to_kept()).unwrap(), lifecycle);
    }
}
