//! Fuzzes keys of metadata rows.
//! Invariants: see the function that is entered.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fdb_schema::schema::fuzz::key(bytes));
