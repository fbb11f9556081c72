//! A bucket policy: read from JSON with AWS's refusals, and asked.
//! Invariants: a policy speaks of the one bucket that it was read for; its size is bounded; asking it allocates only
//! where a condition's value must be made.
//! Not here: the parts of a statement (`action`, `principal`, `condition`, `glob`).

use std::borrow::Cow;

use super::action::{Action, ActionSet, Target};
use super::condition::{Condition, InvalidCondition};
use super::glob::{Glob, Syntax};
use super::json::Json;
use super::principal::{self, Caller, Principal};
use super::{Facts, public};

/// S3's limit of a bucket policy.
pub const POLICY_BYTES_MAX: usize = 20 * 1024;
/// Most `*` and `?` of a policy: each may be tried at every letter of a header field of 32 KiB, and 1,000 take tens of
/// milliseconds at worst.
const WILDCARDS_MAX: usize = 1_000;

/// A parsed policy of one bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) allows: bool,
    pub(super) principals: Matching<Principal>,
    /// `NotAction` is inverted already.
    pub(super) actions: ActionSet,
    pub(super) resources: Matching<Glob>,
    pub(super) conditions: Vec<Condition>,
}

/// Any of a list, or with `inverted` none of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matching<T> {
    pub(super) inverted: bool,
    pub(super) list: Vec<T>,
}

/// What a policy is asked.
#[derive(Clone, Copy)]
pub struct Question<'q> {
    /// Who asks.
    pub caller: Caller<'q>,
    /// To do what.
    pub action: Action,
    /// With what: `bucket` or `bucket/key`.
    pub resource: &'q str,
    /// What else is known.
    pub facts: &'q dyn Facts,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A statement denies.
    Deny,
    /// A statement allows, and none denies.
    Allow,
    /// No statement speaks of it.
    Silent,
}

/// Why a document is no policy, in AWS's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedPolicy(pub Cow<'static, str>);

impl Policy {
    /// Reads the policy of `bucket`.
    ///
    /// # Errors
    /// [`MalformedPolicy`].
    pub fn parse(document: &[u8], bucket: &str) -> Result<Policy, MalformedPolicy> {
        if document.first() != Some(&b'{') {
            return Err(refused("Policies must be valid JSON and the first byte must be '{'"));
        }
        if document.iter().filter(|byte| matches!(byte, b'*' | b'?')).count() > WILDCARDS_MAX {
            return Err(refused("The policy has more than 1,000 wildcards"));
        }
        let json: Json = serde_json::from_slice(document)
            .map_err(|_| refused("Policies must be valid JSON and the first byte must be '{'"))?;
        let Json::Object(members) = &json else { return Err(refused(SYNTAX)) };
        let mut variables = false;
        let mut statements = None;
        for (name, value) in members {
            match name.as_str() {
                "Version" => match text(value)? {
                    "2012-10-17" => variables = true,
                    "2008-10-17" => {}
                    _ => return Err(refused("The policy must contain a valid version string")),
                },
                "Id" => drop(text(value)?),
                "Statement" => statements = Some(value),
                other => return Err(unknown_field(other)),
            }
        }
        let list = match statements {
            None => return Err(missing("Statement")),
            Some(Json::List(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        if list.is_empty() {
            return Err(refused("Could not parse the policy: Statement is empty!"));
        }
        let statements = list
            .iter()
            .map(|statement| Statement::read(statement, bucket, variables))
            .collect::<Result<_, _>>()?;
        Ok(Policy { statements })
    }

    /// What it says to one question. An explicit deny wins.
    pub fn ask(&self, question: &Question<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if verdict == Verdict::Allow && statement.allows {
                continue;
            }
            if statement.speaks_of(question) {
                if !statement.allows {
                    return Verdict::Deny;
                }
                verdict = Verdict::Allow;
            }
        }
        verdict
    }

    /// Whether it is public by AWS's definition: it allows someone who is not named by a fixed value.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(public::is_public)
    }

    /// Whether an answer can depend on the tags that an object has.
    pub fn asks_for_existing_tags(&self) -> bool {
        self.asks_for("s3:existingobjecttag/")
    }

    /// Whether an answer can depend on how an object is encrypted.
    pub fn asks_for_encryption(&self) -> bool {
        self.asks_for("s3:x-amz-server-side-encryption")
    }

    fn asks_for(&self, start: &str) -> bool {
        let is_asked = |key: &str| key.starts_with(start);
        self.statements.iter().any(|statement| {
            statement.conditions.iter().any(|condition| condition.keys().any(is_asked))
                || statement.resources.list.iter().any(|glob| glob.keys().any(is_asked))
        })
    }
}

impl Statement {
    fn read(value: &Json, bucket: &str, variables: bool) -> Result<Statement, MalformedPolicy> {
        let Json::Object(members) = value else { return Err(refused(SYNTAX)) };
        let mut parts = Parts::default();
        for (name, value) in members {
            match name.as_str() {
                "Sid" => drop(text(value)?),
                "Effect" => {
                    parts.allows = Some(match text(value)? {
                        "Allow" => true,
                        "Deny" => false,
                        other => return Err(MalformedPolicy(format!("Invalid effect: {other}").into())),
                    });
                }
                "Principal" => parts.principals.set(false, value)?,
                "NotPrincipal" => parts.principals.set(true, value)?,
                "Action" => parts.actions.set(false, value)?,
                "NotAction" => parts.actions.set(true, value)?,
                "Resource" => parts.resources.set(false, value)?,
                "NotResource" => parts.resources.set(true, value)?,
                "Condition" => parts.conditions = read_conditions(value, variables)?,
                other => return Err(unknown_field(other)),
            }
        }
        parts.finish(bucket, variables)
    }

