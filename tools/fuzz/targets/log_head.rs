//! Fuzzes heads and names of log files.
//! Invariants: see the function that is entered.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fdb_schema::engine::embedded::log::fuzz::head(bytes));
