"""What a command leaves behind: its declared outputs, and the folder to remove once nobody needs it.

Promises: both are done in small steps (a `yield` after each), so that ten gigabytes never hold up another
command; a declared output is a plain file inside the scratch directory, whatever links the command laid.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator, Sequence

STEP_BYTES = 4 << 20
STEP_FILES = 64

OutputRow = tuple[str, str, int]  # name, sha256, size: as `records.InputFile`


def collect(
    scratch: str, names: Sequence[str], bytes_max: int
) -> Generator[None, None, tuple[list[OutputRow], str]]:
    """Hash the declared outputs that are there; with what is wrong with the first that is not, or ""."""
    rows: list[OutputRow] = []
    wrong = ""
    for name in names:
        try:
            rows.append((yield from _hash(scratch, name, bytes_max)))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            wrong = wrong or f"the command did not produce its output {name!r} in {scratch}: {reason}"
    return rows, wrong


def _hash(scratch: str, name: str, bytes_max: int) -> Generator[None, None, OutputRow]:
    import hashlib  # OpenSSL is megabytes, and most commands declare no outputs

    root = os.path.realpath(scratch)
    path = os.path.join(root, name)
    if not os.path.realpath(path).startswith(root + "/"):
        raise ValueError("it lies outside the scratch directory")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is not a plain file")
        digest, size = hashlib.sha256(), 0
        while data := file.read(STEP_BYTES):
            size += len(data)
            if size > bytes_max:
                raise ValueError(f"it is larger than {bytes_max} bytes")
            digest.update(data)
            yield
    return name, digest.hexdigest(), size


def remove(folder: str) -> Iterator[None]:
    """Remove a folder and all in it, even where the command took away its own rights to."""
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        os.chmod(folder, 0o700)
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    if entries and not os.access(folder, os.W_OK | os.X_OK):
        os.chmod(folder, 0o700)
    for number, entry in enumerate(entries, 1):
        if entry.is_dir(follow_symlinks=False):
            yield from remove(entry.path)
        else:
            os.unlink(entry.path)
        if number % STEP_FILES == 0:
            yield
    os.rmdir(folder)
