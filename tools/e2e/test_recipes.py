"""The recipes of docs/clients.md and docs/encryption.md, run as they are printed there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import server as basalt

PAGES = [basalt.REPO / "docs" / name for name in ("clients.md", "encryption.md")]
RECIPE = re.compile(r"^## (?P<client>[^\n]+)\n(?:(?!^## ).)*?^```(?P<kind>sh|python)\n(?P<text>.*?)^```$", re.M | re.S)


def recipes():
    found = [(page.stem, one) for page in PAGES for one in RECIPE.finditer(page.read_text())]
    return [
        pytest.param(one["kind"], one["text"], id=f"{page}-{re.split(r'[ ,]', one['client'])[0]}")
        for page, one in found
    ]


def test_every_fenced_recipe_is_found():
    fenced = [re.findall(r"^```(?:sh|python)$", page.read_text(), re.M) for page in PAGES]
    assert len(recipes()) == sum(map(len, fenced)) >= 11


@pytest.mark.parametrize("kind, text", recipes())
def test_recipe(server, tmp_path, kind, text):
    tools = Path(sys.executable).parent
    env = basalt.clean_env(
        BASALT_ENDPOINT=server.endpoint,
        AWS_ACCESS_KEY_ID=basalt.ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=basalt.SECRET_KEY,
        AWS_EC2_METADATA_DISABLED="true",
        RCLONE_CONFIG="/dev/null",
        HOME=tmp_path,
        PATH=f"{tools}:{os.environ['PATH']}",
    )
    command = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
