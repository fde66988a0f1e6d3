"""The simulated network does what the real one does: in order over TCP, everything goes wrong when hostile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from openclaw.effects import Effect, Event, LinkDown, LinkUp, Received
from openclaw.ids import Epoch, NodeId
from openclaw.messages import Coordinator, Gossip, Head, Status
from openclaw.records import Meta
from sims.faults import FlipFlop, Loss, Mixed
from sims.host import Host
from sims.links import Link, Weather, path, retry_at
from sims.properties import Property
from sims.world import World


class Heard(Property):
    """What each node is told, as it handles it; marked messages alone."""

    def __init__(self) -> None:
        self.terms: list[int] = []
        self.times: list[float] = []
        self.links: list[tuple[float, str, Event]] = []

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        match event:
            case Received(message=Coordinator(epoch)) if epoch.node == MARK:
                self.terms.append(epoch.term)
                self.times.append(host.world.now)
            case LinkUp() | LinkDown():
                self.links.append((host.world.now, host.name, event))


MARK = NodeId("marked")


def of_one_mind(world: World) -> bool:
    """Everybody names the same leader, and counts everybody as alive."""
    nodes = [host.node for host in world.hosts.values() if host.node is not None]
    leaders = {node.election.leader for node in nodes}
    return (
        len(leaders) == 1
        and all(len(node.membership.alive()) == len(world.hosts) for node in nodes)
        and None not in leaders
    )


def pair(weather: Weather, seed: int = 1) -> tuple[World, Host, Host, Heard]:
    heard = Heard()
    world = World(seed, weather=Weather(), properties=(heard,))
    one, other = world.add_host("n0"), world.add_host("n1")
    for host in (one, other):
        host.start()
    world.run(3.0)
    assert of_one_mind(world)
    world.network.weather = weather
    return world, one, other, heard


def untouched(world: World) -> None:
    """The nodes leave their connections alone, so that the network is seen by itself."""
    world.network.redial = lambda *_: None  # type: ignore[method-assign]


def say(world: World, one: Host, other: Host, *terms: int) -> None:
    """Messages that the election knows to be too old, so that nothing follows from them."""
    for term in terms:
        world.network.send(one, other.id, Coordinator(Epoch(-term, MARK)))


def said(heard: Heard) -> list[int]:
    return [-term for term in heard.terms]


def test_tcp_keeps_the_order_and_loses_nothing_to_loss() -> None:
    world, one, other, heard = pair(Weather(loss=0.2))
    for number in range(300):
        world.after(number * 0.05, lambda number=number: say(world, one, other, number))  # type: ignore[misc]
    world.run(60.0)
    assert said(heard) == list(range(300))
    waited = [at - 3.0 - number * 0.05 for number, at in enumerate(heard.times)]
    assert max(waited) > 0.2, "a loss costs a retransmission"


def test_a_lossy_tcp_link_stalls_for_seconds_now_and_then() -> None:
    world, one, other, heard = pair(Weather(loss=0.05))
    for number in range(3000):
        world.after(number * 0.2, lambda number=number: say(world, one, other, number))  # type: ignore[misc]
    world.run(700.0)
    waited = [at - 3.0 - number * 0.2 for number, at in zip(said(heard), heard.times, strict=True)]
    assert len(waited) == 3000
    assert 1.0 < max(waited) < 20.0
    assert sorted(waited)[1500] < 0.01


def test_a_stall_ends_soon_after_the_loss_that_made_it() -> None:
    """The kernel's waits double: it has waited for `t` when the loss ends, and waits for no more than `t` again."""
    for seed in range(1, 21):
        world, one, other, heard = pair(Weather(), seed)
        world.network.lose(other, 0.95)
        began = world.now
        say(world, one, other, 0, 1)
        world.run(began + 1.5)
        world.network.lose(other, 0.0)
        world.run(began + 3.2)
        assert said(heard) == [0, 1]


def test_hostile_links_reorder_double_and_lose() -> None:
    world, one, other, heard = pair(Weather(mode="hostile", loss=0.1))
    for number in range(1000):
        world.after(number * 0.01, lambda number=number: say(world, one, other, number))  # type: ignore[misc]
    world.run(20.0)
    arrived = said(heard)
    assert any(later < earlier for earlier, later in pairwise(arrived))
    assert len(arrived) > len(set(arrived))
    assert 850 < len(set(arrived)) < 950


def test_what_is_beyond_the_high_water_mark_is_dropped_in_silence() -> None:
    world, one, other, heard = pair(Weather(queue_max=10))
    dropped = world.network.dropped
    say(world, one, other, *range(25))
    assert world.network.dropped - dropped == 15
    world.run(4.0)
    assert said(heard) == list(range(10))


