//! Aligned buffers for direct I/O, and the bounded pool that they come from.
//! Invariants: a buffer's memory starts on a sector boundary and its capacity is whole sectors; the pool never
//! owns more memory, handed out and kept for reuse together, than its budget; a dropped buffer's memory is reused,
//! on whichever core it is dropped.
//! Not here: what the bytes mean.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

/// The unit of direct I/O.
pub const SECTOR_BYTES: usize = 4096;

/// Free buffers kept per size class: 4,096 x 64 KiB is 256 MiB, and the budget bounds them all together. The list
/// of slots itself is 9 classes x 4,096 x 24 bytes, 864 KiB.
const FREE_BUFS_PER_CLASS: usize = 4096;
/// Capacities of the classes: 4, 8, 16, 32, 64, 128, 256, 512 KiB and 1 MiB.
const CLASS_COUNT: usize = 9;

/// The pool's budget is spent: answer `SlowDown`, or wait for buffers to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolExhausted;

impl std::fmt::Display for PoolExhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the buffer budget is spent")
    }
}

impl std::error::Error for PoolExhausted {}

struct PoolShared {
    free: Vec<ArrayQueue<RawBuf>>,
    budget_bytes: usize,
    /// Memory of the pool: handed out and kept.
    owned_bytes: AtomicUsize,
    /// Memory handed out.
    taken_bytes: AtomicUsize,
}

impl PoolShared {
    /// Counts `cap_bytes` of new memory; gives up kept buffers of other sizes if it must.
    fn reserve(&self, cap_bytes: usize) -> Result<(), PoolExhausted> {
        loop {
            let fits = |owned: usize| owned.checked_add(cap_bytes).filter(|&sum| sum <= self.budget_bytes);
            if self.owned_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
                return Ok(());
            }
            if cap_bytes > self.budget_bytes || !self.free_one() {
                return Err(PoolExhausted);
            }
        }
    }

    /// Gives one kept buffer, of the largest size there is, back to the system.
    fn free_one(&self) -> bool {
        let Some(raw) = self.free.iter().rev().find_map(ArrayQueue::pop) else { return false };
        self.release(raw);
        true
    }

    fn release(&self, raw: RawBuf) {
        let before = self.owned_bytes.fetch_sub(raw.cap_bytes, Ordering::Relaxed);
        assert!(before >= raw.cap_bytes);
    }
}

/// A process-wide pool of aligned buffers with a byte budget. Clones share it.
#[derive(Clone)]
pub struct BufPool {
    shared: Arc<PoolShared>,
}

impl BufPool {
    /// A pool that never owns more than `budget_bytes`.
    pub fn new(budget_bytes: usize) -> BufPool {
        let free = (0..CLASS_COUNT).map(|_| ArrayQueue::new(FREE_BUFS_PER_CLASS)).collect();
        BufPool {
            shared: Arc::new(PoolShared {
                free,
                budget_bytes,
                owned_bytes: AtomicUsize::new(0),
                taken_bytes: AtomicUsize::new(0),
            }),
        }
    }

    /// A buffer of `len_bytes`, rounded up to its class in capacity. Its bytes are initialised but arbitrary.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the budget does not hold it.
    pub fn take(&self, len_bytes: usize) -> Result<AlignedBuf, PoolExhausted> {
        let class = class_of(len_bytes);
        let cap_bytes = class.map_or(len_bytes.next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES), class_bytes);
        let raw = match class.and_then(|class| self.shared.free[class].pop()) {
            Some(raw) => raw,
            None => {
                self.shared.reserve(cap_bytes)?;
                RawBuf::allocate(cap_bytes)
            }
        };
        self.shared.taken_bytes.fetch_add(cap_bytes, Ordering::Relaxed);
        Ok(AlignedBuf { raw: Some(raw), len_bytes, pool: Some(Arc::clone(&self.shared)) })
    }

    /// Bytes handed out now.
    pub fn taken_bytes(&self) -> usize {
        self.shared.taken_bytes.load(Ordering::Relaxed)
    }

    /// Memory that the pool holds now, handed out or kept for reuse.
    pub fn owned_bytes(&self) -> usize {
        self.shared.owned_bytes.load(Ordering::Relaxed)
    }

    /// The most that the pool may hold.
    pub fn budget_bytes(&self) -> usize {
        self.shared.budget_bytes
    }
}

fn class_of(len_bytes: usize) -> Option<usize> {
    let sectors = len_bytes.div_ceil(SECTOR_BYTES).max(1).checked_next_power_of_two()?;
    let class = sectors.trailing_zeros() as usize;
    (class < CLASS_COUNT).then_some(class)
}

const fn class_bytes(class: usize) -> usize {
    SECTOR_BYTES << class
}

/// Owned memory on a sector boundary; `cap_bytes` initialised bytes.
struct RawBuf {
    ptr: NonNull<u8>,
    cap_bytes: usize,
}

// SAFETY: a RawBuf owns its memory alone and has no tie to the thread that allocated it.
unsafe impl Send for RawBuf {}
// SAFETY: a shared RawBuf gives out only shared slices (see AlignedBuf's Deref).
unsafe impl Sync for RawBuf {}

impl RawBuf {
    fn layout(cap_bytes: usize) -> Layout {
        Layout::from_size_align(cap_bytes, SECTOR_BYTES).expect("capacities are small whole sectors")
    }

    fn allocate(cap_bytes: usize) -> RawBuf {
        assert!(cap_bytes >= SECTOR_BYTES);
        assert!(cap_bytes.is_multiple_of(SECTOR_BYTES));
        let layout = RawBuf::layout(cap_bytes);
        // SAFETY: the layout's size is not zero (asserted above).
        let ptr = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { std::alloc::handle_alloc_error(layout) };
        RawBuf { ptr, cap_bytes }
    }
}

