"""What the tests of discovery share."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tailscale import FakeTailscale


@pytest.fixture
def tailscale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTailscale:
    return FakeTailscale(tmp_path, monkeypatch)
