//! Micro-benchmarks and their record.
