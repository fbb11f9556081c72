"""The operator's commands against a running server and a stopped one's drives."""

import base64
import concurrent.futures
import hashlib
import json
import os
import pathlib
import pty
import re
import subprocess
import tarfile
import urllib.error
import urllib.request

import pytest

import server as basalt
import wire
from conftest import s3_client

MIB = 1 << 20
BASALTCTL = basalt.BINARY.with_name("basaltctl")
OK, FAILED, USAGE, NOT_WHOLE = 0, 1, 2, 3


def ctl(server, *command, code=OK, keys=(basalt.ACCESS_KEY, basalt.SECRET_KEY)):
    """Runs basaltctl; what it printed, after its exit code was checked."""
    env = basalt.clean_env(
        BASALT_ADMIN_ENDPOINT=server.admin, BASALT_ROOT_ACCESS_KEY=keys[0], BASALT_ROOT_SECRET_KEY=keys[1]
    )
    done = subprocess.run(
        [BASALTCTL, *map(str, command)], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=240
    )
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}{server.log_tail()}"
    return done.stdout + done.stderr


def asked(server, *command, **how):
    return json.loads(ctl(server, "--json", *command, **how))


def noise(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x10]))


class Objects:
    def __init__(self, server, bucket):
        self.bucket, self.known = bucket, {}
        self.come_to(server)
        self.s3.create_bucket(Bucket=bucket)

    def come_to(self, server):
        self.server, self.s3 = server, s3_client(server, retries={"total_max_attempts": 1})

    def put_some(self, prefix):
        for n, size in enumerate([10, 5_000, 70_000, 3 * MIB, 900, 200_000, 9 * MIB]):
            body = noise(f"{prefix}{n}", size)
            self.s3.put_object(Bucket=self.bucket, Key=f"{prefix}/{n}", Body=body)
            self.known[f"{prefix}/{n}"] = hashlib.sha256(body).hexdigest()

    def check(self):
        """Over a bare connection: for thousands a client library would take most of the time."""
        with wire.Wire(self.server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY)) as one:
            for key, digest in self.known.items():
                answer = one.request("GET", f"/{self.bucket}/{key}")
                assert answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == digest, (key, answer)


@pytest.fixture(scope="module")
def seven(new_server):
    return new_server("ctl-seven", drives=7, redundancy="4+2")


@pytest.fixture(scope="module")
def objects(seven):
    made = Objects(seven, "ctl")
    made.put_some("first")
    return made


def test_who_may_ask_and_how_refusals_read(seven):
    for path, status in [("/v1/drives", 403), ("/v1/nothing", 403), ("/nothing", 404)]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(seven.admin + path, timeout=5)
        assert refused.value.code == status
    assert "signature" in ctl(seven, "drive", "list", keys=("e2eroot", "wrong"), code=FAILED)
    assert "BASALT_ROOT_ACCESS_KEY" in ctl(seven, "drive", "list", keys=("", ""), code=FAILED)
    assert "is no drive of this pool" in ctl(seven, "drive", "drain", "/nowhere", code=FAILED)
    assert "Usage" in ctl(seven, "drive", "explode", code=USAGE)
    assert "no Basalt answers" in ctl(seven, "--endpoint", "http://127.0.0.1:1", "scrub", "status", code=FAILED)


def test_drives_are_listed_and_an_object_is_found_on_them(seven, objects):
    drives = asked(seven, "drive", "list")["drives"]
    assert [d["path"] for d in drives] == [str(d) for d in seven.drives]
    assert {d["state"] for d in drives} == {"healthy"} and all(d["free_bytes"] > 0 for d in drives)
    found = asked(seven, "inspect", "ctl/first/3")
    assert found["size_bytes"] == 3 * MIB and not found["inline"]
    shards = found["extents"][0]["shards"]
    assert [s["page"] for s in shards] == ["whole"] * 6
    assert {s["drive"] for s in shards} <= {str(d) for d in seven.drives}
    assert asked(seven, "inspect", "s3://ctl/first/0")["inline"]
    assert "metadata row" in ctl(seven, "inspect", "ctl/first/0")
    assert "no object" in ctl(seven, "inspect", "ctl/nothing", code=FAILED)


