//! How the memory of `--memory` is divided.
//! Invariants: the parts sum to at most the whole; nothing here depends on load or on the size of objects.
//! Not here: what each part does with its share.

use shardstore::StoreOptions;
use shardstore_reactor::BufPool;

use crate::http::AcceptLimits;
use crate::ops::AdmissionLimits;

/// The shares, in sixteenths of the whole: page cache 6, requests in flight 5, memtables 3 (three tables of 1), and 2
/// left for connections, run indexes and code.
const CACHE_SHARE: u64 = 6;
const REQUESTS_SHARE: u64 = 5;
const SHARES: u64 = 16;
/// Two flushes' worth of packed appends of a core, beside what admission counts (see `shardstore::options`).
const APPENDS_PER_CORE_BYTES: u64 = 8 * 1024 * 1024;
/// Engines' own limit of a memtable.
const MEMTABLE_MAX_BYTES: u64 = 192 * 1024 * 1024;
/// Requests of a core at once: far above what a core serves in a second's queue of slow clients, and 16,384 x 64 KiB
/// of heads and rows is what the memory limit below refuses first.
const REQUESTS_MAX: u32 = 16_384;
/// A connection that is idle holds about 4 KiB; at most a sixteenth of the memory goes there.
const CONNECTION_BYTES: u64 = 4 * 1024;
/// An idle connection over TLS: rustls keeps 4 KiB of input buffer and about 5 KiB of session and keys.
const TLS_CONNECTION_BYTES: u64 = 4 * CONNECTION_BYTES;
/// Records of access logs that wait: 15,000 or so, seconds of a core that does nothing but small reads.
const ACCESS_LOG_PER_CORE_BYTES: u64 = 8 << 20;

/// The division of one process's memory.
#[derive(Clone)]
pub(super) struct Budget {
    bufs: BufPool,
    cache_bytes: u64,
    requests_bytes_per_core: u64,
    access_log_bytes_per_core: u64,
    connections_per_core: u64,
    cores: usize,
    /// At which a memtable is frozen.
    pub(super) memtable_bytes: usize,
}

/// Threads beside the cores that read through the store: the metadata thread and the keeper of the drives.
const EXTRA_THREADS: usize = 2;

impl Budget {
    /// Divides `memory_bytes` among `cores`.
    pub(super) fn new(memory_bytes: u64, cores: usize) -> Budget {
        let share = memory_bytes / SHARES;
        let cache_bytes = share * CACHE_SHARE;
        let requests_bytes = share * REQUESTS_SHARE;
        let per_core = requests_bytes / cores as u64;
        let appends_bytes = APPENDS_PER_CORE_BYTES.min(per_core / 4);
        let access_log_bytes = ACCESS_LOG_PER_CORE_BYTES.min(per_core / 16);
        Budget {
            bufs: BufPool::new(in_memory(cache_bytes + requests_bytes - access_log_bytes * cores as u64)),
            access_log_bytes_per_core: access_log_bytes,
            cache_bytes,
            requests_bytes_per_core: per_core - appends_bytes - access_log_bytes,
            connections_per_core: (share / CONNECTION_BYTES / cores as u64).max(16),
            cores,
            memtable_bytes: in_memory(share.min(MEMTABLE_MAX_BYTES)),
        }
    }

    /// The aligned buffers of the process.
    pub(super) fn bufs(&self) -> BufPool {
        self.bufs.clone()
    }

    /// For the store: one more core than serve, for the metadata thread.
    pub(super) fn store_options(&self) -> StoreOptions {
        StoreOptions::new(self.bufs.clone(), self.cache_bytes, self.cores + EXTRA_THREADS)
    }

    /// For one core's requests.
    pub(super) fn admission(&self) -> AdmissionLimits {
        AdmissionLimits { requests_max: REQUESTS_MAX, memory_bytes: self.requests_bytes_per_core }
    }

    /// For the records of one core's access log that wait.
    pub(super) fn access_log_bytes(&self) -> usize {
        in_memory(self.access_log_bytes_per_core)
    }

    /// For one core's listeners: a connection of TLS is four times one without.
    pub(super) fn accept(&self, is_tls: bool) -> AcceptLimits {
        let parts = if is_tls { TLS_CONNECTION_BYTES / CONNECTION_BYTES } else { 1 };
        let connections_max = in_memory((self.connections_per_core / parts).max(16));
        AcceptLimits { connections_max, ..AcceptLimits::default() }
    }
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("sizes in memory fit 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_exceed_the_whole() {
        for memory_bytes in [192 << 20, 1 << 30, 64 << 30] {
            for cores in [1, 2, 64] {
                let budget = Budget::new(memory_bytes, cores);
                let requests = budget.requests_bytes_per_core * cores as u64;
                let connections = budget.connections_per_core * cores as u64 * CONNECTION_BYTES;
                let logs = budget.access_log_bytes_per_core * cores as u64;
                let memtables = 3 * budget.memtable_bytes as u64;
                assert!(requests + budget.cache_bytes <= budget.bufs.budget_bytes() as u64);
                assert!(
                    budget.bufs.budget_bytes() as u64 + memtables + connections + logs <= memory_bytes,
                    "{cores} cores"
                );
            }
        }
    }
}
