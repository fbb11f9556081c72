//! Erasure-coded volumes on drives: write, read, recover, reclaim.