def test_a_census_finds_a_flipped_bit_and_a_scrub_mends_it(seven, objects):
    report = asked(seven, "census")["report"]
    assert report["all_whole"] and report["objects"]["whole"] + report["inline_objects"] == len(objects.known)
    shard = asked(seven, "inspect", "ctl/first/3")["extents"][0]
    drive, volume = shard["shards"][1]["drive"], shard["volume"]
    path = next(d for d in seven.drives if str(d) == drive) / "segments" / f"{volume}.01"
    flip(path, shard["sector"] * 4096 + 5_000)
    said = ctl(seven, "census", code=NOT_WHOLE)
    assert "1 bad pages  ctl/first/3" in said, said
    ctl(seven, "inspect", "ctl/first/3", code=NOT_WHOLE)
    status = asked(seven, "scrub", "start", "--wait")
    assert status["pages_mended"] >= 1 and status["stripes_lost"] == 0
    assert asked(seven, "census")["report"]["all_whole"]
    objects.check()
    assert asked(seven, "scrub", "pause")["paused"]
    assert "paused" in ctl(seven, "scrub", "status")


def test_a_drive_is_drained_and_used_again(seven, objects):
    drive = str(seven.drives[0])
    drives = asked(seven, "drive", "drain", drive, "--wait")["drives"]
    assert (drives[0]["shards"], drives[0]["plan"]) == (0, "drain")
    assert not list((seven.drives[0] / "segments").iterdir())
    objects.put_some("drained")
    objects.check()
    assert asked(seven, "drive", "list")["drives"][0]["shards"] == 0
    assert asked(seven, "census")["report"]["all_whole"]
    # The plan outlives the process.
    seven.restart()
    assert asked(seven, "drive", "list")["drives"][0]["state"] == "draining"
    assert asked(seven, "drive", "undrain", drive)["drives"][0]["state"] == "healthy"
    objects.check()


def test_a_drive_is_removed_only_if_enough_are_left(seven, objects):
    drive = str(seven.drives[1])
    assert "--yes" in ctl(seven, "drive", "remove", drive, code=FAILED)
    drives = asked(seven, "--yes", "drive", "remove", drive, "--wait")["drives"]
    assert drive not in [d["path"] for d in drives] and len(drives) == 6
    assert "needs 6" in ctl(seven, "--yes", "drive", "remove", str(seven.drives[2]), code=FAILED)
    objects.put_some("removed")
    objects.check()
    assert not list((seven.drives[1] / "identity").iterdir()), "its copy of the master key is gone"
    # Its directory is empty now, and may join again.
    assert len(asked(seven, "drive", "add", drive, "--wait")["drives"]) == 7
    status = asked(seven, "repair", "status")
    assert status["balanced"] and (status["shards_left"], status["shards_to_balance"]) == (0, 0)
    objects.check()
    seven.restart()
    objects.check()
    assert asked(seven, "census")["report"]["all_whole"]


def test_a_lost_drive_is_replaced_at_the_same_path(new_server):
    """A disk dies, a new one is mounted where it was: one command, and everything is whole again."""
    six = new_server("ctl-six", drives=6, redundancy="4+2")
    objects = Objects(six, "replace")
    objects.put_some("before")
    lost = six.drives[3]
    lost.rename(lost.with_name("dead"))
    lost.mkdir()
    basalt.until(
        lambda: asked(six, "drive", "list")["drives"][3]["state"] == "missing", 30, "the drive is missed"
    )
    objects.put_some("meanwhile")
    assert not asked(six, "census", code=NOT_WHOLE)["report"]["all_whole"]
    drives = asked(six, "--yes", "drive", "replace", lost, lost, "--wait")["drives"]
    assert len(drives) == 6 and {d["state"] for d in drives} == {"healthy"}
    assert asked(six, "repair", "status", "--wait")["shards_left"] == 0
    report = asked(six, "census")["report"]
    assert report["all_whole"], report
    assert report["runs"]["degraded"] == 0
    objects.check()
    six.restart()
    objects.check()
    assert asked(six, "census")["report"]["all_whole"]
    # The dead disk comes back later, at another place: it is a member no more, and no harm.
    six.stop()
    six.drives.append(lost.with_name("dead"))
    six.start()
    assert len(asked(six, "drive", "list")["drives"]) == 6
    objects.check()


