//! The contract that every `Drive` keeps: one suite for the simulated, the real and any later drive.
//! Invariants: it needs an empty drive with 64 MiB free and an executor that can run its operations; it panics
//! with the clause that was broken.
//! Not here: crashes and faults, which only the simulator can cause (`tests/crash.rs`).

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use shardstore_reactor::{
    AlignedBuf, BufPool, Drive, DriveFile, Executor, FenceReason, IoError, OpenMode, SECTOR_BYTES,
};

const SECTOR: u64 = SECTOR_BYTES as u64;
/// Room for every clause's buffers.
const POOL_BYTES: usize = 32 << 20;
/// More parts than one system call takes (IOV_MAX is 1,024).
const MANY_PARTS: usize = 1100;
/// More writes at once than a real drive lets into the kernel.
const MANY_WRITES: u64 = 300;
/// A file name that no clause creates.
const ABSENT: &str = "absent";

/// Checks every clause on an empty drive, which is left with files and unfenced.
pub async fn drive_contract<D: Drive, E: Executor>(drive: D, executor: E) {
    let contract = Contract { drive, executor, pool: BufPool::new(POOL_BYTES) };
    contract.written_bytes_are_read_back_by_any_handle().await;
    contract.a_write_may_have_more_parts_than_a_system_call().await;
    contract.many_writes_at_once_all_become_durable().await;
    contract.create_new_refuses_an_existing_file().await;
    contract.what_is_missing_is_not_found().await;
    contract.directories_are_made_with_their_parents_and_listed().await;
    contract.rename_replaces_and_old_handles_live_on().await;
    contract.reading_past_the_end_says_how_much_was_there().await;
    contract.punched_ranges_read_as_zeros().await;
    contract.allocation_grows_the_file_with_zeros().await;
    contract.a_full_drive_refuses_without_a_fence().await;
    contract.set_len_cuts_and_extends().await;
    contract.small_files_are_replaced_whole().await;
    contract.label_and_space_are_plausible().await;
    contract.a_write_nobody_waits_for_becomes_durable().await;
    contract.a_caller_dropped_at_any_await_leaves_its_write_whole().await;
    contract.a_reader_dropped_at_any_await_gives_its_buffer_back().await;
}

/// Checks what a failed write does to an empty drive, which is left fenced. `make_fail` prepares the failure and
/// says at which offset to write.
pub async fn fence_contract<D: Drive>(drive: D, make_fail: impl FnOnce() -> u64) {
    let file = drive.open("f", OpenMode::CreateNew).await.expect("a new file");
    let offset_bytes = make_fail();
    let failed = file.write_durable(offset_bytes, vec![AlignedBuf::zeroed(SECTOR_BYTES)]).await;
    assert!(matches!(failed.result, Err(IoError::Device(_))), "the write fails: {:?}", failed.result);
    assert_eq!(failed.bufs.len(), 1, "the buffers of a failed write come back");
    assert_eq!(drive.fenced(), Some(FenceReason::FailedWrite), "a failed write fences the drive");
    drive.fence(FenceReason::Asked);
    assert_eq!(drive.clone().fenced(), Some(FenceReason::FailedWrite), "the first reason stays");

    let written = file.write_durable(0, vec![AlignedBuf::zeroed(SECTOR_BYTES)]).await;
    assert!(matches!(written.result, Err(IoError::Fenced)), "no write after a fence");
    assert_eq!(written.bufs.len(), 1, "a refused write gives its buffers back");
    let (read, _) = file.read_at(0, AlignedBuf::zeroed(SECTOR_BYTES)).await;
    let refused = [
        read,
        file.allocate(0, SECTOR).await,
        file.punch(0, SECTOR).await,
        file.sync().await,
        file.set_len(0).await,
        file.len_bytes().await.map(drop),
        drive.open("f", OpenMode::Read).await.map(drop),
        drive.remove("f").await,
        drive.rename("f", "g").await,
        drive.create_dir("d").await,
        drive.list("").await.map(drop),
        drive.sync_dir("").await,
        drive.space().await.map(drop),
        drive.read_small("f", 1).await.map(drop),
        drive.write_small("s", vec![1]).await,
    ];
    for (index, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(IoError::Fenced)), "operation {index} after a fence: {result:?}");
    }
}

/// Polls a future `polls` times, each time it wakes, then drops it. `Some` if it was done by then.
pub async fn poll_then_drop<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

struct Contract<D, E> {
    drive: D,
    executor: E,
    pool: BufPool,
}

impl<D: Drive, E: Executor> Contract<D, E> {
    fn buf(&self, len_bytes: usize, byte: u8) -> AlignedBuf {
        let mut buf = self.pool.take(len_bytes).expect("the pool is large enough");
        buf.fill(byte);
        buf
    }

