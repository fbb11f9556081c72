"""Faults of the real kernel, on file systems of our own: kills, power cuts, drives that fail, hang, vanish or fill.

Loop-mounted ext4 and xfs, as root; skipped with a loud reason elsewhere. The number of kills and power cuts is
BASALT_KILL_CYCLES and BASALT_POWER_CYCLES (30 each): a thousand by hand is a night's work.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import threading
import time
import urllib.request

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import server as basalt
from conftest import s3_client
from test_basaltctl import asked, ctl
from test_drives import metric

MIB = 1 << 20
KILL_CYCLES = int(os.environ.get("BASALT_KILL_CYCLES", "30"))
POWER_CYCLES = int(os.environ.get("BASALT_POWER_CYCLES", "30"))
# _IOR('X', 125, __u32), the same number on ext4 and xfs; 2: without flushing the journal.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
BUCKET = "faults"


def run(*command, **how):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **how).stdout


class Disks:
    """File systems in image files, one a drive, each mounted on a folder of its own."""

    def __init__(self, name, count, kind, size):
        self.kind, self.root = kind, basalt.SCRATCH / name
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        self.mounts = [self.root / f"m{n + 1}" for n in range(count)]
        self.devices = {}
        self.size = size

    def make(self):
        """What fails here has left behind what `remove` takes away."""
        for n, mount in enumerate(self.mounts):
            image = self.root / f"image{n + 1}"
            with open(image, "wb") as file:
                file.truncate(self.size)
            device = run("losetup", "--find", "--show", image).strip()
            self.devices[mount] = device
            run(*(["mkfs.ext4", "-q", "-F", "-m", "0"] if self.kind == "ext4" else ["mkfs.xfs", "-q", "-f"]), device)
            mount.mkdir()
            self.mount(mount)

    def mount(self, mount):
        run("mount", "-t", self.kind, self.devices[mount], mount)

    def umount(self, mount, *options):
        # What io_uring held of a killed process is let go a moment after its end.
        def is_off():
            return subprocess.run(["umount", *options, str(mount)], capture_output=True).returncode == 0

        basalt.until(is_off, 30, f"{mount} to be unmounted")

    def cut_power(self, *only):
        """Nothing that is not on the device by now will be; every later operation fails."""
        for mount in only or self.mounts:
            fd = os.open(mount, os.O_RDONLY)
            try:
                fcntl.ioctl(fd, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
            finally:
                os.close(fd)

    def cut_off(self, mount, left_bytes):
        """The device ends early: whatever lies past that fails with EIO, for reads and writes alike."""
        number = self.mounts.index(mount) + 1
        os.truncate(self.root / f"image{number}", left_bytes)
        run("losetup", "--set-capacity", self.devices[mount])

    def remount(self):
        for mount in self.mounts:
            self.umount(mount)
            self.mount(mount)

    def remove(self):
        for mount, device in self.devices.items():
            while subprocess.run(["umount", str(mount)], capture_output=True).returncode == 0:
                pass
            subprocess.run(["losetup", "-d", device], capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)


@functools.cache
def why_not(kind):
    """Why there can be no loop mount of a kind here; empty if there can. One that fails later is no reason to skip."""
    probe = Disks(f"probe-{kind}", 1, kind, 512 << 20)
    try:
        probe.make()
    except subprocess.CalledProcessError as error:
        return error.stderr.strip() or str(error)
    finally:
        probe.remove()
    return ""


@pytest.fixture
def disks(request):
    made = []

    def make(count, kind="ext4", size=2 << 30):
        if os.geteuid() != 0:
            pytest.skip("SKIPPED: faults of the real kernel need root, for mounts of their own")
        for tool in ("losetup", f"mkfs.{kind}"):
            if not shutil.which(tool):
                pytest.skip(f"SKIPPED: faults on {kind} need {tool} (Debian: {'xfsprogs' if kind == 'xfs' else 'mount'})")
        if why_not(kind):
            pytest.skip(f"SKIPPED: this machine gives no loop mounts: {why_not(kind)}")
        made.append(Disks(request.node.name.replace("[", "-").rstrip("]"), count, kind, size))
        made[-1].make()
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def started(request):
    """A server over the mounts: each mount point is a drive."""
    servers = []

    def start(disks, drives=None, **how):
        mounts = disks.mounts[:drives]
        one = basalt.Server(f"{disks.root.name}-server", drives=len(mounts), **how)
        one.drives = list(mounts)
        servers.append(one)
        one.start()
        return one

    yield start
    for one in servers:
        one.kill9()
        one.remove()


def body_of(key, generation, size):
    return hashlib.shake_128(f"{key}/{generation}".encode()).digest(size)


def digest_of(body):
    return hashlib.sha256(body).hexdigest()


class Load:
    """Clients that put, overwrite, copy, upload in parts and delete, and write down what was acknowledged.

    For each key: what was acknowledged last, and what was tried since; any of those may be there afterwards.
    """

    SIZES = [0, 100, 900, 4_000, 30_000, 100_000, 400_000, 1_500_000]

    def __init__(self, server, seed):
        self.server, self.seed = server, seed
        self.states, self.lock, self.acknowledged = {}, threading.Lock(), 0
        self.threads = []

    def start(self, clients=4):
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self.work, args=(f"{self.seed}-{n}",), daemon=True) for n in range(clients)
        ]
        self.seed += 1
        for one in self.threads:
            one.start()

    def stop(self):
        self.stopping.set()
        for one in self.threads:
            one.join()

    def work(self, name):
        rng = random.Random(name)
        client = s3_client(self.server, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20)
        step = 0
        while not self.stopping.is_set():
            step += 1
            key, size = f"k{name}-{rng.randrange(12)}", rng.choice(self.SIZES)
            body = body_of(key, f"{name}{step}", size)
            kind = rng.choices(["put", "delete", "copy", "parts"], [8, 2, 2, 1])[0]
            with contextlib.suppress(BotoCoreError, ClientError, OSError):
                self.step(client, kind, key, body)

    def step(self, client, kind, key, body):
        if kind == "delete":
            with self.expecting(key, None):
                client.delete_object(Bucket=BUCKET, Key=key)
        elif kind == "copy":
            source = f"{key}-source"
            with self.expecting(source, digest_of(body)):
                client.put_object(Bucket=BUCKET, Key=source, Body=body)
            with self.expecting(key, digest_of(body)):
                client.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": source})
        elif kind == "parts":
            part = body_of(key, "part", 5 * MIB)
            upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
            parts = []
            for number, data in ((1, part), (2, body or b"x")):
                etag = client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=data)["ETag"]
                parts.append({"PartNumber": number, "ETag": etag})
            with self.expecting(key, digest_of(part + (body or b"x"))):
                client.complete_multipart_upload(
                    Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
                )
        else:
            with self.expecting(key, digest_of(body)):
                client.put_object(Bucket=BUCKET, Key=key, Body=body)

    @contextlib.contextmanager
    def expecting(self, key, digest):
        with self.lock:
            self.states.setdefault(key, [None]).append(digest)
        yield
        with self.lock:
            self.states[key] = [digest]
            self.acknowledged += 1

    def verify(self, keys=None):
        """Every key holds what was acknowledged last, or something tried since."""
        client = s3_client(self.server)
        listed = {
            one["Key"]: one["Size"]
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            for one in page.get("Contents", [])
        }
        for key, allowed in self.states.items() if keys is None else [(k, self.states[k]) for k in keys]:
            try:
                found = digest_of(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
            except client.exceptions.NoSuchKey:
                found = None
            assert found in allowed, f"{key}: {found} is none of {allowed}"
            assert (key in listed) == (found is not None), f"{key}: the listing and the object differ"
            # What was found stays: the next crash may not bring back another.
            self.states[key] = [found]


def cycles(server, count, break_it):
    load = Load(server, 0)
    s3_client(server).create_bucket(Bucket=BUCKET)
    for cycle in range(count):
        before = load.acknowledged
        load.start()
        basalt.until(lambda: load.acknowledged >= before + 60 + cycle % 7 * 20, 60, "60 acknowledgements")
        break_it(load)
        load.stop()
        server.start()
        # The newest keys each time, all of them now and then: a read of everything would be all that is done.
        everything = cycle % 10 == 9 or cycle == count - 1
        newest = [key for key in load.states if key.startswith(f"k{load.seed - 1}-")]
        load.verify(None if everything else newest)
    print(f"{count} cycles, {load.acknowledged} acknowledgements")


def test_kills_under_load_lose_nothing(disks, started):
    server = started(disks(6), redundancy="4+2")
    cycles(server, KILL_CYCLES, lambda load: server.kill9())


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_under_load_lose_nothing(disks, started, kind):
    made = disks(6, kind)
    server = started(made, redundancy="4+2")

    def cut(load):
        made.cut_power()
        server.kill9()
        made.remount()

    cycles(server, POWER_CYCLES, cut)
    assert asked(server, "census")["report"]["all_whole"]


def ready_text(server):
    with urllib.request.urlopen(server.admin + "/readyz", timeout=5) as answer:
        return answer.read().decode()


def reading(server, load, stopping, count):
    """Reads known objects over and over; every one must succeed."""
    client = s3_client(server, retries={"total_max_attempts": 1}, read_timeout=60)
    keys = [key for key, allowed in load.states.items() if allowed[-1] is not None]
    while not stopping.is_set():
        for key in keys:
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            assert digest_of(body) in load.states[key], key
            count.append(key)
            if stopping.is_set():
                return


@pytest.fixture
def seven(disks, started):
    made = disks(7)
    server = started(made, redundancy="4+2")
    s3_client(server).create_bucket(Bucket=BUCKET)
    load = Load(server, 1)
    load.start(2)
    basalt.until(lambda: load.acknowledged >= 150, 60, "something to read")
    load.stop()
    return made, server, load


@contextlib.contextmanager
def read_all_along(server, load):
    """Fails if a read failed while the body ran."""
    stopping, count, failures = threading.Event(), [], []

    def reader():
        try:
            reading(server, load, stopping, count)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    readers = [threading.Thread(target=reader, daemon=True) for _ in range(2)]
    for one in readers:
        one.start()
    yield count
    stopping.set()
    for one in readers:
        one.join()
    assert not failures, failures[0]
    assert count


def put_until_named(server, prefix, note):
    """Writes go on, each within the server's own deadlines, until the operator is told."""
    client = s3_client(server, retries={"total_max_attempts": 1}, read_timeout=90)
    n = 0
    end = time.monotonic() + 90
    while note not in ready_text(server):
        assert time.monotonic() < end, f"/readyz never said {note!r}: {ready_text(server)!r}"
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{n}", Body=body_of(prefix, n, 200_000))
        n += 1
    for m in range(n):
        assert client.get_object(Bucket=BUCKET, Key=f"{prefix}/{m}")["Body"].read() == body_of(prefix, m, 200_000)


