"""Whether an LMDB data file may be opened at all, found out by reading it as plain bytes.

A truncated file kills a process that maps it (SIGBUS) instead of raising, so its length is compared with
what its newest meta page claims before LMDB sees it; a small file is walked page by page.
"""

from __future__ import annotations

import struct
from pathlib import Path

from lmdb import verify

from openclaw.errors import BadState

MAGIC = 0xBEEFC0DE
PAGE_HEADER_BYTES = 16
META = struct.Struct("=II8xQI92xQQ")  # magic, version, map size, page size, last page, transaction
PAGE_BYTES = (4096, 65536)
WALKED_BYTES_MAX = 4 << 20


def refuse_damage(data: Path) -> int:
    """The size of the file, 0 when there is none yet. Raises BadState when LMDB must not map it."""
    try:
        size = data.stat().st_size
        if size == 0:
            return 0
        needed = _needed_bytes(data)
        if size < needed or size <= WALKED_BYTES_MAX:
            problems = verify.verify(str(data), subdir=False)  # type: ignore[no-untyped-call]
            if problems:
                raise damaged(data.parent, problems[0])
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise BadState(
            f"cannot read {data}: {error.strerror}. Mend it: chmod -R u+rwX {data.parent}"
        ) from error
    except (ValueError, verify.VerifyError) as error:
        raise damaged(data.parent, str(error)) from error
    return size


def damaged(folder: Path, why: str) -> BadState:
    return BadState(
        f"the store in {folder} is damaged ({why}). Bring it back from a backup, or move it away "
        f"and join anew: mv {folder} {folder}.damaged && openclaw node start --join TOKEN"
    )


def _needed_bytes(data: Path) -> int:
    """How long the file must be, if no page at its end is a free one."""
    with data.open("rb") as file:
        first = _meta(file.read(PAGE_HEADER_BYTES + META.size))
        page_bytes = first[3]
        if not PAGE_BYTES[0] <= page_bytes <= PAGE_BYTES[1]:
            raise ValueError(f"a page size of {page_bytes} bytes")
        file.seek(page_bytes)
        second = _meta(file.read(PAGE_HEADER_BYTES + META.size))
    newest = max(first, second, key=lambda meta: meta[5])
    return int(newest[4] + 1) * int(page_bytes)


def _meta(page: bytes) -> tuple[int, ...]:
    if len(page) < PAGE_HEADER_BYTES + META.size:
        raise ValueError("its first pages are cut off")
    meta = META.unpack_from(page, PAGE_HEADER_BYTES)
    if meta[0] != MAGIC:
        raise ValueError("this is not an LMDB file")
    return meta
