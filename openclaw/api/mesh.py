"""`openclaw.Mesh`: the mesh as an executor of the standard library."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from openclaw.api.session import Session
from openclaw.api.tasks import Command, Doc, MeshFuture, Options, Skill
from openclaw.client import Client
from openclaw.config import HANDLER_ARGS_INLINE_BYTES_MAX
from openclaw.errors import Unavailable
from openclaw.handlers.declared import type_of
from openclaw.handlers.values import Unsendable, encode

JOB_BYTES = 6


class Mesh(Executor):
    """Runs tasks on whichever node knows how and has the fewest; `state_dir` names the node that is asked.

    `submit` and `map` take a task type (or the function that was marked with `@openclaw.handler`) and its arguments,
    a `Command` or a `Skill`. Raises `MeshError` (kind no_node) where no node runs.
    """

    def __init__(self, state_dir: str | Path | None = None) -> None:
        from openclaw.cli.settings import state_folder

        folder = state_folder(None if state_dir is None else str(state_dir))
        self._shared = _Shared(folder)
        self._options = Options()
        self._commons: dict[str, Doc] = {}

    def using(self, **options: Any) -> Mesh:
        """The same mesh with other options (`Options` has them): `mesh.using(timeout_s=5).submit("double", 1)`."""
        other = Mesh.__new__(Mesh)
        other._shared, other._commons = self._shared, {}
        other._options = replace(self._options, **options)
        return other

    def submit(
        self, fn: str | Command | Skill | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> MeshFuture:
        """The future of a task. What cannot be sent raises TypeError here and now."""
        if isinstance(fn, Command | Skill) and (args or kwargs):
            raise TypeError(f"a {type(fn).__name__} takes no arguments beside its own")
        if isinstance(fn, Command):
            future = self._future(self._common(fn.request()), b"", check=fn.check)
        elif isinstance(fn, Skill):
            described = self._shared.ask("skill", name=fn.name.partition(":")[0])
            future = self._future(self._common(fn.request(described)), b"")
        else:
            future = self._call(_type_named(fn), args, kwargs)
        self._shared.submit(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing more is taken; with `wait`, until all has ended. Tasks that are left go on without this program."""
        self._shared.shutdown(wait, cancel_futures)

    def abandon(self, why: str) -> None:
        """Nothing more is taken, and what has not ended fails here; its tasks go on."""
        self._shared.abandon(why)

    def status(self) -> Doc:
        """What `openclaw status --json` says."""
        return self._shared.ask("status")

    def nodes(self) -> list[Doc]:
        """What `openclaw nodes --json` says."""
        nodes: list[Doc] = self._shared.ask("nodes", watch=False)["nodes"]
        return nodes

    def progress(self, future: MeshFuture) -> Doc | None:
        """How far the handler says it has come (`done`, `total`, `note`), None when it has said nothing."""
        if future.task is None or future.done():
            return None
        report: Doc | None = self._shared.ask("task_show", id=future.task)["task"]["progress"]
        return report

    def _future(self, common: Doc, args: bytes, *, check: bool = True) -> MeshFuture:
        return MeshFuture(common, args, check=check, wait=self._options.wait)

    def _call(self, task_type: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MeshFuture:
        try:
            data = encode((args, kwargs))
        except Unsendable as error:
            raise TypeError(f"the arguments of {task_type!r} cannot be sent: {error}") from None
        common = self._commons.get(task_type)
        if common is None:
            common = self._common({"kind": "handler", "argv": [], "handler": task_type})
            self._commons[task_type] = common
        if len(data) > HANDLER_ARGS_INLINE_BYTES_MAX:
            return self._future({**common, "stdin": str(self._shared.kept(data)), "take_stdin": True}, b"")
        return self._future(common, data)

    def _common(self, request: Doc) -> Doc:
        options = self._options.request(request.get("needs", {}))
        return {**request, **options, "job": self._shared.job}

    def __enter__(self) -> Self:
        return self


class _Shared:
    """What a mesh and its variants with other options have in common."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._closed = False
        self._session = Session(folder)
        self.job = f"python-{os.urandom(JOB_BYTES).hex()}"

    def submit(self, future: MeshFuture) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._session.submit(future)

    def ask(self, op: str, **fields: Any) -> Doc:
        with Client(self._folder) as client:
            return {key: value for key, value in client.call(op, **fields).items() if key != "ok"}

    def kept(self, data: bytes) -> Path:
        """Arguments that are too large for a record, in a file that the node takes over."""
        folder = self._folder / "files"
        path = folder / f"incoming-{os.getpid()}-{os.urandom(8).hex()}"
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
        return path

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        with self._lock:
            first, self._closed = not self._closed, True
        if cancel_futures:
            for future in self._session.futures():
                future.cancel()
        if wait:
            self._session.drain()
            self._session.close()
        elif first:
            threading.Thread(target=self._finish, name="openclaw-mesh-end", daemon=True).start()

    def abandon(self, why: str) -> None:
        self._closed = True
        self._session.close()
        self._session.give_up(Unavailable(f"the task goes on without this program: {why}"))

    def _finish(self) -> None:
        self._session.drain()
        self._session.close()


def _type_named(fn: object) -> str:
    if isinstance(fn, str):
        return fn
    task_type = type_of(fn) if callable(fn) else None
    if task_type is None:
        raise TypeError(
            f"{fn!r} is no task type: name a handler that a node offers, or mark the function with @openclaw.handler "
            "and start nodes with --handlers"
        )
    return task_type
