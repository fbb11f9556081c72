//! Who a statement speaks of.
//! Invariants: `*` is everyone, anonymous too; a principal of AWS that cannot exist here (a role, a
//! federation) is accepted and is nobody, and so is a service that nothing here acts as; a wildcard is never part of a name.
//! Not here: accounts and keys (`auth`).

use super::json::Json;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'c> {
    /// No one said.
    Anonymous,
    /// A part of the server, by the name of AWS's service that does the same.
    Service(&'static str),
    /// An account: every user is one of its own.
    Account {
        /// Its canonical id.
        id: &'c str,
        /// Its name.
        name: &'c str,
        /// Whether it is the deployment's administrator.
        is_root: bool,
    },
}

/// One principal of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Principal {
    Everyone,
    /// By canonical id: an account and its root are the same.
    Account(String),
    /// By name; with the account's id if the ARN had one.
    User {
        account: Option<String>,
        name: String,
    },
    Service(String),
    Nobody,
}

impl Principal {
    pub(super) fn matches(&self, caller: Caller<'_>) -> bool {
        match (self, caller) {
            (Principal::Everyone, _) => true,
            (Principal::Nobody, _) | (_, Caller::Anonymous) => false,
            (Principal::Service(wanted), Caller::Service(name)) => wanted == name,
            (Principal::Service(_), _) | (_, Caller::Service(_)) => false,
            (Principal::Account(wanted), Caller::Account { id, .. }) => wanted == id,
            (Principal::User { account, name: wanted }, Caller::Account { id, name, is_root }) => {
                !is_root && wanted == name && account.as_deref().is_none_or(|account| account == id)
            }
        }
    }
}

/// What is no principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidPrincipal;