def test_a_drive_whose_file_system_fails_is_fenced_and_rebuilt_and_returns_after_a_remount(seven):
    made, server, load = seven
    drive = made.mounts[2]
    with read_all_along(server, load):
        made.cut_power(drive)
        put_until_named(server, "failed", f"drive taken out of use: {drive}")
        # The seventh drive takes what it held.
        assert asked(server, "repair", "status", "--wait")["shards_left"] == 0
    assert asked(server, "census")["report"]["all_whole"]
    # The server has let go of it, so that it can be unmounted, checked and mounted again.
    basalt.until(lambda: subprocess.run(["umount", drive], capture_output=True).returncode == 0, 30, "unmounted")
    run("fsck.ext4", "-p", made.devices[drive])
    basalt.until(lambda: f"missing drive: {drive}" in ready_text(server), 30, "it is missed")
    made.mount(drive)
    basalt.until(lambda: str(drive) not in ready_text(server), 30, "the drive is back")
    drives = asked(server, "drive", "list")["drives"]
    assert {d["state"] for d in drives} == {"healthy"}
    load.verify()
    server.restart()
    load.verify()
    assert asked(server, "census")["report"]["all_whole"]


def test_a_drive_that_is_unmounted_under_load_is_missed_and_taken_back(seven):
    made, server, load = seven
    drive = made.mounts[4]
    with read_all_along(server, load):
        made.umount(drive, "--lazy")
        put_until_named(server, "gone", f"missing drive: {drive}")
        assert list(drive.iterdir()) == [], "the mount point is not taken for the drive"
        made.mount(drive)
        basalt.until(lambda: "missing drive" not in ready_text(server), 30, "the drive is back")
    load.verify()
    assert asked(server, "census")["report"]["all_whole"]


