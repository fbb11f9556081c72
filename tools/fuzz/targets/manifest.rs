//! Fuzzes the manifest of metadata runs.
//! Invariants: see the function that is entered.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fdb_schema::engine::embedded::tree::fuzz::manifest(bytes));
