"""A scenario as data: who takes part, how good the links are, what happens, and what must hold.

Every safety property is watched in every run, and whatever `unmet` can say must be gone at the end; `expect`,
`at_most` and `at_least` ask for more than that.

`draw` decides all of it by chance (`swarm` has the dice); a file says it by hand (`tomlfile`).
"""

from __future__ import annotations

import random

import msgspec

from openclaw.records import Tier
from sims import swarm, themes
from sims.faults import Happening
from sims.host import CALM_S
from sims.links import OUTAGE_S_MAX
from sims.network import Weather

NODES = (2, 3, 3, 4, 5, 5, 6, 8)
SECONDS = (60.0, 90.0, 120.0)
PEACE_FROM = 0.45  # of a drawn run: from there on nothing new goes wrong
BUSY = 0.25  # of all the slots there are, in the peace: what was begun must be done by the end
LEADER_WITHIN_S = 10.0  # of the last change
TURN_SLACK_S = 2.0
LOSS_SLACK_S = LEADER_WITHIN_S + OUTAGE_S_MAX  # a connection that stalls is a change of its own
SLOTS = ((2,), (1,), (1, 4), (2, 0, 8))
TIERS = ((Tier.MAINS,), (Tier.MAINS,), (Tier.ALWAYS_ON, Tier.BATTERY, Tier.MAINS))


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """From `from_s` to `to_s` (or the end) the property has nothing unmet for longer than `slack_s` on end."""

    property: str
    from_s: float
    to_s: float | None = None
    slack_s: float = 0.0


class Vary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number of one happening (counted from 0), and all the values that it takes: a run for each."""

    happening: int
    field: str
    values: tuple[int | float, ...]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`peace_s`: from there on the world heals what is still broken, and liveness must follow until `seconds`.

    With `warm` the mesh has been there for a while when it begins, and has a leader. `slots`, `tiers`, `memory_bytes`
    and `gpus` are dealt out to n0, n1, … in turn; `settings` overrides those of the core by name; `at_most` and
    `at_least` bound what a verdict counts.
    """

    seed: int
    nodes: int
    seconds: float
    peace_s: float
    about: str = ""
    warm: bool = False
    link: Weather = Weather()
    slots: tuple[int, ...] = (2,)
    tiers: tuple[Tier, ...] = (Tier.MAINS,)
    memory_bytes: tuple[int, ...] = (0,)
    gpus: tuple[int, ...] = (0,)
    settings: dict[str, float] = {}
    expect: tuple[Expect, ...] = ()
    at_most: dict[str, float] = {}
    at_least: dict[str, float] = {}
    vary: Vary | None = None
    happenings: tuple[Happening, ...] = ()


def names(nodes: int) -> list[str]:
    """What the hosts of a plan are called."""
    return [f"n{number}" for number in range(nodes)]


def variants(plan: Plan) -> list[Plan]:
    """The plan with each value of what it varies, or itself."""
    if plan.vary is None:
        return [plan]
    index, field = plan.vary.happening, plan.vary.field
    fields = msgspec.to_builtins(plan.happenings[index])
    return [
        msgspec.structs.replace(
            plan,
            vary=None,
            about=f"{plan.about} ({field} {value:g})",
            happenings=(
                *plan.happenings[:index],
                msgspec.convert({**fields, field: value}, Happening),
                *plan.happenings[index + 1 :],
            ),
        )
        for value in plan.vary.values
    ]


def slack_s(link: Weather) -> float:
    """How long there may be no one leader in peace: for a planned turn, or after a link has stalled by itself."""
    return LOSS_SLACK_S if link.loss else TURN_SLACK_S


def draw(seed: int, nodes: int | None = None, seconds: float | None = None) -> Plan:
    """All that a seed decides; what is given it does not decide. What is shorter than any that is drawn has no time for
    a theme."""
    plan = plain(seed, nodes, seconds)
    if plan.seconds < min(SECONDS):
        return plan
    return themes.themed(seed, plan, names(plan.nodes))


def plain(seed: int, nodes: int | None = None, seconds: float | None = None) -> Plan:
    """As `draw`, without a theme."""
    rng = random.Random(f"{seed}:plan")
    drawn_nodes, drawn_seconds = rng.choice(NODES), rng.choice(SECONDS)
    nodes = drawn_nodes if nodes is None else nodes
    seconds = drawn_seconds if seconds is None else seconds
    peace_s = seconds * PEACE_FROM
    knobs = swarm.knobs(rng)
    slots = rng.choice(SLOTS)
    busy_s = BUSY * (seconds - peace_s) * sum(slots[number % len(slots)] for number in range(nodes))
    happenings = swarm.happenings(rng, names(nodes), peace_s, busy_s, knobs)
    machines = swarm.machines(random.Random(f"{seed}:machines"), slots)
    happenings = swarm.demanding(
        random.Random(f"{seed}:demanding"), happenings, machines[:nodes], BUSY * (seconds - peace_s)
    )
    happenings = swarm.cancelling(random.Random(f"{seed}:cancelling"), happenings, names(nodes))
    link = swarm.weather(rng)
    leader_s = peace_s + CALM_S + LEADER_WITHIN_S
    return Plan(
        seed=seed,
        nodes=nodes,
        seconds=seconds,
        peace_s=peace_s,
        about=str(knobs),
        link=link,
        slots=slots,
        tiers=rng.choice(TIERS),
        memory_bytes=tuple(machine.memory_bytes for machine in machines),
        gpus=tuple(machine.gpus for machine in machines),
        settings=swarm.settings(rng),
        expect=(Expect("one leader", leader_s, slack_s=slack_s(link)),) if leader_s < seconds else (),
        happenings=happenings,
    )
