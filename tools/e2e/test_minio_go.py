"""minio-go v7: the SDK under warp and mc, by a program of our own in go/."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import server as basalt


@pytest.fixture(scope="module")
def program():
    if "E2E_GO" in os.environ:
        return os.environ["E2E_GO"]
    assert shutil.which("go"), "Go is needed to build tools/e2e/go"
    path = basalt.TARGET / "e2e-go"
    env = {**basalt.HOST_ENV, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    subprocess.run(
        ["go", "build", "-trimpath", "-o", str(path), "."], cwd=Path(__file__).parent / "go", env=env, check=True
    )
    return path


@pytest.mark.over_https
def test_minio_go(server, program):
    env = basalt.clean_env(
        E2E_ENDPOINT=f"{server.host}:{server.port}",
        E2E_ACCESS_KEY=basalt.ACCESS_KEY,
        E2E_SECRET_KEY=basalt.SECRET_KEY,
        E2E_SECURE="true" if server.secure else "false",
    )
    done = subprocess.run([program], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 14, done.stdout
