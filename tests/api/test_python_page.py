"""Every example of docs/python.md is run here, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_mesh import LocalMesh, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python *([^\n]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MODULES = {head.removeprefix("module="): code for head, code in BLOCKS if head.startswith("module=")}
PROGRAMS = [code for head, code in BLOCKS if not head.startswith("module=")]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    folder = tmp_path_factory.mktemp("page")
    for name, code in MODULES.items():
        (folder / name).write_text(code)
    with LocalMesh(
        ("here",), "--handlers", str(folder / "shapes.py"), "--handlers", "openclaw.joblib"
    ) as nodes:
        yield nodes


@pytest.mark.parametrize("code", PROGRAMS, ids=lambda code: code.strip().splitlines()[-1].strip()[:40])
def test_an_example_runs(nodes: LocalMesh, tmp_path: Path, code: str) -> None:
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**nodes.environ, "OPENCLAW_MESH_STATE_DIR": str(nodes["here"].state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_commands_that_it_names_work(nodes: LocalMesh) -> None:
    wait_until(lambda: bool(nodes["here"].control("nodes")["nodes"][0]["handlers"]), "handlers")
    assert nodes["here"].ok("run", "-q", "--handler", "double", "--payload", "21") == "42\n"
    assert len(PROGRAMS) >= 6
