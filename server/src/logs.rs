//! Structured log lines: to stderr, and the last of them kept for a support bundle.
//! Invariants: a line goes to stderr whatever becomes of the copy; at most `LINES_MAX` lines of `LINE_MAX_BYTES` are
//! kept; lines about single requests are not, since their paths are the users' and may be presigned.
//! Not here: what is logged.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines kept: some days of a quiet server, minutes of a troubled one. With [`LINE_MAX_BYTES`] 4 MiB at most.
const LINES_MAX: usize = 512;
/// Longest line kept; what is over is cut off. A path of 1,024 escaped bytes and its error take half of it.
const LINE_MAX_BYTES: usize = 8192;
/// The target of the lines about single requests.
const ACCESS_TARGET: &str = "access";

static LAST_LINES: LazyLock<LastLines> = LazyLock::new(|| LastLines::new(LINES_MAX));

/// Sends structured lines to stderr and keeps the last; `BASALT_LOG` filters them, such as `info,access=debug`, else
/// `default` does.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env("BASALT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(Tee { lines: &LAST_LINES })
        .init();
}

/// The last lines, oldest first, each with its end of line.
pub(crate) fn last_lines() -> Vec<u8> {
    LAST_LINES.read()
}

/// One line and its place among all.
struct Line {
    number: u64,
    text: Vec<u8>,
}

/// A ring of lines that any thread writes and reads without waiting.
struct LastLines {
    slots: Vec<ArcSwapOption<Line>>,
    next: AtomicU64,
}

impl LastLines {
    fn new(lines_max: usize) -> LastLines {
        let slots = std::iter::repeat_with(|| ArcSwapOption::from(None)).take(lines_max).collect();
        LastLines { slots, next: AtomicU64::new(0) }
    }

    fn keep(&self, line: &[u8]) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = line.get(..LINE_MAX_BYTES).unwrap_or(line).to_vec();
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        let slots = u64::try_from(self.slots.len()).expect("usize fits");
        let at = usize::try_from(number % slots).expect("below a usize");
        self.slots[at].store(Some(Line { number, text }.into()));
    }

    fn read(&self) -> Vec<u8> {
        let mut lines: Vec<_> = self.slots.iter().filter_map(ArcSwapOption::load_full).collect();
        lines.sort_by_key(|line| line.number);
        lines.iter().flat_map(|line| line.text.iter().copied()).collect()
    }
}

/// Writes to stderr and keeps what may be kept.
struct Tee {
    lines: &'static LastLines,
}

/// The way of one event.
struct TeeWriter {
    kept_in: Option<&'static LastLines>,
}

impl<'w> MakeWriter<'w> for Tee {
    type Writer = TeeWriter;

    fn make_writer(&'w self) -> TeeWriter {
        TeeWriter { kept_in: Some(self.lines) }
    }

    fn make_writer_for(&'w self, meta: &Metadata<'_>) -> TeeWriter {
        TeeWriter { kept_in: (meta.target() != ACCESS_TARGET).then_some(self.lines) }
    }
}

impl Write for TeeWriter {
    // The subscriber hands over one whole line a call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(lines) = self.kept_in {
            lines.keep(line);
        }
        // A stderr that is gone or full is no reason to fail; the copy above is the only one then.
        drop(io::stderr().write_all(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_in_order_and_the_older_ones_are_not() {
        let lines = LastLines::new(3);
        for line in ["one\n", "two\n", "three\n", "four"] {
            lines.keep(line.as_bytes());
        }
        assert_eq!(lines.read(), b"two\nthree\nfour\n");
    }

    #[test]
    fn a_long_line_is_cut_and_still_ends() {
        let lines = LastLines::new(2);
        lines.keep(&[b'x'; LINE_MAX_BYTES * 2]);
        let kept = lines.read();
        assert_eq!(kept.len(), LINE_MAX_BYTES + 1);
        assert_eq!(kept.last(), Some(&b'\n'));
    }
}
