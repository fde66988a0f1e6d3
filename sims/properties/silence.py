"""Who is gone is found to be gone: the other half of what a failure detector is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Started
from openclaw.ids import NodeId
from openclaw.messages import AnyMessage
from openclaw.notes import MemberChanged
from sims.properties.base import Property
from sims.properties.views import LIVE, Pause, Second, Views, clock

if TYPE_CHECKING:
    from sims.host import Host

_SLACK_S = 3.0


@dataclass(slots=True)
class _Watch:
    """Since when a node has run well, and how ill it has thought itself to be since it started, at worst."""

    well_since: float
    worst: int = 0


class TheGoneAreFound(Property):
    name = "the gone are found"
    sentence = (
        "Of whom nobody hears anything for as long as a round of questions, the longest suspicion and the patience "
        "with whom one has not met may take, nobody who ran meanwhile holds it for alive."
    )
    hears = (Started, Pause, Second)
    says = (MemberChanged,)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._spoke: dict[NodeId, float] = {}  # in the world's time: when anybody heard it last
        self._watch: dict[Host, _Watch] = {}

    def delivered(self, host: Host, sender: NodeId, message: AnyMessage) -> None:  # noqa: ARG002
        self._spoke[sender] = host.world.now

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        now = clock(host)
        watch = self._watch.get(host)
        if isinstance(event, Started) or watch is None or host.node is None:
            self._watch[host] = _Watch(now)
            return
        watch.worst = max(watch.worst, host.node.membership.health)
        view, settings = self._views.of(host), host.world.settings
        if self._views.gap_s(host) > settings.probe_timeout_s or host.lag_s or view.stopping:
            watch.well_since = now
        ran_s = now - max(watch.well_since, view.woke_at + settings.resume_quiet_s)
        patience_s = self._patience_s(host, len(view.live), watch.worst)
        if ran_s < patience_s:
            return
        for node, known in view.members.items():
            silent_s = host.world.now - self._spoke.get(node, 0.0)
            if known.status in LIVE and min(silent_s, now - known.since) > patience_s:
                self.fail(
                    f"{host.name} holds {node} for {known.status.name} after {silent_s:.1f} s of silence, "
                    f"and {patience_s:.1f} s would do"
                )

    def _patience_s(self, host: Host, live: int, worst: int) -> float:
        settings = host.world.settings
        round_s = (2 * live + 1) * settings.probe_every_s
        answer_s = 2 * (settings.probe_timeout_s + settings.indirect_timeout_s)
        return (
            (round_s + answer_s) * (1 + worst)
            + 2 * settings.suspect_s_max
            + settings.suspect_s_min
            + _SLACK_S
        )
