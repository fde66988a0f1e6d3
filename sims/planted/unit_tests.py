"""Which planted bugs the core's own unit tests let pass: `pytest -p sims.planted.unit_tests` plants one in a test run.

`passed(mutant)` runs the unit tests of the core in a process of their own, with the bug in it from before the first
test is read to the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from sims.planted import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
CORE = ("tests/gossip", "tests/election", "tests/exec", "tests/test_node.py")
PLANT = "OPENCLAW_SIMS_PLANT"
PATIENCE_S = 120
"""What is not done by then never will be: the bug makes it wait for ever."""


def room(mutant: Mutant) -> str:
    """The tests of the room in which it is planted."""
    module = mutant.owner.__name__ if isinstance(mutant.owner, ModuleType) else mutant.owner.__module__
    name = module.split(".")[1]
    return "tests/test_node.py" if name == "node" else f"tests/{name}"


def passed(name: str, tests: tuple[str, ...] = CORE) -> bool:
    """Whether every one of these tests passes while the bug of this name is planted."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", __name__, *tests]
    with TemporaryDirectory() as examples:  # what fails only here is not to be tried again elsewhere
        env = {**os.environ, PLANT: name, "HYPOTHESIS_STORAGE_DIRECTORY": examples}
        try:
            ran = subprocess.run(
                command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, check=False, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            return False
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {ran.returncode}: it did not come to the tests")
    return ran.returncode == 0


_planted = ExitStack()


def pytest_configure() -> None:
    for mutant in MUTANTS:
        if mutant.name == os.environ.get(PLANT):
            _planted.enter_context(mutant.planted())


def pytest_unconfigure() -> None:
    _planted.close()
