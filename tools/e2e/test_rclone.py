"""rclone with provider=Other and every other setting at its default: no quirks switched on for us."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import odd_keys
import server as basalt
from conftest import noise
from trees import compare, small_tree

RCLONE = shutil.which("rclone", path=str(Path(sys.executable).parent))
MIB = 1 << 20


def rclone_env(server):
    return basalt.clean_env(
        RCLONE_CONFIG="/dev/null",
        RCLONE_CONFIG_E2E_TYPE="s3",
        RCLONE_CONFIG_E2E_PROVIDER="Other",
        RCLONE_CONFIG_E2E_ENDPOINT=server.endpoint,
        RCLONE_CONFIG_E2E_REGION=basalt.REGION,
        RCLONE_CONFIG_E2E_ACCESS_KEY_ID=basalt.ACCESS_KEY,
        RCLONE_CONFIG_E2E_SECRET_ACCESS_KEY=basalt.SECRET_KEY,
    )


@pytest.fixture(scope="module")
def rclone(server):
    def run(*words, check=True, text=True, **how):
        command = [RCLONE, "--retries", "1", "--low-level-retries", "2", *map(str, words)]
        done = subprocess.run(command, env=rclone_env(server), capture_output=True, text=text, timeout=240, **how)
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    return run


def test_mkdir_lsd_and_rmdir(rclone):
    rclone("mkdir", "e2e:rclone-mkdir")
    assert "rclone-mkdir" in rclone("lsd", "e2e:").stdout
    rclone("mkdir", "e2e:rclone-mkdir")  # an existing bucket of one's own is no error
    rclone("rmdir", "e2e:rclone-mkdir")
    assert "rclone-mkdir" not in rclone("lsd", "e2e:").stdout


@pytest.mark.over_https
def test_sync_up_check_and_sync_down(rclone, module_bucket, tmp_path):
    tree = small_tree(tmp_path / "tree", files=300)
    where = f"e2e:{module_bucket}/tree"
    rclone("sync", tree, where)
    assert "0 differences found" in rclone("check", tree, where).stderr
    assert "0 differences found" in rclone("check", "--download", tree, where).stderr
    again = rclone("sync", "-v", "--stats-one-line", tree, where)
    assert "Copied (" not in again.stderr  # times and sizes match, so nothing is sent twice
    rclone("sync", where, tmp_path / "back")
    assert compare(tree, tmp_path / "back") == 300
    victim = next(p for p in sorted(tree.rglob("*")) if p.is_file())
    victim.unlink()
    rclone("sync", tree, where)
    assert len(json.loads(rclone("lsjson", "-R", "--files-only", where).stdout)) == 299


def test_multipart_with_the_md5_of_the_whole(rclone, module_bucket, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(noise(21 * MIB))
    where = f"e2e:{module_bucket}/large"
    rclone("--s3-upload-cutoff", "8M", "--s3-chunk-size", "5M", "copyto", path, where)
    rclone("--s3-upload-cutoff", "8M", "check", path.parent, f"e2e:{module_bucket}", "--include", "/large")
    rclone("--multi-thread-cutoff", "5M", "copyto", where, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_copyto_moveto_and_lsjson(rclone, module_bucket, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(noise(5000))
    where = f"e2e:{module_bucket}/one"
    rclone("copyto", path, f"{where}/a b+c.bin")
    rclone("copyto", f"{where}/a b+c.bin", f"{where}/copied")
    rclone("moveto", f"{where}/copied", f"{where}/moved")
    listed = {o["Path"]: o for o in json.loads(rclone("lsjson", "--hash", where).stdout)}
    assert set(listed) == {"a b+c.bin", "moved"}
    assert listed["moved"]["Size"] == 5000
    assert rclone("cat", f"{where}/moved", text=False).stdout == path.read_bytes()
    assert rclone("cat", "--offset", "100", "--count", "50", f"{where}/moved", text=False).stdout == path.read_bytes()[100:150]


@pytest.mark.over_https
def test_rcat_streams_without_a_length(rclone, module_bucket):
    body = noise(6 * MIB, 2)
    rclone("--streaming-upload-cutoff", "1M", "rcat", f"e2e:{module_bucket}/rcat", input=body, text=False)
    assert rclone("cat", f"e2e:{module_bucket}/rcat", text=False).stdout == body


def test_odd_names_sync_both_ways(rclone, module_bucket, tmp_path):
    tree = tmp_path / "odd"
    for key in [*odd_keys.PLAIN, *odd_keys.CONTROL]:
        if "\\" in key:
            continue
        path = tree / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    rclone("sync", tree, f"e2e:{module_bucket}/odd")
    rclone("sync", f"e2e:{module_bucket}/odd", tmp_path / "back")
    compare(tree, tmp_path / "back")


def test_purge_empties_and_removes_a_bucket(rclone, tmp_path):
    tree = small_tree(tmp_path / "tree", files=30)
    rclone("copy", tree, "e2e:rclone-purged/x")
    rclone("purge", "e2e:rclone-purged")
    assert "rclone-purged" not in rclone("lsd", "e2e:").stdout