    fn speaks_of(&self, question: &Question<'_>) -> bool {
        self.actions.holds(question.action)
            && self.principals.matches(|principal| principal.matches(question.caller))
            && self.resources.matches(|glob| glob.matches(question.resource, question.facts))
            && self.conditions.iter().all(|condition| condition.holds(question.facts))
    }
}

impl<T> Matching<T> {
    fn matches(&self, is: impl Fn(&T) -> bool) -> bool {
        self.list.iter().any(is) != self.inverted
    }
}

/// The members of a statement as they are met.
#[derive(Default)]
struct Parts<'j> {
    allows: Option<bool>,
    principals: OneOf<'j>,
    actions: OneOf<'j>,
    resources: OneOf<'j>,
    conditions: Vec<Condition>,
}

/// A member that stands as itself or as its `Not` form, but not as both.
#[derive(Default)]
struct OneOf<'j>(Option<(bool, &'j Json)>);

impl<'j> OneOf<'j> {
    fn set(&mut self, inverted: bool, value: &'j Json) -> Result<(), MalformedPolicy> {
        if self.0.is_some() {
            return Err(refused(SYNTAX));
        }
        self.0 = Some((inverted, value));
        Ok(())
    }

    fn get(&self, name: &'static str) -> Result<(bool, &'j Json), MalformedPolicy> {
        self.0.ok_or_else(|| missing(name))
    }
}

impl Parts<'_> {
    fn finish(self, bucket: &str, variables: bool) -> Result<Statement, MalformedPolicy> {
        let (not_principal, principals) = self.principals.get("Principal")?;
        let allows = self.allows.ok_or_else(|| missing("Effect"))?;
        let (not_action, actions) = self.actions.get("Action")?;
        let (not_resource, resources) = self.resources.get("Resource")?;
        if allows && not_principal {
            return Err(refused("Allow with NotPrincipal is not allowed."));
        }
        let principals = principal::read(principals).map_err(|_| refused("Invalid principal in policy"))?;
        let resources = texts(resources)?
            .iter()
            .map(|arn| read_resource(arn, bucket, variables))
            .collect::<Result<Vec<Glob>, _>>()?;
        let sets = read_actions(actions)?;
        if !not_action && !not_resource && !sets.iter().all(|set| applies(*set, &resources, bucket)) {
            return Err(refused("Action does not apply to any resource(s) in statement"));
        }
        let actions = sets.into_iter().fold(ActionSet::default(), ActionSet::with);
        Ok(Statement {
            allows,
            principals: Matching { inverted: not_principal, list: principals },
            actions: if not_action { actions.inverted() } else { actions },
            resources: Matching { inverted: not_resource, list: resources },
            conditions: self.conditions,
        })
    }
}

