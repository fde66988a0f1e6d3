"""How a module says which handlers it has, and what is said to whoever names one that is not there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openclaw.handlers.declared import NoHandler, handler, load, reference, type_of

MODULE = """
from openclaw.handlers.declared import handler

@handler
def first(): return 1

@handler("other/name")
def second(): return 2

def third(): return 3

TABLE = {"four": third, "five": first}
NUMBER = 6
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "sample_of_handlers.py").write_text(MODULE)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("sample_of_handlers", None)


@pytest.mark.parametrize(
    ("reference", "types"),
    [
        ("sample_of_handlers", {"first", "other/name"}),
        ("sample_of_handlers:third", {"third"}),
        ("sample_of_handlers:second", {"other/name"}),
        ("sample_of_handlers:TABLE", {"four", "five"}),
        ("mine=sample_of_handlers:third", {"mine"}),
    ],
)
def test_a_reference_leads_to_handlers(folder: Path, reference: str, types: set[str]) -> None:
    assert set(load([reference], [str(folder)])) == types


def test_a_file_is_as_good_as_a_module(folder: Path) -> None:
    assert load([f"{folder}/sample_of_handlers.py:third"], [])["third"]() == 3


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nothing_of_this_name", "No module named"),
        ("sample_of_handlers:nobody", "nobody"),
        ("sample_of_handlers:NUMBER", "neither a function nor a dict"),
        ("json", "put @openclaw.handler before a function"),
        ("/nowhere/at/all.py", "no file /nowhere/at/all.py"),
        ("a b=sample_of_handlers:third", "'a b' is no task type"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, reference: str, words: str) -> None:
    with pytest.raises(NoHandler, match=words):
        load([reference], [str(folder)])


def test_two_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(NoHandler, match="two handlers are called 'first'"):
        load(["sample_of_handlers", "first=sample_of_handlers:third"], [str(folder)])


def test_a_function_is_referred_to_by_where_it_can_be_found() -> None:
    assert reference("mine", type_of) == "mine=openclaw.handlers.declared:type_of"

    def inner() -> None: ...

    for function in (inner, lambda: None):
        with pytest.raises(NoHandler, match="top level"):
            reference("mine", function)


def test_the_mark_is_the_name_unless_another_is_given() -> None:
    def local() -> None: ...

    assert type_of(local) is None
    assert type_of(handler(local)) == "local"
    assert type_of(handler("another")(local)) == "another"
    with pytest.raises(NoHandler, match="no task type"):
        handler("not a type")
