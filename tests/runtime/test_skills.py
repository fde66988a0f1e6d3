"""A node's skills while it runs: what is looked at again, what is told, and what a call finds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from openclaw.records import Payload, SkillCall
from openclaw.runtime.context import Context
from openclaw.runtime.skills import Skills
from openclaw.skills import scan
from openclaw.skills.resolve import SkillRefused


@pytest.fixture
def skills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Skills:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(scan, "BUILTIN", tmp_path / "builtin")
    monkeypatch.setattr("openclaw.runtime.skills.SKILLS_EVERY_S", 0.0)
    monkeypatch.setattr("openclaw.runtime.skills.SKILLS_SHARE_MAX", 1e9)
    write(tmp_path, "echo one\n")
    options, queries = SimpleNamespace(skills_dirs=(tmp_path / "skills",)), SimpleNamespace(answerers={})
    return Skills(cast("Context", SimpleNamespace(options=options, state_dir=tmp_path, queries=queries)))


def write(folder: Path, script: str) -> None:
    (folder / "skills" / "s" / "scripts").mkdir(parents=True, exist_ok=True)
    (folder / "skills" / "s" / "SKILL.md").write_text("---\nname: s\ndescription: Does it.\n---\n")
    (folder / "skills" / "s" / "scripts" / "x.sh").write_text(script)


def test_the_skill_may_change_while_its_task_waits(skills: Skills, tmp_path: Path) -> None:
    """The worker has not noticed yet when the call comes: it looks again, and refuses what is another skill now."""

    async def scene() -> None:
        await skills.first()
        told: list[str] = []
        skills.published = lambda rows: told.append(rows[0].tree)
        (before,) = skills.rows
        call = SkillCall("s", before.tree)
        payload = Payload(("scripts/x.sh",), skill=call)
        made = await skills.resolve(payload, call)
        assert made.argv[-1].endswith("skills/s/scripts/x.sh")
        assert told == []
        write(tmp_path, "echo two, and more\n")
        with pytest.raises(SkillRefused, match="not the one that was called"):
            await skills.resolve(payload, call)
        assert told == [skills.rows[0].tree]
        call = SkillCall("s", skills.rows[0].tree)
        assert await skills.resolve(payload, call)

    asyncio.run(scene())


def test_a_change_is_noticed_by_itself_and_told_once(skills: Skills, tmp_path: Path) -> None:
    async def scene() -> None:
        await skills.first()
        changed = asyncio.Event()
        told: list[int] = []
        skills.published = lambda rows: (told.append(len(rows)), changed.set())[0]
        watching = asyncio.create_task(skills.watch())
        async with asyncio.timeout(10):
            for path in (
                tmp_path / "skills" / "s" / "SKILL.md",
                tmp_path / "skills" / "s" / "scripts" / "x.sh",
            ):
                path.unlink()
            await changed.wait()
            await skills.look()
        watching.cancel()
        assert told == [0]

    asyncio.run(scene())


PATTERNED = """---
name: p
description: Takes a word.
metadata:
  openclaw-mesh:
    entrypoints:
      say:
        argv: [echo, "{word}"]
        params: {properties: {word: {type: string, pattern: "^(a+)+$"}}}
      plain: {argv: [echo, plain]}
---
"""


def test_a_text_that_was_made_for_a_pattern_holds_up_no_other_call(skills: Skills, tmp_path: Path) -> None:
    (tmp_path / "skills" / "p").mkdir(parents=True)
    (tmp_path / "skills" / "p" / "SKILL.md").write_text(PATTERNED)

    async def scene() -> None:
        await skills.first()
        trees = {row.name: row.tree for row in skills.rows}

        async def resolve(entry: str, params: str) -> Payload:
            call = SkillCall("p", trees["p"], entry, params)
            return await skills.resolve(Payload((), skill=call), call)

        hostile = asyncio.create_task(resolve("say", '{"word": "' + "a" * 60 + '!"}'))
        for _ in range(5):
            assert (await resolve("plain", "{}")).argv == ("echo", "plain")
        assert not hostile.done()
        with pytest.raises(SkillRefused, match="did not end"):
            await hostile

    asyncio.run(scene())
