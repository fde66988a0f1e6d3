"""No-op Python tasks: this mesh beside what a person would pick instead, all in one run.

    python -m benchmarks.handlers [--tasks 10000] [--single 300] [--rounds 3] [--only NAME;NAME]

Each contender is one scheduler or broker and two workers of one slot on this machine; each is started, measured and
stopped in turn, `--rounds` times. Bulk is from the first submission to the last result in hand; single is one task
after the other, submission to result. The mesh has every task and every result on disk (fsync) before it answers;
the table says what the others keep. The others come with `pip install '.[bench]'`; Celery also needs redis-server
on PATH and NATS nats-server; who is not there is left out with a word.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import openclaw
from benchmarks.local_mesh import LocalMesh, wait_until

HERE = Path(__file__).parent
READY_S = 60.0


@openclaw.handler
def increment(value: int) -> int:
    return value + 1


class Contender(NamedTuple):
    """`one` runs a task and returns its result; `many` runs that many and returns the results."""

    one: Callable[[int], int]
    many: Callable[[int], list[int]]


Opening = Callable[[], "contextmanager[Contender]"]


# --- ours ----------------------------------------------------------------------------------------


@contextmanager
def mesh_of_three() -> Iterator[LocalMesh]:
    """A submitter that runs nothing of this kind, and two workers."""
    with LocalMesh(("owner",), "--slots", "1") as mesh:
        for name in ("one", "two"):
            invite = mesh["owner"].json("node", "invite")["token"]
            options = ("--slots", "1", "--handlers", __file__)
            mesh.nodes[name] = mesh.node(name).start(*options, join=invite)
        mesh.settle()

        def known() -> bool:
            return sum(bool(row["handlers"]) for row in mesh["owner"].control("nodes")["nodes"]) == 2

        wait_until(known, "both workers to offer their handlers")
        yield mesh


@contextmanager
def ours() -> Iterator[Contender]:
    with mesh_of_three() as nodes, openclaw.Mesh(nodes["owner"].state_dir) as mesh:
        yield Contender(
            lambda n: int(mesh.submit("increment", n).result(READY_S)),
            lambda count: list(mesh.map("increment", range(count))),
        )


# --- the others ----------------------------------------------------------------------------------


@contextmanager
def dask(saturation: str = "") -> Iterator[Contender]:
    """Two worker processes of one thread; `saturation` "inf" is its best setting for many tiny tasks."""
    import dask as settings
    from distributed import Client, LocalCluster

    values = {"distributed.scheduler.worker-saturation": float(saturation)} if saturation else {}
    with (
        settings.config.set(values),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        yield Contender(
            lambda n: client.submit(increment, n, pure=False).result(),
            lambda count: client.gather(client.map(increment, range(count), pure=False)),
        )


@contextmanager
def ray() -> Iterator[Contender]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        remote = ray.remote(increment)
        yield Contender(
            lambda n: ray.get(remote.remote(n)),
            lambda count: ray.get([remote.remote(n) for n in range(count)]),
        )
    finally:
        ray.shutdown()


@contextmanager
def parsl() -> Iterator[Contender]:
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    with tempfile.TemporaryDirectory() as folder:
        executor = HighThroughputExecutor(
            max_workers_per_node=1,
            provider=LocalProvider(init_blocks=2, min_blocks=2, max_blocks=2),
            address="127.0.0.1",
        )
        with parsl.load(Config(executors=[executor], run_dir=folder)):
            app = parsl.python_app(increment)
            yield Contender(
                lambda n: app(n).result(),
                lambda count: [each.result() for each in [app(n) for n in range(count)]],
            )
        parsl.clear()


@contextmanager
def serving(*argv: str, port: int) -> Iterator[None]:
    """A server that answers on a local port, ended afterwards."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers, f"{argv[0]} to answer", READY_S)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def workers(count: int, *argv: str, environ: dict[str, str]) -> Iterator[None]:
    processes = [
        subprocess.Popen(
            [sys.executable, *argv], env=os.environ | environ, cwd=HERE.parent,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(count)
    ]  # fmt: skip
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextmanager
def celery() -> Iterator[Contender]:
    """Its own defaults, with Redis as broker and for results."""
    # One port for all rounds: its application and its connections live as long as this process.
    url = os.environ.setdefault("BENCH_REDIS", f"redis://127.0.0.1:{free_port()}/0")
    port = int(url.removesuffix("/0").rpartition(":")[2])
    from benchmarks.handlers_celery import task

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(serving("redis-server", "--port", str(port), "--dir", folder, port=port))
        argv = ("-m", "celery", "-A", "benchmarks.handlers_celery", "worker", "-c", "1", "-l", "ERROR")
        stack.enter_context(workers(2, *argv, "-n", "%%h-%%p", environ={"BENCH_REDIS": url}))
        yield Contender(
            lambda n: task.delay(n).get(timeout=READY_S),
            lambda count: [each.get(timeout=READY_S) for each in [task.delay(n) for n in range(count)]],
        )


@contextmanager
def nats(fetch: int) -> Iterator[Contender]:
    """A work queue on file storage, as its clients do it; two workers that fetch so many messages at a time."""
    from benchmarks.handlers_nats import Queue

    port = free_port()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(serving("nats-server", "-js", "-sd", folder, "-p", str(port), port=port))
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        queue = loop.run_until_complete(Queue.open(port))
        stack.callback(lambda: loop.run_until_complete(queue.close()))
        argv = ("-m", "benchmarks.handlers_nats", str(port), str(fetch))
        stack.enter_context(workers(2, *argv, environ={}))
        yield Contender(
            lambda n: loop.run_until_complete(queue.run([n]))[0],
            lambda count: loop.run_until_complete(queue.run(range(count))),
        )


class Entry(NamedTuple):
    open: Callable[[], Any]
    keeps: str
    package: str = ""
    server: str = ""


ENTRIES = {
    "openclaw mesh": Entry(ours, "tasks and results on disk, fsync"),
    "Dask": Entry(dask, "in memory", "distributed"),
    "Dask, saturation inf": Entry(lambda: dask("inf"), "in memory", "distributed"),
    "Ray": Entry(ray, "in memory", "ray"),
    "Parsl HTEX": Entry(parsl, "in memory", "parsl"),
    "Celery, Redis": Entry(celery, "in Redis' memory, snapshots", "celery", "redis-server"),
    "NATS JetStream, fetch 1": Entry(lambda: nats(1), "tasks in a file, no fsync", "nats", "nats-server"),
    "NATS JetStream, fetch 64": Entry(lambda: nats(64), "tasks in a file, no fsync", "nats", "nats-server"),
}


def missing(entry: Entry) -> str:
    if entry.package and importlib.util.find_spec(entry.package) is None:
        return f"left out: no Python package {entry.package} (pip install '.[bench]')"
    if entry.server and shutil.which(entry.server) is None:
        return f"left out: no {entry.server} on PATH"
    return ""


def measured(entry: Entry, tasks: int, single: int) -> tuple[float, float, float]:
    """Tasks/s in bulk; p50 and p99 of one in milliseconds. Every result is checked."""
    with entry.open() as contender:
        assert contender.many(200) == list(range(1, 201))
        times = []
        for n in range(single):
            start = time.perf_counter()
            assert contender.one(n) == n + 1
            times.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        assert contender.many(tasks) == list(range(1, tasks + 1))
        rate = tasks / (time.perf_counter() - start)
    times.sort()
    return rate, statistics.median(times), times[int(0.99 * (len(times) - 1))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--single", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names, with semicolons between")
    options = parser.parse_args()
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # Parsl starts scripts by name
    )
    wanted = [name for name in options.only.split(";") if name] or list(ENTRIES)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in wanted}
    words = {name: missing(ENTRIES[name]) for name in wanted}
    for _ in range(options.rounds):
        for name in wanted:
            if not words[name]:
                try:
                    found[name].append(measured(ENTRIES[name], options.tasks, options.single))
                except Exception as error:  # one that fails here must not cost the others their row
                    words[name] = " ".join(f"failed: {type(error).__name__}: {error}".split())[:160]
                print(name, found[name][-1:] or words[name], file=sys.stderr, flush=True)
    print(
        f"{options.tasks} no-op tasks, {options.rounds} rounds: median (min–max); load {os.getloadavg()[0]:.1f}\n"
    )
    print("| | bulk, tasks/s | one, p50 ms | one, p99 ms | what it keeps |\n|---|---|---|---|---|")
    for name in wanted:
        if words[name]:
            print(f"| {name} | {words[name]} | | | {ENTRIES[name].keeps} |")
            continue
        cells = [
            f"{statistics.median(column):.{digits}f} ({min(column):.{digits}f}–{max(column):.{digits}f})"
            for digits, column in zip((0, 2, 2), zip(*found[name], strict=True), strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} | {ENTRIES[name].keeps} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
