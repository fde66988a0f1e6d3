"""A `tailscale` that prints what a test wants, and what the real one printed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

STATUS = Path(__file__).parent / "tailscale_status.json"
TOOL = """#!/bin/sh
echo "$@" >> "$FAKE_TS_CALLS"
[ -n "$FAKE_TS_DELAY" ] && sleep "$FAKE_TS_DELAY"
[ -n "$FAKE_TS_FLOOD" ] && cat /dev/zero
cat "$FAKE_TS_JSON"
exit "${FAKE_TS_RC:-0}"
"""


class FakeTailscale:
    """The stand-in on PATH. `prints`, `rc`, `delay` and `flood` set what its next call does."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch
        tool = folder / "tailscale"
        tool.write_text(TOOL)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        patch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        patch.setenv("FAKE_TS_CALLS", str(folder / "calls"))
        self.prints(STATUS.read_bytes())

    def prints(self, data: bytes | dict[str, object]) -> None:
        path = self._folder / "printed"
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        self._patch.setenv("FAKE_TS_JSON", str(path))

    def set(self, **values: str) -> None:
        for name, value in values.items():
            self._patch.setenv(f"FAKE_TS_{name}", value)

    @property
    def calls(self) -> list[str]:
        return (self._folder / "calls").read_text().splitlines()