def basalt_command(*command, code=OK):
    """Runs the server's own program; what it printed, after its exit code was checked."""
    done = subprocess.run(
        [basalt.BINARY, *map(str, command)], env=basalt.clean_env(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if code in (OK, NOT_WHOLE) else done.stderr


def test_an_fsck_names_what_does_not_agree_online_and_offline(new_server):
    four = new_server("ctl-fsck", drives=4)
    objects = Objects(four, "fsck")
    objects.put_some("before")
    upload = objects.s3.create_multipart_upload(Bucket="fsck", Key="upload")["UploadId"]
    objects.s3.upload_part(Bucket="fsck", Key="upload", UploadId=upload, PartNumber=1, Body=noise("part", MIB))
    report = asked(four, "fsck")["report"]
    assert report["all_agree"] and report["findings"] == [], report
    assert report["names"] == len(objects.known) + 1 and report["owners"] == report["extents"] > 0
    assert "findings             0" in ctl(four, "fsck")
    # Work that goes on meanwhile is no finding.
    for n in range(3):
        objects.put_some(f"meanwhile{n}")
        objects.s3.delete_object(Bucket="fsck", Key=f"meanwhile{n}/3")
        del objects.known[f"meanwhile{n}/3"]
        assert asked(four, "fsck")["report"]["all_agree"]
    (four.drives[2] / "segments" / "notes.txt").write_text("not ours")
    said = ctl(four, "fsck", code=NOT_WHOLE)
    assert f"file: {four.drives[2]}/segments/notes.txt is no segment file" in said, said
    assert "another process uses this drive" in basalt_command("fsck", *four.drives, code=FAILED)
    four.stop()
    before = sorted((p, p.stat().st_mtime_ns, p.stat().st_size) for d in four.drives for p in d.rglob("*"))
    report = json.loads(basalt_command("fsck", "--json", *four.drives, code=NOT_WHOLE))
    assert [f["kind"] for f in report["findings"]] == ["file"], report
    (four.drives[2] / "segments" / "notes.txt").unlink()
    shard = max((four.drives[1] / "segments").iterdir(), key=lambda p: p.stat().st_size)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-8192])
    said = ctl(four, "fsck", "--offline", *four.drives, code=NOT_WHOLE)
    assert f"{shard} is {len(whole) - 8192} bytes long" in said and "scrub start" in said, said
    shard.write_bytes(whole)
    assert "0 findings" in ctl(four, "fsck", "--offline", *four.drives)
    after = sorted((p, p.stat().st_mtime_ns, p.stat().st_size) for d in four.drives for p in d.rglob("*"))
    changed = {p for p, *_ in set(before) ^ set(after)} - {shard, four.drives[2] / "segments", shard.parent}
    assert changed == {four.drives[2] / "segments" / "notes.txt"}, "it changes nothing"
    four.start()
    objects.check()


def test_a_gc_says_what_it_would_free_and_then_frees_it(new_server):
    three = new_server("ctl-gc", drives=3)
    objects = Objects(three, "gc-bucket")
    objects.put_some("kept")
    for n in range(4):
        objects.s3.put_object(Bucket="gc-bucket", Key=f"gone/{n}", Body=noise(f"gone{n}", 20 * MIB))
    # A restart seals what was open.
    three.restart()
    known = {p.name for d in three.drives for p in (d / "segments").iterdir()}
    for n in range(4):
        objects.s3.delete_object(Bucket="gc-bucket", Key=f"gone/{n}")
    would = asked(three, "gc", "--dry-run")["report"]
    assert would["dry_run"] and would["left_over_files"]["count"] == 0
    assert "WOULD FREE" in ctl(three, "gc", "--dry-run")
    before, _ = three.allocated_bytes()
    freed = asked(three, "gc")["report"]
    assert not freed["dry_run"]
    # Background work may have been faster with some of it.
    after, _ = basalt.until(
        lambda: (bytes := three.allocated_bytes())[0] < before - 80 * MIB and bytes, 30, "80 MiB and parity are free"
    )
    gone = known - {p.name for d in three.drives for p in (d / "segments").iterdir()}
    left_over = three.drives[0] / "segments" / sorted(gone)[0]
    left_over.write_bytes(b"left over")
    assert "removes it" in ctl(three, "fsck", code=NOT_WHOLE)
    assert asked(three, "gc", "--dry-run")["report"]["left_over_files"] == {"count": 1, "bytes": 9}
    assert left_over.exists()
    assert asked(three, "gc")["report"]["left_over_files"]["count"] == 1
    assert not left_over.exists()
    assert asked(three, "fsck")["report"]["all_agree"]
    objects.check()


