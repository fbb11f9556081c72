//! Object lock in header fields: what a write asks for, what an answer shows.
//! Invariants: a mode never stands without its date, nor a date in the past; unknown words are refused.
//! Not here: documents (`xml`), what a lock forbids (`ops`).

use crate::http::{HeaderText, RequestHead};
use crate::ops::api::{ObjectLock, Retention, RetentionMode};
use crate::s3::error::{Code, S3Error};
use crate::s3::time_text::{iso_8601, parse_date_s};

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const LEGAL_HOLD: &str = "x-amz-object-lock-legal-hold";

/// The lock that a PUT, a copy or the start of an upload asks for.
///
/// # Errors
/// `InvalidArgument`.
pub fn asked_lock(head: &RequestHead, now_ms: u64) -> Result<ObjectLock, S3Error> {
    let legal_hold = head.header_str(LEGAL_HOLD).map(parse_hold).transpose()?;
    let retention = match (head.header_str(MODE), head.header_str(UNTIL)) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let mode = parse_mode(mode)
                .ok_or_else(|| S3Error::argument(MODE, mode, "Unknown wormMode directive."))?;
            Some(Retention { mode, until_ms: parse_until(until, now_ms)? })
        }
        _ => {
            return Err(S3Error::with_message(
                Code::InvalidArgument,
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            ));
        }
    };
    Ok(ObjectLock { retention, legal_hold })
}

fn parse_hold(text: &str) -> Result<bool, S3Error> {
    match text {
        "ON" => Ok(true),
        "OFF" => Ok(false),
        _ => Err(S3Error::argument(LEGAL_HOLD, text, "Legal Hold must be either of 'ON' or 'OFF'")),
    }
}

/// Reads `GOVERNANCE` or `COMPLIANCE`.
pub fn parse_mode(text: &str) -> Option<RetentionMode> {
    match text {
        "GOVERNANCE" => Some(RetentionMode::Governance),
        "COMPLIANCE" => Some(RetentionMode::Compliance),
        _ => None,
    }
}

/// The word for a mode.
pub fn mode_name(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => "GOVERNANCE",
        RetentionMode::Compliance => "COMPLIANCE",
    }
}

/// The word for a legal hold.
pub fn hold_name(is_held: bool) -> &'static str {
    if is_held { "ON" } else { "OFF" }
}

/// Reads a date that must be ahead.
///
/// # Errors
/// `InvalidArgument`.
pub fn parse_until(text: &str, now_ms: u64) -> Result<u64, S3Error> {
    let until_s = parse_date_s(text).ok_or_else(|| {
        S3Error::argument(UNTIL, text, "The retain until date must be provided in ISO 8601 format")
    })?;
    let until_ms = until_s.saturating_mul(1_000);
    if until_ms <= now_ms {
        return Err(S3Error::argument(UNTIL, text, "The retain until date must be in the future!"));
    }
    Ok(until_ms)
}

/// Adds a version's lock to a GET or HEAD.
pub fn push_lock(headers: &mut HeaderText, lock: &ObjectLock) {
    if let Some(retention) = lock.retention {
        headers.push(MODE, mode_name(retention.mode));
        headers.push(UNTIL, iso_8601(retention.until_ms));
    }
    if let Some(is_held) = lock.legal_hold {
        headers.push(LEGAL_HOLD, hold_name(is_held));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    const NOW_MS: u64 = 784_111_777_000;

    #[test]
    fn a_lock_in_headers_is_whole_known_and_ahead() {
        let asked = |fields: &str| asked_lock(&head("PUT /b/k", fields), NOW_MS);
        let mode = "x-amz-object-lock-mode: GOVERNANCE\r\n";
        let until = "x-amz-object-lock-retain-until-date: 1994-11-06T08:49:38Z\r\n";
        assert_eq!(asked(""), Ok(ObjectLock::NONE));
        let retention = Some(Retention { mode: RetentionMode::Governance, until_ms: NOW_MS + 1_000 });
        assert_eq!(asked(&format!("{mode}{until}")), Ok(ObjectLock { retention, legal_hold: None }));
        let held = asked("x-amz-object-lock-legal-hold: ON\r\n").unwrap();
        assert_eq!(held, ObjectLock { retention: None, legal_hold: Some(true) });
        for wrong in [
            mode.to_owned(),
            until.to_owned(),
            format!("x-amz-object-lock-mode: governance\r\n{until}"),
            format!("{mode}x-amz-object-lock-retain-until-date: tomorrow\r\n"),
            format!("{mode}x-amz-object-lock-retain-until-date: 1994-11-06T08:49:37Z\r\n"),
            "x-amz-object-lock-legal-hold: on\r\n".to_owned(),
        ] {
            assert_eq!(asked(&wrong).unwrap_err().code, Code::InvalidArgument, "{wrong}");
        }
    }
}
