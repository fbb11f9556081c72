//! Ids, addresses and on-disk codecs of Basalt: no I/O.
