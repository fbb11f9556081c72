//! The keyspace, its transactions and the metadata engines.
