"""`openclaw.Node`: a node inside a program, as `openclaw node start` runs one in a process of its own.

It lives in a thread. What it runs does not: commands are processes, and handlers run in warm ones, which find them
by name; so a program that defines handlers guards what it does when it is run (`if __name__ == "__main__":`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from openclaw.api.tasks import Command, Doc, MeshFuture, Skill
from openclaw.client import Client
from openclaw.config import START_S_MAX
from openclaw.errors import MeshError, Unavailable
from openclaw.handlers.declared import reference

if TYPE_CHECKING:
    from openclaw.api.mesh import Mesh
    from openclaw.runtime.app import App

STOP_GRACE_S = 10.0
STOP_MARGIN_S = 20.0


class Node:
    """`settings` are those of `config.toml` and of `openclaw node start`: name, port, slots, label, handlers, …

    `start` brings its parts up in the order in which they depend on each other, and takes all of them down again
    when one cannot. Every method may be called from any thread.
    """

    def __init__(
        self, state_dir: str | Path | None = None, *, join: str | None = None, **settings: Any
    ) -> None:
        from openclaw.cli.options import start_options
        from openclaw.cli.settings import SETTINGS, resolve, state_folder

        if unknown := sorted(settings.keys() - {setting.name for setting in SETTINGS}):
            known = ", ".join(setting.name for setting in SETTINGS)
            raise TypeError(f"a node has no setting {unknown[0]!r}; there are: {known}")
        self.state_dir = state_folder(None if state_dir is None else str(state_dir))
        options = start_options(self.state_dir, resolve(self.state_dir, settings), join=join)
        # Its processes find what this program finds.
        self._options = replace(options, handlers_path=(*options.handlers_path, *filter(None, sys.path)))
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._app: App | None = None
        self._mesh: Mesh | None = None

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Returns when the node serves. Raises what kept it from that; then nothing of it is left."""
        if self._thread is not None:
            raise RuntimeError("this node was started already; make another Node")
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._live, name="openclaw-node", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_S_MAX):
            raise Unavailable(f"the node is not ready after {START_S_MAX:g} s; see {self.state_dir}/node.log")
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def stop(self, grace_s: float = STOP_GRACE_S, *, keep: bool = False) -> None:
        """What it runs ends and goes elsewhere, or with `keep` stays with its executor. Bounded; once is enough."""
        thread, loop, app = self._thread, self._loop, self._app
        if thread is None or not thread.is_alive() or loop is None or app is None:
            return
        if self._mesh is not None:
            self._mesh.abandon("its node was stopped")
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself just now
            loop.call_soon_threadsafe(app.stop, keep, grace_s, False)
        thread.join(grace_s + STOP_MARGIN_S)
        if thread.is_alive():
            raise MeshError(f"the node is still stopping; see {self.state_dir}/node.log", kind="stopping")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _live(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from openclaw.runtime.app import App

        async with contextlib.AsyncExitStack() as stack:
            app = App(self._options, stack)
            await app.start()
            self._app, self._loop = app, asyncio.get_running_loop()
            self._ready.set()
            await app.run()

    # --- tasks -----------------------------------------------------------------------------------

    def register_task_handler(self, task_type: str, handler: Callable[..., Any]) -> None:
        """From now on this node runs tasks of that type by calling `handler`, in a process of its own.

        Raises `MeshError` where that process could not find it: it must stand at the top level of a module.
        """
        named = reference(task_type, handler)
        if self._app is None or self._loop is None:
            self._options = replace(self._options, handlers=(*self._options.handlers, named))
            return
        asyncio.run_coroutine_threadsafe(self._app.offer(named), self._loop).result()

    def submit_task(
        self, task: str | Command | Skill | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> MeshFuture:
        """As `Mesh.submit`: anywhere in the mesh, owned by this node."""
        if self._mesh is None:
            from openclaw.api.mesh import Mesh

            self._mesh = Mesh(self.state_dir)
        return self._mesh.submit(task, *args, **kwargs)

    # --- what the command line shows -------------------------------------------------------------

    def get_cluster_status(self) -> Doc:
        """`openclaw status --json`."""
        return self._ask("status")

    def get_scheduler_status(self) -> Doc:
        """Its part about the scheduler, and who leads."""
        status = self._ask("status")
        return {**status["scheduler"], "leader": status["leader"]}

    def get_skill_status(self) -> Doc:
        """`openclaw skill list --json`: of the whole mesh, with the nodes that have each and what others lack."""
        return self._ask("skills")

    def get_available_skills(self) -> list[str]:
        """Names of the skills that some node of the mesh can run now, sorted."""
        nodes = self._ask("nodes", watch=False)["nodes"]
        return sorted({name for node in nodes if node["state"] == "alive" for name in node["skills"]})

    def get_system_metrics(self) -> Doc:
        """This machine in percent, and how many tasks run on it."""
        from openclaw.runtime.metrics import read

        metrics = read(self.state_dir)
        return {
            "cpu_usage": metrics.cpu_percent,
            "memory_usage": metrics.memory_percent,
            "disk_usage": metrics.disk_percent,
            "running_tasks": self._ask("node_status")["self"]["running"],
        }

    def get_node_info(self) -> Doc:
        """Who and where this node is; `tailscale_ip` is None where there is no Tailscale."""
        row = self._ask("node_status")["self"]
        hosts = [address.rpartition(":")[0].strip("[]") for address in row["addresses"]]
        return {
            "id": row["id"],
            "name": row["name"],
            "hostname": row["hostname"],
            "platform": row["platform"],
            "architecture": row["arch"],
            "ip": hosts[0] if hosts else None,
            "tailscale_ip": row["tailscale"],
        }

    def _ask(self, op: str, **fields: Any) -> Doc:
        with Client(self.state_dir) as client:
            return {key: value for key, value in client.call(op, **fields).items() if key != "ok"}