impl Drop for RawBuf {
    fn drop(&mut self) {
        // SAFETY: `ptr` came from `alloc_zeroed` with this very layout and is freed once, here.
        unsafe { std::alloc::dealloc(self.ptr.as_ptr(), RawBuf::layout(self.cap_bytes)) }
    }
}

/// A buffer that direct I/O accepts. Returns to its pool when dropped.
pub struct AlignedBuf {
    raw: Option<RawBuf>,
    len_bytes: usize,
    pool: Option<Arc<PoolShared>>,
}

impl AlignedBuf {
    /// A zeroed buffer outside any pool, for start-up and tests.
    pub fn zeroed(len_bytes: usize) -> AlignedBuf {
        let cap_bytes = len_bytes.next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES);
        AlignedBuf { raw: Some(RawBuf::allocate(cap_bytes)), len_bytes, pool: None }
    }

    /// Bytes that the buffer can hold.
    pub fn capacity_bytes(&self) -> usize {
        self.raw().cap_bytes
    }

    /// Shortens or lengthens the buffer within its capacity; bytes newly inside keep whatever they held.
    pub fn set_len(&mut self, len_bytes: usize) {
        assert!(len_bytes <= self.capacity_bytes());
        self.len_bytes = len_bytes;
    }

    fn raw(&self) -> &RawBuf {
        self.raw.as_ref().expect("raw is taken only in drop")
    }
}

impl std::ops::Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: `ptr` owns `cap_bytes` initialised bytes and `len_bytes <= cap_bytes` (set_len asserts it).
        unsafe { std::slice::from_raw_parts(raw.ptr.as_ptr(), self.len_bytes) }
    }
}

impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len_bytes = self.len_bytes;
        let ptr = self.raw().ptr.as_ptr();
        // SAFETY: as in `deref`, and `&mut self` makes the borrow unique.
        unsafe { std::slice::from_raw_parts_mut(ptr, len_bytes) }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len_bytes, self.capacity_bytes())
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let Some(raw) = self.raw.take() else { return };
        let Some(pool) = self.pool.take() else { return };
        pool.taken_bytes.fetch_sub(raw.cap_bytes, Ordering::Relaxed);
        let class = class_of(raw.cap_bytes).filter(|&class| class_bytes(class) == raw.cap_bytes);
        // A size without a class, or a full list, gives the memory back to the system.
        let rejected = match class {
            Some(class) => pool.free[class].push(raw).err(),
            None => Some(raw),
        };
        if let Some(raw) = rejected {
            pool.release(raw);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_the_smallest_class_that_fits() {
        let pool = BufPool::new(64 << 20);
        for (len_bytes, cap_bytes) in [
            (0, 4096),
            (1, 4096),
            (4096, 4096),
            (4097, 8192),
            (65_472, 65_536),
            (1 << 20, 1 << 20),
            ((1 << 20) + 1, (1 << 20) + 4096),
        ] {
            let buf = pool.take(len_bytes).expect("the budget holds it");
            assert_eq!(buf.len(), len_bytes);
            assert_eq!(buf.capacity_bytes(), cap_bytes);
            assert!(buf.as_ptr().addr().is_multiple_of(SECTOR_BYTES));
        }
        assert_eq!(pool.taken_bytes(), 0);
    }

    #[test]
    fn the_budget_holds_for_memory_handed_out_and_kept_together() {
        let pool = BufPool::new(16 * 4096);
        let small: Vec<AlignedBuf> = (0..16).map(|_| pool.take(4096).expect("fits")).collect();
        assert_eq!(pool.take(1).expect_err("spent"), PoolExhausted);
        drop(small);
        assert_eq!((pool.taken_bytes(), pool.owned_bytes()), (0, 16 * 4096));
        // Kept small buffers give way to a large one.
        let large = pool.take(12 * 4096).expect("kept memory is given up");
        assert!(pool.owned_bytes() <= pool.budget_bytes());
        drop(large);
        assert!(pool.owned_bytes() <= pool.budget_bytes());
        assert!(pool.take(17 * 4096).is_err());
    }

    #[test]
    fn memory_is_reused_across_threads() {
        let pool = BufPool::new(1 << 20);
        let buf = pool.take(65_536).expect("fits");
        let address = buf.as_ptr().addr();
        std::thread::spawn(move || drop(buf)).join().expect("no panic");
        assert_eq!(pool.take(65_536).expect("fits").as_ptr().addr(), address);
    }

    #[test]
    fn many_threads_never_pass_the_budget() {
        let pool = BufPool::new(32 * 4096);
        let threads: Vec<_> = (0..4_u64)
            .map(|seed| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    let mut held = Vec::new();
                    for _ in 0..5_000 {
                        if let Ok(buf) = pool.take(rng.usize(1..40_000)) {
                            held.push(buf);
                        }
                        assert!(pool.owned_bytes() <= pool.budget_bytes());
                        if rng.bool() && !held.is_empty() {
                            drop(held.swap_remove(rng.usize(..held.len())));
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(pool.taken_bytes(), 0);
        assert!(pool.take(32 * 4096).is_ok());
    }

    #[test]
    fn lengths_stay_within_capacity_and_fresh_memory_is_zero() {
        let mut buf = AlignedBuf::zeroed(100);
        assert_eq!(buf.capacity_bytes(), 4096);
        buf.set_len(4096);
        assert!(buf.iter().all(|&byte| byte == 0));
    }
}
