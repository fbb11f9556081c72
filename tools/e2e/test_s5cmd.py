"""s5cmd: parallel copies of whole trees, its pipe and cat, and command files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import server as basalt
from conftest import noise
from trees import compare, small_tree

S5CMD = shutil.which("s5cmd", path=str(Path(sys.executable).parent))
MIB = 1 << 20


def s5cmd_env():
    return basalt.clean_env(
        AWS_ACCESS_KEY_ID=basalt.ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=basalt.SECRET_KEY,
        AWS_REGION=basalt.REGION,
        AWS_EC2_METADATA_DISABLED="true",
    )


def s5cmd_command(server, *words):
    return [S5CMD, "--endpoint-url", server.endpoint, "--retry-count", "2", *map(str, words)]


@pytest.fixture(scope="module")
def s5cmd(server):
    def run(*words, check=True, text=True, **how):
        done = subprocess.run(
            s5cmd_command(server, *words), env=s5cmd_env(), capture_output=True, text=text, timeout=240, **how
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    return run


def test_make_bucket_and_remove_bucket(s5cmd):
    s5cmd("mb", "s3://s5cmd-mb-rb")
    assert "s5cmd-mb-rb" in s5cmd("ls").stdout
    s5cmd("rb", "s3://s5cmd-mb-rb")
    assert "s5cmd-mb-rb" not in s5cmd("ls").stdout


@pytest.mark.over_https
def test_cp_in_parts_both_ways(s5cmd, module_bucket, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(noise(33 * MIB + 5))
    s5cmd("cp", "--part-size", "5", "--concurrency", "4", path, f"s3://{module_bucket}/large")
    s5cmd("cp", "--part-size", "5", "--concurrency", "4", f"s3://{module_bucket}/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_a_tree_goes_up_and_comes_back(s5cmd, module_bucket, tmp_path):
    tree = small_tree(tmp_path / "tree", files=1500)
    where = f"s3://{module_bucket}/tree"
    s5cmd("cp", f"{tree}/", f"{where}/")
    assert len(s5cmd("ls", f"{where}/*").stdout.splitlines()) == 1500
    s5cmd("cp", f"{where}/*", tmp_path / "back/")
    assert compare(tree, tmp_path / "back") == 1500
    s5cmd("rm", f"{where}/*")
    assert s5cmd("ls", f"{where}/*", check=False).stdout == ""


def test_sync_uploads_only_what_changed_and_deletes(s5cmd, module_bucket, tmp_path):
    tree = small_tree(tmp_path / "tree", files=60)
    where = f"s3://{module_bucket}/sync"
    assert len(s5cmd("sync", f"{tree}/", f"{where}/").stdout.splitlines()) == 60
    assert s5cmd("sync", "--size-only", f"{tree}/", f"{where}/").stdout == ""
    victim = next(p for p in sorted(tree.rglob("*")) if p.is_file())
    victim.unlink()
    assert "rm " in s5cmd("sync", "--size-only", "--delete", f"{tree}/", f"{where}/").stdout
    s5cmd("sync", f"{where}/*", tmp_path / "back/")
    assert compare(tree, tmp_path / "back") == 59


@pytest.mark.over_https
def test_pipe_cat_head_and_du(s5cmd, module_bucket):
    body = noise(7 * MIB, 3)
    where = f"s3://{module_bucket}/piped key+%"
    s5cmd("pipe", where, input=body, text=False)
    assert s5cmd("cat", where, text=False).stdout == body
    assert str(len(body)) in s5cmd("head", where).stdout
    assert str(len(body)) in s5cmd("du", f"s3://{module_bucket}/piped*").stdout


def test_run_executes_a_file_of_commands(s5cmd, module_bucket, tmp_path):
    tree = small_tree(tmp_path / "tree", files=40)
    files = [p for p in sorted(tree.rglob("*")) if p.is_file()]
    commands = tmp_path / "commands"
    commands.write_text("".join(f'cp "{p}" "s3://{module_bucket}/run/{p.name}"\n' for p in files))
    s5cmd("run", commands)
    s5cmd("cp", f"s3://{module_bucket}/run/{files[0].name}", f"s3://{module_bucket}/run-copy")
    s5cmd("mv", f"s3://{module_bucket}/run-copy", f"s3://{module_bucket}/run-moved")
    assert s5cmd("cat", f"s3://{module_bucket}/run-moved", text=False).stdout == files[0].read_bytes()
    commands.write_text("".join(f'rm "s3://{module_bucket}/run/{p.name}"\n' for p in files))
    s5cmd("run", commands)
    assert s5cmd("ls", f"s3://{module_bucket}/run/*", check=False).stdout == ""


def test_a_missing_object_is_an_error(s5cmd, module_bucket, tmp_path):
    done = s5cmd("cp", f"s3://{module_bucket}/no-such", tmp_path / "f", check=False)
    assert done.returncode != 0
    assert "404" in done.stderr or "NoSuchKey" in done.stderr or "not found" in done.stderr.lower()
