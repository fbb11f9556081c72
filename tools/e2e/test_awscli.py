"""aws-cli: `aws s3` with its transfer manager, and a few `aws s3api` calls."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import odd_keys
import server as basalt
from conftest import noise
from trees import compare, small_tree

AWS = Path(sys.executable).parent / "aws"
MIB = 1 << 20


@pytest.fixture(scope="module")
def aws(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("aws")
    (home / "config").write_text(
        "[default]\nregion = us-east-1\ns3 =\n  multipart_threshold = 8MB\n  multipart_chunksize = 5MB\n"
        "  addressing_style = path\n"
    )
    env = basalt.clean_env(
        AWS_ACCESS_KEY_ID=basalt.ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=basalt.SECRET_KEY,
        AWS_CONFIG_FILE=home / "config",
        AWS_SHARED_CREDENTIALS_FILE=home / "none",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_MAX_ATTEMPTS="1",
        PYTHONUTF8="1",
    )

    def run(*words, check=True, text=True, **how):
        command = [sys.executable, str(AWS), "--endpoint-url", server.endpoint, *map(str, words)]
        done = subprocess.run(command, env=env, capture_output=True, text=text, timeout=240, **how)
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    return run


def test_make_bucket_list_and_remove_bucket(aws):
    aws("s3", "mb", "s3://awscli-mb-rb")
    assert "awscli-mb-rb" in aws("s3", "ls").stdout
    aws("s3", "rb", "s3://awscli-mb-rb")
    assert "awscli-mb-rb" not in aws("s3", "ls").stdout


@pytest.mark.over_https
def test_cp_small_and_multipart_both_ways(aws, module_bucket, tmp_path):
    for name, size in (("small", 1000), ("empty", 0), ("large", 23 * MIB + 1)):
        path = tmp_path / name
        path.write_bytes(noise(size, size))
        aws("s3", "cp", path, f"s3://{module_bucket}/cp/{name}")
        aws("s3", "cp", f"s3://{module_bucket}/cp/{name}", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == path.read_bytes()
    head = json.loads(aws("s3api", "head-object", "--bucket", module_bucket, "--key", "cp/large").stdout)
    assert head["ETag"].endswith('-5"')
    assert head["ContentLength"] == 23 * MIB + 1


def test_cp_from_stdin_and_to_stdout(aws, module_bucket):
    body = noise(9 * MIB, 4)
    aws("s3", "cp", "-", f"s3://{module_bucket}/piped", input=body, text=False)
    assert aws("s3", "cp", f"s3://{module_bucket}/piped", "-", text=False).stdout == body


def test_sync_up_list_sync_down_and_remove(aws, module_bucket, tmp_path):
    tree = small_tree(tmp_path / "tree", files=150)
    where = f"s3://{module_bucket}/tree"
    aws("s3", "sync", tree, where, "--quiet")
    assert aws("s3", "sync", tree, where).stdout == ""  # nothing is uploaded twice
    assert len(aws("s3", "ls", where + "/", "--recursive").stdout.splitlines()) == 150
    assert "PRE" in aws("s3", "ls", where + "/").stdout
    aws("s3", "sync", where, tmp_path / "back", "--quiet")
    compare(tree, tmp_path / "back")
    victim = next(p for p in sorted(tree.rglob("*")) if p.is_file())
    victim.unlink()
    aws("s3", "sync", tree, where, "--delete", "--quiet")
    assert len(aws("s3", "ls", where + "/", "--recursive").stdout.splitlines()) == 149
    aws("s3", "rm", where, "--recursive", "--quiet")
    assert aws("s3", "ls", where + "/", check=False).stdout == ""


def test_cp_and_mv_inside_the_server(aws, module_bucket, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(noise(3 * MIB))
    where = f"s3://{module_bucket}/inside"
    aws("s3", "cp", path, f"{where}/one")
    aws("s3", "cp", f"{where}/one", f"{where}/two")
    aws("s3", "mv", f"{where}/two", f"{where}/three")
    names = [line.split()[-1] for line in aws("s3", "ls", f"{where}/").stdout.splitlines()]
    assert names == ["one", "three"]
    aws("s3", "cp", f"{where}/three", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_odd_names_sync_both_ways(aws, module_bucket, tmp_path):
    tree = tmp_path / "odd"
    for key in odd_keys.PLAIN:
        if len(key.encode()) > 200 or "\\" in key:
            continue
        path = tree / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    aws("s3", "sync", tree, f"s3://{module_bucket}/odd", "--quiet")
    aws("s3", "sync", f"s3://{module_bucket}/odd", tmp_path / "back", "--quiet")
    compare(tree, tmp_path / "back")


def test_presign(aws, module_bucket, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"presigned by aws")
    aws("s3", "cp", path, f"s3://{module_bucket}/presign me")
    url = aws("s3", "presign", f"s3://{module_bucket}/presign me", "--expires-in", "60").stdout.strip()
    got = subprocess.run(["curl", "-sSf", url], capture_output=True, check=True)
    assert got.stdout == b"presigned by aws"


def test_errors_are_told_to_the_user(aws, module_bucket, tmp_path):
    done = aws("s3", "cp", f"s3://{module_bucket}/no-such", tmp_path / "f", check=False)
    assert done.returncode != 0
    assert "404" in done.stderr
    done = aws("s3", "ls", "s3://no-such-bucket-of-ours", check=False)
    assert "NoSuchBucket" in done.stderr
