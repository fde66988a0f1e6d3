"""Which skill a name means, here and in the mesh, and what is told of it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw.config import SKILL_MISSING_MAX, SKILLS_MAX
from openclaw.ids import NodeId
from openclaw.records import SkillRow
from openclaw.skills.describe import Described, Told, describe, usable
from openclaw.skills.entries import Entry
from openclaw.skills.frontmatter import read_head
from openclaw.skills.registry import Skill, choose, fit, merge, row

ME, YOU, THIRD = NodeId("me"), NodeId("you"), NodeId("third")


def skill(name: str, folder: str = "/f", tree: str = "t", missing: tuple[str, ...] = ()) -> Skill:
    return Skill(Described(name, "Does it."), folder, tree, missing)


def test_a_row_says_what_others_need_and_no_more() -> None:
    described = Described("a", "Does\n it. " + "x" * 500, "1", "system", entries=(Entry("go", ("x",)),))
    found = row(Skill(described, "/secret/place", "tree", ("y" * 500, *"abcdefghijk")))
    assert (found.name, found.version, found.tree, found.category) == ("a", "1", "tree", "system")
    assert (found.entries, found.eligible) == (("go",), False)
    assert found.description.startswith("Does it. x")
    assert len(found.missing) == SKILL_MISSING_MAX
    assert max(map(len, (found.description, *found.missing))) == 160
    assert b"/secret" not in msgspec.msgpack.encode(found)


def test_an_entrypoint_that_cannot_run_is_not_offered_and_says_why() -> None:
    described = Described("a", "Does it.", entries=(Entry("go", ("x",)), Entry("fly", ("x",))))
    found = row(Skill(described, "/f", "tree", lacking=(("fly", ("program wings", "program tail")),)))
    assert (found.entries, found.eligible) == (("go",), True)
    assert found.missing == ("fly: program wings", "fly: program tail")


@pytest.mark.parametrize(
    "name", ["two words", "a:b", "../up", "a" * 65, "tab\there", "nul\0", "a@b", "a,b", ""]
)
def test_a_name_that_cannot_follow_the_option_is_not_used(name: str) -> None:
    assert not usable(name)
    found = describe({"name": name, "description": "x"}, frozenset(), "folder", Told())
    assert found is not None
    assert found.name == "folder"
    assert describe({"name": name, "description": "x"}, frozenset(), "no folder", Told()) is None


def test_the_first_of_a_name_wins_the_order_is_by_name_and_a_clash_is_told() -> None:
    found = [skill("b", "/1/b", "1"), skill("a"), skill("b", "/2/b", "2"), skill("b", "/3/b", "1")]
    skills, passed = merge(found)
    assert [(each.name, each.folder) for each in skills] == [("a", "/f"), ("b", "/1/b")]
    assert passed == ["/2/b: another skill 'b' is used, of /1/b"]


def test_there_is_a_limit() -> None:
    skills, passed = merge(skill(f"s{n:04}") for n in range(SKILLS_MAX + 10))
    assert (len(skills), len(passed)) == (SKILLS_MAX, 10)


def test_what_can_run_is_told_before_what_cannot_when_there_is_too_much() -> None:
    rows = [SkillRow("a", eligible=False), SkillRow("b"), SkillRow("c", description="x" * 900), SkillRow("d")]
    size = len(msgspec.msgpack.encode(SkillRow("b")))
    assert fit(rows) == tuple(rows)
    assert [each.name for each in fit(rows, 2 * size)] == ["b"]
    assert [each.name for each in fit([rows[0], rows[1], rows[3]], 2 * size)] == ["b", "d"]


def test_the_most_that_a_node_can_offer_fits_into_a_message() -> None:
    wide = ("x" * 160,) * SKILL_MISSING_MAX
    rows = [
        SkillRow(f"s{n:063}", "v" * 64, "t" * 64, "c" * 64, False, wide, "d" * 160) for n in range(SKILLS_MAX)
    ]
    assert len(msgspec.msgpack.encode(fit(rows))) < 300 << 10


def test_a_call_means_ours_else_what_most_can_run() -> None:
    old, new = SkillRow("a", "1", "x"), SkillRow("a", "2", "y")
    cannot = SkillRow("a", "2", "y", eligible=False)
    assert choose([(ME, old), (YOU, new), (THIRD, new)], ME) == old
    assert choose([(ME, cannot), (YOU, old), (THIRD, cannot)], ME) == old
    assert choose([(YOU, old), (THIRD, new)], ME) == new
    assert choose([(YOU, cannot)], ME) is None


@given(st.text(max_size=400) | st.text(max_size=400).map(lambda text: f"---\ndescription: x\n{text}\n---\n"))
def test_no_text_raises(text: str) -> None:
    head = read_head(text)
    if head is not None:
        found = describe(head.values, frozenset(head.broken), "folder", Told())
        assert found is None or usable(found.name)
