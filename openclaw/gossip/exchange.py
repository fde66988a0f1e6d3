"""Anti-entropy: what rumours missed is found by comparing views, and blobs are pulled when they are news.

Every head carries the hash of its sender's view. Where two stay different a digest is sent, rarely; where two
meet for the first time, at once; in a large mesh only by the one that asked, and only a few, for each answer is
a whole view. The receiver merges it and answers with what it knows better, so both hold the join of the two.
Metadata is never pushed: who hears of a newer version asks whoever mentioned it, then the node itself, then
anyone; in a large mesh anyone first, for many blobs in one question.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from openclaw.config import Settings
from openclaw.effects import Rng
from openclaw.gossip.member import NEVER, Row, claim
from openclaw.gossip.roll import Roll
from openclaw.gossip.waits import Waits
from openclaw.ids import NodeId
from openclaw.messages import Digest, MetaWant, Rumour


@dataclass(slots=True)
class _Want:
    """A blob that we lack: whom to ask next; `met` once its owner itself spoke to us."""

    ask: NodeId
    met: bool
    asked: int = 0


class Exchange:
    """Which digests and blobs are due. Rates are bounded per peer and for the node as a whole."""

    def __init__(self, roll: Roll, settings: Settings, rng: Rng) -> None:
        self._roll = roll
        self._settings = settings
        self._rng = rng
        self._next_digest = NEVER
        self._first_digests: deque[float] = deque(maxlen=settings.rumour_fanout)
        self._wants: dict[NodeId, _Want] = {}
        self._waits = Waits()

    # --- views -----------------------------------------------------------------------------------

    def digest(self, ourselves: Rumour, *, reply: bool = False) -> Digest:
        return Digest((ourselves, *self._roll.claims())[: self._settings.digest_entries_max], reply)

    def better(self, digest: Digest, ourselves: Rumour) -> tuple[Rumour, ...]:
        """What we know better than the sender of this digest, after having merged it."""
        theirs = {entry.node: entry for entry in digest.entries}
        return tuple(
            held
            for held in (ourselves, *self._roll.claims())
            if (known := theirs.get(held.node)) is None
            or claim(held) > claim(known)
            or held.meta_version > known.meta_version
        )[: self._settings.digest_entries_max]

    def first_contact(self, row: Row, now: float, *, asked: bool) -> bool:
        """Whether a peer that was new or down until now should have our whole view at once."""
        pause_s = self._settings.repeat_note_s
        if now - row.digest_sent < pause_s:
            return False
        if self._roll.crowded:
            lately = self._first_digests
            if not asked or (len(lately) == lately.maxlen and now - lately[0] < pause_s):
                return False
            lately.append(now)
        row.digest_sent = now
        return True

    def differs(self, row: Row, theirs: bytes, ours: bytes, now: float) -> bool:
        """Whether this peer's view has differed for so long that rumours will not mend it."""
        if theirs == ours:
            row.differs_since = None
            return False
        if row.differs_since is None:
            row.differs_since = now
        lasted_s = now - row.differs_since
        if lasted_s < 2 * self._settings.probe_every_s or now < self._next_digest:
            return False
        self._next_digest = now + self._settings.exchange_every_s * (0.5 + self._rng.random())
        row.differs_since = None
        row.digest_sent = now
        return True

    # --- metadata --------------------------------------------------------------------------------

    def want(self, node: NodeId, mentioned_by: NodeId, now: float) -> None:
        """If `node` published something that we lack, ask who knows of it."""
        row = self._roll.rows.get(node)
        if row is None or row.meta_version >= row.claim.meta_version:
            self.forget(node)
            return
        want, itself = self._wants.get(node), mentioned_by == node
        if want is None or (itself and not want.met):
            self._wants[node] = _Want(mentioned_by, itself)
            self._waits.set(node, now + self._settings.coalesce_s)

    def forget(self, node: NodeId) -> None:
        if self._wants.pop(node, None) is not None:
            self._waits.drop(node)

    def due(self, now: float) -> list[tuple[NodeId, MetaWant]]:
        """The questions of this moment, one message a peer; each is asked again until it is answered."""
        due = self._waits.due(now)
        live = self._roll.live()
        anyone = self._rng.choice(live) if due and live else None
        asked: dict[NodeId, list[NodeId]] = {}
        for node in due:
            want = self._wants[node]
            nodes = asked.setdefault(want.ask, [])
            if len(nodes) < self._settings.metas_asked_max:
                nodes.append(node)
                self._waits.set(node, now + self._settings.meta_retry_s)
                want.asked += 1
                itself_next = want.ask != node and want.asked > self._roll.crowded
                want.ask = node if anyone is None or (itself_next and self._roll.is_live(node)) else anyone
        return [(peer, MetaWant(tuple(nodes))) for peer, nodes in asked.items()]

    def next_deadline(self) -> float | None:
        return self._waits.next()
