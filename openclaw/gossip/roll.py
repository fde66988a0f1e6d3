"""The roll of members: who is alive, suspected, down or gone, and what is news about it.

Only who stands in the roster and is not revoked can be a member; a revoked one is gone at once and for good.
Claims are taken in the order of `member.join`, with one caution: another's verdict "down" on a member that we
hold alive is passed on as heard, but believed only after a ping of our own went unanswered. So two halves
that meet again do not bury each other's living, and nobody is down here who answers us.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from openclaw.config import Settings
from openclaw.effects import Effect, Rng
from openclaw.gossip.lost import Lost
from openclaw.gossip.member import NEVER, Row, claim, join, mark, view_bytes, with_version
from openclaw.gossip.rumours import Rumours
from openclaw.gossip.suspicion import Suspicion
from openclaw.ids import NodeId
from openclaw.messages import Rumour, Status
from openclaw.notes import MemberChanged


class Roll:
    """All members but ourselves. Every change of status becomes a note, a rumour and a reason to flush."""

    def __init__(self, me: NodeId, settings: Settings, rng: Rng) -> None:
        self.me = me
        self._settings = settings
        self.roster: frozenset[NodeId] = frozenset()
        self.rows: dict[NodeId, Row] = {}
        self.lost = Lost(settings, rng)
        self.suspects: set[NodeId] = set()
        self.rumours = Rumours(settings)
        self.news = False  # something to pass on soon
        self.own_verdict = False  # something that others can only have from us
        self._live: list[NodeId] = []
        self._left: set[NodeId] = set()
        self._marks = 0  # the sum over all claims
        self._ourselves: Rumour | None = None
        self._our_mark = 0
        self._claims: tuple[Rumour, ...] | None = None

    # --- views -----------------------------------------------------------------------------------

    def live(self) -> list[NodeId]:
        """Who is not down: alive or suspected, sorted, without us. To be read only."""
        return self._live

    def is_live(self, node: NodeId) -> bool:
        row = self.rows.get(node)
        return row is not None and row.live

    @property
    def size(self) -> int:
        """How many of us there are, with us."""
        return len(self._live) + 1

    @property
    def crowded(self) -> bool:
        """Whether what all do with all others would be too much."""
        return len(self.roster) >= self._settings.flood_nodes_max

    def claims(self) -> tuple[Rumour, ...]:
        """All that is held, sorted."""
        if self._claims is None:
            self._claims = tuple(row.claim for _, row in sorted(self.rows.items()))
        return self._claims

    def view(self, ourselves: Rumour) -> bytes:
        """What equal views have in common."""
        if ourselves is not self._ourselves:
            self._ourselves, self._our_mark = ourselves, mark(ourselves)
        return view_bytes(self._marks + self._our_mark)

    # --- what is heard ---------------------------------------------------------------------------

    def hear(self, rumour: Rumour, now: float, out: list[Effect], *, firsthand: bool = False) -> bool:
        """Take what is news. True when somebody doubts a member that we should now ask ourselves."""
        row = self.rows.get(rumour.node)
        if row is not None and rumour == row.claim and rumour.status is not Status.SUSPECT:
            return False  # what most rumours are: known
        if row is None:
            if rumour.node in self.roster:
                self._admit(rumour, now, out, firsthand)
            return rumour.status is Status.SUSPECT and rumour.node in self.roster
        doubted = False
        if row.live and rumour.status is Status.DOWN and claim(rumour) > claim(row.claim):
            doubted = self._heard_down(row, rumour, now, out)
        elif rumour.status is Status.SUSPECT and claim(rumour) >= claim(row.claim):
            doubted = self._accused(row, rumour, now, out, counts=rumour.accuser != self.me)
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
        if suspicion is not None and asked_at >= suspicion.since:
            suspicion.reopen(now)

    def asked(self, node: NodeId, now: float) -> None:
        """A question of ours to `node` is on its way."""
        suspicion = self.rows[node].suspicion
        if suspicion is not None:
            suspicion.ask(now, self._settings)

    def spoke(self, node: NodeId, seq: int, now: float) -> None:
        """`node` answered no open question. If a call since the doubt, that is as good; if something else, it is no
        verdict before it was asked again.
        """
        suspicion = self.rows[node].suspicion
        if suspicion is not None:
            suspicion.asked = False
            self.answered(node, suspicion.calls.get(seq, NEVER), now)

    def expire(self, now: float, out: list[Effect]) -> list[NodeId]:
        """Who was asked and did not speak up is down. The verdict is ours. Returns the suspects to ask first."""
        unasked = []
        for node in sorted(self.suspects):
            row = self.rows[node]
            suspicion = row.suspicion
            if suspicion is None or suspicion.deadline(self._witnesses(), self._settings) > now:
                continue
            if not suspicion.asked:
                suspicion.wait(now, self._settings)
                unasked.append(node)
            else:
                held = row.claim
                verdict = Rumour(
                    node, held.incarnation, Status.DOWN, held.meta_version, self.me, held.back_soon
                )
                self._take(row, verdict, now, out, own=True)
        return unasked

    def suspects_to_call(self, now: float) -> list[NodeId]:
        """Where few can doubt, each calls its suspects again and again: answers that get lost make nobody dead."""
        due: list[NodeId] = []
        if not self.suspects or self.crowded:
            return due
        for node in sorted(self.suspects):
            suspicion = self.rows[node].suspicion
            if suspicion is not None and suspicion.call_at <= now:
                due.append(node)
        return due

    def called(self, node: NodeId, seq: int, now: float) -> None:
        row = self.rows.get(node)
        if row is not None and row.suspicion is not None:
            row.suspicion.called(seq, now, self._settings)

    def next_call(self) -> float | None:
        if not self.suspects or self.crowded:
            return None
        waits = [self.rows[node].suspicion for node in self.suspects]
        return min((s.call_at for s in waits if s is not None), default=None)

    def next_deadline(self) -> float | None:
        """When the first verdict is due."""
        if not self.suspects:
            return None
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
        gone = sorted((self.rows.keys() | set(self.lost.nodes())) - self.roster)
        for node in gone:
            row = self.rows.get(node)
            if row is not None and row.claim.status is not Status.LEFT:
                out.append(MemberChanged(node, Status.LEFT, row.claim.incarnation))
            self.forget(node)
        for node in sorted(self.roster - self.rows.keys() - set(self.lost.nodes())):
            self.lost.add(node, now + self._settings.coalesce_s)
        return gone

    def forget(self, node: NodeId) -> None:
        row = self.rows.pop(node, None)
        if row is not None:
            self._hold(row, None)
        self.lost.drop(node)
        self.suspects.discard(node)
        self.rumours.drop(node)

    def forget_left(self, now: float) -> None:
        for node in sorted(self._left):
            if now - self.rows[node].since >= self._settings.forget_left_s:
                self.forget(node)

    # --- how it changes --------------------------------------------------------------------------

    def _admit(self, rumour: Rumour, now: float, out: list[Effect], firsthand: bool) -> None:
        row = self.rows[rumour.node] = Row(rumour, now)
        self._hold(row, rumour)
        if rumour.status is Status.SUSPECT:
            self._open(row, now).accusers.update({rumour.accuser} - {self.me})
        self._settle(row, now, out, own=firsthand)

    def _take(self, row: Row, rumour: Rumour, now: float, out: list[Effect], *, own: bool) -> None:
        held = row.claim
        same_start = held.incarnation.boot == rumour.incarnation.boot
        self._hold(row, join(held, rumour))
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
            self.lost.add(held.node, now + self._settings.dead_probe_every_s)
        else:
            self.lost.drop(held.node)
        out.append(MemberChanged(held.node, held.status, held.incarnation, held.back_soon))
        self._spread(held, own=own)

    def _accused(
        self, row: Row, rumour: Rumour, now: float, out: list[Effect], *, counts: bool = True
    ) -> bool:
        """One more accuser, if it is one; the first few are news. True when we have not accused it.

        What others repeat of our own does not count: we may have taken it back, or it is of a former start.
        """
        if row.claim.incarnation != rumour.incarnation:
            row.suspicion = None  # what was said concerned the incarnation before
        suspicion = row.suspicion
        if suspicion is None:
            suspicion = self._open(row, now)
            if counts:
                suspicion.accusers.add(rumour.accuser)
            self._take(row, rumour, now, out, own=rumour.accuser == self.me)
        elif counts and rumour.accuser not in suspicion.accusers and self._few(suspicion):
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
        self._accused(row, doubt, now, out, counts=rumour.accuser != self.me)
        suspicion = row.suspicion
        if suspicion is None or suspicion.confirm_at is not None:
            return False
        suspicion.confirm(now, self._confirm_s(row))
        self._spread(rumour, own=False)
        return True

    def newer_version(self, row: Row, version: int) -> None:
        self._hold(row, with_version(row.claim, version))
        self._spread(row.claim, own=False)

    def _open(self, row: Row, now: float) -> Suspicion:
        self.suspects.add(row.claim.node)
        row.suspicion = Suspicion(now, now, call_at=now + self._settings.probe_timeout_s)
        return row.suspicion

    def _spread(self, rumour: Rumour, *, own: bool) -> None:
        self.rumours.put(rumour)
        self.news = True
        self.own_verdict |= own

    def _hold(self, row: Row, held: Rumour | None) -> None:
        """From here on we hold `held` on this member, or nothing. All that follows from the claims changes here."""
        node = row.claim.node
        self._marks -= row.mark
        if held is None:
            self._place(node, live=False, left=False)
        else:
            row.claim, row.mark = held, mark(held)
            self._marks += row.mark
            self._place(node, live=row.live, left=held.status is Status.LEFT)
        self._claims = None

    def _place(self, node: NodeId, *, live: bool, left: bool) -> None:
        at = bisect_left(self._live, node)
        listed = at < len(self._live) and self._live[at] == node
        if live and not listed:
            self._live.insert(at, node)
        elif listed and not live:
            del self._live[at]
        if left:
            self._left.add(node)
        else:
            self._left.discard(node)

    def _witnesses(self) -> int:
        """Who else could accuse: everyone that is alive beyond doubt."""
        return len(self._live) - len(self.suspects)

    def _few(self, suspicion: Suspicion) -> bool:
        """Whether one accuser more makes a difference."""
        return len(suspicion.accusers) <= self._settings.indirect_probes

    def _confirm_s(self, row: Row) -> float:
        return max(self._settings.refused_confirm_s, 3.0 * (row.rtt_s or 0.0))
