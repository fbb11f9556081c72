//! Aligned buffers for direct I/O, and the bounded pool that they come from.
//! Invariants: a buffer's memory starts on a sector boundary and its capacity is whole sectors; the pool never
//! hands out more bytes than its budget; a dropped buffer's memory is reused, on whichever core it is dropped.
//! Not here: what the bytes mean.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

/// The unit of direct I/O.
pub const SECTOR_BYTES: usize = 4096;

/// Free buffers kept per size class: 4,096 x 64 KiB is 256 MiB, and the budget bounds them all together.
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
    taken_bytes: AtomicUsize,
}

/// A process-wide pool of aligned buffers with a byte budget. Clones share it.
#[derive(Clone)]
pub struct BufPool {
    shared: Arc<PoolShared>,
}

impl BufPool {
    /// A pool that never has more than `budget_bytes` handed out at once.
    pub fn new(budget_bytes: usize) -> BufPool {
        let free = (0..CLASS_COUNT).map(|_| ArrayQueue::new(FREE_BUFS_PER_CLASS)).collect();
        BufPool { shared: Arc::new(PoolShared { free, budget_bytes, taken_bytes: AtomicUsize::new(0) }) }
    }

    /// A buffer of `len_bytes`, rounded up to its class in capacity. Its bytes are initialised but arbitrary.
    ///
    /// # Errors
    /// [`PoolExhausted`] when the budget does not hold it.
    pub fn take(&self, len_bytes: usize) -> Result<AlignedBuf, PoolExhausted> {
        let class = class_of(len_bytes);
        let cap_bytes = class.map_or(len_bytes.next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES), class_bytes);
        let before = self.shared.taken_bytes.fetch_add(cap_bytes, Ordering::Relaxed);
        if before + cap_bytes > self.shared.budget_bytes {
            self.shared.taken_bytes.fetch_sub(cap_bytes, Ordering::Relaxed);
            return Err(PoolExhausted);
        }
        let raw = class
            .and_then(|class| self.shared.free[class].pop())
            .unwrap_or_else(|| RawBuf::allocate(cap_bytes));
        Ok(AlignedBuf { raw: Some(raw), len_bytes, pool: Some(Arc::clone(&self.shared)) })
    }

    /// Bytes handed out now.
    pub fn taken_bytes(&self) -> usize {
        self.shared.taken_bytes.load(Ordering::Relaxed)
    }

    /// The most that may be handed out at once.
    pub fn budget_bytes(&self) -> usize {
        self.shared.budget_bytes
    }
}

fn class_of(len_bytes: usize) -> Option<usize> {
    (0..CLASS_COUNT).find(|&class| len_bytes <= class_bytes(class))
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
        if let Some(class) = class_of(raw.cap_bytes)
            && class_bytes(class) == raw.cap_bytes
        {
            // A full free list drops the memory: the pool keeps at most FREE_BUFS_PER_CLASS of a class.
            drop(pool.free[class].push(raw));
        }
    }
}
