"""Everything that is heard: heads, rumours, digests, and what others publish.

What a sender says of itself comes before what it says of others, and what it says of us is answered by a higher
incarnation. Only members of the roster are heard at all; that was checked before.
"""

from __future__ import annotations

from openclaw.config import Settings
from openclaw.effects import Effect, Send
from openclaw.gossip.beats import Beats
from openclaw.gossip.exchange import Exchange
from openclaw.gossip.member import NEVER, Row
from openclaw.gossip.own import Own
from openclaw.gossip.prober import Prober
from openclaw.gossip.roll import Roll
from openclaw.gossip.voice import Voice
from openclaw.ids import NodeId
from openclaw.messages import (
    Ack,
    AnyMessage,
    Digest,
    Gossip,
    Head,
    MetaHave,
    MetaWant,
    Nack,
    Ping,
    PingRequest,
    Rumour,
    Status,
)
from openclaw.notes import LeaderSeen, MetaLearned, RosterDiffers


class Ear:
    """Takes messages apart. `answered` has who acknowledged a ping of ours since the start."""

    def __init__(
        self,
        own: Own,
        roll: Roll,
        beats: Beats,
        voice: Voice,
        prober: Prober,
        exchange: Exchange,
        settings: Settings,
    ) -> None:
        self.answered: set[NodeId] = set()
        self._own = own
        self._roll = roll
        self._beats = beats
        self._voice = voice
        self._prober = prober
        self._exchange = exchange
        self._settings = settings

    def receive(self, message: AnyMessage, sender: NodeId, now: float, out: list[Effect]) -> None:
        match message:
            case Ping(seq=seq, head=head):
                self._read(head, sender, now, out)
                self._voice.ack(sender, seq, now, out)
            case Ack(head=head, target=target):
                self._read(head, sender, now, out, asked=True)
                self._prober.acked(sender, message, now, out)
                if not target:
                    self.answered.add(sender)
            case PingRequest(head=head):
                self._read(head, sender, now, out)
                self._prober.help(sender, message, now, out)
            case Nack():
                self._prober.nacked(message)
            case Gossip(head=head):
                self._read(head, sender, now, out)
            case Digest():
                self._compare(message, sender, now, out)
            case MetaWant(nodes=nodes):
                self._tell_metas(nodes, sender, now, out)
            case MetaHave():
                self._learn_meta(message, sender, now, out)
            case _:
                pass

    def _read(
        self, head: Head, sender: NodeId, now: float, out: list[Effect], *, asked: bool = False
    ) -> None:
        """What the sender says of itself comes first, then what it says of others."""
        known = self._roll.rows.get(sender)
        met = known is not None and known.live and known.last_heard != NEVER
        said = Rumour(sender, head.incarnation, Status.ALIVE, head.meta_version)
        if known is not None and _same_count_of_another_start(known.claim, said):
            out.append(Send(sender, Digest((known.claim,), reply=True)))
        self._hear(said, sender, now, out, firsthand=True)
        row = self._roll.rows[sender]
        row.told, row.told_version, row.last_heard = head.incarnation, head.meta_version, now
        for rumour in head.rumours:
            self._hear(rumour, sender, now, out)
        for beat in head.beats:
            subject = self._roll.rows.get(beat.node)
            if subject is not None:
                self._beats.learn(beat, subject)
        self._note_leader(row, head, now, out)
        if head.roster != self._voice.roster and now - row.roster_noted >= self._settings.repeat_note_s:
            row.roster_noted = now
            out.append(RosterDiffers(sender))
        self._reconcile(row, head, met, asked, now, out)

    def _hear(
        self, rumour: Rumour, sender: NodeId, now: float, out: list[Effect], *, firsthand: bool = False
    ) -> None:
        if rumour.node == self._own.me:
            if rumour.status in (Status.SUSPECT, Status.DOWN) and rumour.incarnation == self._own.incarnation:
                self._prober.ill()
            self._voice.announce |= self._own.answer(rumour, now, out)
            return
        if self._roll.hear(rumour, now, out, firsthand=firsthand):
            self._prober.ask(rumour.node, now, out)
        self._exchange.want(rumour.node, sender, now)

    def _note_leader(self, row: Row, head: Head, now: float, out: list[Effect]) -> None:
        """A peer's change of leader at once; a lasting difference from ours now and then."""
        differs = head.epoch != self._own.epoch.latest
        again = differs and now - row.epoch_noted >= self._settings.repeat_note_s
        if head.epoch != row.epoch or again:
            row.epoch = head.epoch
            row.epoch_noted = now
            out.append(LeaderSeen(row.claim.node, head.epoch))

    def _reconcile(self, row: Row, head: Head, met: bool, asked: bool, now: float, out: list[Effect]) -> None:
        ourselves = self._own.spoken(now)
        if ourselves is None or not row.live:
            return
        ours = self._roll.view(ourselves)
        fresh = not met and head.view != ours and self._exchange.first_contact(row, now, asked=asked)
        if fresh or self._exchange.differs(row, head.view, ours, now):
            out.append(Send(row.claim.node, self._exchange.digest(ourselves)))

    def _compare(self, digest: Digest, sender: NodeId, now: float, out: list[Effect]) -> None:
        for entry in digest.entries:
            self._hear(entry, sender, now, out, firsthand=entry.node == sender)
        ourselves = self._own.spoken(now)
        if digest.reply or ourselves is None:
            return
        better = self._exchange.better(digest, ourselves)
        if better:
            out.append(Send(sender, Digest(better, reply=True)))

    def _tell_metas(self, nodes: tuple[NodeId, ...], sender: NodeId, now: float, out: list[Effect]) -> None:
        ourselves = self._own.spoken(now)
        for node in nodes:
            row = self._roll.rows.get(node)
            if node == self._own.me and ourselves is not None and ourselves.meta_version == self._own.version:
                out.append(Send(sender, MetaHave(node, self._own.version, self._own.meta)))
            elif row is not None and row.meta is not None:
                out.append(Send(sender, MetaHave(node, row.meta_version, row.meta)))

    def _learn_meta(self, have: MetaHave, sender: NodeId, now: float, out: list[Effect]) -> None:
        row = self._roll.rows.get(have.node)
        if row is None or have.version <= row.meta_version:
            return
        row.meta, row.meta_version = have.meta, have.version
        if have.version > row.claim.meta_version:
            self._roll.newer_version(row, have.version)
        self._exchange.want(have.node, sender, now)
        out.append(MetaLearned(have.node, have.version, have.meta))
        self._prober.meet(have.node, now, out)


def _same_count_of_another_start(held: Rumour, said: Rumour) -> bool:
    """Whether a restored backup, or a copied key, counts again what was counted before: it must hear of that."""
    one, other = held.incarnation, said.incarnation
    return one.counter == other.counter and one.boot != other.boot