def put_many(server, bucket, count):
    """Small objects, whose bytes are metadata: enough of them make runs. A client library would take most of the time."""
    bodies = {f"small/{n:05}": noise(f"small{n}", 1_000) for n in range(count)}
    items = list(bodies.items())

    def put(part):
        with wire.Wire(server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY)) as one:
            for key, body in part:
                answer = one.request("PUT", f"/{bucket}/{key}", body=body)
                assert answer.status == 200, answer

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(put, [items[n::16] for n in range(16)]))
    return {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}


def metric(server, name):
    text = urllib.request.urlopen(server.admin + "/metrics", timeout=5).read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))


def destroy_metadata(server):
    """Removes the log, the term and every metadata run from all drives; how many run files there were."""
    segments = [p for d in server.drives for p in (d / "segments").iterdir()]
    runs = {p.name.split(".")[0] for p in segments if b"BASALTRN" in p.read_bytes()}
    for drive in server.drives:
        for path in (drive / "log").glob("*"):
            path.unlink()
        (drive / "identity" / "term").unlink(missing_ok=True)
    gone = [p for p in segments if p.name.split(".")[0] in runs]
    for path in gone:
        path.unlink()
    return len(gone)


def test_a_new_machine_is_restored_from_a_dump_of_metadata(new_server):
    """The runbook's recipe: all metadata is lost on every drive, the drives move to a new machine."""
    old = new_server("ctl-meta", drives=4, memory=192 << 20)
    objects = Objects(old, "meta")
    objects.put_some("first")
    objects.known.update(put_many(old, "meta", 9_000))
    upload = objects.s3.create_multipart_upload(Bucket="meta", Key="upload")["UploadId"]
    part = objects.s3.upload_part(Bucket="meta", Key="upload", UploadId=upload, PartNumber=1, Body=noise("p", 6 * MIB))
    objects.put_some("second")
    basalt.until(lambda: metric(old, "basalt_metadata_runs") > 0, 60, "a metadata run")
    dump = old.root / "metadata.dump"
    done = asked(old, "meta", "export", dump)
    assert done["bytes"] == dump.stat().st_size > 9 * MIB and dump.stat().st_mode & 0o777 == 0o600
    assert "there already" in ctl(old, "meta", "export", dump, code=FAILED)
    assert basalt.SECRET_KEY.encode() not in dump.read_bytes()
    assert old.stop() == 0
    assert "would overwrite" in ctl(old, "meta", "import", dump, *old.drives, code=FAILED)
    assert destroy_metadata(old) > 0
    # A server on what is left refuses, and says what to do.
    with pytest.raises(AssertionError, match="import-metadata"):
        old.start()
    new = new_server("ctl-meta-new", drives=4, memory=192 << 20, start=False)
    for source, target in zip(old.drives, new.drives):
        source.rename(target)
    damaged = old.root / "damaged.dump"
    damaged.write_bytes(dump.read_bytes()[:-1])
    assert "ends after" in ctl(new, "meta", "import", damaged, *new.drives, code=FAILED)
    said = ctl(new, "meta", "import", dump, *new.drives)
    assert "metadata is restored" in said, said
    assert "would overwrite" in ctl(new, "meta", "import", dump, *new.drives, code=FAILED)
    # What tells the pool's master key from others came with the dump.
    wrong = old.root / "wrong.key"
    wrong.write_text("cd" * 32)
    new.env["BASALT_MASTER_KEY_FILE"] = wrong
    with pytest.raises(AssertionError, match="the master key is not the one"):
        new.start()
    del new.env["BASALT_MASTER_KEY_FILE"]
    new.start()
    objects.come_to(new)
    objects.check()
    assert asked(new, "fsck")["report"]["all_agree"]
    report = asked(new, "census")["report"]
    assert report["all_whole"] and report["objects"]["whole"] + report["inline_objects"] == len(objects.known)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    objects.s3.complete_multipart_upload(Bucket="meta", Key="upload", UploadId=upload, MultipartUpload=parts)
    assert objects.s3.get_object(Bucket="meta", Key="upload")["Body"].read() == noise("p", 6 * MIB)
    objects.put_some("third")
    new.restart()
    objects.check()


