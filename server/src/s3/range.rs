//! The `Range` header as S3 reads it.
//! Invariants: what is malformed or has several ranges is ignored; a satisfiable range is never empty and lies
//! within the object.
//! Not here: parts by number (`handlers::objects`).

use std::ops::Range;

/// A range asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `bytes=a-` or `bytes=a-b`, both inclusive.
    From(u64, Option<u64>),
    /// `bytes=-n`: the last n bytes.
    Suffix(u64),
}

/// No byte of the object is in the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsatisfiable;

impl RangeSpec {
    /// Reads the header; `None` means the whole object, as AWS serves several or malformed ranges.
    pub fn parse(header: &[u8]) -> Option<RangeSpec> {
        let text = std::str::from_utf8(header).ok()?.trim();
        let (unit, spec) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
            return None;
        }
        let (start, end) = spec.split_once('-')?;
        match (parse_position(start), parse_position(end)) {
            (Some(Position::None), Some(Position::At(length))) => Some(RangeSpec::Suffix(length)),
            (Some(Position::At(start)), Some(Position::None)) => Some(RangeSpec::From(start, None)),
            (Some(Position::At(start)), Some(Position::At(end))) if start <= end => {
                Some(RangeSpec::From(start, Some(end)))
            }
            _ => None,
        }
    }

    /// The bytes of an object of `size_bytes`.
    ///
    /// # Errors
    /// [`Unsatisfiable`]: answer 416.
    pub fn resolve(self, size_bytes: u64) -> Result<Range<u64>, Unsatisfiable> {
        match self {
            RangeSpec::From(start, _) if start >= size_bytes => Err(Unsatisfiable),
            RangeSpec::From(start, end) => {
                Ok(start..end.map_or(size_bytes, |end| end.saturating_add(1).min(size_bytes)))
            }
            RangeSpec::Suffix(0) => Err(Unsatisfiable),
            RangeSpec::Suffix(_) if size_bytes == 0 => Err(Unsatisfiable),
            RangeSpec::Suffix(length) => Ok(size_bytes.saturating_sub(length)..size_bytes),
        }
    }
}

enum Position {
    None,
    At(u64),
}

/// Digits or nothing; a number over 64 bits is as good as the largest.
fn parse_position(text: &str) -> Option<Position> {
    if text.is_empty() {
        return Some(Position::None);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Position::At(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str, size_bytes: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
        RangeSpec::parse(header.as_bytes()).map(|spec| spec.resolve(size_bytes))
    }

    #[test]
    fn ranges_are_clipped_to_the_object() {
        assert_eq!(read("bytes=0-9", 10), Some(Ok(0..10)));
        assert_eq!(read("bytes=9-9", 10), Some(Ok(9..10)));
        assert_eq!(read("bytes=5-", 10), Some(Ok(5..10)));
        assert_eq!(read("bytes=5-99999999999999999999999", 10), Some(Ok(5..10)));
        assert_eq!(read("bytes=-3", 10), Some(Ok(7..10)));
        assert_eq!(read("bytes=-30", 10), Some(Ok(0..10)));
        assert_eq!(read("BYTES=0-0", 10), Some(Ok(0..1)));
    }

    #[test]
    fn ranges_without_a_byte_of_the_object_are_unsatisfiable() {
        for (header, size) in
            [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-0", 0), ("bytes=-5", 0)]
        {
            assert_eq!(read(header, size), Some(Err(Unsatisfiable)), "{header} of {size}");
        }
    }

    #[test]
    fn malformed_and_several_ranges_are_ignored() {
        for header in [
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes 0-1",
            "items=0-1",
            "bytes=0-1,3-4",
            "",
            "bytes=+1-2",
        ] {
            assert_eq!(read(header, 10), None, "{header}");
        }
    }
}
