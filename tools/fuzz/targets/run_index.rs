//! Fuzzes the index of a metadata run.
//! Invariants: see the function that is entered.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fdb_schema::engine::embedded::tree::fuzz::index(bytes));
