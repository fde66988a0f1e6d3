"""Which handlers this node offers. Their code is never loaded into the node: another process looks, others run it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from openclaw.config import HANDLERS_LOAD_S_MAX, HANDLERS_MAX
from openclaw.errors import Unavailable
from openclaw.handlers.pool import Offer
from openclaw.runtime.context import Context

ANSWER_BYTES_MAX = 64 << 10


class Handlers:
    """`load` what the options name, `add` what an embedding program registers later."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._references: list[str] = []
        self._folders = list(context.options.handlers_path)

    async def load(self, references: Sequence[str]) -> tuple[str, ...]:
        """The task types that this node knows with these added. Raises `Unavailable`, and then nothing changed."""
        wanted = list(dict.fromkeys([*self._references, *map(self._absolute, references)]))
        if not wanted:
            return ()
        types = await asyncio.to_thread(_types, wanted, self._folders)
        if len(types) > HANDLERS_MAX:
            raise Unavailable(
                f"a node offers at most {HANDLERS_MAX} handlers, and {', '.join(wanted)} declare {len(types)}",
                kind="too_many",
            )
        self._references = wanted
        slots = self._context.options.slots or os.cpu_count() or 1
        self._context.link.offer(Offer(wanted, self._folders, slots))
        return types

    def _absolute(self, reference: str) -> str:
        """A file is named from the folder in which the node was started, which is not where its processes are."""
        task_type, equals, place = reference.rpartition("=")
        path, colon, attribute = place.partition(":")
        if path.endswith(".py") and self._folders:
            path = os.path.join(self._folders[0], path)
        return f"{task_type}{equals}{path}{colon}{attribute}"


def _types(references: list[str], folders: list[str]) -> tuple[str, ...]:
    reader, writer = os.pipe()
    with open(reader, "rb") as answer:
        try:
            done = subprocess.run(
                [
                    *(sys.executable, "-P", "-m", "openclaw.handlers.worker", "--list"),
                    *(json.dumps([references, folders]), str(writer)),
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(writer,),
                timeout=HANDLERS_LOAD_S_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"the handlers of {', '.join(references)} are not loaded after {HANDLERS_LOAD_S_MAX:g} s: what a "
                "module does when it is imported must be short",
                kind="no_handler",
            ) from None
        finally:
            os.close(writer)
        said = answer.read(ANSWER_BYTES_MAX)
    if done.returncode != 0 or not said:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(
            f"loading the handlers of {', '.join(references)} ends the process that does it (exit code "
            f"{done.returncode}): {words[-1] if words else 'it says nothing'}",
            kind="no_handler",
        )
    document = json.loads(said)
    if "error" in document:
        raise Unavailable(document["error"], kind="no_handler")
    return tuple(document["types"])
