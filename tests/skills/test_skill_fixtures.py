"""SKILL.md files as the world writes them, and what each comes to on Linux, macOS and Windows.

And that they would notice: every rule of the gating is taken out of the code once, and a fixture has to differ.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import skill_fixtures
from skill_fixtures import EXPECTED, FIXTURES, differences

from openclaw.skills import describe, frontmatter, gating, scan

FILES = {
    module.__name__: Path(str(module.__file__)).read_text() for module in (gating, describe, frontmatter)
}

MUTANTS = {
    "switched off is out": (gating, 'entry.get("enabled") is False', "False"),
    "os": (gating, "if gate.os and machine.system not in", "if False and machine.system not in"),
    "macos is darwin": (gating, '{"macos": "darwin"}', "{}"),
    "always": (gating, "if gate.always:", "if False:"),
    "os is above always": (gating, "if gate.os and machine", "if gate.os and not gate.always and machine"),
    "bins": (gating, "for name in gate.bins if", "for name in () if"),
    "anyBins": (gating, "if not gate.any_bins or", "if True or"),
    "one of anyBins is enough": (gating, "or any(machine.has_bin", "or all(machine.has_bin"),
    "env": (gating, "for name in gate.env if", "for name in () if"),
    "env of the node": (gating, "machine.variable(name)\n        or (configured", "(configured"),
    "an empty variable is none": (gating, "machine.variable(name)\n", '(machine.variable(name) or name == "EMPTY")\n'),
    "env of the configuration": (gating, "configured.get(name) if isinstance(configured, dict) else None", "None"),
    "apiKey": (gating, 'entry.get("apiKey") if name == gate.primary_env else None', "None"),
    "apiKey only for primaryEnv": (gating, "if name == gate.primary_env", "if True"),
    "config": (gating, "for path in gate.config if", "for path in () if"),
    "config that is there by default": (gating, "return path in CONFIG_DEFAULTS", "return False"),
    "config that is a blank text": (gating, "bool(value.strip())", "True"),
    "config that is an empty list": (gating, "isinstance(value, dict | list) or bool(value)", "bool(value)"),
    "config that is 0 or false": (gating, "isinstance(value, dict | list) or bool(value)", "True"),
    "python modules": (gating, "for name in gate.python if", "for name in () if"),
    "skillKey": (describe, 'text_of(theirs.get("skillKey")) or name', "name"),
    "always is true and nothing else": (describe, 'theirs.get("always") is True', 'bool(theirs.get("always"))'),
    "primaryEnv": (describe, 'text_of(theirs.get("primaryEnv"))', '""'),
    "texts with commas": (describe, 'value.split(",") if', "[value] if"),
    "blank items": (describe, "(text := str(part).strip())", '((text := str(part).strip()) or text == "")'),
    "clawdbot": (describe, '"clawdbot", ', ""),
    "clawdis": (describe, ', "clawdis"', ""),
    "openclaw goes first": (describe, '("openclaw", "clawdbot", "clawdis")', '("clawdbot", "openclaw", "clawdis")'),
    "metadata in a text": (describe, "value = parse(value)", "value = None"),
    "metadata that cannot be read": (describe, 'if "metadata" in broken else', "if False else"),
    "JSON5 first": (frontmatter, "value = _inline_json(text, found.end())", "value = None"),
    "YAML 1.2's booleans": (frontmatter, '_TRUTH = {"true"', '_TRUTH = {"yes": True, "true"'),
}  # fmt: skip


def test_there_are_enough() -> None:
    assert len(EXPECTED) >= 60
    assert {path.name for path in FIXTURES.iterdir() if path.is_dir()} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_fixture(name: str) -> None:
    assert differences(name) == []


@pytest.mark.parametrize("rule", MUTANTS)
def test_without_a_rule_a_fixture_differs(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, old, new = MUTANTS[rule]
    source = FILES[module.__name__]
    assert source.count(old) == 1, f"{rule}: the code has changed; mend the mutant"
    mutant = ModuleType(module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, mutant)  # dataclasses look themselves up
    exec(compile(source.replace(old, new), str(module.__file__), "exec"), mutant.__dict__)
    match module:
        case _ if module is gating:
            monkeypatch.setattr(skill_fixtures, "missing", mutant.missing)
        case _ if module is describe:
            monkeypatch.setattr(scan, "describe", mutant.describe)
        case _:
            monkeypatch.setattr(scan, "read_head", mutant.read_head)
    assert any(differences(name) for name in EXPECTED), f"no fixture notices that {rule!r} is gone"
