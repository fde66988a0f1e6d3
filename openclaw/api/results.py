"""How a task ended, as a program sees it: a value, or an exception that says where and why."""

from __future__ import annotations

import builtins
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from openclaw.errors import MeshError
from openclaw.handlers.values import decode

CANCELLED, TIMED_OUT, LOST, SUCCEEDED = "cancelled", "timed_out", "lost", "succeeded"


class TaskError(MeshError):
    """A task that did not succeed. `task` is its id, `node` the name of where it ran ("" if nowhere)."""

    kind = "task_failed"

    def __init__(self, message: str, document: dict[str, Any]) -> None:
        super().__init__(message)
        node = document.get("node")
        self.task: str = document.get("id", "")
        self.node: str = node["name"] if node else ""
        self.result = CommandResult(document)


class TaskTimedOut(TaskError, TimeoutError):
    """It ran longer than its `timeout_s`."""

    kind = "timed_out"


class TaskLost(TaskError):
    """Nobody can know whether it ran: the price of `once`."""

    kind = "lost"


class RemoteError(Exception):
    """An exception that a handler raised, of a type that only its own code knows: `type` is "module.Name"."""

    def __init__(self, message: str, type: str, traceback: str) -> None:
        super().__init__(message)
        self.type, self.traceback = type, traceback

    def __str__(self) -> str:
        return f"{self.type}: {super().__str__()}"


class RemoteTraceback(Exception):
    """The cause of what a handler raised: its traceback, from where it ran."""

    def __str__(self) -> str:
        return f'\n"""\n{super().__str__()}"""'


class CommandResult:
    """How a command ended. `document` is what `openclaw task show --json` says of it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    @property
    def exit_code(self) -> int | None:
        code: int | None = self.document.get("exit_code")
        return code

    @property
    def stdout(self) -> bytes:
        return self._output("stdout")

    @property
    def stderr(self) -> bytes:
        return self._output("stderr")

    @property
    def files(self) -> dict[str, Path]:
        """Its outputs, where the node keeps them: to be read or copied, not changed."""
        return {name: Path(path) for name, path in self.document.get("files", {}).items()}

    def _output(self, stream: str) -> bytes:
        inline: bytes = self.document.get(stream, b"")
        if len(inline) < self.document.get(f"{stream}_size", 0):
            return Path(self.document["logs"][stream]).read_bytes()
        return inline

    def __repr__(self) -> str:
        return f"<CommandResult of {self.document.get('id')}: exit code {self.exit_code}>"


def value_of(kind: str, what: Any, *, check: bool) -> Any:
    """The value of a row of a session; raises what the task came to instead."""
    match kind:
        case "done":
            return decode(what)
        case "filed":
            return decode(Path(what).read_bytes())
        case "raised":
            raise exception_of(decode(what))
        case "gone":
            raise TaskLost(f"the task is not known any more: {what}", {})
    return _ended(what, check=check)


def exception_of(document: dict[str, Any]) -> BaseException:
    """A built-in exception as itself, any other as `RemoteError`; its cause is the remote traceback."""
    kind = getattr(builtins, document["type"], None) if document["module"] == "builtins" else None
    error: BaseException
    try:
        assert isinstance(kind, type)
        assert issubclass(kind, Exception)
        error = kind(*decode(document["args"]))
    except Exception:
        name = f"{document['module']}.{document['type']}".removeprefix("builtins.")
        error = RemoteError(document["message"], name, document["traceback"])
    error.__cause__ = RemoteTraceback(document["traceback"])
    return error


def _ended(document: dict[str, Any], *, check: bool) -> Any:
    state = document["state"]
    where = f" on {document['node']['name']}" if document["node"] else ""
    why = document["error"] or (f"exit code {document['exit_code']}" if state == "failed" else "")
    said = document["stderr"].decode(errors="replace").strip().rpartition("\n")[2]
    message = f"task {document['id']} {state.replace('_', ' ')}{where}: {why}" + (
        f" ({said})" if said else ""
    )
    match state:
        case "cancelled":
            raise CancelledError(message)
        case "timed_out":
            raise TaskTimedOut(message, document)
        case "lost":
            raise TaskLost(message, document)
        case "failed" if check or document["kind"] != "command":
            raise TaskError(message, document)
    return CommandResult(document)
