"""The roll of members: who is alive, suspected, down or gone, and what is news about it.

Only who stands in the roster and is not revoked can be a member; a revoked one is gone at once and for good.
Claims are taken in the order of `member.join`, with one caution: another's verdict "down" on a member that we
hold alive is passed on as heard, but believed only after a ping of our own went unanswered. So two halves
that meet again do not bury each other's living, and nobody is down here who answers us.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openclaw.config import Settings
from openclaw.effects import Effect
from openclaw.gossip.member import Row, claim, join, live_nodes, view_hash, with_version
from openclaw.gossip.rumours import Rumours
from openclaw.gossip.suspicion import Suspicion
from openclaw.ids import NodeId
from openclaw.messages import Rumour, Status
from openclaw.notes import MemberChanged


@dataclass(slots=True)
class Lost:
    """A member that we do not hear: asked again for ever, ever more rarely."""

    due: float
    pause_s: float
    pinged_at: float = float("-inf")


class Roll:
    """All members but ourselves. Every change of status becomes a note, a rumour and a reason to flush."""

    def __init__(self, me: NodeId, settings: Settings) -> None:
        self.me = me
        self._settings = settings
        self.roster: frozenset[NodeId] = frozenset()
        self.rows: dict[NodeId, Row] = {}
        self.lost: dict[NodeId, Lost] = {}
        self.suspects: set[NodeId] = set()
        self.rumours = Rumours(settings)
        self.news = False  # something to pass on soon
        self.own_verdict = False  # something that others can only have from us
        self._live: list[NodeId] | None = None
        self._view: tuple[Rumour | None, bytes] | None = None

    # --- views -----------------------------------------------------------------------------------

    def live(self) -> list[NodeId]:
        """Who is not down: alive or suspected, sorted, without us."""
        if self._live is None:
            self._live = live_nodes(self.rows.items())
        return self._live

    @property
    def size(self) -> int:
        """How many of us there are, with us."""
        return len(self.live()) + 1

    def view(self, ourselves: Rumour | None) -> bytes:
        if self._view is None or self._view[0] != ourselves:
            claims = [row.claim for row in self.rows.values()]
            self._view = (ourselves, view_hash(claims if ourselves is None else [*claims, ourselves]))
        return self._view[1]

    # --- what is heard ---------------------------------------------------------------------------

    def hear(self, rumour: Rumour, now: float, out: list[Effect], *, firsthand: bool = False) -> bool:
        """Take what is news. True when somebody doubts a member that we should now ask ourselves."""
        row = self.rows.get(rumour.node)
        if row is None:
            if rumour.node in self.roster:
                self._admit(rumour, now, out, firsthand)
            return rumour.status is Status.SUSPECT and rumour.node in self.roster
        doubted = False
        if row.live and rumour.status is Status.DOWN and claim(rumour) > claim(row.claim):
            doubted = self._heard_down(row, rumour, now, out)
        elif rumour.status is Status.SUSPECT and claim(rumour) >= claim(row.claim):
            doubted = self._accused(row, rumour, now, out)
        elif claim(rumour) > claim(row.claim):
            self._take(row, rumour, now, out, own=firsthand)
        elif rumour.back_soon and not row.claim.back_soon and claim(rumour) == claim(row.claim):
            self._take(row, rumour, now, out, own=False)
        if rumour.meta_version > row.claim.meta_version:
            self.newer_version(row, rumour.meta_version)
        return doubted

    def accuse(self, node: NodeId, now: float, out: list[Effect]) -> None:
        """Our own probe of `node` failed."""
        row = self.rows[node]
        held = row.claim
        mine = Rumour(node, held.incarnation, Status.SUSPECT, held.meta_version, self.me, held.back_soon)
        self._accused(row, mine, now, out)

    def confirm_soon(self, node: NodeId, now: float, out: list[Effect]) -> None:
        """There is evidence that `node` is gone. Unless it answers a fresh ping, the road is short."""
        self.accuse(node, now, out)
        suspicion = self.rows[node].suspicion
        if suspicion is not None and suspicion.confirm_at is None:
            suspicion.confirm(now, self._confirm_s(self.rows[node]))

    def answered(self, node: NodeId, asked_at: float, now: float) -> None:
        """`node` answered a question of `asked_at`: what was said of it before that is void for us."""
        suspicion = self.rows[node].suspicion
        if suspicion is not None and asked_at >= suspicion.started:
            suspicion.reopen(now)

    def expire(self, now: float, out: list[Effect]) -> None:
        """Who was suspected and did not speak up is down. The verdict is ours."""
        for node in sorted(self.suspects):
            row = self.rows[node]
            suspicion = row.suspicion
            if suspicion is not None and suspicion.deadline(self._witnesses(), self._settings) <= now:
                held = row.claim
                verdict = Rumour(
                    node, held.incarnation, Status.DOWN, held.meta_version, self.me, held.back_soon
                )
                self._take(row, verdict, now, out, own=True)

    def next_deadline(self) -> float | None:
        """When the first verdict is due."""
        witnesses = self._witnesses()
        waits = [self.rows[node].suspicion for node in self.suspects]
        return min((s.deadline(witnesses, self._settings) for s in waits if s is not None), default=None)

    def shift(self, gap_s: float) -> None:
        for node in self.suspects:
            suspicion = self.rows[node].suspicion
            if suspicion is not None:
                suspicion.shift(gap_s)

    def reopen_all(self, at: float) -> None:
        for node in self.suspects:
            suspicion = self.rows[node].suspicion
            if suspicion is not None:
                suspicion.reopen(at)

    # --- who may be here -------------------------------------------------------------------------

    def enrol(self, roster: Iterable[NodeId], now: float, out: list[Effect]) -> list[NodeId]:
        """The roster is now this. Returns who is gone from it."""
        self.roster = frozenset(roster) - {self.me}
        gone = sorted((self.rows.keys() | self.lost.keys()) - self.roster)
        for node in gone:
            row = self.rows.get(node)
            if row is not None and row.claim.status is not Status.LEFT:
                out.append(MemberChanged(node, Status.LEFT, row.claim.incarnation))
            self.forget(node)
        for node in sorted(self.roster - self.rows.keys() - self.lost.keys()):
            self.lost[node] = Lost(now + self._settings.coalesce_s, self._settings.dead_probe_every_s)
        return gone

    def forget(self, node: NodeId) -> None:
        self.rows.pop(node, None)
        self.lost.pop(node, None)
        self.suspects.discard(node)
        self.rumours.drop(node)
        self._changed()

    def forget_left(self, now: float) -> None:
        for node, row in list(self.rows.items()):
            if row.claim.status is Status.LEFT and now - row.since >= self._settings.forget_left_s:
                self.forget(node)

    def retry_s_max(self) -> float:
        """Many that are lost are each asked more rarely, so that the whole stays two pings a second."""
        return max(self._settings.dead_probe_s_max, len(self.lost) * self._settings.probe_every_s)

    # --- how it changes --------------------------------------------------------------------------

    def _admit(self, rumour: Rumour, now: float, out: list[Effect], firsthand: bool) -> None:
        row = self.rows[rumour.node] = Row(rumour, now)
        if rumour.status is Status.SUSPECT:
            self._open(row, now).accusers.add(rumour.accuser)
        self._settle(row, now, out, own=firsthand)

    def _take(self, row: Row, rumour: Rumour, now: float, out: list[Effect], *, own: bool) -> None:
        held = row.claim
        same_start = held.incarnation.boot == rumour.incarnation.boot
        row.claim = join(held, rumour)
        if not same_start:
            row.beat_told = 0
        if held.status is not rumour.status or not same_start:
            self._settle(row, now, out, own=own)
        else:
            self._spread(row.claim, own=own)
        if rumour.status is not Status.SUSPECT:
            row.suspicion = None
            self.suspects.discard(rumour.node)

    def _settle(self, row: Row, now: float, out: list[Effect], *, own: bool) -> None:
        """`row` has a new status or a new start: tell everyone, in here and outside."""
        held = row.claim
        row.since = now
        if held.status is Status.DOWN:
            pause_s = self._settings.dead_probe_every_s
            self.lost[held.node] = Lost(now + pause_s, pause_s)
        else:
            self.lost.pop(held.node, None)
        out.append(MemberChanged(held.node, held.status, held.incarnation, held.back_soon))
        self._spread(held, own=own)

    def _accused(self, row: Row, rumour: Rumour, now: float, out: list[Effect]) -> bool:
        """One more accuser, if it is one; the first few are news. True when we have not accused it."""
        if row.claim.incarnation != rumour.incarnation:
            row.suspicion = None  # what was said concerned the incarnation before
        suspicion = row.suspicion
        if suspicion is None:
            suspicion = self._open(row, now)
            suspicion.accusers.add(rumour.accuser)
            self._take(row, rumour, now, out, own=rumour.accuser == self.me)
        elif rumour.accuser not in suspicion.accusers and len(suspicion.accusers) <= self._accusers_max():
            suspicion.accusers.add(rumour.accuser)
            self._spread(rumour, own=rumour.accuser == self.me)
        return self.me not in suspicion.accusers

    def _heard_down(self, row: Row, rumour: Rumour, now: float, out: list[Effect]) -> bool:
        """Another's verdict: ours too if we have accused already, else a reason to ask at once."""
        if row.suspicion is not None and self.me in row.suspicion.accusers:
            self._take(row, rumour, now, out, own=False)
            return False
        doubt = Rumour(
            rumour.node,
            rumour.incarnation,
            Status.SUSPECT,
            rumour.meta_version,
            rumour.accuser,
            rumour.back_soon,
        )
        self._accused(row, doubt, now, out)
        suspicion = row.suspicion
        if suspicion is None or suspicion.confirm_at is not None:
            return False
        suspicion.confirm(now, self._confirm_s(row))
        self._spread(rumour, own=False)
        return True

    def newer_version(self, row: Row, version: int) -> None:
        row.claim = with_version(row.claim, version)
        self._spread(row.claim, own=False)

    def _open(self, row: Row, now: float) -> Suspicion:
        self.suspects.add(row.claim.node)
        row.suspicion = Suspicion(now)
        return row.suspicion

    def _spread(self, rumour: Rumour, *, own: bool) -> None:
        self.rumours.put(rumour)
        self.news = True
        self.own_verdict |= own
        self._changed()

    def _changed(self) -> None:
        self._live = None
        self._view = None

    def _witnesses(self) -> int:
        """Who else could accuse: everyone that is alive beyond doubt."""
        return sum(1 for node in self.live() if node not in self.suspects)

    def _accusers_max(self) -> int:
        return self._settings.indirect_probes

    def _confirm_s(self, row: Row) -> float:
        return max(self._settings.refused_confirm_s, 3.0 * (row.rtt_s or 0.0))
