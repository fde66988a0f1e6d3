"""Real nodes, one on each host of a LAN, started as a person would start them: the default port, mDNS on.

The control socket is a file and the file system is shared, so commands need not be run on the host.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from netns import Host, Lan

from benchmarks.local_mesh import OPENCLAW, Doc, Failed, LocalNode, wait_until

START_S = 45.0
VIEW_S = 60.0


class HostNode(LocalNode):
    """A node that lives on `host`. `folder` holds its state and its home."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        home = folder / f"home-{host.name}"
        home.mkdir(parents=True, exist_ok=True)
        environ = {key: value for key, value in os.environ.items() if not key.startswith("OPENCLAW_MESH_")}
        super().__init__(
            host.name,
            folder / host.name,
            {**environ, "HOME": str(home), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        )

    def spawn(self, *options: str, join: str | None = None) -> Self:
        """Begins to start; `started` waits for it."""
        argv = [*OPENCLAW, "node", "start", "--state-dir", str(self.state_dir), "--name", self.name, "--json"]
        argv += ["--slots", "4", *options, *(["--join", join] if join else [])]
        with open(self.state_dir.with_suffix(".log"), "a") as log:
            self.process = subprocess.Popen(
                self.host.argv(*argv), stdout=subprocess.PIPE, stderr=log, text=True, env=self.environ
            )
        return self

    def started(self, timeout_s: float = START_S) -> Self:
        """Returns once the node serves; `Failed` with its log when it does not."""
        assert self.process is not None
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        line = self.process.stdout.readline() if readable else ""
        self.process.stdout.close()
        if not line.startswith('{"event"'):
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self.name} did not start: {line}{self.log()}")
        self.ready = json.loads(line)
        return self

    def start(self, *options: str, join: str | None = None) -> Self:
        return self.spawn(*options, join=join).started()

    def crash(self) -> None:
        """As when the machine loses power: every process on the host, at once."""
        assert self.process is not None
        self.host.signal(signal.SIGKILL)
        self.process.wait()

    def states(self) -> dict[str, str]:
        """How this node sees each node, by name."""
        return {row["name"]: row["state"] for row in self.control("nodes")["nodes"]}

    def row(self, name: str) -> Doc:
        return next(row for row in self.control("nodes")["nodes"] if row["name"] == name)

    def leader_name(self) -> str | None:
        leader = self.control("leader")["leader"]
        return str(leader["name"]) if leader else None

    def runs(self, *options: str, word: str = "hello") -> str:
        """Runs a task from here and returns the name of the node that ran it."""
        doc = json.loads(self.ok("run", "--json", *options, "--", "echo", word, timeout_s=VIEW_S))
        if doc["state"] != "succeeded" or doc["exit_code"] != 0:
            raise Failed(f"a task from {self.name} ended {doc}")
        return str(doc["node"]["name"])


class HostMesh:
    """A node on each of `count` hosts; the first makes the mesh, the others have nothing but a token."""

    def __init__(self, folder: Path, count: int) -> None:
        self.lan = Lan(count)
        self.nodes = [HostNode(host, folder) for host in self.lan.hosts]

    def __enter__(self) -> Self:
        self.lan.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for node in self.nodes:
                for log in (node.state_dir.with_suffix(".log"), node.state_dir / "node.log"):
                    if log.exists():
                        print(f"--- {log.name} of {node.name}\n{log.read_text()[-6000:]}")
        self.lan.close()
        for node in self.nodes:
            if node.process is not None:
                node.process.wait()

    def start(self, *options: str, addresses: bool = False) -> Self:
        """All nodes, each joined by a token of its own, and one view."""
        first, *others = self.nodes
        first.start(*options)
        for node in others:
            node.spawn(*options, join=self.token(addresses))
        for node in others:
            node.started()
        self.agree(self.nodes)
        return self

    def token(self, addresses: bool = False) -> str:
        hints = () if addresses else ("--no-addresses",)
        return str(self.nodes[0].json("node", "invite", *hints)["token"])

    def agree(self, nodes: Iterable[HostNode], timeout_s: float = VIEW_S) -> str:
        """Until `nodes` see exactly each other alive and name one of them as leader; returns its name."""
        nodes = list(nodes)
        names = {node.name for node in nodes}

        def agreed() -> bool:
            views = [{name for name, state in node.states().items() if state == "alive"} for node in nodes]
            leaders = {node.leader_name() for node in nodes}
            return all(view == names for view in views) and len(leaders) == 1 and leaders <= names

        until(agreed, f"one view and one leader of {sorted(names)}", nodes, timeout_s)
        return str(nodes[0].leader_name())


def until(fact: Callable[[], bool], what: str, nodes: Iterable[HostNode], timeout_s: float = VIEW_S) -> None:
    """Polls for `fact`; when it never comes, says how each node sees the mesh."""
    try:
        wait_until(fact, what, timeout_s, every_s=0.1)
    except Failed as failed:
        views = "; ".join(f"{node.name}: {node.states()} led by {node.leader_name()}" for node in nodes)
        raise Failed(f"{failed} ({views})") from None
