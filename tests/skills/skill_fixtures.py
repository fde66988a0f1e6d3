"""Reads the fixtures and says in which the code and `expected.toml` differ. Also run by itself, on mutated code."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from skill_machines import MACHINES

from openclaw.skills.gating import missing
from openclaw.skills.scan import read

FIXTURES = Path(__file__).parent / "fixtures"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((FIXTURES / "expected.toml").read_text())


def differences(name: str) -> list[str]:
    """What of this fixture is not as expected, in words."""
    expected = EXPECTED[name]
    found = read(FIXTURES / name)
    described = found.described
    if not expected.get("skill", True) or described is None:
        wrong = [] if (described is None) is not expected.get("skill", True) else [f"a skill: {described}"]
    else:
        wrong = [
            f"{system}: {what!r}"
            for system, machine in MACHINES.items()
            if (what := found.problem or "; ".join(missing(described.gate, machine)))
            != expected.get("all", expected.get(system))
        ]
        seen = {
            "name": described.name,
            "version": described.version,
            "category": described.category,
            "description": described.description,
            "entries": [entry.name for entry in described.entries],
        }
        seen |= {"name": described.name} if "name" in expected else {}
        wrong += [f"{key}: {value!r}" for key, value in seen.items() if expected.get(key, value) != value]
        wrong += [f"name: {described.name}"] if described.name != expected.get("name", name) else []
    told = [f"{warning.line}: {warning.text}" for warning in found.warnings]
    if not any(
        expected.get("line", "") in line and expected.get("warning", "") in line for line in [*told, ""]
    ):
        wrong.append(f"warnings: {told}")
    if told and "warning" not in expected:
        wrong.append(f"warned: {told}")
    return wrong


if __name__ == "__main__":
    raise SystemExit("\n".join(f"{name}: {each}" for name in EXPECTED for each in differences(name)) or 0)
