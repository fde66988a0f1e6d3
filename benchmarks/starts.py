"""What started and what ended, as the tasks themselves write it down, in a file that no part of the mesh writes.

Promises: whoever reads it counts every start of a command wrapped by `Ledger.command`, under which token it was, and
with what it ended; `account` says of each start too many which attempts there were and what the mesh says of why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.local_mesh import Doc

SHORT_CHARS = 8  # of a node's id in a task's story

# One `write` of less than a page to a file that is open for appending: lines of different processes do not mix.
_WRAP = (
    'echo "start $OPENCLAW_MESH_RUN $OPENCLAW_MESH_NODE $$ {tag}" >> {path}; '
    '({body}); code=$?; echo "end $OPENCLAW_MESH_RUN $code" >> {path}; exit $code'
)


@dataclass(frozen=True, slots=True)
class Start:
    """One start on `node`. `run` is unique to it: the state folder, the task, and the token, which `owner` minted
    at the task's so manieth takeover. `code` is None until it ends."""

    run: str
    task: str
    takeover: int
    owner: str
    attempt: int
    node: str
    pid: int
    tag: str
    code: int | None = None

    def __str__(self) -> str:
        ended = "was ended from outside, or goes on" if self.code is None else f"ended with {self.code}"
        owner = (
            f"{self.owner[:SHORT_CHARS]}, who took it over," if self.takeover else self.owner[:SHORT_CHARS]
        )
        return f"attempt {self.attempt} on {self.node}, given out by {owner} {ended}"


class Ledger:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def command(self, body: str = "true", tag: str = "x") -> list[str]:
        """The shell `body`, between two lines of this ledger; `tag` is a word."""
        return ["sh", "-c", _WRAP.format(tag=tag, path=self.path, body=body)]

    def starts(self) -> dict[str, list[Start]]:
        """By task, in the order in which they were written."""
        by_run: dict[str, Start] = {}
        for line in self.path.read_text().splitlines():
            match line.split():
                case ["start", run, node, pid, tag]:
                    _, task, takeover, owner, _, attempt = run.split(".")
                    by_run[run] = Start(run, task, int(takeover), owner, int(attempt), node, int(pid), tag)
                case ["end", run, code]:
                    by_run[run] = replace(by_run[run], code=int(code))
        found: dict[str, list[Start]] = {}
        for start in by_run.values():
            found.setdefault(start.task, []).append(start)
        return found


def duplicates(starts: Sequence[Start]) -> int:
    """Starts beyond the first that are no retry of one that ended with a failure."""
    failures = sum(start.code not in (None, 0) for start in starts)
    return max(0, len(starts) - 1 - failures)


def account(doc: Doc, starts: Sequence[Start]) -> str:
    """Of a task that started too often: each of its attempts, and each move that has a reason."""
    told = [
        f"    {move['n']:>2} {move['state']}: {move['reason']}" for move in doc["story"][1:] if move["reason"]
    ]
    kept = [f"    also ended: {text}" for text in doc["also_ended"]]
    head = f"task {doc['id']} ({doc['state']}) started {len(starts)} times, {duplicates(starts)} too many"
    return "\n".join([head, *(f"  {start}" for start in starts), *told, *kept])
