"""What the head of a SKILL.md says, read leniently, and which skill a name means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw.config import SKILLS_MAX
from openclaw.records import SkillRow
from openclaw.skills.registry import Described, merge, read_head, row

FULL = """---
# a comment
name: image-resize
description: "Resize images: fast"
version: '1.2'
license: MIT # inline
metadata:
  name: nested
  openclaw: {"os": ["linux"]}
allowed-tools:
- name: no
---
# Body
name: not-this
"""


def test_top_level_lines_are_read_and_nested_ones_are_not() -> None:
    assert read_head(FULL) == Described("image-resize", "Resize images: fast", "1.2")


def test_other_line_ends_a_byte_order_mark_and_comments_are_fine() -> None:
    assert read_head("\ufeff---\r\nname: a # why\r\n---\r\n") == Described("a")


@pytest.mark.parametrize(
    "text", ["", "name: a", "---\nname: a\n", "----\nname: a\n---", " ---\nname: a\n---"]
)
def test_without_front_matter_it_is_no_skill(text: str) -> None:
    assert read_head(text) is None


def test_the_first_of_a_repeated_key_counts() -> None:
    assert read_head("---\nname: a\nname: b\nurl:x\n---") == Described("a")


def test_a_skill_without_a_name_has_its_folders() -> None:
    assert row(Described(), "from-folder", "t") == SkillRow("from-folder", "", "t")


@pytest.mark.parametrize("name", ["two words", "a:b", "../up", "a" * 65, "tab\there", "nul\0"])
def test_a_name_that_cannot_follow_the_option_is_no_skill(name: str) -> None:
    assert row(Described(name), "folder", "t") is None


def test_what_is_missing_makes_it_not_eligible() -> None:
    found = row(Described("a", version="x" * 500), "a", "", ("ffmpeg",))
    assert found is not None
    assert (found.eligible, found.missing, len(found.version)) == (False, ("ffmpeg",), 64)


def test_the_first_of_a_name_wins_and_the_order_is_by_name() -> None:
    rows = [SkillRow("b", "1"), SkillRow("a", "1"), SkillRow("b", "2")]
    assert merge(rows) == (SkillRow("a", "1"), SkillRow("b", "1"))


def test_there_is_a_limit() -> None:
    assert len(merge(SkillRow(f"s{n}") for n in range(SKILLS_MAX + 10))) == SKILLS_MAX


@given(st.text(max_size=400) | st.text(max_size=400).map(lambda text: f"---\n{text}\n---\n"))
def test_no_text_raises(text: str) -> None:
    head = read_head(text)
    if head is not None:
        found = row(head, "folder", "t")
        assert found is None or 0 < len(found.name) <= 64
