"""Real nodes on this machine, as a person would start them: own state folders, free ports, tokens over CURVE.

Used by the demo, the benchmarks and the tests of the whole system. Everything that was started is ended, and what
it says in its logs can be read until then.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Doc = dict[str, Any]
OPENCLAW = (sys.executable, "-m", "openclaw")
WAIT_S = 30.0


class Failed(AssertionError):
    """A command did not do what was asked; carries what it printed."""


class LocalNode:
    """One `openclaw node start` in the foreground, with its state folder."""

    def __init__(self, name: str, state_dir: Path, environ: dict[str, str]) -> None:
        self.name, self.state_dir, self.environ = name, state_dir, environ
        self.process: subprocess.Popen[str] | None = None
        self.ready: Doc = {}

    def start(self, *options: str, join: str | None = None) -> Self:
        """Returns once the node serves."""
        argv = [*OPENCLAW, "node", "start", "--state-dir", str(self.state_dir), "--name", self.name, "--json"]
        if "--port" not in options:
            argv += ["--port", "0", "--bind", "127.0.0.1"]
        argv += ["--no-mdns", "--no-tailscale", *options]
        if join is not None:
            argv += ["--join", join]
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()  # of its former life
        with open(self.state_dir.with_suffix(".log"), "a") as log:
            self.process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environ, start_new_session=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} did not start (exit {self.process.wait()}):\n{self.log()}")
        self.ready = json.loads(line)
        return self

    @property
    def id(self) -> str:
        return str(self.ready["node"]["id"])

    def log(self) -> str:
        return self.state_dir.with_suffix(".log").read_text()

    def run(
        self, *argv: str, stdin: str | bytes | None = None, timeout_s: float = WAIT_S
    ) -> subprocess.CompletedProcess[bytes]:
        """Any `openclaw` command against this node."""
        return subprocess.run(
            [*OPENCLAW, *argv],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=timeout_s,
            env={**self.environ, "OPENCLAW_MESH_STATE_DIR": str(self.state_dir)},
            check=False,
        )

    def ok(self, *argv: str, stdin: str | bytes | None = None, timeout_s: float = WAIT_S) -> str:
        """The command's stdout; fails unless it exits with 0."""
        done = self.run(*argv, stdin=stdin, timeout_s=timeout_s)
        if done.returncode != 0:
            raise Failed(
                f"openclaw {' '.join(argv)} on {self.name}: exit {done.returncode}\n"
                f"{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}"
            )
        return done.stdout.decode()

    def json(self, *argv: str) -> Doc:
        return dict(json.loads(self.ok(*argv, "--json")))

    def control(self, op: str, **fields: Any) -> Doc:
        """One request over the control socket, without the cost of a process: for polling."""
        from openclaw.client import Client

        with Client(self.state_dir) as client:
            return client.call(op, **fields)

    def frames(self, op: str, **fields: Any) -> list[Doc]:
        """All frames of the answer to one request."""
        from openclaw.client import Client

        with Client(self.state_dir) as client:
            return list(client.stream(op, **fields))

    def kill(self) -> None:
        """SIGKILL of the node's own process; its executor stays."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_all(self) -> None:
        """SIGKILL of the node and of its executor, as if the machine had died (its commands are left to chance)."""
        self.kill()
        for pid in executor_pids(self.state_dir):
            os.kill(pid, signal.SIGKILL)

    def stop(self, timeout_s: float = WAIT_S) -> int:
        """A clean stop, as by Ctrl-C."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout_s)


class LocalMesh:
    """A mesh of named nodes; the first one makes it, the others join by real tokens."""

    def __init__(self, names: Sequence[str] = ("a", "b", "c"), *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="openclaw-mesh-"))
        environ = {key: value for key, value in os.environ.items() if not key.startswith("OPENCLAW_MESH_")}
        environ |= {"NO_COLOR": "1", "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}
        self.environ = environ
        self._options = options
        self.nodes = {name: self.node(name) for name in names}

    def node(self, name: str) -> LocalNode:
        return LocalNode(name, self.folder / name, self.environ)

    def __getitem__(self, name: str) -> LocalNode:
        return self.nodes[name]

    def __enter__(self) -> Self:
        try:
            first, *others = self.nodes.values()
            first.start(*self._options)
            for node in others:
                self.join(node)
            self.settle()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for node in self.nodes.values():
                if node.state_dir.with_suffix(".log").exists():
                    print(f"--- log of {node.name}\n{node.log()[-4000:]}", file=sys.stderr)
        self.close()

    def join(self, node: LocalNode) -> LocalNode:
        first = next(iter(self.nodes.values()))
        self.nodes[node.name] = node
        return node.start(*self._options, join=first.json("node", "invite")["token"])

    def settle(self) -> None:
        """Until every node sees every other alive and all name one leader."""
        names = {node.id for node in self.nodes.values()}

        def agreed() -> bool:
            leaders = set()
            for node in self.nodes.values():
                rows = node.control("nodes")["nodes"]
                if {row["id"] for row in rows if row["state"] == "alive"} != names:
                    return False
                leader = node.control("leader")["leader"]
                leaders.add(leader["id"] if leader else None)
            return len(leaders) == 1 and None not in leaders

        wait_until(agreed, "every node to see all others and one leader")

    def leader(self) -> LocalNode:
        """The node that the first live one follows."""
        live = next(node for node in self.nodes.values() if node.process and node.process.poll() is None)
        leader = live.control("leader")["leader"]
        return next(node for node in self.nodes.values() if leader and node.id == leader["id"])

    def close(self) -> None:
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.process.terminate()
        for node in self.nodes.values():
            if node.process is not None:
                try:
                    node.process.wait(15)
                except subprocess.TimeoutExpired:
                    node.process.kill()
                    node.process.wait()
                if node.process.stdout is not None:
                    node.process.stdout.close()
            for pid in executor_pids(node.state_dir):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def executor_pids(state_dir: Path) -> list[int]:
    """Executors of this state folder that are alive."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        argv = process.info["cmdline"] or []
        if any("openclaw.executor" in word for word in argv) and str(state_dir) in argv:
            found.append(process.pid)
    return found


def wait_until(
    fact: Callable[[], bool], what: str, timeout_s: float = WAIT_S, every_s: float = 0.02
) -> float:
    """Seconds until `fact` held. Fails loudly when it never does."""
    start = time.monotonic()
    while not fact():
        if time.monotonic() - start > timeout_s:
            raise Failed(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(every_s)
    return time.monotonic() - start