    async fn new_file(&self, path: &str) -> D::File {
        self.drive.open(path, OpenMode::CreateNew).await.expect("a new file")
    }

    async fn read(&self, file: &D::File, offset_bytes: u64, len_bytes: usize) -> Vec<u8> {
        let (result, buf) = file.read_at(offset_bytes, self.buf(len_bytes, 0xee)).await;
        result.expect("the range was written");
        assert_eq!(buf.len(), len_bytes, "a read leaves the length alone");
        buf.to_vec()
    }

    async fn assert_all(&self, file: &D::File, offset_bytes: u64, len_bytes: usize, byte: u8) {
        let bytes = self.read(file, offset_bytes, len_bytes).await;
        let wrong = bytes.iter().position(|&found| found != byte);
        assert_eq!(wrong, None, "bytes at {offset_bytes} are not all {byte}");
    }

    /// Waits for work that nobody waits for.
    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..20_000 {
            if done() {
                return;
            }
            self.executor.sleep(Duration::from_millis(1)).await;
        }
        panic!("{what}: not within 20 s");
    }

    async fn until_buffers_are_back(&self) {
        self.until("every buffer is back in its pool", || self.pool.taken_bytes() == 0).await;
    }

    async fn written_bytes_are_read_back_by_any_handle(&self) {
        let file = self.new_file("written").await;
        let bufs = vec![self.buf(4096, 1), self.buf(65_536, 2), self.buf(8192, 3)];
        let outcome = file.write_durable(SECTOR, bufs).await;
        outcome.result.expect("written");
        let lengths: Vec<usize> = outcome.bufs.iter().map(|buf| buf.len()).collect();
        assert_eq!(lengths, [4096, 65_536, 8192], "the buffers come back in order");
        assert!(outcome.bufs[1].iter().all(|&byte| byte == 2), "and untouched");
        let other = self.drive.open("written", OpenMode::Read).await.expect("it is there");
        for handle in [&file, &other, &file.clone()] {
            self.assert_all(handle, 0, 4096, 0).await;
            self.assert_all(handle, SECTOR, 4096, 1).await;
            self.assert_all(handle, 2 * SECTOR, 65_536, 2).await;
            self.assert_all(handle, 18 * SECTOR, 8192, 3).await;
            assert_eq!(handle.len_bytes().await.expect("a length"), 20 * SECTOR);
        }
        file.write_durable(SECTOR, vec![self.buf(4096, 9)]).await.result.expect("written over");
        self.assert_all(&other, SECTOR, 4096, 9).await;
    }

    async fn a_write_may_have_more_parts_than_a_system_call(&self) {
        let file = self.new_file("parts").await;
        let byte = |part: usize| u8::try_from(part % 251).unwrap_or(0);
        let bufs = (0..MANY_PARTS).map(|part| self.buf(4096, byte(part))).collect();
        let outcome = file.write_durable(0, bufs).await;
        outcome.result.expect("written");
        assert_eq!(outcome.bufs.len(), MANY_PARTS);
        let bytes = self.read(&file, 0, MANY_PARTS * SECTOR_BYTES).await;
        for (part, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            assert!(sector.iter().all(|&found| found == byte(part)), "part {part} is in its place");
        }
    }

    async fn many_writes_at_once_all_become_durable(&self) {
        let file = self.new_file("many").await;
        let byte = |index: u64| u8::try_from(index % 251).unwrap_or(0);
        let writes = (0..MANY_WRITES)
            .map(|index| file.write_durable(index * SECTOR, vec![self.buf(4096, byte(index))]));
        for outcome in join_all(writes).await {
            outcome.result.expect("written");
        }
        let reads = (0..MANY_WRITES).map(|index| self.assert_all(&file, index * SECTOR, 4096, byte(index)));
        join_all(reads).await;
    }

    async fn create_new_refuses_an_existing_file(&self) {
        drop(self.new_file("new").await);
        let again = self.drive.open("new", OpenMode::CreateNew).await;
        assert!(matches!(again.map(drop), Err(IoError::AlreadyExists)), "CreateNew of an existing file");
        drop(self.drive.open("new", OpenMode::ReadWrite).await.expect("an existing file"));
        self.drive.remove("new").await.expect("it is there");
        drop(self.new_file("new").await);
    }

    async fn what_is_missing_is_not_found(&self) {
        for mode in [OpenMode::Read, OpenMode::ReadWrite] {
            let opened = self.drive.open(ABSENT, mode).await;
            assert!(matches!(opened.map(drop), Err(IoError::NotFound)), "open of a missing file");
        }
        let inside = self.drive.open("absent/f", OpenMode::CreateNew).await;
        assert!(matches!(inside.map(drop), Err(IoError::NotFound)), "a file in a missing directory");
        let results = [
            self.drive.remove(ABSENT).await,
            self.drive.rename(ABSENT, "x").await,
            self.drive.list(ABSENT).await.map(drop),
            self.drive.sync_dir(ABSENT).await,
            self.drive.read_small(ABSENT, 10).await.map(drop),
        ];
        for (index, result) in results.into_iter().enumerate() {
            assert!(matches!(result, Err(IoError::NotFound)), "operation {index}: {result:?}");
        }
        assert_eq!(self.drive.fenced(), None, "what is missing breaks nothing");
    }

    async fn directories_are_made_with_their_parents_and_listed(&self) {
        self.drive.create_dir("a/b/c").await.expect("made");
        self.drive.create_dir("a/b").await.expect("fine if it exists");
        assert!(self.drive.list("a/b/c").await.expect("empty").is_empty());
        drop(self.new_file("a/b/one").await);
        drop(self.new_file("a/b/two").await);
        self.drive.sync_dir("a/b").await.expect("synced");
        let mut names = self.drive.list("a/b").await.expect("listed");
        names.sort();
        assert_eq!(names, ["c", "one", "two"]);
        let root = self.drive.list("").await.expect("the drive itself");
        assert!(root.contains(&"a".to_owned()), "the drive itself is the empty path");
    }

    async fn rename_replaces_and_old_handles_live_on(&self) {
        let old = self.new_file("target").await;
        old.write_durable(0, vec![self.buf(4096, 1)]).await.result.expect("written");
        let new = self.new_file("source").await;
        new.write_durable(0, vec![self.buf(4096, 2)]).await.result.expect("written");
        self.drive.rename("source", "target").await.expect("renamed");
        self.drive.sync_dir("").await.expect("synced");
        let found = self.drive.open("target", OpenMode::Read).await.expect("it is there");
        self.assert_all(&found, 0, 4096, 2).await;
        self.assert_all(&old, 0, 4096, 1).await;
        let gone = self.drive.open("source", OpenMode::Read).await;
        assert!(matches!(gone.map(drop), Err(IoError::NotFound)), "the old name is gone");
        self.drive.remove("target").await.expect("it is there");
        self.assert_all(&new, 0, 4096, 2).await;
    }

    async fn reading_past_the_end_says_how_much_was_there(&self) {
        let file = self.new_file("short").await;
        file.write_durable(0, vec![self.buf(8192, 5)]).await.result.expect("written");
        let (result, buf) = file.read_at(SECTOR, self.buf(16_384, 0)).await;
        assert!(matches!(result, Err(IoError::ShortRead { got_bytes: 4096 })), "{result:?}");
        assert!(buf[..4096].iter().all(|&byte| byte == 5), "the bytes before the end are there");
        let (result, _) = file.read_at(64 * SECTOR, self.buf(4096, 0)).await;
        assert!(matches!(result, Err(IoError::ShortRead { got_bytes: 0 })), "{result:?}");
        let empty = self.new_file("empty").await;
        let (result, _) = empty.read_at(0, self.buf(4096, 0)).await;
        assert!(matches!(result, Err(IoError::ShortRead { got_bytes: 0 })), "{result:?}");
    }

    async fn punched_ranges_read_as_zeros(&self) {
        let file = self.new_file("punched").await;
        file.write_durable(0, vec![self.buf(16_384, 7)]).await.result.expect("written");
        file.punch(SECTOR, 2 * SECTOR).await.expect("punched");
        file.sync().await.expect("synced");
        self.assert_all(&file, 0, 4096, 7).await;
        self.assert_all(&file, SECTOR, 8192, 0).await;
        self.assert_all(&file, 3 * SECTOR, 4096, 7).await;
        assert_eq!(file.len_bytes().await.expect("a length"), 4 * SECTOR, "punching keeps the length");
        file.write_durable(SECTOR, vec![self.buf(4096, 8)]).await.result.expect("written again");
        self.assert_all(&file, SECTOR, 4096, 8).await;
    }

    async fn allocation_grows_the_file_with_zeros(&self) {
        let file = self.new_file("allocated").await;
        file.write_durable(0, vec![self.buf(4096, 3)]).await.result.expect("written");
        file.allocate(0, 4 << 20).await.expect("allocated");
        file.sync().await.expect("synced");
        assert_eq!(file.len_bytes().await.expect("a length"), 4 << 20);
        self.assert_all(&file, 0, 4096, 3).await;
        self.assert_all(&file, SECTOR, 65_536, 0).await;
        file.write_durable(SECTOR, vec![self.buf(4096, 4)]).await.result.expect("written");
        self.assert_all(&file, SECTOR, 4096, 4).await;
        assert_eq!(file.len_bytes().await.expect("a length"), 4 << 20);
    }

    async fn a_full_drive_refuses_without_a_fence(&self) {
        let file = self.new_file("full").await;
        let total_bytes = self.drive.space().await.expect("space").total_bytes;
        let refused = file.allocate(0, total_bytes * 2).await;
        assert!(matches!(refused, Err(IoError::NoSpace)), "more than the drive: {refused:?}");
        let space = self.drive.space().await.expect("space");
        assert!(space.free_bytes > 0, "what was refused takes nothing");
        assert_eq!(self.drive.fenced(), None, "a full drive is not a broken one");
        file.allocate(0, 8 * SECTOR).await.expect("there is room for this");
    }

    async fn set_len_cuts_and_extends(&self) {
        let file = self.new_file("cut").await;
        file.write_durable(0, vec![self.buf(16_384, 6)]).await.result.expect("written");
        file.set_len(SECTOR).await.expect("cut");
        assert_eq!(file.len_bytes().await.expect("a length"), SECTOR);
        file.set_len(4 * SECTOR).await.expect("extended");
        self.assert_all(&file, 0, 4096, 6).await;
        self.assert_all(&file, SECTOR, 12_288, 0).await;
    }

    async fn small_files_are_replaced_whole(&self) {
        self.drive.create_dir("identity").await.expect("made");
        for len_bytes in [0, 1, 4095, 4096, 4097, 20_000] {
            let byte = u8::try_from(len_bytes % 251).unwrap_or(0);
            let bytes = vec![byte; len_bytes];
            self.drive.write_small("identity/pool", bytes.clone()).await.expect("replaced");
            let found = self.drive.read_small("identity/pool", 20_000).await.expect("it is there");
            assert_eq!(found, bytes, "{len_bytes} bytes come back");
        }
        let long = self.drive.read_small("identity/pool", 19_999).await;
        assert!(matches!(long, Err(IoError::ShortRead { .. })), "longer than allowed: {long:?}");
        assert_eq!(self.drive.list("identity").await.expect("listed"), ["pool"], "nothing else is left");
    }

    async fn label_and_space_are_plausible(&self) {
        assert!(!self.drive.label().is_empty());
        let space = self.drive.space().await.expect("space");
        assert!(space.free_bytes > 0);
        assert!(space.free_bytes <= space.total_bytes);
    }

    async fn a_write_nobody_waits_for_becomes_durable(&self) {
        let file = self.new_file("forgotten").await;
        drop(file.write_durable(0, vec![self.buf(65_536, 1), self.buf(65_536, 2)]));
        drop(file);
        self.until_buffers_are_back().await;
        let file = self.drive.open("forgotten", OpenMode::Read).await.expect("it is there");
        self.assert_all(&file, 0, 65_536, 1).await;
        self.assert_all(&file, 16 * SECTOR, 65_536, 2).await;
    }

    async fn a_caller_dropped_at_any_await_leaves_its_write_whole(&self) {
        for polls in 0..100 {
            let path = format!("dropped-{polls}");
            let begun = Rc::new(Cell::new(false));
            let done = poll_then_drop(self.write_a_file(path.clone(), Rc::clone(&begun)), polls).await;
            self.until_buffers_are_back().await;
            if begun.get() {
                let file = self.drive.open(&path, OpenMode::Read).await.expect("created before the write");
                self.assert_all(&file, 0, 131_072, 0x5a).await;
            }
            if done.is_some() {
                assert!(begun.get());
                return;
            }
        }
        panic!("writing a file takes more than 100 polls");
    }

    async fn write_a_file(&self, path: String, begun: Rc<Cell<bool>>) {
        let file = self.new_file(&path).await;
        file.allocate(0, 131_072).await.expect("allocated");
        let bufs = vec![self.buf(65_536, 0x5a), self.buf(65_536, 0x5a)];
        begun.set(true);
        file.write_durable(0, bufs).await.result.expect("written");
        file.sync().await.expect("synced");
        self.drive.sync_dir("").await.expect("synced");
    }

    async fn a_reader_dropped_at_any_await_gives_its_buffer_back(&self) {
        let file = self.new_file("read").await;
        file.write_durable(0, vec![self.buf(1 << 20, 4)]).await.result.expect("written");
        for polls in 0..100 {
            let done = poll_then_drop(file.read_at(0, self.buf(1 << 20, 0)), polls).await;
            assert!(done.is_none_or(|(result, _)| result.is_ok()), "a read that is waited for succeeds");
            self.until_buffers_are_back().await;
            self.assert_all(&file, 0, 1 << 20, 4).await;
        }
    }
}
