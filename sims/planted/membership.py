"""Bugs in how nodes hear of each other: incarnations, suspicion, verdicts, descriptions."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from openclaw import node
from openclaw.effects import Effect
from openclaw.gossip import beats, detector, ear, exchange, membership, own, prober, roll, rumours, suspicion
from openclaw.messages import Status
from sims.planted.base import Mutant, does_nothing, says
from sims.planted.worlds import gone, hurried, mute, restored


def spoken_at_once(_true: Any) -> Any:
    return lambda self, _now: self.latest


def incarnation_forgotten(true: Any) -> Any:
    def init(self: Any, me: Any, boot: Any, settings: Any, rng_for: Any, restored: Any) -> None:
        true(self, me, boot, settings, rng_for, replace(restored, incarnation=0))

    return init


def never_refutes(true: Any) -> Any:
    def answer(self: Any, rumour: Any, now: float, out: list[Effect]) -> bool:
        return False if rumour.status is not Status.ALIVE else bool(true(self, rumour, now, out))

    return answer


def no_time_to_speak(_true: Any) -> Any:
    return lambda self, _witnesses, _settings: self.started


def hearsay_believed(_true: Any) -> Any:
    def heard_down(self: Any, row: Any, rumour: Any, now: float, out: list[Effect]) -> bool:
        self._take(row, rumour, now, out, own=False)
        return False

    return heard_down


def one_is_always_asked(_true: Any) -> Any:
    def next_target(self: Any, wanted: Any, members: Any) -> Any:
        return next((node for node in members if wanted(node) and not self.probing(node)), None)

    return next_target


def settled_at_once(true: Any) -> Any:
    return lambda self, _at, now, out: true(self, now, now, out)


def told_once(true: Any) -> Any:
    return lambda self, members, copies=1: true(self, members, copies=10**6)  # noqa: ARG005


def unanswered(true: Any) -> Any:
    return lambda self, digest, *args: true(self, replace(digest, reply=True), *args)


def no_rival(true: Any) -> Any:
    """Another start that counted as far is let stand."""

    def answer(self: Any, rumour: Any, now: float, out: list[Effect]) -> bool:
        as_far = rumour.incarnation.counter == self.incarnation.counter
        return False if as_far and rumour.status is Status.ALIVE else bool(true(self, rumour, now, out))

    return answer


def any_beat_believed(true: Any) -> Any:
    def learn(self: Any, beat: Any, row: Any) -> None:
        if beat.boot == row.claim.incarnation.boot:
            true(self, beat, row)
        else:
            row.beat = beat

    return learn


MEMBERSHIP = (
    Mutant(
        "told once",
        "news is told again and again",
        ("news is passed on",),
        rumours.Rumours,
        "pick",
        told_once,
    ),
    Mutant(
        "digests unanswered",
        "two that compare their views both learn",
        ("answered",),
        ear.Ear,
        "_compare",
        unanswered,
    ),
    Mutant(
        "no rival",
        "what another start has counted is outbid",
        ("refuted",),
        own.Own,
        "answer",
        no_rival,
        restored,
    ),
    Mutant(
        "any beat believed",
        "the load that is shown is of the present start",
        ("the newest load",),
        beats.Beats,
        "learn",
        any_beat_believed,
        hurried,
    ),
    Mutant(
        "spoken at once",
        "an incarnation is on disk before anyone hears of it",
        ("vouched first", "stored epochs"),
        own.Staged,
        "spoken",
        spoken_at_once,
    ),
    Mutant(
        "incarnation forgotten",
        "a restart goes on from the incarnation on disk",
        ("vouched first",),
        node.Node,
        "__init__",
        incarnation_forgotten,
        unseen=True,
    ),
    Mutant(
        "never refutes",
        "an accusation is answered by a higher incarnation",
        ("refuted",),
        own.Own,
        "answer",
        never_refutes,
    ),
    Mutant(
        "no time to speak",
        "a suspect has time to speak up",
        ("earned verdicts",),
        suspicion.Suspicion,
        "deadline",
        no_time_to_speak,
    ),
    Mutant(
        "hearsay believed",
        "another's verdict needs a question of one's own",
        ("earned verdicts",),
        roll.Roll,
        "_heard_down",
        hearsay_believed,
        mute,
    ),
    Mutant(
        "answers reopen nothing",
        "who answers is not down",
        ("earned verdicts", "up is not down"),
        roll.Roll,
        "answered",
        does_nothing,
        mute,
    ),
    Mutant(
        "verdicts after a minute",
        "who is gone is found to be gone",
        ("the gone are found",),
        suspicion,
        "timeout_s",
        says(60.0),
        gone,
    ),
    Mutant(
        "asks always the same",
        "everyone is asked in turn",
        ("the gone are found",),
        detector.Detector,
        "next_target",
        one_is_always_asked,
        gone,
    ),
    Mutant(
        "settled at once",
        "a node learns its past from its peers first",
        ("settled",),
        membership.Membership,
        "_settle",
        settled_at_once,
    ),
    Mutant(
        "helps nobody",
        "who is asked to ping another does",
        ("answered",),
        prober.Prober,
        "help",
        does_nothing,
    ),
    Mutant(
        "beats without measure",
        "heartbeats are bounded for the whole mesh",
        ("beats",),
        beats.Beats,
        "_interval_s",
        says(0.0),
    ),
    Mutant(
        "asks for no description",
        "what a node publishes reaches everyone",
        ("one view",),
        exchange.Exchange,
        "want",
        does_nothing,
    ),
    Mutant(
        "asks in vain",
        "what is due gets done, and does not come due again at once",
        ("no spinning",),
        exchange.Exchange,
        "due",
        says([]),
    ),
)