def test_what_is_for_an_unknown_peer_is_dropped_in_silence() -> None:
    world, one, _, _ = pair(Weather())
    dropped = world.network.dropped
    world.network.send(one, NodeId("nobody"), Coordinator(Epoch(1, MARK)))
    assert world.network.dropped == dropped + 1


def test_a_short_cut_delays_and_a_long_one_loses_what_was_on_its_way() -> None:
    world, one, other, heard = pair(Weather())
    untouched(world)
    for cut_s in (5.0, 60.0):
        for ways in ((one.id, other.id), (other.id, one.id)):
            world.network.cut(*ways)
        say(world, one, other, 1, 2, 3)
        world.run(world.now + cut_s)
        assert said(heard) == []
        for ways in ((one.id, other.id), (other.id, one.id)):
            world.network.mend(*ways)
        world.run(world.now + 15.0)
        assert said(heard) == ([1, 2, 3] if cut_s == 5.0 else [])
        heard.terms.clear()
    say(world, one, other, 4)
    world.run(world.now + 1.0)
    assert said(heard) == [4], "there is a new connection"
    told = [(name, type(event)) for _, name, event in heard.links if _ > 10.0]
    assert told == [("n0", LinkDown), ("n1", LinkDown), ("n0", LinkUp), ("n1", LinkUp)]


def healed_after_s(seed: int, afresh: bool) -> float:
    """How long two nodes that were cut off from each other take to find together."""
    world, one, other, _ = pair(Weather(), seed)
    if not afresh:
        untouched(world)
    ways = ((one.id, other.id), (other.id, one.id))
    for way in ways:
        world.network.cut(*way)
    world.run(world.now + 28.0)
    for way in ways:
        world.network.mend(*way)
    healed = world.now
    while not of_one_mind(world):
        world.run(world.now + 0.5)
    return world.now - healed


def test_what_is_dialled_afresh_does_not_wait_for_the_kernel() -> None:
    """After a long cut the kernel would try again as late as the cut was long; a node that dials does not wait."""
    slowest_s = {
        afresh: max(healed_after_s(seed, afresh) for seed in range(1, 8)) for afresh in (True, False)
    }
    assert slowest_s[True] + 5.0 < slowest_s[False]


def test_a_kernel_tries_again_ever_more_rarely() -> None:
    assert retry_at(10.0, 10.1) == pytest.approx(10.2)
    assert retry_at(10.0, 10.3) == pytest.approx(10.6)
    assert retry_at(10.0, 15.0) == pytest.approx(16.2)


def test_one_way_passes_no_more_than_a_window_without_acknowledgements() -> None:
    world, one, other, heard = pair(Weather())
    world.network.cut(other.id, one.id)
    say(world, one, other, *range(40))
    world.run(world.now + 10.0)
    assert 5 <= len(said(heard)) <= 10
    assert said(heard) == list(range(len(heard.terms)))


def test_a_peer_whose_process_ended_is_refused_and_one_without_power_is_silent() -> None:
    world, one, other, heard = pair(Weather())
    untouched(world)
    other.crash()
    world.run(4.0)
    assert [event for _, name, event in heard.links[-1:]] == [LinkDown(other.id, refused=True)]
    assert heard.links[-1][0] < 3.1
    other.start()
    world.run(6.0)
    other.crash(machine=True)
    world.run(20.0)
    assert isinstance(heard.links[-1][2], LinkUp)
    world.run(40.0)
    assert heard.links[-1][1:] == ("n0", LinkDown(other.id, refused=False))
    assert 26.0 <= heard.links[-1][0] <= 36.0
    del one


def test_what_a_process_sent_before_it_ended_still_arrives() -> None:
    world, one, other, heard = pair(Weather())
    say(world, one, other, 1, 2)
    one.crash()
    world.run(4.0)
    assert said(heard) == [1, 2]


def test_bytes_take_their_time_on_a_narrow_link() -> None:
    world, one, other, heard = pair(Weather(bandwidth_bytes_s=1000.0))
    say(world, one, other, *range(100))
    world.run(60.0)
    assert len(heard.times) == 100
    assert heard.times[-1] - heard.times[0] > 1.0


