//! Seeded drives, clock and executor in memory, with faults.