def test_a_drive_that_hangs_is_fenced_holds_up_no_read_and_rejoins_when_its_owner_says_so(seven):
    made, server, load = seven
    drive = made.mounts[1]
    run("fsfreeze", "--freeze", drive)
    try:
        with read_all_along(server, load) as count:
            put_until_named(server, "hung", f"drive taken out of use: {drive}")
            before = len(count)
            basalt.until(lambda: len(count) > before + 50, 30, "reads go on")
    finally:
        run("fsfreeze", "--unfreeze", drive)
    load.verify()
    # It answers again, and is not trusted by itself.
    states = {d["path"]: d["state"] for d in asked(server, "drive", "list")["drives"]}
    assert states[str(drive)] == "failed"
    drives = asked(server, "drive", "rejoin", drive)["drives"]
    assert {d["state"] for d in drives} == {"healthy"}
    assert asked(server, "repair", "status", "--wait")["shards_left"] == 0
    load.verify()
    assert asked(server, "census")["report"]["all_whole"]


def test_a_drive_joins_while_the_commit_that_would_say_so_waits_for_a_drive_that_hangs(disks, started):
    """With 1+1 the log waits for the second drive, and the keeper's own commit is the one that is stuck."""
    made = disks(3)
    server = started(made, drives=2, redundancy="1+1")
    client = s3_client(server, retries={"total_max_attempts": 1}, read_timeout=90)
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="before", Body=body_of("before", 0, 300_000))
    hung, new = made.mounts[1:]
    run("fsfreeze", "--freeze", hung)
    try:
        begun = time.monotonic()
        assert len(asked(server, "drive", "add", new)["drives"]) == 3
        assert time.monotonic() - begun < 75, "30 s for the commit, then 10 s for the drive that hangs"

        def is_written():
            with contextlib.suppress(ClientError):
                return client.put_object(Bucket=BUCKET, Key="after", Body=body_of("after", 0, 300_000))

        basalt.until(is_written, 30, "the log has its second drive, and the core has opened it")
    finally:
        run("fsfreeze", "--unfreeze", hung)
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 25
    server.drives = list(made.mounts)
    server.start()
    client = s3_client(server)
    for name in ("before", "after"):
        assert client.get_object(Bucket=BUCKET, Key=name)["Body"].read() == body_of(name, 0, 300_000)
    assert {d["state"] for d in asked(server, "drive", "list")["drives"]} == {"healthy"}
    assert asked(server, "fsck")["report"]["all_agree"]


