"""The command line as an operator meets it: what a start prints, what it refuses, and the admin listener."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

import server as basalt
import wire
from conftest import noise, s3_client

MIB = 1 << 20


@pytest.fixture(autouse=True)
def ours():
    if "E2E_ENDPOINT" in os.environ:
        pytest.skip("SKIPPED: needs control of the process; E2E_ENDPOINT names a foreign server")


def run(*words, env=None, timeout=20):
    """Runs `basalt WORDS...` to its end."""
    return subprocess.run(
        [str(basalt.BINARY), *map(str, words)],
        env=basalt.clean_env(**(env or {})), capture_output=True, text=True, timeout=timeout,
    )


def asked(server, path):
    """What the admin listener says."""
    with urllib.request.urlopen(server.admin + path, timeout=5) as answer:
        return answer.read().decode()


def fails_to_start(server, *said):
    """Starts `server`, expects a quick end with one sentence that holds all of `said`; the sentence."""
    done = subprocess.run(
        server.command(), capture_output=True, text=True, timeout=20,
        env=basalt.clean_env(BASALT_ROOT_ACCESS_KEY=basalt.ACCESS_KEY, BASALT_ROOT_SECRET_KEY=basalt.SECRET_KEY),
    )
    assert done.returncode not in (0, None)
    assert done.returncode > 0, f"it died of signal {-done.returncode}\n{done.stderr}"
    assert "panicked" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for part in said:
        assert str(part) in done.stderr, f"{part!r} is not in: {done.stderr}"
    return last


def test_version_and_check_config(tmp_path):
    done = run("version")
    assert done.returncode == 0
    assert re.search(r"\d+\.\d+\.\d+", done.stdout)
    good = tmp_path / "good.toml"
    good.write_text('listen = "127.0.0.1:9000"\nregion = "eu-north-1"\ndrives = ["./data"]\n')
    assert run("check-config", "--config", good).returncode == 0
    bad = tmp_path / "bad.toml"
    bad.write_text('listten = "127.0.0.1:9000"\n')
    done = run("check-config", "--config", bad)
    assert done.returncode != 0
    assert "listten" in done.stderr + done.stdout


def test_the_first_start_says_all_that_a_user_needs(new_server):
    server = new_server("banner", start=False)
    process = subprocess.Popen(
        server.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=basalt.clean_env()
    )
    server.process = process
    basalt.until(server.ready_or_dead, 30, "ready")
    process.send_signal(signal.SIGTERM)
    shown = process.communicate(timeout=30)[0]
    for part in (f":{server.port}", f":{server.admin_port}", "1+0", "aws ", "mc ", "rclone", "boto3"):
        assert part in shown, f"{part!r} is not in what the first start says:\n{shown}"
    # Credentials were made up, said once, and are not said again.
    process = subprocess.Popen(
        server.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=basalt.clean_env()
    )
    server.process = process
    basalt.until(server.ready_or_dead, 30, "ready")
    process.send_signal(signal.SIGTERM)
    again = process.communicate(timeout=30)[0]
    secrets = [w for w in re.findall(r"[A-Za-z0-9/+_-]{30,}", shown) if w not in again]
    assert secrets, f"no secret was shown on the first start only:\n{shown}"
    assert not any(secret in again for secret in secrets)


def test_no_secret_is_readable_by_others(new_server):
    server = new_server("secrets", start=False)
    process = subprocess.Popen(server.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=basalt.clean_env())
    server.process = process
    basalt.until(server.ready_or_dead, 30, "ready")
    server.stop()
    for path in server.drives[0].rglob("*"):
        if path.is_file() and any(word in path.name.lower() for word in ("key", "secret", "credential")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_stop_and_a_start_keep_everything(new_server):
    server = new_server("again")
    s3 = s3_client(server)
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="k", Body=noise(3 * MIB), Metadata={"m": "1"})
    for _ in range(3):
        assert server.stop() == 0
        server.start()
        got = s3.get_object(Bucket="kept", Key="k")
        assert (got["Body"].read(), got["Metadata"]) == (noise(3 * MIB), {"m": "1"})


def test_a_fresh_drive_is_small(new_server):
    server = new_server("fresh")
    data, log = server.allocated_bytes()
    assert data + log < 100 * MIB


def test_braces_expand_to_drives(new_server):
    server = new_server("braces", drives=3, start=False)
    server.drives = [server.root / "d{1...3}"]
    server.start()
    s3 = s3_client(server)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="k", Body=noise(MIB))
    assert all(any((server.root / f"d{n}").iterdir()) for n in (1, 2, 3))
    server.drives = [server.root / f"d{n}" for n in (3, 1, 2)]  # the order of drives is not their identity
    server.restart()
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == noise(MIB)


def test_the_admin_listener(new_server):
    server = new_server("admin")
    for path in ("/healthz", "/readyz"):
        with urllib.request.urlopen(server.admin + path) as answer:
            assert answer.status == 200
    with urllib.request.urlopen(server.admin + "/metrics") as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/plain")
    for line in text.splitlines():
        assert not line or line.startswith("#") or re.fullmatch(r'[a-zA-Z_:][\w:]*(\{.*\})? [-+.\deEINnaf]+( \d+)?', line), line
    assert f'basalt_drive_healthy{{drive="{server.drives[0]}"}} 1' in text
    for name in (
        "basalt_s3_requests_total", "basalt_store_flushes_total", "basalt_metadata_commits_total", "basalt_cache_bytes",
        "basalt_buffers_taken_bytes",
    ):
        assert re.search(rf"^{name}(\{{.*\}})? \d", text, re.M), name
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(server.admin + "/nothing")
    assert caught.value.code == 404


def test_logs_carry_the_request_id(new_server):
    server = new_server("logs", env={"BASALT_LOG": "info,access=info"})
    s3 = s3_client(server)
    try:
        s3.get_object(Bucket="no-such-bucket-of-ours", Key="k")
    except s3.exceptions.NoSuchBucket as error:
        found = error.response["ResponseMetadata"]["RequestId"]
    basalt.until(lambda: found in server.log_path.read_text(), 5, f"a log line with request id {found}")


def test_a_taken_port_is_refused_in_one_sentence(new_server):
    server = new_server("port", start=False)
    with socket.socket() as taken:
        taken.bind((server.host, server.port))
        taken.listen()
        fails_to_start(server, server.port)


def test_a_missing_parent_is_refused(new_server):
    server = new_server("parent", start=False)
    server.drives = [server.root / "no" / "such" / "parent"]
    fails_to_start(server, server.drives[0].parent)


def test_a_file_in_place_of_a_directory_is_refused(new_server):
    server = new_server("file", start=False)
    server.drives[0].write_text("not a directory")
    fails_to_start(server, server.drives[0])


def test_a_directory_with_other_peoples_files_is_refused(new_server):
    server = new_server("foreign", start=False)
    server.drives[0].mkdir()
    (server.drives[0] / "thesis.doc").write_text("years of work")
    fails_to_start(server, server.drives[0])
    assert (server.drives[0] / "thesis.doc").read_text() == "years of work"


def test_a_second_process_on_the_same_drive_is_refused(new_server):
    first = new_server("twice")
    second = new_server("twice-b", start=False)
    second.drives = first.drives
    fails_to_start(second, first.drives[0])
    s3_client(first).create_bucket(Bucket="still-served")


def test_a_drive_given_twice_is_refused(new_server):
    server = new_server("same", drives=2, start=False)
    server.drives = [server.drives[0], server.drives[0]]
    fails_to_start(server, server.drives[0])


def test_a_drive_of_another_pool_is_refused(new_server):
    one, two = new_server("pool-one", drives=3), new_server("pool-two", drives=3)
    one.stop()
    two.stop()
    one.drives[2] = two.drives[2]
    fails_to_start(one, two.drives[2])


def test_up_to_m_missing_drives_are_named_and_more_are_refused(new_server):
    server = new_server("missing", drives=4, redundancy="2+2")
    s3 = s3_client(server)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="k", Body=noise(5 * MIB))
    server.stop()
    away = server.root / "away"
    away.mkdir()
    for drive in server.drives[:2]:
        shutil.move(drive, away / drive.name)
        drive.mkdir()  # an unmounted mount point: an empty directory
    server.start()
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == noise(5 * MIB)
    assert not any(server.drives[0].iterdir()), "an empty directory was formatted into a drive"
    said = server.log_path.read_text() + server.out_path.read_text()
    for drive in server.drives[:2]:
        assert str(drive) in said, "a missing drive is not named"
        assert str(drive) in asked(server, "/readyz")
        assert f'basalt_drive_healthy{{drive="{drive}"}} 0' in asked(server, "/metrics")
    # 2+2 on two drives: no write could lose two more, so reads are all that is served.
    with pytest.raises(ClientError) as caught:
        s3_client(server, retries={"total_max_attempts": 1}).put_object(Bucket="bucket", Key="new", Body=b"x")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert "read-only" in asked(server, "/readyz")
    server.stop()
    shutil.move(server.drives[2], away / server.drives[2].name)
    server.drives[2].mkdir()
    fails_to_start(server, server.drives[2])
    for drive in server.drives[:3]:
        drive.rmdir()
        shutil.move(away / drive.name, drive)
    server.start()
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == noise(5 * MIB)


def test_another_redundancy_than_the_pools_is_refused(new_server):
    server = new_server("redundancy", drives=3, redundancy="2+1")
    server.stop()
    server.redundancy = "1+2"
    fails_to_start(server, "2+1")


@pytest.mark.parametrize("value", ["0+1", "3+1", "two+one", "40+4", "2"])
def test_an_impossible_redundancy_is_refused(new_server, value):
    server = new_server("impossible", drives=3, redundancy=value, start=False)
    fails_to_start(server, value)


def test_settings_come_from_flags_then_environment_then_file(new_server, tmp_path):
    server = new_server("settings", start=False)
    config = tmp_path / "basalt.toml"
    config.write_text('region = "from-file"\n')
    server.args = ["--config", str(config)]

    def region():
        server.restart()
        with wire.Wire(server, wire.signer(basalt.ACCESS_KEY, basalt.SECRET_KEY, region="nowhere-1")) as w:
            body = w.request("GET", "/").body
        return re.search(rb"<Region>([^<]*)</Region>", body).group(1).decode()

    assert region() == "from-file"
    server.env = {"BASALT_REGION": "from-env"}
    assert region() == "from-env"
    server.args += ["--region", "from-flag"]
    assert region() == "from-flag"
