//! Fuzzes records of the metadata log.
//! Invariants: see the function that is entered.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fdb_schema::engine::embedded::log::fuzz::record(bytes));
