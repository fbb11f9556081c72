"""Real input, end to end, on one drive and on six (4+2): a tree of 20,000 files, an object of 3 GiB,
`kill -9` in the middle of a sync, and the loss of two drives.

The tests of one layout run in order on one server, as an operator's day would: what a test stored is
still there for the next.
"""

import hashlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import server as basalt
import sigv4
import wire
from conftest import Background, bucket_name, empty_bucket, noise, s3_client
from test_rclone import RCLONE, rclone_env
from test_s5cmd import s5cmd_command, s5cmd_env
from trees import compare, gather, listing, small_tree

MIB = 1 << 20
FILES_MIN = 20_000
LARGE_BYTES = 3 << 30
# What the server is told to stay in, and what code, stacks and the allocator may take beside it.
MEMORY_BYTES = 1 << 30
RSS_SLACK_BYTES = 256 * MIB

pytestmark = pytest.mark.timeout(420)


class Layout:
    def __init__(self, server):
        self.server = server
        self.s3 = s3_client(server)
        self.bucket = bucket_name("real")
        self.s3.create_bucket(Bucket=self.bucket)
        # key -> SHA-256 of every object that was acknowledged and not deleted since
        self.known = {}


@pytest.fixture(scope="module", params=[1, 6], ids=["1 drive", "6 drives"])
def layout(request):
    if "E2E_ENDPOINT" in os.environ:
        if request.param == 6:
            pytest.skip("SKIPPED: a foreign server has the drives it has")
        one = Layout(basalt.External(os.environ["E2E_ENDPOINT"]))
        yield one
        empty_bucket(one.s3, one.bucket)
        return
    redundancy = {1: "1+0", 6: "4+2"}[request.param]
    server = basalt.Server(f"real{request.param}", request.param, redundancy, memory=MEMORY_BYTES)
    server.start()
    yield Layout(server)
    server.remove()


@pytest.fixture
def process(layout):
    """The server, for tests that need to kill it."""
    if layout.server.external:
        pytest.skip("SKIPPED: needs control of the process; E2E_ENDPOINT names a foreign server")
    return layout.server


@pytest.fixture(scope="module")
def tree():
    """At least 20,000 real files: this environment's packages, cargo's sources, Rust's documentation."""
    root = basalt.SCRATCH / "real-tree"
    marker = root.with_suffix(".whole")
    if not marker.exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True).stdout.strip()
        cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        sources = [
            ("packages", next(p for p in sys.path if p.endswith("site-packages"))),
            ("cargo", cargo / "registry" / "src"),
            ("rust", Path(sysroot) / "share" / "doc"),
        ]
        gather(root, sources, FILES_MIN)
        small_tree(root / "odd names + % (1)", 50)
        marker.touch()
    return root


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_real_tree_goes_up_with_s5cmd_and_comes_down_with_rclone(layout, tree, tmp_path):
    where = f"{layout.bucket}/tree"
    begun = time.monotonic()
    up = subprocess.run(
        s5cmd_command(layout.server, "--numworkers", "32", "cp", f"{tree}/", f"s3://{where}/"),
        env=s5cmd_env(), capture_output=True, text=True,
    )
    assert up.returncode == 0, up.stderr[-2000:]
    print(f"up in {time.monotonic() - begun:.1f} s")
    begun = time.monotonic()
    back = basalt.SCRATCH / "real-back"
    shutil.rmtree(back, ignore_errors=True)
    down = subprocess.run(
        [RCLONE, "--retries", "1", "--transfers", "16", "--checkers", "16", "sync", f"e2e:{where}", str(back)],
        env=rclone_env(layout.server), capture_output=True, text=True,
    )
    assert down.returncode == 0, down.stderr[-2000:]
    print(f"down in {time.monotonic() - begun:.1f} s")
    assert compare(tree, back) >= FILES_MIN
    shutil.rmtree(back)
    # A sample of them is read again after each of the disasters below.
    for name in sorted(listing(tree))[::97]:
        layout.known[f"tree/{name}"] = sha256(tree / name)


class Pattern:
    """A stream of `size` bytes in which every MiB differs; it is never held whole."""

    def __init__(self, size):
        self.size, self.at, self.base = size, 0, noise(MIB, 11)

    def piece(self, index):
        return index.to_bytes(8, "big") + self.base[8:]

    def read(self, count=-1):
        end = self.size if count is None or count < 0 else min(self.size, self.at + count)
        parts = []
        while self.at < end:
            index, skip = divmod(self.at, MIB)
            part = memoryview(self.piece(index))[skip : skip + end - self.at]
            parts.append(part)
            self.at += len(part)
        return b"".join(parts)


