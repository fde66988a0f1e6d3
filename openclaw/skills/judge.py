"""Whether parameters fit their schema, asked where a pattern over a text that was made for it does no harm.

    python -m openclaw.skills.judge < [SCHEMA, VALUES]

Promises: what can take for ever is done in a process of its own, which gets JUDGE_CPU_S of a processor; one that needs
more has not found that the parameters fit. What is plainly quick, which is nearly everything, is done here.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from openclaw.skills.entries import Entry, fill, filled
from openclaw.skills.json5 import Json
from openclaw.skills.schema import Schema, complaints, may_take_long

JUDGE_CPU_S = 2
JUDGE_WALL_S = 60  # a machine that is so busy that even this is not enough refuses as well
TOO_LONG = f"its parameters were held against its patterns for {JUDGE_CPU_S} s, and that did not end"


def judged(entry: Entry, given: Mapping[str, Json]) -> tuple[dict[str, Json], list[str]]:
    """As `entries.fill`; waits where it cannot know how long that takes."""
    if not may_take_long(entry.params):
        return fill(entry, given)
    values = filled(entry, given)
    question = msgspec.json.encode((entry.params, values))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__], input=question, capture_output=True, timeout=JUDGE_WALL_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return values, [TOO_LONG]
    if done.returncode == 0:
        return values, msgspec.json.decode(done.stdout, type=list[str])
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return values, [f"they cannot be checked: {words[-1]}" if words else TOO_LONG]


def main() -> int:
    schema: Schema
    values: dict[str, Json]
    schema, values = msgspec.json.decode(sys.stdin.buffer.read())
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit_s = int(used.ru_utime + used.ru_stime) + JUDGE_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
    sys.stdout.buffer.write(msgspec.json.encode(complaints(values, schema, "")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
