"""Bugs in who leads: epochs, ranks, witnesses, turns."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from openclaw.effects import Effect, Send, Store
from openclaw.election import bully, rank, standing, turns
from openclaw.ids import NO_EPOCH
from openclaw.messages import Coordinator
from openclaw.notes import Settled
from openclaw.records import EpochRow, Tier
from sims.planted.base import Mutant, says, without
from sims.planted.worlds import busy, sleepy, turning


def one_order_for_all_terms(_true: Any) -> Any:
    def rank(_term: int, node: str, tier: Tier) -> tuple[int, bytes]:
        return tuple(Tier).index(tier), sha256(node.encode()).digest()

    return rank


def preempts(true: Any) -> Any:
    def handle(self: Any, event: Any, now: float) -> Any:
        effects = true(self, event, now)
        if isinstance(event, Settled) and self.leader is not None:
            self._seek(now)
        return effects

    return handle


def no_witness(_true: Any) -> Any:
    def of(cls: Any, term: int, me: Any, ordered: list[Any], _live: Any, now: float) -> Any:
        return cls(term=term, queue=ordered[: ordered.index(me)], at=now)

    return classmethod(of)


def deaf_to_objections(true: Any) -> Any:
    def on_answer(self: Any, answer: Any, sender: Any, now: float) -> Any:
        return true(self, replace(answer, leader=NO_EPOCH), sender, now)

    return on_answer


def candidacy_raises_the_term(true: Any) -> Any:
    def on_elect(self: Any, term: int, sender: Any, now: float) -> Any:
        effects = true(self, term, sender, now)
        self._floor = max(self._floor, term)
        return effects

    return on_elect


def follower_stores_nothing(true: Any) -> Any:
    def follow(self: Any, epoch: Any, reason: str, now: float) -> Any:
        effects = true(self, epoch, reason, now)
        return [e for e in effects if epoch.node == self.me or not isinstance(e, Store)]

    return follow


def never_offers(_true: Any) -> Any:
    def offer(self: Any, now: float, _floor: int) -> list[Effect]:
        self._ends = now + self._settings.rotation_s
        return []

    return offer


def offers_too_early(true: Any) -> Any:
    def init(self: Any, *args: Any) -> None:
        true(self, *args)
        self._ends -= self._settings.rotation_s / 2

    return init


silent_leader = without(lambda e: isinstance(e, Send) and isinstance(e.message, Coordinator))
epoch_unstored = without(lambda e: isinstance(e, Store) and isinstance(e.value, EpochRow))


def asks_again(true: Any) -> Any:
    def next_round(self: Any, until: float) -> Any:
        queue = list(self.queue)
        asked = true(self, until)
        if self.round_size < 16:
            self.queue = queue
        return asked

    return next_round


def burns_nothing(true: Any) -> Any:
    def offer(self: Any, now: float, floor: int) -> list[Effect]:
        burned = self._burned
        effects: list[Effect] = true(self, now, floor)
        self._burned = burned
        return effects

    return offer


def the_gone_lead_on(true: Any) -> Any:
    """What becomes of the leader is not looked at."""

    def gone(self: Any, node: Any, left: bool, now: float) -> Any:
        leader = self.leader
        return [] if leader is not None and leader.node == node else true(self, node, left, now)

    return gone


def kinds_are_alike(true: Any) -> Any:
    return lambda term, node, _tier: true(term, node, Tier.MAINS)


ELECTION = (
    Mutant(
        "kinds are alike",
        "a laptop leads only where nothing better lives",
        ("turns",),
        rank,
        "rank",
        kinds_are_alike,
        turning,
    ),
    Mutant(
        "the gone lead on",
        "whoever is gone leads nobody",
        ("reasons",),
        bully.Bully,
        "_on_gone",
        the_gone_lead_on,
    ),
    Mutant(
        "stops without a word",
        "a leader that stops offers its term first",
        ("turns",),
        bully.Bully,
        "_on_stop",
        says([]),
        busy,
    ),
    Mutant(
        "an offer burns nothing",
        "no term is offered twice",
        ("turns",),
        turns.Turn,
        "_offer",
        burns_nothing,
        turning,
    ),
    Mutant(
        "epoch unstored",
        "an epoch is stored before it is said",
        ("stored epochs",),
        bully.Bully,
        "_lead",
        epoch_unstored,
    ),
    Mutant(
        "follower stores nothing",
        "a follower remembers whom it follows",
        ("stored epochs", "never an older leader"),
        bully.Bully,
        "_follow",
        follower_stores_nothing,
        unseen=True,
    ),
    Mutant(
        "one order for all terms",
        "every term has an order of its own",
        ("elected", "turns"),
        rank,
        "rank",
        one_order_for_all_terms,
    ),
    Mutant("preempts on return", "nobody preempts", ("reasons",), bully.Bully, "handle", preempts),
    Mutant(
        "no witness",
        "the best asks the next in line as a witness",
        ("elected",),
        standing.Candidacy,
        "of",
        no_witness,
    ),
    Mutant(
        "asks them all again",
        "a try asks nobody twice",
        ("elected",),
        standing.Candidacy,
        "next_round",
        asks_again,
    ),
    Mutant(
        "deaf to objections",
        "a candidate yields to a live leader that a peer names",
        ("elected",),
        bully.Bully,
        "_on_answer",
        deaf_to_objections,
    ),
    Mutant(
        "candidacy raises the term",
        "only a stored epoch raises a term",
        ("terms",),
        bully.Bully,
        "_on_elect",
        candidacy_raises_the_term,
    ),
    Mutant("never offers its turn", "turns happen", ("turns",), turns.Turn, "_offer", never_offers, turning),
    Mutant(
        "turns are too short",
        "a turn lasts its time",
        ("turns",),
        turns.Turn,
        "__init__",
        offers_too_early,
        turning,
    ),
    Mutant(
        "silent leader",
        "a leader announces itself, and now and then again",
        ("leaders speak",),
        turns.Turn,
        "serve",
        silent_leader,
        unseen=True,
    ),
    Mutant(
        "leads on after sleep",
        "a wake drops the lead first",
        ("waking",),
        bully.Bully,
        "_on_resumed",
        says([]),
        sleepy,
    ),
)
