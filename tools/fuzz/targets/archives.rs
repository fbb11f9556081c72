//! Fuzzes the archives that clients send to be unpacked or have read: tar by its stream, ZIP by its ranges.
//! Invariants: every range that a ZIP names lies within it; a tar reader that wants more has taken all it was given.
#![no_main]

use server::s3::{tar, zip};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    match first % 2 {
        0 => tar::fuzz(rest),
        _ => zip::fuzz(rest),
    }
});
