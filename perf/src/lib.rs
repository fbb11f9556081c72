//! Micro-benchmarks and their record.
#![forbid(unsafe_code)]
