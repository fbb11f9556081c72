//! The real drive keeps the contract of every drive; cores and sockets do what the server relies on.
//! Runs in the build's own directory, whose file system must have O_DIRECT.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use shardstore_reactor::{
    AlignedBuf, BufPool, Clock, CoreConfig, CoreError, CoreExecutor, Drive, DriveFile, DriveOpenError,
    Executor, FenceReason, IoError, Listener, Net, OpenMode, RealDriveFactory, RealNet, Stream, spawn_core,
    timeout,
};
use shardstore_sim::{drive_contract, fence_contract};

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    fn drive(&self) -> RealDriveFactory {
        RealDriveFactory::open(&self.0).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn on_core<T, F>(main: impl FnOnce(CoreExecutor) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    spawn_core(CoreConfig::new(None, "test"), main).unwrap().join()
}

#[test]
fn the_real_drive_keeps_the_contract() {
    let dir = TempDir::new("contract");
    let factory = dir.drive();
    on_core(move |executor| drive_contract(factory.on_core(), executor));
}

#[test]
fn a_failed_write_fences_the_real_drive_on_every_core() {
    let dir = TempDir::new("fence");
    let factory = dir.drive();
    let on_first = factory.clone();
    // Beyond the largest file of any file system: the kernel refuses the write.
    on_core(move |_| fence_contract(on_first.on_core(), || 1 << 62));
    let fenced = factory.clone();
    on_core(move |_| async move {
        let drive = fenced.on_core();
        assert_eq!(drive.fenced(), Some(FenceReason::FailedWrite));
        assert!(matches!(drive.list("").await, Err(IoError::Fenced)));
    });
    assert_eq!(factory.fenced(), Some(FenceReason::FailedWrite));
}

#[test]
fn a_core_that_ends_waits_for_the_writes_that_nobody_waits_for() {
    let dir = TempDir::new("drain");
    let factory = dir.drive();
    let pool = BufPool::new(64 << 20);
    let bufs = pool.clone();
    let writer = factory.clone();
    on_core(move |_| async move {
        let file = writer.on_core().open("f", OpenMode::CreateNew).await.unwrap();
        for index in 0..200_u64 {
            let mut buf = bufs.take(65_536).unwrap();
            buf.fill(7);
            drop(file.write_durable(index * 65_536, vec![buf]));
        }
    });
    assert_eq!(pool.taken_bytes(), 0);
    on_core(move |_| async move {
        let file = factory.on_core().open("f", OpenMode::Read).await.unwrap();
        for index in 0..200_u64 {
            let (result, buf) = file.read_at(index * 65_536, AlignedBuf::zeroed(65_536)).await;
            result.unwrap();
            assert!(buf.iter().all(|&byte| byte == 7));
        }
    });
}

#[test]
fn what_cannot_be_a_drive_is_refused_with_what_to_do() {
    let dir = TempDir::new("refused");
    let missing = RealDriveFactory::open(&dir.0.join("missing")).map(drop).unwrap_err();
    assert!(matches!(missing, DriveOpenError::Missing(_)));
    assert!(missing.to_string().contains("mount it or create it"));
    std::fs::write(dir.0.join("file"), "x").unwrap();
    let file = RealDriveFactory::open(&dir.0.join("file")).map(drop).unwrap_err();
    assert!(matches!(file, DriveOpenError::NotADirectory(_)));
    // sysfs has no direct I/O, or no files of ours at all: refused either way.
    assert!(RealDriveFactory::open(std::path::Path::new("/proc")).is_err());
    drop(dir.drive());
    let left: Vec<_> = std::fs::read_dir(&dir.0).unwrap().collect();
    assert_eq!(left.len(), 1, "opening a drive leaves no trace");
}

#[test]
fn a_core_is_pinned_named_and_refused_on_a_cpu_that_is_not_there() {
    let core = spawn_core(CoreConfig::new(Some(0), "pinned"), |executor| async move {
        let cpus = rustix::thread::sched_getaffinity(None).unwrap();
        executor.sleep(Duration::from_millis(1)).await;
        (cpus.count(), cpus.is_set(0), std::thread::current().name().map(str::to_owned))
    });
    assert_eq!(core.unwrap().join(), (1, true, Some("pinned".to_owned())));
    let refused = spawn_core(CoreConfig::new(Some(1 << 20), "nowhere"), |_| async {});
    assert!(matches!(refused.map(drop), Err(CoreError::Pin { .. })));
}

#[test]
fn time_goes_on_and_random_numbers_differ() {
    on_core(|executor| async move {
        let begin = executor.now();
        executor.sleep(Duration::from_millis(20)).await;
        assert!(executor.now().since(begin) >= Duration::from_millis(20));
        assert!(executor.unix_ms() > 1_700_000_000_000);
        let numbers: std::collections::BTreeSet<u64> = (0..1000).map(|_| executor.random_u64()).collect();
        assert_eq!(numbers.len(), 1000);
        let (sender, receiver) = futures_channel::oneshot::channel();
        executor.spawn(async move { sender.send(7).unwrap() });
        assert_eq!(receiver.await.unwrap(), 7);
    });
}

#[test]
fn a_task_is_woken_from_another_thread() {
    let (sender, receiver) = futures_channel::oneshot::channel();
    let core = spawn_core(CoreConfig::new(None, "woken"), |_| receiver).unwrap();
    std::thread::spawn(move || sender.send(9).unwrap()).join().unwrap();
    assert_eq!(core.join().unwrap(), 9);
}

/// Large enough to fill socket buffers, in more parts than one system call takes.
fn many_parts() -> Vec<Bytes> {
    (0..3000_usize)
        .map(|part| Bytes::from(vec![u8::try_from(part % 251).unwrap(); 2000 + part % 7]))
        .collect()
}

async fn echo_lengths(listener: <RealNet as Net>::Listener) -> usize {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.readable().await.unwrap();
    let mut received = BytesMut::with_capacity(16);
    received.extend_from_slice(b"kept:");
    while received.len() < 5 + 11 {
        let (got, buf) = stream.read(received).await;
        received = buf;
        assert!(got.unwrap() > 0);
    }
    assert_eq!(&received[..], b"kept:hello world");
    stream.write_all(vec![Bytes::new(), Bytes::from_static(b"one")]).await.unwrap();
    stream.write_all(many_parts()).await.unwrap();
    stream.shutdown().await.unwrap();
    let (closed, _) = stream.read(BytesMut::with_capacity(8)).await;
    closed.unwrap()
}

fn speak_to(address: std::net::SocketAddr) {
    let mut client = std::net::TcpStream::connect(address).unwrap();
    client.write_all(b"hello ").unwrap();
    client.write_all(b"world").unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    let mut expected = b"one".to_vec();
    expected.extend(many_parts().concat());
    assert!(received == expected, "every part in order");
}

#[test]
fn connections_carry_bytes_in_order_over_ipv4_and_ipv6() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let server = spawn_core(CoreConfig::new(None, "server"), move |_| async move {
            let listener = RealNet.listen(address.parse().unwrap()).await.unwrap();
            sender.send(listener.local_address().unwrap()).unwrap();
            echo_lengths(listener).await
        });
        speak_to(receiver.recv().unwrap());
        assert_eq!(server.unwrap().join(), 0, "the peer has closed");
    }
}

#[test]
fn several_cores_listen_on_one_address() {
    on_core(|_| async {
        let first = RealNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_address().unwrap();
        let second = RealNet.listen(address).await.unwrap();
        assert_eq!(second.local_address().unwrap(), address);
    });
}

#[test]
fn a_read_that_times_out_is_cancelled() {
    on_core(|executor| async move {
        let listener = RealNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_address().unwrap();
        let client = std::thread::spawn(move || std::net::TcpStream::connect(address).unwrap());
        let (mut stream, _) = listener.accept().await.unwrap();
        let client = client.join().unwrap();
        let wait = Duration::from_millis(10);
        assert!(timeout(&executor, wait, stream.readable()).await.is_err());
        assert!(timeout(&executor, wait, stream.read(BytesMut::with_capacity(64))).await.is_err());
        drop(client);
        let (closed, _) = stream.read(BytesMut::with_capacity(64)).await;
        assert_eq!(closed.unwrap(), 0);
    });
}
