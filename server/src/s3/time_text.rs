//! Times as S3 writes and reads them.
//! Invariants: parsing never panics; what cannot be read is `None`.
//! Not here: clocks.

use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::{OffsetDateTime, UtcOffset};

/// `2009-10-12T17:50:30.000Z`.
pub fn iso_8601(unix_ms: u64) -> String {
    let at = at_ms(unix_ms);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

/// The date in UTC; 1970 for what no calendar has.
pub(super) fn at_ms(unix_ms: u64) -> OffsetDateTime {
    let nanos = i128::from(unix_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(unix_ms: u64) -> [u8; 29] {
    crate::http::format_http_date(unix_ms / 1000)
}

/// Seconds since 1970 of `20130524T000000Z`, the date of a signature.
pub fn parse_amz_date_s(text: &str) -> Option<u64> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let at = time::PrimitiveDateTime::parse(text, &format).ok()?.assume_utc();
    u64::try_from(at.unix_timestamp()).ok()
}

/// Seconds since 1970 of an HTTP or ISO 8601 date.
pub fn parse_date_s(text: &str) -> Option<u64> {
    let text = text.trim();
    let rfc2822 = || {
        let zone = text.strip_suffix("GMT").or_else(|| text.strip_suffix("UTC"))?;
        OffsetDateTime::parse(&format!("{zone}+0000"), &Rfc2822).ok()
    };
    let at = rfc2822()
        .or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok())
        .or_else(|| OffsetDateTime::parse(text, &Rfc2822).ok())?;
    u64::try_from(at.to_offset(UtcOffset::UTC).unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_the_forms_that_clients_send() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "1994-11-06T08:49:37Z",
            "1994-11-06T08:49:37.000Z",
        ] {
            assert_eq!(parse_date_s(text), Some(784_111_777), "{text}");
        }
        assert_eq!(parse_date_s("yesterday"), None);
        assert_eq!(parse_date_s("GMT"), None);
        assert_eq!(iso_8601(784_111_777_012), "1994-11-06T08:49:37.012Z");
        assert_eq!(&http_date(784_111_777_999), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