def test_an_import_that_is_killed_at_any_moment_is_finished_by_running_it_again(new_server):
    three = new_server("ctl-cut-import", drives=3)
    objects = Objects(three, "cut")
    objects.put_some("some")
    objects.known.update(put_many(three, "cut", 3_000))
    dump = three.root / "metadata.dump"
    ctl(three, "meta", "export", dump)
    assert three.stop() == 0
    destroy_metadata(three)
    seconds, killed = 0.01, 0
    command = [basalt.BINARY, "import-metadata", dump, *three.drives]
    while True:
        with open(three.root / "import.log", "wb") as log:
            importing = subprocess.Popen(command, env=basalt.clean_env(), stdout=log, stderr=log)
        try:
            assert importing.wait(seconds) == 0, (three.root / "import.log").read_text()
            break
        except subprocess.TimeoutExpired:
            importing.kill()
            importing.wait()
        killed, seconds = killed + 1, seconds * 1.5
        before = three.log_path.stat().st_size
        try:
            three.start()
            break  # It had ended, and only its process was there yet.
        except AssertionError:
            assert b"import-metadata" in three.log_path.read_bytes()[before:], three.log_tail()
    assert killed > 2
    if not three.running():
        three.start()
    objects.s3 = s3_client(three)
    objects.check()
    assert asked(three, "fsck")["report"]["all_agree"]


def test_an_old_dump_restores_what_is_still_there_and_says_what_is_not(new_server):
    five = new_server("ctl-old-dump", drives=5, redundancy="2+1")
    objects = Objects(five, "old")
    objects.put_some("kept")
    five.restart()
    dump = five.root / "old.dump"
    ctl(five, "meta", "export", dump)
    # A shard moves, and something is written, after the dump.
    full = max(asked(five, "drive", "list")["drives"], key=lambda drive: drive["shards"])
    asked(five, "drive", "drain", full["path"], "--wait")
    objects.s3.put_object(Bucket="old", Key="newer", Body=noise("newer", 3 * MIB))
    five.stop()
    destroy_metadata(five)
    said = ctl(five, "meta", "import", dump, *five.drives, code=FAILED)
    assert "newer than the dump" in said and "--discard-newer" in said, said
    said = ctl(five, "meta", "import", "--discard-newer", dump, *five.drives)
    assert "found on another drive" in said, said
    five.start()
    objects.check()
    with pytest.raises(objects.s3.exceptions.NoSuchKey):
        objects.s3.get_object(Bucket="old", Key="newer")
    assert asked(five, "fsck")["report"]["all_agree"]
    assert asked(five, "repair", "status", "--wait")["shards_left"] == 0
    assert asked(five, "census")["report"]["all_whole"]
    five.stop()
    destroy_metadata(five)
    for drive in five.drives[1:]:
        for path in (drive / "segments").iterdir():
            path.unlink()
    said = ctl(five, "meta", "import", "--discard-newer", dump, *five.drives, code=FAILED)
    assert "have too few shards" in said and "--accept-loss" in said, said


