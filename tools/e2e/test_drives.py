"""Drives that are pulled and put back under a running server: reads and writes go on, and the operator is told."""

import hashlib
import urllib.request

import pytest

import server as basalt
from conftest import s3_client

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
    basalt.until(
        lambda: objects.put_some("back") or len(list((drive / "segments").iterdir())) > segments,
        NOTICED_S, "new volumes on the drive that came back",
    )
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
