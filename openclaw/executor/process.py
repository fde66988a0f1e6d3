"""How a command is started, and what is written down about it.

Promises: a command starts in its own session, with its scratch directory, its output in two files and an
environment of which every name is either the worker's or given; or it does not start, and `Refused` says
what, where and what to do.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from openclaw.executor.paths import SCRATCH

ERROR_CHARS_MAX = 1000
BASE_NAMES = ("PATH", "HOME", "LANG", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ")
ENDED_CODES = {"timeout": 124, "output": 125, "orphaned": 137, "lease": 137}
CANCELLED_CODE = 130
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
NOTHING = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
IGNORED_HERE = (  # by Python, or by a node that nohup or the background of a script started; not by what we start
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT,
)  # fmt: skip

TokenRow = tuple[int, str, int, int]


class Limits(NamedTuple):
    """What the node's settings come to; handed over at start and again by each node that connects."""

    orphan_s: float
    kept_bytes: int
    inline_bytes: int
    file_bytes: int
    frame_bytes: int
    slots: int = (
        1 << 16
    )  # that may be taken at a time; what is behind waits, and is handed back after a while


class Spec(NamedTuple):
    """One command to start, a row of a `start` frame. `cwd` "" is the scratch directory."""

    task: str
    token: TokenRow
    argv: list[str]
    env: list[tuple[str, str]]
    cwd: str
    stdin_path: str
    timeout_s: float
    grace_s: float
    outputs: list[str]
    handler: str = ""  # a Python function that the node offers under this name, instead of `argv`
    args: bytes = b""
    memory_bytes: int = 0
    cpus: int = 0
    local_files: list[str] = []  # noqa: RUF012 - a row, never changed
    slots: int = 1
    gpus: list[int] = []  # noqa: RUF012
    until_s: float = 0.0  # when its lease is over, by the clock that counts sleep; 0 is never


class ExitRow(NamedTuple):
    """`records.Exit`, field by field: the executor does without msgspec to stay small."""

    code: int
    ended_by: str = ""
    error: str = ""
    started: float = 0.0
    ended: float = 0.0
    runtime_s: float = 0.0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_size: int = 0
    stderr_size: int = 0
    stdout_cut: int = 0
    stderr_cut: int = 0
    outputs: tuple[tuple[str, str, int], ...] = ()
    stdout_head: int = 0
    stderr_head: int = 0
    result: bytes = b""
    memory_limit: str = ""
    cpu_limit: str = ""


class Refused(Exception):
    """The command never ran; `code` is what a shell would have said."""

    def __init__(self, code: int, error: str) -> None:
        super().__init__(error)
        self.code = code
        self.error = error[:ERROR_CHARS_MAX]


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What every command gets from the worker itself."""
    return {name: value for name, value in environ.items() if name in BASE_NAMES or name.startswith("LC_")}


def gpu_variables(gpus: Sequence[int]) -> list[tuple[str, str]]:
    """What says to the libraries of each maker which GPUs there are; nothing where none are given."""
    return [(name, ",".join(map(str, gpus))) for name in GPU_VARIABLES if gpus]


class Child:
    """A process that this one started and has not waited for yet."""

    __slots__ = ("pid", "returncode")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode = 0

    def wait(self) -> None:
        """Take its end; negative for the signal that ended it."""
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)


def start(spec: Spec, folder: str, environment: dict[str, str]) -> Child:
    """Start the command of `spec` in `folder`, which is there; raises Refused.

    By posix_spawn, which costs a third of what `subprocess` does and copies nothing of this process. It takes no
    directory, so this process goes there: it has one thread, and names all its own files from the root.
    """
    cwd = os.path.join(folder, SCRATCH, spec.cwd)
    stdin = _stdin(spec.stdin_path) if spec.stdin_path else None
    standard_input = NOTHING if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0)
    files = (
        standard_input,
        (os.POSIX_SPAWN_OPEN, 1, folder + "/stdout", LOG_FLAGS, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, folder + "/stderr", LOG_FLAGS, 0o600),
    )
    try:
        os.chdir(cwd)
        program = _program(spec.argv[0], environment.get("PATH", os.defpath))
        spawn = os.posix_spawn if "/" in program else os.posix_spawnp
        pid = spawn(program, spec.argv, environment, file_actions=files, setsid=True, setsigdef=IGNORED_HERE)
        return Child(pid)
    except (OSError, ValueError, IndexError) as error:
        raise _refusal(spec, cwd, environment.get("PATH", ""), error) from error
    finally:
        os.chdir("/")
        if stdin is not None:
            os.close(stdin)


def _program(name: str, path: str) -> str:
    """What to start for `name`: the system looks through our own PATH by itself, not through another."""
    if "/" in name or not name or path == os.environ.get("PATH"):
        return name
    places = [os.path.join(folder or ".", name) for folder in path.split(os.pathsep)]
    found = [place for place in places if os.path.isfile(place)]
    executable = [place for place in found if os.access(place, os.X_OK)]
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return (executable or found)[0]


def _stdin(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(125, f"cannot read the standard input staged at {path}: {error.strerror}") from error


def _refusal(spec: Spec, cwd: str, path: str, error: Exception) -> Refused:
    program = spec.argv[0] if spec.argv else ""
    if not spec.argv or not program:
        return Refused(125, "the command is empty: name a program to run")
    if not isinstance(error, OSError):
        return Refused(125, f"cannot start {program!r}: {error}")
    if not os.path.isdir(cwd):
        return Refused(125, f"no directory {cwd} here: make it, or choose another with --cwd")
    if not os.access(cwd, os.X_OK):
        return Refused(125, f"no permission to enter {cwd} here: choose another directory with --cwd")
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if "/" in program:
            return Refused(127, f"cannot start {program}: it, or the interpreter it names, is not here")
        case errno.ENOENT | errno.ENOTDIR:
            return Refused(
                127, f"no {program!r} in PATH ({path}): install it here, or run where it is installed"
            )
        case errno.EACCES:
            return Refused(
                126, f"{program} is here but may not be executed: chmod +x it, or run an interpreter"
            )
        case errno.ENOEXEC:
            return Refused(126, f"{program} is no program for this machine, and names no interpreter (#!)")
        case errno.E2BIG:
            return Refused(126, f"the arguments and environment of {program} are too long for this system")
    return Refused(125, f"cannot start {program} in {cwd}: {error.strerror}")


def exit_code(returncode: int, ended_by: str) -> int:
    """What a shell would say: 128+n for signal n; who ended it goes before how it took that."""
    if ended_by:
        return ENDED_CODES.get(ended_by, CANCELLED_CODE)
    return returncode if returncode >= 0 else 128 - returncode