fn read_actions(value: &Json) -> Result<Vec<ActionSet>, MalformedPolicy> {
    texts(value)?
        .iter()
        .map(|pattern| match ActionSet::named(pattern) {
            set if set.is_empty() => Err(refused("Policy has invalid action")),
            set => Ok(set),
        })
        .collect()
}

/// The part after `arn:aws:s3:::`, of this bucket.
fn read_resource(arn: &str, bucket: &str, variables: bool) -> Result<Glob, MalformedPolicy> {
    let invalid = || refused("Policy has invalid resource");
    let name = if arn == "*" { "*" } else { arn.strip_prefix("arn:aws:s3:::").ok_or_else(invalid)? };
    let of_bucket = name.split_once('/').map_or(name, |(of_bucket, _)| of_bucket);
    if !Glob::wildcards(of_bucket).matches_text(bucket) {
        return Err(invalid());
    }
    Ok(Glob::new(name, Syntax { wildcards: true, variables }))
}

/// Whether one of the actions can be asked of one of the resources.
fn applies(actions: ActionSet, resources: &[Glob], bucket: &str) -> bool {
    resources.iter().any(|glob| {
        let of_bucket = glob.matches_text(bucket);
        let of_object = !of_bucket || glob.has_many();
        of_bucket && actions.any_of(Target::Bucket) || of_object && actions.any_of(Target::Object)
    })
}

fn read_conditions(value: &Json, variables: bool) -> Result<Vec<Condition>, MalformedPolicy> {
    let Json::Object(operators) = value else { return Err(refused(SYNTAX)) };
    let mut conditions = Vec::new();
    for (operator, keys) in operators {
        let Json::Object(keys) = keys else { return Err(refused(SYNTAX)) };
        for (key, values) in keys {
            let values: Vec<String> = match values {
                Json::Scalar(value) => vec![value.clone()],
                Json::List(_) => texts(values)?.into_iter().map(str::to_owned).collect(),
                Json::Null | Json::Object(_) => return Err(refused(SYNTAX)),
            };
            conditions.push(Condition::read(operator, key, &values, variables).map_err(|why| match why {
                InvalidCondition::Operator => {
                    MalformedPolicy(format!("Invalid Condition type : {operator}").into())
                }
                InvalidCondition::Key => {
                    MalformedPolicy(format!("Policy has an invalid condition key - {key}").into())
                }
                InvalidCondition::Value => refused(SYNTAX),
            })?);
        }
    }
    Ok(conditions)
}

/// One text, or a list of at least one.
fn texts(value: &Json) -> Result<Vec<&str>, MalformedPolicy> {
    match value {
        Json::Scalar(one) => Ok(vec![one]),
        Json::List(list) if !list.is_empty() => list.iter().map(text).collect(),
        _ => Err(refused(SYNTAX)),
    }
}

fn text(value: &Json) -> Result<&str, MalformedPolicy> {
    match value {
        Json::Scalar(text) => Ok(text),
        _ => Err(refused(SYNTAX)),
    }
}

const SYNTAX: &str = "Invalid policy syntax.";

fn refused(message: &'static str) -> MalformedPolicy {
    MalformedPolicy(message.into())
}

fn missing(field: &str) -> MalformedPolicy {
    MalformedPolicy(format!("Missing required field {field}").into())
}

fn unknown_field(field: &str) -> MalformedPolicy {
    MalformedPolicy(format!("Unknown field {field}").into())
}
