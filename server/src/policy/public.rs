//! Whether a statement makes a bucket public, by AWS's definition.
//! Invariants: a statement is public unless it provably grants to fixed values only: a doubt counts as public.
//! Not here: what follows from it (`s3::authorize`).

use super::condition::{Condition, Over, Test, Wanted};
use super::document::Statement;
use super::glob::Glob;
use super::network::Network;
use super::principal::Principal;

/// Keys whose fixed values name who may come: "The meaning of public" in AWS's guide.
const NAMING_KEYS: &[&str] = &[
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceorgid",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "aws:username",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
];

pub(super) fn is_public(statement: &Statement) -> bool {
    statement.allows
        && (statement.principals.inverted || statement.principals.list.contains(&Principal::Everyone))
        && !statement.conditions.iter().any(names_who)
}

/// Whether a condition holds for named callers only.
fn names_who(condition: &Condition) -> bool {
    let Test::Like { negated: false, wanted } = &condition.test else { return false };
    if condition.if_exists || condition.over == Over::All || !NAMING_KEYS.contains(&condition.key.as_str()) {
        return false;
    }
    match wanted {
        Wanted::Texts(globs) | Wanted::TextsIgnoringCase(globs) => globs.iter().all(Glob::is_fixed),
        Wanted::Arns(arns) => arns.iter().flatten().all(Glob::is_fixed),
        Wanted::Networks(networks) => !networks.iter().any(Network::is_wide),
        Wanted::Numbers(..) | Wanted::Dates(..) | Wanted::Flags(_) | Wanted::Bytes(_) => false,
    }
}
