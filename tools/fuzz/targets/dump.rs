//! Fuzzes the reader of metadata dumps. The entry point says what holds.
#![no_main]

use server::ops::dump::fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::dump(bytes));