def upload_in_parts(layout, key):
    """64 MiB parts by four threads, as transfer managers do."""
    where = {"Bucket": layout.bucket, "Key": key}
    upload, size = layout.s3.create_multipart_upload(**where)["UploadId"], 64 * MIB

    def part(number):
        stream = Pattern(LARGE_BYTES)
        stream.at = (number - 1) * size
        body = stream.read(size)
        answer = layout.s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(part, range(1, LARGE_BYTES // size + 1)))
    layout.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})


def upload_in_one(layout, key):
    """One PUT of the whole: nothing but the server bounds what it buffers."""
    with wire.Wire(layout.server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY), timeout_s=120) as w:
        length = {"content-length": str(LARGE_BYTES)}
        head, _ = w.head("PUT", f"/{layout.bucket}/{key}", headers=length, payload_hash=sigv4.UNSIGNED)
        w.send(head)
        stream = Pattern(LARGE_BYTES)
        while data := stream.read(4 * MIB):
            w.send(data)
        answer = w.read("PUT")
        assert answer.status == 200, answer


def test_an_object_of_3_gib_with_bounded_memory(layout):
    # Each way once: a second object of this size on each layout would show nothing new and take a minute.
    upload = upload_in_one if len(getattr(layout.server, "drives", [])) == 6 else upload_in_parts
    key = f"large/{upload.__name__}"
    upload(layout, key)
    stream, body = Pattern(LARGE_BYTES), layout.s3.get_object(Bucket=layout.bucket, Key=key)["Body"]
    for _ in range(LARGE_BYTES // (4 * MIB)):
        assert body.read(4 * MIB) == stream.read(4 * MIB)
    assert body.read(1) == b""
    middle = layout.s3.get_object(Bucket=layout.bucket, Key=key, Range=f"bytes={LARGE_BYTES - 10}-")["Body"].read()
    assert middle == stream.base[-10:]
    if not layout.server.external:
        peak = basalt.status_of(layout.server.pid, "VmHWM")
        print(f"peak RSS {peak >> 20} MiB, limit {(MEMORY_BYTES + RSS_SLACK_BYTES) >> 20} MiB")
        assert peak < MEMORY_BYTES + RSS_SLACK_BYTES
    layout.s3.delete_object(Bucket=layout.bucket, Key=key)


def writer_body(key):
    """Sizes from nothing to 3 MiB, most of them small, decided by the key."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    size = (0, 100, 4096, 20_000, 70_000, 300_000, 3 * MIB)[seed % 7] + seed % 1000
    return noise(size, seed)


def write_until_stopped(layout, acknowledged, round_name, thread):
    """Puts objects until told to stop or the server dies; `acknowledged` is the journal."""

    def work(stopping):
        n = 0
        while not stopping.is_set():
            key = f"kill/{round_name}/{thread}/{n:06}"
            body = writer_body(key)
            try:
                with wire.Wire(layout.server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY)) as w:
                    while not stopping.is_set():
                        answer = w.request("PUT", f"/{layout.bucket}/{key}", body=body, payload_hash=sigv4.UNSIGNED)
                        assert answer.status in (200, 503), answer
                        if answer.status == 200:
                            acknowledged.put((key, hashlib.sha256(body).hexdigest()))
                        n += 1
                        key = f"kill/{round_name}/{thread}/{n:06}"
                        body = writer_body(key)
            except OSError:
                return  # killed: what was on its way may or may not be there

    return work


class Readers:
    """Reads objects whole over a few kept connections; boto3 takes ten times the CPU for each."""

    def __init__(self, layout, threads=4):
        self.layout, self.local = layout, threading.local()
        self.pool = ThreadPoolExecutor(threads)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown()

    def get(self, key):
        if not hasattr(self.local, "wire"):
            self.local.wire = wire.Wire(self.layout.server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY))
        path = sigv4.object_path(self.layout.bucket, key)
        answer = self.local.wire.request("GET", path, payload_hash=sigv4.UNSIGNED)
        assert answer.status == 200, (key, answer)
        return answer


def read_back(layout, known):
    """Asserts that every key has its bytes."""
    with Readers(layout) as readers:

        def check(item):
            key, digest = item
            return key if hashlib.sha256(readers.get(key).body).hexdigest() != digest else None

        wrong = [key for key in readers.pool.map(check, known.items()) if key]
    assert not wrong, f"{len(wrong)} of {len(known)} objects have other bytes, such as {wrong[:3]}"


def nothing_listed_dangles(layout, prefix):
    """Every key that a listing shows can be read whole and is as long as the listing says; how many."""
    count = 0
    with Readers(layout) as readers:

        def check(found):
            answer = readers.get(found["Key"])
            return len(answer.body) == found["Size"] and answer.headers["etag"] == found["ETag"]

        for page in layout.s3.get_paginator("list_objects_v2").paginate(Bucket=layout.bucket, Prefix=prefix):
            found = page.get("Contents", [])
            assert all(readers.pool.map(check, found))
            count += len(found)
    return count


@pytest.mark.parametrize("round_name", ["first", "second"])
def test_kill_9_in_the_middle_of_a_sync_loses_nothing_acknowledged(layout, process, tree, tmp_path, round_name):
    acknowledged = queue.SimpleQueue()
    writers = [Background(write_until_stopped(layout, acknowledged, round_name, n)) for n in range(6)]
    journal = tmp_path / "s5cmd.out"
    with open(journal, "wb") as out:
        # s5cmd prints a line for each object once the server has acknowledged it.
        sync = subprocess.Popen(
            s5cmd_command(process, "--numworkers", "16", "cp", f"{tree}/", f"s3://{layout.bucket}/kill-{round_name}/"),
            env=s5cmd_env(), stdout=out, stderr=subprocess.DEVNULL,
        )
        basalt.until(
            lambda: journal.read_bytes().count(b"\n") > 1500 and acknowledged.qsize() > 300,
            120,
            "enough acknowledged to kill the server in the middle",
        )
        assert sync.poll() is None, "the sync was over before the server was killed"
        process.kill9()
        sync.send_signal(signal.SIGKILL)
        sync.wait()
    for writer in writers:
        writer.join()
    seconds = process.restart()
    print(f"ready {seconds:.2f} s after kill -9")

    done = {}
    while not acknowledged.empty():
        key, digest = acknowledged.get()
        done[key] = digest
    prefix = f"s3://{layout.bucket}/"
    for line in journal.read_text(errors="replace").splitlines(keepends=True):
        if line.endswith("\n") and line.startswith("cp ") and f" {prefix}" in line:
            source, target = line[len("cp ") : -1].rsplit(f" {prefix}", 1)
            done[target] = sha256(source)
    assert len(done) > 1800
    read_back(layout, done)
    listed = sum(nothing_listed_dangles(layout, prefix) for prefix in (f"kill-{round_name}/", f"kill/{round_name}/"))
    assert listed >= len(done)
    layout.known.update(dict(sorted(done.items())[::29]))
    layout.s3.put_object(Bucket=layout.bucket, Key="after", Body=b"writes go on")
    read_back(layout, layout.known)


def with_metadata_first(drives):
    """The drives that hold the metadata log before the others."""
    return sorted(drives, key=lambda d: not any("log" in p.name for p in d.rglob("*")))


def test_two_lost_drives_lose_no_object(layout, process, tmp_path):
    if len(process.drives) == 1:
        pytest.skip("one drive without parity survives no loss")
    for n in range(300):
        key = f"lost/{n}"
        body = writer_body(key)
        layout.s3.put_object(Bucket=layout.bucket, Key=key, Body=body)
        layout.known[key] = hashlib.sha256(body).hexdigest()
    reads = queue.SimpleQueue()
    items = sorted(layout.known.items())

    def reader(stopping):
        client, n = s3_client(process, retries={"total_max_attempts": 1}), 0
        while not stopping.is_set():
            key, digest = items[n % len(items)]
            body = client.get_object(Bucket=layout.bucket, Key=key)["Body"].read()
            assert hashlib.sha256(body).hexdigest() == digest, key
            reads.put(key)
            n += 7

    readers = [Background(reader) for _ in range(3)]
    basalt.until(lambda: reads.qsize() > 50, 60, "50 reads before the loss")
    # One drive of the log and one without it, if there is such a one.
    ordered = with_metadata_first(process.drives)
    for drive in (ordered[0], ordered[-1]):
        for entry in drive.iterdir():
            # The server may still be writing there, so a folder may fill while it is emptied.
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    before = reads.qsize()
    basalt.until(lambda: reads.qsize() > before + 200, 60, "200 reads after the loss")
    for one in readers:
        one.join()
    read_back(layout, layout.known)

    seconds = process.restart()
    print(f"ready {seconds:.2f} s without two drives")
    read_back(layout, layout.known)
    listed = sum(
        len(page.get("Contents", []))
        for page in layout.s3.get_paginator("list_objects_v2").paginate(Bucket=layout.bucket)
    )
    assert listed >= len(layout.known)
    # Four healthy drives take writes still (DESIGN section 3: k' = min(k, healthy - m)).
    for size in (10, 100_000, 9 * MIB):
        layout.s3.put_object(Bucket=layout.bucket, Key=f"degraded/{size}", Body=noise(size, size))
        assert layout.s3.get_object(Bucket=layout.bucket, Key=f"degraded/{size}")["Body"].read() == noise(size, size)
    process.restart()
    assert layout.s3.get_object(Bucket=layout.bucket, Key="degraded/100000")["Body"].read() == noise(100_000, 100_000)