/// Reads the value of `Principal` or `NotPrincipal`.
pub(super) fn read(value: &Json) -> Result<Vec<Principal>, InvalidPrincipal> {
    let entries = match value {
        Json::Scalar(text) if text == "*" => return Ok(vec![Principal::Everyone]),
        Json::Object(entries) if !entries.is_empty() => entries,
        _ => return Err(InvalidPrincipal),
    };
    let mut principals = Vec::new();
    for (kind, names) in entries {
        let names = match names {
            Json::Scalar(name) => std::slice::from_ref(name).to_vec(),
            Json::List(list) if !list.is_empty() => list
                .iter()
                .map(|item| match item {
                    Json::Scalar(name) => Ok(name.clone()),
                    _ => Err(InvalidPrincipal),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(InvalidPrincipal),
        };
        for name in names {
            principals.push(match kind.as_str() {
                "AWS" => aws(&name)?,
                "CanonicalUser" if name == "*" => Principal::Everyone,
                "CanonicalUser" if is_word(&name) => Principal::Account(name),
                "Service" if !name.is_empty() => Principal::Service(name),
                "Federated" if !name.is_empty() => Principal::Nobody,
                _ => return Err(InvalidPrincipal),
            });
        }
    }
    Ok(principals)
}

/// `*`, an account, or an ARN.
fn aws(name: &str) -> Result<Principal, InvalidPrincipal> {
    if name == "*" {
        return Ok(Principal::Everyone);
    }
    let Some(arn) = name.strip_prefix("arn:") else {
        return if is_word(name) { Ok(Principal::Account(name.to_owned())) } else { Err(InvalidPrincipal) };
    };
    let mut parts = arn.splitn(5, ':');
    let (Some(_partition), Some(service), Some(_region), Some(account), Some(resource)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(InvalidPrincipal);
    };
    if !(account.is_empty() || is_word(account)) || resource.contains(['*', '?']) {
        return Err(InvalidPrincipal);
    }
    match (service, resource) {
        ("iam", "root") if !account.is_empty() => Ok(Principal::Account(account.to_owned())),
        ("iam", _) => match resource.split_once('/') {
            Some(("user", name)) if !name.is_empty() => Ok(Principal::User {
                account: (!account.is_empty()).then(|| account.to_owned()),
                name: name.to_owned(),
            }),
            Some(("role" | "group", name)) if !name.is_empty() => Ok(Principal::Nobody),
            _ => Err(InvalidPrincipal),
        },
        ("sts", _) if !resource.is_empty() => Ok(Principal::Nobody),
        _ => Err(InvalidPrincipal),
    }
}

/// A number, an id or a name.
fn is_word(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'$');
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(text: &str) -> Result<Vec<Principal>, InvalidPrincipal> {
        read(&serde_json::from_str(text).unwrap())
    }

    fn speaks_of(text: &str, caller: Caller<'_>) -> bool {
        of(text).unwrap().iter().any(|principal| principal.matches(caller))
    }

    #[test]
    fn accounts_are_named_by_id_root_or_user() {
        let id = "ab".repeat(32);
        let anna = Caller::Account { id: &id, name: "anna", is_root: false };
        for text in [
            "\"*\"".to_owned(),
            "{\"AWS\":\"*\"}".to_owned(),
            format!("{{\"AWS\":\"{id}\"}}"),
            format!("{{\"AWS\":[\"arn:aws:iam::{id}:root\"]}}"),
            format!("{{\"AWS\":\"arn:aws:iam::{id}:user/anna\"}}"),
            "{\"AWS\":\"arn:aws:iam:::user/anna\"}".to_owned(),
            format!("{{\"CanonicalUser\":\"{id}\"}}"),
        ] {
            assert!(speaks_of(&text, anna), "{text}");
        }
        for text in [
            "{\"AWS\":\"arn:aws:iam:::user/ben\"}",
            "{\"AWS\":\"arn:aws:iam::111122223333:user/anna\"}",
            "{\"AWS\":\"111122223333\"}",
            "{\"AWS\":\"arn:aws:iam::111122223333:role/anna\"}",
            "{\"Service\":\"logging.s3.amazonaws.com\"}",
            "{\"Federated\":\"accounts.example.com\"}",
        ] {
            assert!(!speaks_of(text, anna), "{text}");
        }
        assert!(speaks_of("\"*\"", Caller::Anonymous));
        assert!(!speaks_of("{\"AWS\":\"arn:aws:iam:::user/anna\"}", Caller::Anonymous));
    }

    #[test]
    fn a_service_is_named_by_its_name_or_as_everyone_and_by_nothing_else() {
        let logging = Caller::Service("logging.s3.amazonaws.com");
        for text in
            ["\"*\"", "{\"AWS\":\"*\"}", "{\"Service\":[\"a.amazonaws.com\",\"logging.s3.amazonaws.com\"]}"]
        {
            assert!(speaks_of(text, logging), "{text}");
        }
        for text in [
            "{\"Service\":\"logging.s3.amazonaws.com.example\"}",
            "{\"Service\":\"*\"}",
            "{\"AWS\":\"logging.s3.amazonaws.com\"}",
            "{\"AWS\":\"arn:aws:iam:::user/logging.s3.amazonaws.com\"}",
        ] {
            assert!(!speaks_of(text, logging), "{text}");
        }
        assert!(!speaks_of("{\"Service\":\"logging.s3.amazonaws.com\"}", Caller::Anonymous));
    }

    #[test]
    fn what_names_no_one_is_refused() {
        for text in [
            "\"anna\"",
            "{}",
            "[]",
            "null",
            "{\"AWS\":[]}",
            "{\"AWS\":{}}",
            "{\"AWS\":\"\"}",
            "{\"AWS\":\"arn:aws:iam::*:user/anna\"}",
            "{\"AWS\":\"arn:aws:iam::1:user/*\"}",
            "{\"AWS\":\"arn:aws:iam::1\"}",
            "{\"AWS\":\"arn:aws:s3:::bucket\"}",
            "{\"Other\":\"x\"}",
        ] {
            assert_eq!(of(text), Err(InvalidPrincipal), "{text}");
        }
    }
}
