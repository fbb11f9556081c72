//! basaltctl: the operator's command line, and the checks of the tree.