def test_links_are_near_or_far_as_the_weather_says() -> None:
    names = [f"n{number}" for number in range(20)]
    pairs = [(a, b) for a in names for b in names if a < b]

    def least(kind: str) -> list[float]:
        weather = Weather(latency=kind)  # type: ignore[arg-type]
        return sorted(path(weather, 1, a, b).least_s for a, b in pairs)

    assert least("lan")[-1] < 0.001
    assert least("tailnet")[0] >= 0.005
    mixed = least("mixed")
    assert mixed[0] < 0.001
    assert mixed[-1] > 0.02
    one = path(Weather(latency="mixed"), 1, "n1", "n2")
    assert one == path(Weather(latency="mixed"), 1, "n2", "n1")
    draws = sorted(path(Weather(latency="tailnet"), 1, "n0", "n1").draw(step / 1000) for step in range(1000))
    assert draws[500] < draws[-1] / 3, "there is a tail"


def test_one_host_loses_and_the_others_do_not() -> None:
    world = World(1)
    hosts = [world.add_host(f"n{number}") for number in range(3)]
    loss = Loss(0.0, 0.8, 10.0, ("n0",))
    loss.apply(world)
    assert world.network.loss_between(hosts[0], hosts[1]) == pytest.approx(0.8)
    assert world.network.loss_between(hosts[2], hosts[0]) == pytest.approx(0.8)
    assert world.network.loss_between(hosts[1], hosts[2]) == 0.0
    world.run(11.0)
    assert world.network.loss_between(hosts[0], hosts[1]) == 0.0


def test_a_connection_that_stalls_for_too_long_breaks() -> None:
    world, one, other, heard = pair(Weather(loss=0.8))
    untouched(world)
    for number in range(200):
        world.after(number * 1.0, lambda number=number: say(world, one, other, number))  # type: ignore[misc]
    world.run(300.0)
    assert any(isinstance(event, LinkDown) for _, _, event in heard.links)
    arrived = said(heard)
    assert arrived == sorted(set(arrived))
    assert 0 < len(arrived) < 200


def test_a_one_way_cut_flips() -> None:
    world, one, other, _ = pair(Weather())
    FlipFlop(3.0, (("n0", "n1"),), 20.0, 60.0).apply(world)
    seen = []
    for at in (10.0, 30.0, 50.0, 70.0):
        world.run(at)
        seen.append((world.network.clear(one.id, other.id), world.network.clear(other.id, one.id)))
    assert seen == [(False, True), (True, False), (False, True), (True, True)]


def test_a_node_of_tomorrow_is_understood_and_its_new_messages_are_counted() -> None:
    world = World(1)
    hosts = [world.add_host(f"n{number}", Meta(slots=1)) for number in range(3)]
    Mixed(0.0, "n1").apply(world)
    for host in hosts:
        host.start()
    tasks = world.submit(hosts[1], [0.2] * 6)
    world.run(30.0)
    assert of_one_mind(world)
    assert world.network.junk["unknown"] > 0
    assert set(world.network.junk) == {"unknown"}
    assert {str(row.state) for task in tasks if (row := hosts[1].disk.progress(task))} == {"succeeded"}


def test_the_messages_of_tomorrow_have_more_fields_all_the_way_down() -> None:
    from openclaw import wire
    from openclaw.ids import Incarnation
    from openclaw.messages import Rumour
    from sims import tomorrow

    rumour = Rumour(NodeId("a"), Incarnation(3, "b"), Status.ALIVE)
    message = Gossip(Head(Incarnation(1, "x"), rumours=(rumour,)))
    packet = tomorrow.said(message)
    assert packet.count(b"a field of tomorrow") == 3
    assert len(packet) > len(wire.encode(message))
    assert tomorrow.heard(packet) == message
    assert tomorrow.heard(tomorrow.UNKNOWN) == "unknown"
    assert tomorrow.heard(packet[:-3]) == "garbled"


def test_a_warm_mesh_is_quiet_and_of_one_mind() -> None:
    from sims import warm

    world = World(1)
    for number in range(30):
        world.add_host(f"n{number}")
    warm.start(world)
    assert of_one_mind(world)
    before = dict(world.trace.sent)
    world.run(world.now + 30.0)
    more = {name: count - before.get(name, 0) for name, count in world.trace.sent.items()}
    assert more.get("Digest", 0) == more.get("MetaWant", 0) == more.get("Elect", 0) == 0
    assert of_one_mind(world)
    host = world.host("n7")
    (task,) = world.submit(host, [0.5])
    world.run(world.now + 10.0)
    row = host.disk.progress(task)
    assert row is not None
    assert row.state.final


def test_a_link_is_one_thing_with_two_ends() -> None:
    _, one, other, _ = pair(Weather())
    link = one.pipes[other.id].link
    assert isinstance(link, Link)
    assert link is other.pipes[one.id].link
    assert link.other(one) is other
    assert link.pipe_from(other).target is one
