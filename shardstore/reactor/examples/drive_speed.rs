//! Measures a directory as a drive: durable writes over fallocated and over written space, and reads.
//! Usage: `cargo run --release -p shardstore-reactor --example drive_speed -- DIRECTORY [CPU]`.
#![allow(clippy::print_stdout, reason = "a command-line tool")]

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use shardstore_reactor::{
    AlignedBuf, Clock, CoreConfig, CoreExecutor, Drive, DriveFile, OpenMode, RealDrive, RealDriveFactory,
    RealFile, flags_in_use, spawn_core,
};

const FILE: &str = "drive-speed.tmp";
const FILE_BYTES: u64 = 1 << 30;
const WRITES_IN_FLIGHT: u64 = 16;
const READS_IN_FLIGHT: u64 = 8;

fn main() {
    let directory = std::env::args().nth(1).expect("usage: drive_speed DIRECTORY [CPU]");
    let cpu = std::env::args().nth(2).map(|text| text.parse().expect("a CPU number"));
    println!("{}", flags_in_use());
    let drive = RealDriveFactory::open(Path::new(&directory)).expect("a drive");
    let core = spawn_core(CoreConfig::new(cpu, "speed"), move |executor| measure(drive.on_core(), executor));
    core.expect("a core").join();
}

async fn measure(drive: RealDrive, clock: CoreExecutor) {
    for len_bytes in [4096, 131_072] {
        for space in ["fallocated", "written", "written"] {
            let file = prepare(&drive, space).await;
            let (ops, seconds) = run(&file, &clock, WRITES_IN_FLIGHT, len_bytes, true).await;
            report("durable write", len_bytes, space, ops, seconds);
        }
    }
    let file = prepare(&drive, "written").await;
    let (ops, seconds) = run(&file, &clock, READS_IN_FLIGHT, 1 << 20, false).await;
    report("read", 1 << 20, "QD8", ops, seconds);
    let (ops, seconds) = run(&file, &clock, WRITES_IN_FLIGHT, 4096, false).await;
    report("read", 4096, "QD16", ops, seconds);
    drive.remove(FILE).await.expect("removed");
}

#[allow(clippy::cast_precision_loss, reason = "a report")]
fn report(what: &str, len_bytes: usize, space: &str, ops: u64, seconds: f64) {
    let per_second = ops as f64 / seconds;
    let mib = per_second * len_bytes as f64 / f64::from(1 << 20);
    println!("{what} {len_bytes} B, {space}: {per_second:.0}/s, {mib:.0} MiB/s");
}

/// A file of the wanted kind: allocated only, or also written once.
async fn prepare(drive: &RealDrive, space: &str) -> RealFile {
    drop(drive.remove(FILE).await);
    let file = drive.open(FILE, OpenMode::CreateNew).await.expect("a new file");
    file.allocate(0, FILE_BYTES).await.expect("room");
    file.sync().await.expect("synced");
    if space == "written" {
        let mib = 1 << 20;
        for offset_bytes in (0..FILE_BYTES).step_by(8 << 20) {
            let writes = (0..8).map(|index| {
                file.write_durable(offset_bytes + index * mib, vec![AlignedBuf::zeroed(1 << 20)])
            });
            for outcome in join_all(writes).await {
                outcome.result.expect("written");
            }
        }
    }
    file
}

/// Sequential operations, so many in flight, for at most two seconds or the file's length.
async fn run(file: &RealFile, clock: &CoreExecutor, depth: u64, len_bytes: usize, write: bool) -> (u64, f64) {
    let next = Rc::new(Cell::new(0_u64));
    let begin = clock.now();
    let worker = || async {
        let mut buf = Some(AlignedBuf::zeroed(len_bytes));
        loop {
            let offset_bytes = next.get();
            let over = clock.now().since(begin) > Duration::from_secs(2);
            if over || offset_bytes + len_bytes as u64 > FILE_BYTES {
                return;
            }
            next.set(offset_bytes + len_bytes as u64);
            let Some(own) = buf.take() else { return };
            buf = if write {
                let outcome = file.write_durable(offset_bytes, vec![own]).await;
                outcome.result.expect("written");
                outcome.bufs.into_iter().next()
            } else {
                let (result, own) = file.read_at(offset_bytes, own).await;
                result.expect("read");
                Some(own)
            };
        }
    };
    join_all((0..depth).map(|_| worker())).await;
    (next.get() / len_bytes as u64, clock.now().since(begin).as_secs_f64())
}