def test_an_empty_directory_that_hangs_does_not_join_and_holds_up_nothing(disks, started):
    made = disks(4)
    server = started(made, drives=3, redundancy="1+1")
    new = made.mounts[3]
    run("fsfreeze", "--freeze", new)
    try:
        begun = time.monotonic()
        assert "does not answer" in ctl(server, "drive", "add", new, code=1)
        assert len(asked(server, "drive", "list")["drives"]) == 3
        assert time.monotonic() - begun < 25, "10 s for the directory"
    finally:
        run("fsfreeze", "--unfreeze", new)
    assert len(asked(server, "drive", "add", new)["drives"]) == 4


def healthy_metric(server, drive):
    return metric(server, "basalt_drive_healthy")[f'basalt_drive_healthy{{drive="{drive}"}}']


def test_a_drive_that_answers_with_eio_is_fenced_and_rebuilt(seven):
    made, server, load = seven
    drive = made.mounts[3]
    assert healthy_metric(server, drive) == 1
    with read_all_along(server, load):
        made.cut_off(drive, 32 * MIB)
        put_until_named(server, "eio", f"drive taken out of use: {drive}")
        assert healthy_metric(server, drive) == 0
        assert asked(server, "repair", "status", "--wait")["shards_left"] == 0
    assert asked(server, "census")["report"]["all_whole"]
    # It is as broken after a restart, and is named again.
    server.restart()
    load.verify()
    assert str(drive) in ready_text(server)


