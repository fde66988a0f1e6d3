"""A LAN, or a clear word why there is none: skipped where it cannot be, failed where CI promised that it can."""

from __future__ import annotations

import os

import pytest
from netns import why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "hosts":
            item.add_marker(pytest.mark.hosts)


@pytest.fixture(autouse=True, scope="session")
def namespaces() -> None:
    reason = why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must run the host tests, and cannot: {reason}")
    if reason:
        pytest.skip(reason)
