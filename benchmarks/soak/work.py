"""The tasks of a soak: of each kind how it is asked for, and how it has to end.

Every task carries its own number, prints it or makes something of it, and writes its starts into the ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.local_mesh import Doc
from benchmarks.starts import Ledger
from openclaw.handlers.values import encode

OUTPUT_BYTES = 200_000  # more than rides in a record
INPUT_BYTES = 300_000
FOR_EVER = "sleep 3600"
OVERLAPPED = 99
POISON = "poison:"


@dataclass(slots=True)
class Wanted:
    """How a task has to end. `lost_too`: it may also end `lost`. `cancel`: it is cancelled once it is accepted."""

    state: str = "succeeded"
    exit_code: int = 0
    stdout: str | None = None  # its SHA-256
    output: str | None = None  # that of its only file
    value: int | None = None
    lost_too: bool = False
    cancel: bool = False
    ledger: bool = True


@dataclass(slots=True)
class Task:
    """One task that is asked for. `id` is there once it has been accepted."""

    number: int
    kind: str
    request: Doc
    wanted: Wanted
    id: str = ""
    submitted_to: str = ""
    guardians: list[str] = field(default_factory=list)


class Maker:
    """Draws tasks: the same `rng` gives the same ones."""

    def __init__(self, rng: Random, ledger: Ledger, inputs: Path) -> None:
        self._rng, self._ledger, self._inputs = rng, ledger, inputs
        self._count = 0
        inputs.mkdir(exist_ok=True)

    def draw(self) -> Task:
        self._count += 1
        kind = self._rng.choices(list(KINDS), [share for share, _ in KINDS.values()])[0]
        request, wanted = KINDS[kind][1](self, self._count)
        return Task(
            self._count, kind, {"kind": "command", "name": f"{kind}-{self._count}", **request}, wanted
        )

    def command(self, body: str, kind: str) -> Doc:
        return {"argv": self._ledger.command(body, kind)}

    def short(self, number: int) -> tuple[Doc, Wanted]:
        return self.command(f"echo {number}", "short"), Wanted(stdout=sha256(f"{number}\n"))

    def sleep(self, number: int) -> tuple[Doc, Wanted]:
        seconds = self._rng.uniform(0.2, 12.0)
        return self.command(f"sleep {seconds:.1f}; echo {number}", "sleep"), Wanted(
            stdout=sha256(f"{number}\n")
        )

    def once(self, number: int) -> tuple[Doc, Wanted]:
        seconds = self._rng.uniform(0.0, 8.0)
        request = {**self.command(f"sleep {seconds:.1f}; echo {number}", "once"), "once": True}
        return request, Wanted(stdout=sha256(f"{number}\n"), lost_too=True)

    def alone(self, number: int) -> tuple[Doc, Wanted]:
        """Holds a lock for as long as anything of it lives: an attempt beside another fails with OVERLAPPED."""
        seconds = self._rng.uniform(0.0, 8.0)
        lock = self._inputs / f"lock-{number}"
        body = f"flock -n -E {OVERLAPPED} {lock} sh -c 'sleep {seconds:.1f}; echo {number}'"
        return {**self.command(body, "alone"), "no_overlap": True}, Wanted(stdout=sha256(f"{number}\n"))

    def third(self, number: int) -> tuple[Doc, Wanted]:
        """Succeeds at its third attempt."""
        body = f"echo {number}; [ $OPENCLAW_MESH_ATTEMPT -ge 3 ]"
        return {**self.command(body, "third"), "retries": 5}, Wanted(stdout=sha256(f"{number}\n"))

    def failing(self, _number: int) -> tuple[Doc, Wanted]:
        return {**self.command("exit 3", "failing"), "retries": 1}, Wanted("failed", 3)

    def timeout(self, _number: int) -> tuple[Doc, Wanted]:
        return {**self.command(FOR_EVER, "timeout"), "timeout_s": 2}, Wanted("timed_out", 124)

    def cancelled(self, _number: int) -> tuple[Doc, Wanted]:
        return self.command(FOR_EVER, "cancelled"), Wanted("cancelled", 130, cancel=True)

    def output(self, number: int) -> tuple[Doc, Wanted]:
        whole = (f"{number}\n" * OUTPUT_BYTES)[:OUTPUT_BYTES]
        return self.command(f"yes {number} | head -c {OUTPUT_BYTES}", "output"), Wanted(stdout=sha256(whole))

    def files(self, number: int) -> tuple[Doc, Wanted]:
        text = (f"line {number}\n" * INPUT_BYTES)[:INPUT_BYTES]
        source = self._inputs / f"in-{number}"
        source.write_text(text)
        request = self.command("tr a-z A-Z < in > out", "files")
        request |= {"inputs": [{"path": str(source), "name": "in"}], "outputs": ["out"]}
        return request, Wanted(output=sha256(text.upper()))

    def keyed(self, number: int) -> tuple[Doc, Wanted]:
        """Submitted twice, at two nodes."""
        request = {**self.command(f"echo {number}", "keyed"), "key": f"soak-{number}"}
        return request, Wanted(stdout=sha256(f"{number}\n"))

    def handler(self, number: int) -> tuple[Doc, Wanted]:
        args = encode([[number, self._rng.uniform(0.0, 0.5)], {}])
        request = {"kind": "handler", "handler": "soak.double", "args": args}
        return request, Wanted(value=2 * number, ledger=False)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


KINDS: dict[str, tuple[int, Callable[[Maker, int], tuple[Doc, Wanted]]]] = {
    "short": (20, Maker.short),
    "sleep": (18, Maker.sleep),
    "once": (13, Maker.once),
    "alone": (8, Maker.alone),
    "third": (5, Maker.third),
    "failing": (4, Maker.failing),
    "timeout": (3, Maker.timeout),
    "cancelled": (5, Maker.cancelled),
    "output": (7, Maker.output),
    "files": (6, Maker.files),
    "keyed": (4, Maker.keyed),
    "handler": (7, Maker.handler),
}
"""By kind: of a hundred tasks how many, and how one is made."""


def differences(task: Task, doc: Doc) -> list[str]:
    """What of the end of a task is not as it has to be; its bytes are looked at elsewhere."""
    wanted, state, exit_code = task.wanted, doc["state"], doc["exit_code"]
    if state == "lost" and wanted.lost_too:
        return []
    if state == "failed" and str(doc["error"] or "").startswith(POISON):
        return []  # it was running at three deaths, and says so
    found = []
    if (state, exit_code) != (wanted.state, wanted.exit_code):
        said = f"it ended {state} ({exit_code}) and not {wanted.state} ({wanted.exit_code}): {doc['error']}"
        found.append(said)
    elif wanted.value is not None and doc["result"]["value"] != wanted.value:
        found.append(f"its value is {doc['result']['value']} and not {wanted.value}")
    elif wanted.output is not None:
        files = [(file["name"], file["sha256"]) for file in doc["result"]["outputs"]]
        if files != [("out", wanted.output)]:
            found.append(f"its outputs are {files}")
    return found