def test_a_drive_that_turns_read_only_is_fenced_and_no_read_fails(seven):
    """What ext4 does by itself after an error of its own: the mount stays, reads go on, every write is refused."""
    made, server, load = seven
    drive = made.mounts[5]
    with read_all_along(server, load):
        run("mount", "-o", "remount,abort", drive)
        put_until_named(server, "read-only", f"drive taken out of use: {drive}")
        assert healthy_metric(server, drive) == 0
        assert asked(server, "repair", "status", "--wait")["shards_left"] == 0
    load.verify()
    assert asked(server, "census")["report"]["all_whole"]


def test_as_many_drives_as_there_is_parity_fail_at_once_and_nothing_stops(seven):
    """Two of seven at 4+2, one that the metadata log is on: reads never fail, writes go to volumes of 3+2."""
    made, server, load = seven
    logged = [drive for drive in made.mounts if any(drive.glob("log/*"))]
    lost = [logged[0], next(drive for drive in made.mounts if drive not in logged)]
    with read_all_along(server, load) as count:
        made.cut_power(*lost)
        for drive in lost:
            put_until_named(server, f"lost-{made.mounts.index(drive)}", f"drive taken out of use: {drive}")
            assert healthy_metric(server, drive) == 0
        before = len(count)
        basalt.until(lambda: len(count) > before + 50, 60, "reads go on")
    load.start(2)
    acknowledged = load.acknowledged
    basalt.until(lambda: load.acknowledged >= acknowledged + 60, 60, "writes of every kind go on")
    load.stop()
    load.verify()
    server.kill9()
    server.start()
    load.verify()
    assert all(str(drive) in ready_text(server) for drive in lost)


def used_percent(mount):
    found = os.statvfs(mount)
    return 100 - found.f_bavail * 100 // found.f_blocks


def test_a_drive_that_is_added_takes_its_part_of_what_is_there(disks, started):
    made = disks(7, size=512 * MIB)
    server = started(made, drives=6, redundancy="4+2")
    client = s3_client(server)
    client.create_bucket(Bucket=BUCKET)
    load = Load(server, 1)
    for n in range(60):
        body = body_of("fill", n, 8 * MIB)
        client.put_object(Bucket=BUCKET, Key=f"fill/{n:02}", Body=body)
        load.states[f"fill/{n:02}"] = [digest_of(body)]

    def spread():
        used = [used_percent(mount) for mount in made.mounts]
        return max(used) - min(used)

    assert spread() > 20
    with read_all_along(server, load):
        assert len(asked(server, "drive", "add", made.mounts[6], "--wait")["drives"]) == 7
        assert spread() <= 11, "the drives are about equally full, to a percent for the file system's own"
    assert asked(server, "repair", "status")["shards_balanced"] > 0
    assert asked(server, "census")["report"]["all_whole"]
    server.drives = list(made.mounts)
    server.restart()
    load.verify()


