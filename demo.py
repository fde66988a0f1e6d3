"""Three real nodes on this machine, real work from each of them, and the leader killed on purpose.

Exits with 0 only if every task's output was what this script computed on its own.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.local_mesh import Failed, LocalMesh, LocalNode, wait_until

ROOT = Path(__file__).parent
FILES_PER_NODE = 12
COUNT_AND_HASH = (
    "import hashlib, pathlib, sys; data = pathlib.Path(sys.argv[1]).read_bytes(); "
    "print(data.count(b'\\n'), hashlib.sha256(data).hexdigest())"
)


def say(text: str) -> None:
    print(text, flush=True)


def expected(file: Path) -> str:
    data = file.read_bytes()
    lines = data.count(bytes([10]))
    return f"{lines} {hashlib.sha256(data).hexdigest()}"


def repository_files() -> list[Path]:
    files = sorted(ROOT.glob("openclaw/**/*.py")) + sorted(ROOT.glob("*.md"))
    return [file for file in files if file.stat().st_size]


def work_from(node: LocalNode, files: list[Path]) -> Counter[str]:
    """One task a file, from this node; who ran how many."""
    lines = "\n".join(str(file) for file in files)
    out = node.ok("map", "-", "--", sys.executable, "-c", COUNT_AND_HASH, "{}", stdin=lines)
    if out.splitlines() != [expected(file) for file in files]:
        raise Failed(f"wrong output from {node.name}:\n{out}")
    rows = node.json("tasks")["tasks"]
    return Counter(row["node"]["name"] for row in rows[: len(files)])


def show(table: dict[str, Counter[str]], names: list[str]) -> None:
    say("\n  submitted from  " + "".join(f"{f'on {name}':>12}" for name in names))
    for submitter, ran in table.items():
        say(f"  {submitter:<16}" + "".join(f"{ran[name]:>12}" for name in names))


def kill_the_leader(mesh: LocalMesh) -> None:
    leader = mesh.leader()
    survivor = next(node for node in mesh.nodes.values() if node is not leader)
    say(f"\nkill -9 of the leader, {leader.name} …")
    start = time.monotonic()
    leader.kill_all()

    def placed() -> bool:
        status = survivor.control("leader")["leader"]
        return status is not None and status["id"] != leader.id

    wait_until(placed, "a new leader")
    done = survivor.run("run", "--", "echo", "still here")
    if done.stdout != b"still here\n":
        raise Failed(f"after the kill: {done}")
    say(
        f"  next task placed, run and read {time.monotonic() - start:.2f} s after the kill; {mesh_line(survivor)}"
    )


def mesh_line(node: LocalNode) -> str:
    leader = node.control("leader")["leader"]
    return f"{leader['name']} leads term {leader['term']}"


def main() -> int:
    files = repository_files()
    names = ["first", "second", "third"]
    start = time.monotonic()
    with LocalMesh(names, "--slots", "2") as mesh:
        say(f"three nodes, joined by tokens, see each other after {time.monotonic() - start:.2f} s")
        say(mesh["first"].ok("nodes"))
        share = [files[i :: len(names)][:FILES_PER_NODE] for i in range(len(names))]
        show({name: work_from(mesh[name], part) for name, part in zip(names, share, strict=True)}, names)
        kill_the_leader(mesh)
        survivors = [node for node in mesh.nodes.values() if node.process and node.process.poll() is None]
        table = {node.name: work_from(node, share[0]) for node in survivors}
        show(table, [node.name for node in survivors])
        for node in survivors:
            if node.stop() != 0:
                raise Failed(f"{node.name} did not stop cleanly")
    say(f"\nall outputs were right; {time.monotonic() - start:.1f} s in all")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, subprocess.TimeoutExpired) as error:
        say(f"FAILED: {error}")
        sys.exit(1)
