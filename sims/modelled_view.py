"""What one modelled node holds of the others: SWIM's order of claims, and suspicions that run out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, log

from openclaw.effects import Effect, Rng
from openclaw.ids import Incarnation, NodeId
from openclaw.messages import Status
from openclaw.notes import MemberChanged, MetaLearned
from openclaw.records import Meta
from sims.modelled import Alive, Claim, Dead, Parameters, PushPull, Queue, Suspect, state_of


@dataclass(slots=True)
class Member:
    incarnation: int = 0
    status: Status = Status.ALIVE
    since: float = -inf
    accusers: set[NodeId] = field(default_factory=set)

    @property
    def live(self) -> bool:
        return self.status is not Status.DOWN


class View:
    """`incarnation` and `health` are our own; `out` collects what is to be told inside this node."""

    def __init__(self, me: NodeId, parameters: Parameters, rng: Rng) -> None:
        self.me = me
        self.rows: dict[NodeId, Member] = {}
        self.queue = Queue(parameters.retransmit_mult)
        self.incarnation = 0
        self.health = 0
        self.out: list[Effect] = []
        self._parameters = parameters
        self._rng = rng

    @property
    def size(self) -> int:
        """Everyone that is known of, as memberlist counts: the dead too."""
        return len(self.rows) + 1

    def live(self) -> list[NodeId]:
        return sorted(node for node, row in self.rows.items() if row.live)

    def some(self, count: int, wanted: Callable[[NodeId, Member], bool]) -> list[NodeId]:
        """A few others by lot."""
        chosen = [node for node, row in sorted(self.rows.items()) if wanted(node, row)]
        return self._rng.sample(chosen, min(count, len(chosen)))

    def states(self, *, reply: bool) -> PushPull:
        rows = sorted(self.rows.items())
        held = [state_of(node, row.incarnation, row.status, self.me) for node, row in rows]
        return PushPull((Alive(self.incarnation, self.me), *held), reply)

    # --- claims ----------------------------------------------------------------------------------

    def take(self, claim: Claim, now: float) -> None:
        if claim.Node == self.me:
            self._about_us(claim)
            return
        row = self.rows.get(claim.Node)
        if row is None or claim.Incarnation < row.incarnation:
            return
        match claim:
            case Alive():
                if claim.Incarnation > row.incarnation:
                    self._set(row, Status.ALIVE, claim, now)
                    self.out.append(MetaLearned(claim.Node, claim.Incarnation, Meta()))
            case Suspect(From=accuser):
                if row.status is Status.SUSPECT and self._confirms(row, accuser):
                    row.accusers.add(accuser)
                    self.queue.put(claim)
                elif row.status is Status.ALIVE:
                    row.accusers = {accuser}
                    self._set(row, Status.SUSPECT, claim, now)
            case Dead() if row.live:
                self._set(row, Status.DOWN, claim, now)

    def merge(self, claim: Claim, sender: NodeId, now: float) -> None:
        """From another's whole view. Whom it holds dead is only suspected: it may be wrong."""
        doubtful = isinstance(claim, Dead)
        self.take(Suspect(claim.Incarnation, claim.Node, sender) if doubtful else claim, now)

    def refute(self, over: int) -> None:
        """Our own next incarnation, as news."""
        self.incarnation = max(over, self.incarnation) + 1
        self.queue.put(Alive(self.incarnation, self.me))

    def feel(self, by: int) -> None:
        self.health = max(0, min(self._parameters.health_max, self.health + by))

    def expire(self, now: float) -> None:
        """Who was suspected for too long is dead."""
        for node, row in sorted(self.rows.items()):
            if row.status is Status.SUSPECT and self._deadline(row) <= now:
                self.take(Dead(row.incarnation, node, self.me), now)

    def next_deadline(self) -> float:
        suspects = [row for row in self.rows.values() if row.status is Status.SUSPECT]
        return min((self._deadline(row) for row in suspects), default=inf)

    def _set(self, row: Member, status: Status, claim: Claim, now: float) -> None:
        row.incarnation = claim.Incarnation
        if row.status is not status:
            self.out.append(MemberChanged(claim.Node, status, Incarnation(row.incarnation, "")))
        row.status, row.since = status, now
        self.queue.put(claim)

    def _about_us(self, claim: Claim) -> None:
        if isinstance(claim, Alive):
            if claim.Incarnation > self.incarnation:
                self.refute(claim.Incarnation)
        elif claim.Incarnation >= self.incarnation:
            self.feel(1)
            self.refute(claim.Incarnation)

    def _confirms(self, row: Member, accuser: NodeId) -> bool:
        return accuser not in row.accusers and len(row.accusers) <= self._confirmations()

    def _confirmations(self) -> int:
        """How many others shorten a suspicion: none where too few are left to confirm it."""
        wanted = self._parameters.confirmations
        return wanted if self.size - 2 >= wanted else 0

    def _deadline(self, row: Member) -> float:
        shortest = self._parameters.shortest_s(self.size)
        wanted = self._confirmations()
        if wanted < 1:
            return row.since + shortest
        longest = shortest * self._parameters.suspicion_stretch
        share = log(len(row.accusers)) / log(wanted + 1)
        return row.since + max(shortest, longest - share * (longest - shortest))
