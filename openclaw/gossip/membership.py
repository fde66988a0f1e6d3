"""Who is in the mesh: SWIM with Lifeguard, rumours and anti-entropy, composed into one machine.

Promises. A member that is up, connected and running is not held down. Only a node itself raises its
incarnation, which is on its disk before anyone hears of it: heads carry what an earlier instant stored
(`own.Staged`), so nothing at all is sent at the very instant of the start. A node learns from its peers what
they hold on its own past before it says `Settled`. After a sleep it accuses nobody for a while. Timers run on
`Tick` alone; a tick that comes late is our own fault and extends every wait by as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from openclaw.config import Settings
from openclaw.effects import (
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Measured,
    MetaChanged,
    PeerFound,
    Received,
    Resumed,
    Rng,
    RosterChanged,
    Send,
    Started,
    StopAsked,
    Tick,
)
from openclaw.gossip.beats import Beats
from openclaw.gossip.ear import Ear
from openclaw.gossip.exchange import Exchange
from openclaw.gossip.member import MemberView, member_view
from openclaw.gossip.own import Own
from openclaw.gossip.prober import Prober
from openclaw.gossip.roll import Roll
from openclaw.gossip.voice import Voice
from openclaw.gossip.waits import earliest
from openclaw.ids import NO_EPOCH, Incarnation, NodeId
from openclaw.messages import Status
from openclaw.notes import (
    CountsChanged,
    GrantedChanged,
    LeaderChanged,
    LoadChanged,
    Note,
    Settled,
)
from openclaw.records import Meta


class Membership:
    """The machine. Views: `members`, `alive`, `incarnation`, `meta_of`, `health`."""

    def __init__(
        self,
        me: NodeId,
        boot: str,
        settings: Settings,
        rng: Rng,
        incarnation_stored: int,
        meta_version_stored: int,
    ) -> None:
        self._me = me
        self._settings = settings
        self._own = Own(me, boot, incarnation_stored, meta_version_stored)
        self._roll = Roll(me, settings, rng)
        self._beats = Beats(me, boot, settings)
        self._voice = Voice(self._own, self._roll, self._beats, settings, rng)
        self._prober = Prober(self._roll, self._voice, settings, rng)
        self._exchange = Exchange(self._roll, settings, rng)
        self._ear = Ear(
            self._own, self._roll, self._beats, self._voice, self._prober, self._exchange, settings
        )
        self._started = False
        self._settle_at: float | None = None
        self._due: float | None = None

    # --- views -----------------------------------------------------------------------------------

    def members(self) -> Mapping[NodeId, MemberView]:
        """Everyone that is known of, with us, sorted."""
        ourselves = MemberView(
            Status.ALIVE,
            self.incarnation,
            self._own.version,
            self._own.meta,
            self._beats.latest,
            0.0,
            None,
            self._own.back_soon,
        )
        views = {node: member_view(row) for node, row in self._roll.rows.items()}
        return dict(sorted({**views, self._me: ourselves}.items()))

    def alive(self) -> list[NodeId]:
        """Who is not down, suspects and us included, sorted."""
        return sorted([*self._roll.live(), self._me])

    @property
    def incarnation(self) -> Incarnation:
        return self._own.incarnation

    @property
    def health(self) -> int:
        """How much we doubt ourselves: 0 is well."""
        return self._prober.health

    def meta_of(self, node: NodeId) -> Meta | None:
        if node == self._me:
            return self._own.meta
        row = self._roll.rows.get(node)
        return None if row is None else row.meta

    def counters(self, node: NodeId) -> tuple[int, int]:
        """How far `node` has counted its incarnations and its metadata, as far as we know."""
        if node == self._me:
            return self.incarnation.counter, self._own.version
        row = self._roll.rows.get(node)
        return (0, 0) if row is None else (row.claim.incarnation.counter, row.claim.meta_version)

    # --- the one door ----------------------------------------------------------------------------

    def handle(self, event: Event | Note, now: float) -> list[Effect]:
        out: list[Effect] = []
        if self._due is not None and now - self._due > self._settings.probe_timeout_s:
            self._prober.forgive(now - self._due)
        self._due = None
        match event:
            case Received(message=message, sender=sender):
                if self._here and sender in self._roll.roster:
                    self._ear.receive(message, sender, now, out)
            case Started(meta=meta):
                self._start(meta, now, out)
            case RosterChanged(members=members, digest=digest):
                self._voice.roster = digest
                gone = self._roll.enrol((m for m, row in members.items() if not row.revoked), now, out)
                for node in gone:
                    self._forget(node)
            case LeaderChanged(epoch=epoch):
                self._own.epoch.set(epoch or NO_EPOCH, now)
            case MetaChanged(meta=meta):
                self._own.publish(meta, now, out)
                self._voice.announce = True
            case Measured() | LoadChanged() | CountsChanged() | GrantedChanged():
                self._measure(event)
            case _ if self._here:
                self._live(event, now, out)
            case _:
                pass
        if self._settle_at is not None:
            self._settle(self._settle_at, now, out)
        self._voice.notice(now)
        return out

    def next_deadline(self) -> float | None:
        """To be asked after each batch: lateness is measured against the answer."""
        if self._here:
            self._due = earliest(
                self._prober.next_deadline(),
                self._voice.next_deadline(),
                self._exchange.next_deadline(),
                self._settle_at,
            )
        return self._due

    @property
    def _here(self) -> bool:
        """From our start until we said goodbye for good: else we neither ask nor answer."""
        return self._started and not (self._own.leaving and not self._own.back_soon)

    def _live(self, event: Event | Note, now: float, out: list[Effect]) -> None:
        match event:
            case Tick():
                self._prober.tick(now, out)
                out.extend(Send(peer, want) for peer, want in self._exchange.due(now))
                self._voice.speak(now, out)
            case PeerFound(node=node) if node in self._roll.roster:
                self._prober.found(node, now)
            case LinkUp(peer=peer) if peer in self._roll.roster:
                self._prober.linked(peer, now, out)
            case LinkDown(peer=peer, refused=refused):
                self._prober.unlinked(peer, refused, now, out)
            case Resumed():
                self._own.raise_over(self._own.incarnation.counter, now, out)
                self._voice.announce = True
                self._prober.quiet(now + self._settings.resume_quiet_s)
            case StopAsked(keep=keep, leave=leave) if leave or keep:
                self._own.leave(back_soon=keep)
                self._voice.farewell(now, out)
            case _:
                pass

    # --- our own life ----------------------------------------------------------------------------

    def _start(self, meta: Meta, now: float, out: list[Effect]) -> None:
        self._own.start(meta, now, out)
        self._started = True
        self._voice.announce = True
        self._settle_at = now + self._settings.settle_s
        self._prober.start(now)
        self._roll.lost.all_due(now + self._settings.coalesce_s)

    def _settle(self, at: float, now: float, out: list[Effect]) -> None:
        """Say once that our own past is known: everyone answered, enough did, or nobody does until `at`."""
        answered = self._ear.answered
        enough = len(answered) >= self._settings.indirect_probes
        everyone = bool(self._voice.roster) and answered >= self._roll.roster
        if enough or everyone or now >= at:
            self._settle_at = None
            out.append(Settled())

    def _measure(self, event: Event | Note) -> None:
        match event:
            case Measured(metrics=metrics, lag_s=lag_s):
                self._beats.measured(metrics)
                if lag_s > self._settings.probe_timeout_s:
                    self._prober.ill(ceil(lag_s / self._settings.probe_timeout_s))
            case LoadChanged(running=running, queued=queued):
                self._beats.load(running, queued)
            case CountsChanged(counts=counts):
                self._beats.counts(counts)
            case GrantedChanged(granted=granted):
                self._beats.granted(granted)
            case _:
                pass

    def _forget(self, node: NodeId) -> None:
        self._prober.drop(node)
        self._exchange.forget(node)
        self._beats.forget(node)
