"""Drives that are pulled and put back under a running server: reads and writes go on, and the operator is told."""

import hashlib
import time
import urllib.request

import pytest
from botocore.exceptions import ClientError

import server as basalt
from conftest import s3_client
from test_basaltctl import NOT_WHOLE, asked

MIB = 1 << 20
# Two looks of two seconds, and a start of jbd2 in between on a busy machine.
NOTICED_S = 30


def noise(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def ready_text(server):
    with urllib.request.urlopen(server.admin + "/readyz", timeout=5) as answer:
        return answer.read().decode()


def noticed(server, what, there=True):
    basalt.until(lambda: (what in ready_text(server)) == there, NOTICED_S, f"/readyz {'says' if there else 'drops'} {what!r}")


def metric(server, name):
    with urllib.request.urlopen(server.admin + "/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)}


@pytest.fixture(scope="module")
def six(new_server):
    return new_server("drives-six", drives=6, redundancy="4+2")


class Objects:
    def __init__(self, server):
        self.s3, self.known = s3_client(server, retries={"total_max_attempts": 1}), {}
        self.s3.create_bucket(Bucket="drives")

    def put(self, name, size):
        body = noise(name, size)
        self.s3.put_object(Bucket="drives", Key=name, Body=body)
        self.known[name] = hashlib.sha256(body).hexdigest()

    def put_some(self, prefix):
        for n, size in enumerate([10, 5_000, 70_000, 3 * MIB, 900, 200_000]):
            self.put(f"{prefix}/{n}", size)

    def check(self):
        for name, digest in self.known.items():
            body = self.s3.get_object(Bucket="drives", Key=name)["Body"].read()
            assert hashlib.sha256(body).hexdigest() == digest, name


def test_a_pulled_drive_is_noticed_worked_around_and_taken_back(six):
    objects = Objects(six)
    objects.put_some("before")
    drive = six.drives[2]
    away = drive.with_name("away")
    drive.rename(away)
    noticed(six, f"missing drive: {drive}")
    assert metric(six, "basalt_drive_healthy")[f'basalt_drive_healthy{{drive="{drive}"}}'] == 0
    objects.put_some("without")
    objects.check()

    # An empty directory in its place is a missing drive, never formatted.
    drive.mkdir()
    objects.put_some("empty")
    noticed(six, f"missing drive: {drive}")
    assert list(drive.iterdir()) == []
    drive.rmdir()

    away.rename(drive)
    noticed(six, "missing drive", there=False)
    segments = len(list((drive / "segments").iterdir()))
    # What is open on three data drives is filled first, 256 MiB on each.
    for n in range(2 * 3 * 256 // 64):
        objects.put(f"back/large/{n}", 64 * MIB)
        if len(list((drive / "segments").iterdir())) > segments:
            break
    assert len(list((drive / "segments").iterdir())) > segments, "no new volume on the drive that came back"
    objects.put_some("back")
    objects.check()
    six.restart()
    objects.check()
    assert "missing" not in ready_text(six)


def test_two_drives_pulled_at_once_and_one_of_the_metadata_log_among_them_lose_nothing(six):
    objects = Objects.__new__(Objects)
    objects.s3, objects.known = s3_client(six, retries={"total_max_attempts": 1}), {}
    objects.put_some("two")
    logged = [d for d in six.drives if any(d.glob("log/*"))]
    pulled = [logged[0], next(d for d in six.drives if d != logged[0])]
    for drive in pulled:
        drive.rename(drive.with_name(drive.name + "-away"))
    for drive in pulled:
        noticed(six, f"missing drive: {drive}")
    objects.put_some("degraded")
    objects.check()
    for drive in pulled:
        drive.with_name(drive.name + "-away").rename(drive)
    noticed(six, "missing drive", there=False)
    objects.put_some("whole")
    objects.check()
    six.restart()
    objects.check()


def refused(objects, name):
    """A PUT is answered with 503: metadata cannot be written."""
    with pytest.raises(ClientError) as caught:
        objects.put(name, 5_000)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


def whole_on(server, drives):
    """Every drive is healthy, everything is whole, also after a restart with these drives."""
    assert asked(server, "repair", "status", "--wait")["shards_left"] == 0
    report = asked(server, "census")["report"]
    assert report["all_whole"], report
    server.drives = drives
    server.restart()
    states = [drive["state"] for drive in asked(server, "drive", "list")["drives"]]
    assert states == ["healthy"] * len(drives), states
    assert asked(server, "census")["report"]["all_whole"]


def test_one_of_two_drives_dies_and_another_takes_its_place(new_server):
    """With 1+1 metadata waits for a second drive: the new one is it."""
    two = new_server("drives-two", drives=2, redundancy="1+1")
    objects = Objects(two)
    objects.put_some("before")
    dead, new = two.drives[1], two.root / "new"
    dead.rename(dead.with_name("dead"))
    noticed(two, f"missing drive: {dead}")
    refused(objects, "refused")
    objects.check()
    assert not asked(two, "census", code=NOT_WHOLE)["report"]["all_whole"]
    new.mkdir()
    asked(two, "--yes", "drive", "replace", dead, new, "--wait")
    objects.put_some("after")
    objects.check()
    whole_on(two, [two.drives[0], new])
    objects.check()
    # The dead drive comes back after all: it is a member no more, and no harm.
    two.stop()
    two.drives = [*two.drives, dead.with_name("dead")]
    two.start()
    objects.put_some("later")
    objects.check()


def test_a_server_that_starts_with_one_of_two_drives_is_given_another(new_server):
    two = new_server("drives-one", drives=2, redundancy="1+1")
    objects = Objects(two)
    objects.put_some("before")
    two.stop()
    dead, new = two.drives[0], two.root / "new"
    dead.rename(dead.with_name("dead"))
    two.drives = [two.drives[1]]
    two.start()
    objects.check()
    refused(objects, "refused")
    new.mkdir()
    asked(two, "--yes", "drive", "replace", dead, new)
    written_again(two, objects, "after")
    whole_on(two, [two.drives[0], new])
    objects.check()


def written_again(server, objects, prefix):
    """Writes go on without a restart, once every core has opened the drive."""

    def is_written():
        try:
            objects.put(f"{prefix}/first", 5_000)
            return True
        except ClientError:
            return False

    basalt.until(is_written, NOTICED_S, "writes go on")
    assert "read-only" not in ready_text(server)
    objects.put_some(prefix)
    objects.check()


def test_a_server_that_starts_with_two_of_four_drives_is_given_one_and_another_returns(new_server):
    """With 2+2 three drives take the metadata log: either way to the third one will do."""
    four = new_server("drives-half", drives=4, redundancy="2+2")
    objects = Objects(four)
    objects.put_some("before")
    four.stop()
    dead, away, new = four.drives[0], four.drives[2], four.root / "new"
    dead.rename(dead.with_name("dead"))
    away.rename(away.with_name("away"))
    all_drives, four.drives = [four.drives[1], four.drives[3], away, new], [four.drives[1], four.drives[3]]
    four.start()
    objects.check()
    refused(objects, "refused")
    new.mkdir()
    asked(four, "--yes", "drive", "replace", dead, new)
    written_again(four, objects, "replaced")
    away.with_name("away").rename(away)
    noticed(four, f"missing drive: {away}", there=False)
    objects.put_some("returned")
    whole_on(four, all_drives)
    objects.check()


def test_a_drive_that_returns_ends_a_start_without_writes(new_server):
    two = new_server("drives-late", drives=2, redundancy="1+1")
    objects = Objects(two)
    objects.put_some("before")
    two.kill9()
    late = two.drives[1]
    late.rename(late.with_name("late"))
    two.start()
    objects.check()
    refused(objects, "refused")
    late.with_name("late").rename(late)
    written_again(two, objects, "after")
    whole_on(two, two.drives)
    objects.check()


def test_a_stop_and_a_start_do_not_wait_for_a_drive_that_metadata_waits_for(new_server):
    """What is open cannot be sealed while metadata is read-only, neither at the stop nor at the start."""
    two = new_server("drives-stop", drives=2, redundancy="1+1")
    objects = Objects(two)
    objects.put_some("before")
    dead = two.drives[1]
    dead.rename(dead.with_name("dead"))
    noticed(two, f"missing drive: {dead}")
    refused(objects, "refused")
    begun = time.monotonic()
    assert two.stop() == 0
    assert time.monotonic() - begun < 20, "seals are given up after 10 s"
    assert two.start() < 45, "the keeper gives up its first commit after 30 s"
    objects.check()
