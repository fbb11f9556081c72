//! The metadata log, replicated to the members of a term.