def test_a_power_cut_while_full_loses_nothing(disks, started):
    made = disks(3, size=640 * MIB)
    server = started(made, redundancy="2+1")
    s3_client(server).create_bucket(Bucket=BUCKET)
    known, refusals, lock = {}, [], threading.Lock()

    def fill(thread):
        client = s3_client(server, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20)
        n = 0
        with contextlib.suppress(BotoCoreError, OSError):
            while True:
                key, n = f"full/{thread}/{n:04}", n + 1
                # Small ones fill what large ones leave, and the metadata log with them.
                body = body_of(key, 0, MIB if len(refusals) < 5 else 3_000)
                try:
                    client.put_object(Bucket=BUCKET, Key=key, Body=body)
                except ClientError as error:
                    assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (503, 507), error
                    refusals.append(key)
                    continue
                with lock:
                    known[key] = digest_of(body)

    fillers = [threading.Thread(target=fill, args=(n,), daemon=True) for n in range(4)]
    for one in fillers:
        one.start()
    basalt.until(lambda: len(refusals) >= 100, 120, "the drives are full")
    made.cut_power()
    server.kill9()
    for one in fillers:
        one.join()
    made.remount()
    server.start()
    client = s3_client(server)
    assert "taken out of use" not in ready_text(server)
    listed = {
        one["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for one in page.get("Contents", [])
    }
    # Of each thread the one that the cut fell into may be there besides.
    assert set(known) <= listed and len(listed) <= len(known) + len(fillers)
    for key, digest in known.items():
        assert digest_of(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == digest, key
    assert asked(server, "census")["report"]["all_whole"]


def test_full_drives_refuse_writes_and_serve_everything_else(disks, started):
    made = disks(3, size=640 * MIB)
    server = started(made, redundancy="2+1")
    client = s3_client(server, retries={"total_max_attempts": 1}, read_timeout=60)
    client.create_bucket(Bucket=BUCKET)
    known, refused = {}, None
    for n in range(2_000):
        body = body_of("full", n, 2 * MIB)
        try:
            client.put_object(Bucket=BUCKET, Key=f"full/{n:04}", Body=body)
        except ClientError as error:
            refused = error.response["ResponseMetadata"]["HTTPStatusCode"]
            break
        known[f"full/{n:04}"] = digest_of(body)
    assert refused == 507 and len(known) > 200, (refused, len(known))
    assert "taken out of use" not in ready_text(server), "a full drive is no broken one"
    for key in list(known)[::17]:
        assert digest_of(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == known[key]
    server.kill9()
    server.start()

    def delete(keys):
        for begin in range(0, len(keys), 1_000):
            objects = [{"Key": key} for key in keys[begin : begin + 1_000]]
            assert not client.delete_objects(Bucket=BUCKET, Delete={"Objects": objects}).get("Errors")
        for key in keys:
            del known[key]

    def room_again():
        try:
            client.put_object(Bucket=BUCKET, Key="again", Body=body_of("again", 0, 2 * MIB))
            return True
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 507
            return False

    # Every second object goes: no volume is dead, so only compaction makes room.
    delete(sorted(known)[::2])
    basalt.until(room_again, 90, "half-dead volumes give their room back")
    for key in known:
        assert digest_of(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == known[key]
    assert asked(server, "census")["report"]["all_whole"]
    delete(sorted(known))
    basalt.until(room_again, 60, "deleted space is used again without a restart")


def test_two_processes_on_the_same_drives(disks, started):
    made = disks(3, size=640 * MIB)
    server = started(made, redundancy="2+1")
    second = basalt.Server("second-process", drives=3)
    second.drives = list(made.mounts)
    with pytest.raises(AssertionError, match="another process uses this drive"):
        second.start()
    assert pathlib.Path(made.mounts[0]).exists() and server.probe("/readyz") == 200