def run_ctl(*command, **env):
    """basaltctl with exactly this environment: exit code, stdout, stderr."""
    done = subprocess.run(
        [BASALTCTL, *map(str, command)],
        env=basalt.clean_env(**env), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_profile_says_where_the_server_is_and_who_asks(seven, tmp_path):
    home = tmp_path / "home"
    file = home / ".config" / "basalt" / "config.toml"
    file.parent.mkdir(parents=True)
    keys = f"access_key = '{basalt.ACCESS_KEY}'\nsecret_key = '{basalt.SECRET_KEY}'\n"
    file.write_text(f"[lab]\nendpoint = '{seven.admin}'\n{keys}[away]\nendpoint = 'http://127.0.0.1:1'\n{keys}")
    file.chmod(0o644)
    code, _, err = run_ctl("--profile", "lab", "drive", "list", HOME=home)
    assert code == FAILED and "chmod 600" in err and basalt.SECRET_KEY not in err
    file.chmod(0o600)
    assert run_ctl("--profile", "lab", "drive", "list", HOME=home)[0] == OK
    assert run_ctl("drive", "list", HOME=home, BASALT_PROFILE="lab")[0] == OK
    elsewhere = tmp_path / "profiles.toml"
    file.rename(elsewhere)
    assert run_ctl("--profile", "lab", "drive", "list", HOME=home)[0] == FAILED
    named = {"HOME": home, "BASALT_CONFIG_FILE": elsewhere}
    assert run_ctl("--profile", "lab", "drive", "list", **named)[0] == OK
    # A flag wins over the environment, the environment over the profile.
    code, _, err = run_ctl("--profile", "away", "drive", "list", **named)
    assert code == FAILED and "127.0.0.1:1" in err
    assert run_ctl("--profile", "away", "drive", "list", **named, BASALT_ADMIN_ENDPOINT=seven.admin)[0] == OK
    wrong = {**named, "BASALT_ADMIN_ENDPOINT": "http://127.0.0.1:1"}
    assert run_ctl("--profile", "lab", "drive", "list", **wrong)[0] == FAILED
    assert run_ctl("--profile", "lab", "--endpoint", seven.admin, "drive", "list", **wrong)[0] == OK
    code, _, err = run_ctl("--profile", "nowhere", "drive", "list", **named)
    assert code == FAILED and "it has away, lab" in err


def test_a_support_bundle_says_much_and_no_secret(new_server, tmp_path):
    three = new_server("ctl-support", drives=3)
    Objects(three, "support").put_some("some")
    assert asked(three, "census")["report"]["all_whole"]
    file = tmp_path / "basalt.tar"
    assert "send it to whoever asked" in ctl(three, "support-bundle", file)
    assert "there already" in ctl(three, "support-bundle", file, code=FAILED)
    assert "signature" in ctl(three, "support-bundle", tmp_path / "x.tar", keys=("e2eroot", "wrong"), code=FAILED)
    assert not (tmp_path / "x.tar").exists() and file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        parts = {pathlib.Path(m.name).name: archive.extractfile(m).read() for m in archive.getmembers()}
    facts = json.loads(parts["support.json"])
    assert facts["configuration"]["drives"] == [str(d) for d in three.drives]
    assert facts["pool"]["redundancy"] == "2+1" and len(facts["pool"]["members"]) == 3
    assert facts["machine"]["kernel"].startswith("Linux ") and facts["machine"]["cpus"] >= 1
    assert len(json.loads(parts["drives.json"])["drives"]) == 3
    assert json.loads(parts["census.json"])["report"]["all_whole"]
    assert b"basalt_metadata_commits_total" in parts["metrics.txt"] and parts["readyz.txt"].startswith(b"ready")
    assert b"stderr" in parts["about.txt"]
    lines = [json.loads(line) for line in parts["log.jsonl"].splitlines()]
    assert lines and all({"timestamp", "level", "target", "message"} <= line.keys() for line in lines)
    assert "access" not in {line["target"] for line in lines}
    # The key lies behind magic, version and pool id.
    key = (three.drives[0] / "identity" / "master.key").read_bytes()[8 + 4 + 16 :][:32]
    raw = file.read_bytes()
    for secret in [basalt.SECRET_KEY.encode(), key, key.hex().encode(), base64.b64encode(key), b"Signature="]:
        assert len(secret) >= 10 and secret not in raw, secret
    assert basalt.SECRET_KEY.encode() not in json.dumps(asked(three, "support-bundle", tmp_path / "y.tar")).encode()


def test_progress_is_shown_on_a_terminal_and_nowhere_else(seven, objects):
    env = basalt.clean_env(
        BASALT_ADMIN_ENDPOINT=seven.admin,
        BASALT_ROOT_ACCESS_KEY=basalt.ACCESS_KEY,
        BASALT_ROOT_SECRET_KEY=basalt.SECRET_KEY,
    )
    for command in (["census"], ["fsck"], ["scrub", "start", "--wait"]):
        main, terminal = pty.openpty()
        try:
            done = subprocess.run(
                [BASALTCTL, "--json", *command], env=env, stdout=subprocess.PIPE, stderr=terminal, timeout=240
            )
            assert done.returncode == OK and json.loads(done.stdout)
            shown = os.read(main, 1 << 16)
        finally:
            os.close(main)
            os.close(terminal)
        assert b"\r\x1b[K" in shown, command
        piped = subprocess.run([BASALTCTL, *command], env=env, capture_output=True, timeout=240)
        assert piped.returncode == OK and piped.stderr == b"" and b"\r" not in piped.stdout, command
