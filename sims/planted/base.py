"""What a planted bug is, and how one is planted: a function of the core is replaced from outside, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from openclaw.effects import Effect
from sims.plan import Plan
from sims.planted.worlds import mixed

Wrong = Callable[[Any], Any]


@contextmanager
def planted(owner: object, name: str, wrong: Wrong) -> Iterator[None]:
    """While this lasts, `owner.name` is what `wrong` makes of it."""
    true = vars(owner)[name]
    setattr(owner, name, wrong(true))
    try:
        yield
    finally:
        setattr(owner, name, true)


def does_nothing(_true: Any) -> Any:
    return lambda *_args, **_kwargs: None


def says(answer: Any) -> Wrong:
    return lambda _true: lambda *_args, **_kwargs: answer


def without(unwanted: Callable[[Effect], bool]) -> Wrong:
    """All that the true one does, less some of its effects."""

    def wrong(true: Any) -> Any:
        return lambda *args, **kwargs: [e for e in true(*args, **kwargs) if not unwanted(e)]

    return wrong


@dataclass(frozen=True, slots=True)
class Mutant:
    """`owner.target` is replaced by what `wrong` makes of it. `unseen`: every unit test of the core passes with it."""

    name: str
    breaks: str
    caught_by: tuple[str, ...]
    owner: object
    target: str
    wrong: Wrong
    world: Callable[[int], Plan] = mixed
    unseen: bool = False

    @contextmanager
    def planted(self) -> Iterator[None]:
        with planted(self.owner, self.target, self.wrong):
            yield
