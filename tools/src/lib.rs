//! basaltctl: the operator's command line, and the checks of the tree.

#![forbid(unsafe_code)]
