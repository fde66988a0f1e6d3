"""Every property has a name, a sentence, and a way to fail: a planted bug, or something made by hand here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from openclaw.effects import Received, Send, Store, Tick
from openclaw.ids import Incarnation, NodeId, Token
from openclaw.messages import Nack, Status
from openclaw.notes import MemberChanged
from openclaw.records import State, Table
from sims.host import Host
from sims.marks import Marks
from sims.planted import MUTANTS
from sims.processes import Start
from sims.properties import Property, Violated, all_properties
from sims.properties.liveness import UpIsNotDown
from sims.world import World

COUNTED = "counted"
"""The one that is never a verdict."""


def running(*names: str) -> World:
    """A world that was just started, with all properties."""
    world = World(1, properties=all_properties())
    for name in names:
        world.add_host(name)
    for host in world.hosts.values():
        host.start()
    world.run(3.0)
    return world


def named(world: World, name: str) -> Property:
    return next(prop for prop in world.properties if prop.name == name)


def token(host: Host, attempt: int) -> Token:
    return Token(0, host.id, 1, attempt)


def starts_twice(world: World, prop: Property) -> None:
    host = world.host("a")
    task = world.submit(host, [1.0])[0]
    for _ in range(2):
        prop.started(host, Start(world.now, "a", task, token(host, 1)))


def starts_again(world: World, prop: Property) -> None:
    host = world.host("a")
    task = world.submit(host, [0.1], once=True)[0]
    world.run(world.now + 2.0)
    prop.started(host, Start(world.now, "a", task, token(host, 2)))


def ends_twice(world: World, prop: Property) -> None:
    task = world.submit(world.host("a"), [0.1])[0]
    world.run(world.now + 3.0)
    row = world.host("a").disk.progress(task)
    assert row is not None
    assert prop.unmet(world) == []
    world.host("b").disk.commit([Store(Table.PROGRESS, task, replace(row, state=State.FAILED))])
    prop.fail(prop.unmet(world)[0])


def hears_the_past(world: World, prop: Property) -> None:
    world.now -= 1.0
    prop.handled(world.host("a"), Tick(), [])


def answers_a_stranger(world: World, prop: Property) -> None:
    stranger = NodeId("z" * 16)
    heard = Received(Nack(1, stranger), stranger)
    prop.handled(world.host("a"), heard, [Send(stranger, Nack(1, stranger))])


def finds_the_living_down(world: World, prop: Property) -> None:
    world.run(world.now + UpIsNotDown.FOR_S + 2.0)
    host, other = world.host("a"), world.host("b")
    down = MemberChanged(other.id, Status.DOWN, Incarnation(1, "b.1"))
    prop.handled(host, Tick(), [down])


def never_ends(world: World, prop: Property) -> None:
    for host in world.hosts.values():
        host.drain(True)
    world.submit(world.host("a"), [0.1])
    world.run(world.now + 2.0)
    for complaint in prop.unmet(world):
        prop.fail(complaint)


BY_HAND: dict[str, Callable[[World, Property], None]] = {
    "one end stands": ends_twice,
    "a token starts once": starts_twice,
    "once": starts_again,
    "views": hears_the_past,
    "members only": answers_a_stranger,
    "up is not down": finds_the_living_down,
    "every task ends": never_ends,
}


def test_each_has_a_name_and_a_sentence_of_its_own() -> None:
    props = [*all_properties(), Marks()]
    assert len({prop.name for prop in props}) == len(props) > 40
    assert len({prop.sentence for prop in props}) == len(props)
    for prop in props:
        assert prop.name == prop.name.lower().strip(), prop.name
        assert prop.sentence.endswith("."), prop.name


def test_each_can_fail() -> None:
    """That a bug is caught by the one property that it names is what `test_mutants` proves."""
    by_bugs = {mutant.caught_by[0] for mutant in MUTANTS if len(mutant.caught_by) == 1}
    able = by_bugs | set(BY_HAND) | {COUNTED}
    assert {prop.name for prop in all_properties()} == able


@pytest.mark.parametrize("name", BY_HAND)
def test_what_no_bug_breaks_alone_can_fail(name: str) -> None:
    world = running("a", "b")
    with pytest.raises(Violated, match=f"^{name}: "):
        BY_HAND[name](world, named(world, name))
