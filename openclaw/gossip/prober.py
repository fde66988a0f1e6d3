"""Asking: the round of probes, urgent questions, helping others ask, and calling after the lost.

An unanswered probe is asked again directly and through helpers before it becomes an accusation. Whoever is
lost is called for ever, ever more rarely, so that two halves of a mesh always find each other again.
"""

from __future__ import annotations

from collections import deque

from openclaw.config import Settings
from openclaw.effects import Effect, Redial, Rng, Send
from openclaw.gossip.detector import Detector, Probe, smoothed
from openclaw.gossip.member import NEVER
from openclaw.gossip.roll import Roll
from openclaw.gossip.voice import Voice
from openclaw.gossip.waits import earliest
from openclaw.ids import NOBODY, NodeId
from openclaw.messages import Ack, Nack, PingRequest, Status

GREETED_EACH = 2  # strangers, with every probe


class Prober:
    """Turns what the detector finds due into messages, and answers into facts for the roll."""

    def __init__(self, roll: Roll, voice: Voice, settings: Settings, rng: Rng) -> None:
        self._roll = roll
        self._voice = voice
        self._settings = settings
        self._rng = rng
        self._detector = Detector(settings, rng)
        self._next_probe = NEVER
        self._quiet_until = NEVER
        self._strangers: deque[NodeId] = deque()

    @property
    def health(self) -> int:
        """Lifeguard's score of ourselves: 0 is well."""
        return self._detector.health

    # --- asking ----------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        self._next_probe = now + self._settings.probe_every_s * self._rng.random()

    def ask(self, node: NodeId, now: float, out: list[Effect]) -> None:
        """Somebody doubts `node`: ask now, unless a question is open that is younger than the doubt."""
        row = self._roll.rows[node]
        since = row.suspicion.since if row.suspicion is not None else NEVER
        if row.live and not self._detector.probing(node, since):
            self._question(node, now, out)

    def hello(self, node: NodeId, now: float, out: list[Effect]) -> None:
        """A greeting: what matters is the answer's head, and nobody is accused for its lack."""
        seq = self._detector.next_seq()
        self._roll.lost.called(node, now)
        self._roll.called(node, seq, now)
        self._voice.ping(node, seq, now, out)

    def meet(self, node: NodeId, now: float, out: list[Effect]) -> None:
        """Someone who lives, as others say. In a large mesh a few strangers are greeted with every probe."""
        if self._roll.rows[node].last_heard != NEVER:
            return
        if not self._roll.crowded:
            self.hello(node, now, out)
        elif len(self._strangers) < self._roll.size:
            self._strangers.append(node)

    def found(self, node: NodeId, now: float) -> None:
        """A hint that a lost member may be there again."""
        self._roll.lost.hint(node, now)

    def linked(self, node: NodeId, now: float, out: list[Effect]) -> None:
        if node in self._roll.lost:
            self._roll.lost.reached(node, now)
        elif self._roll.is_live(node):
            self.meet(node, now, out)
        else:
            self.hello(node, now, out)

    def unlinked(self, node: NodeId, refused: bool, now: float, out: list[Effect]) -> None:
        row = self._roll.rows.get(node)
        if row is None or not row.live:
            return
        if refused and now >= self._quiet_until:
            self._roll.confirm_soon(node, now, out)
        self.ask(node, now, out)

    def help(self, asker: NodeId, request: PingRequest, now: float, out: list[Effect]) -> None:
        if request.target in self._roll.roster and request.target != asker:
            seq = self._detector.open_relay(asker, request.seq, request.target, now)
            if seq is not None:
                self._voice.ping(request.target, seq, now, out)

    # --- answers ---------------------------------------------------------------------------------

    def acked(self, sender: NodeId, ack: Ack, now: float, out: list[Effect]) -> None:
        target = ack.target or sender
        relay = self._detector.relayed(ack.seq, sender) if ack.target == NOBODY else None
        if relay is not None:
            self._voice.ack(relay.asker, relay.asker_seq, now, out, target=sender)
            return
        probe = self._detector.answered(ack.seq, target)
        row = self._roll.rows.get(target)
        if row is None:
            return
        if probe is None:
            if row.suspicion is not None:
                self._roll.spoke(target, ack.seq, now)
                self.ask(target, now, out)
            return
        if not probe.indirect:
            row.rtt_s = smoothed(row.rtt_s, now - probe.sent)
        self._roll.answered(target, probe.sent, now)

    def nacked(self, nack: Nack) -> None:
        self._detector.nacked(nack.seq, nack.target)

    def ill(self, by: int = 1) -> None:
        """We ran late, or were accused ourselves: doubt ourselves first."""
        self._detector.worse(by)

    # --- time ------------------------------------------------------------------------------------

    def tick(self, now: float, out: list[Effect]) -> None:
        self._call_lost(now, out)
        for node in self._roll.suspects_to_call(now):
            self.hello(node, now, out)
        due = self._detector.due(now)
        for seq, probe in due.indirect:
            self._widen(seq, probe, now, out)
        for relay in due.nacks:
            out.append(Send(relay.asker, Nack(relay.asker_seq, relay.target)))
        if now >= self._quiet_until:
            for probe in due.failed:
                self._failed(probe, now, out)
            for node in self._roll.expire(now, out):
                self.ask(node, now, out)
        if now >= self._next_probe:
            self._probe_next(now, out)

    def next_deadline(self) -> float | None:
        verdict = self._roll.next_deadline()
        return earliest(
            self._next_probe,
            self._detector.next_deadline(),
            None if verdict is None else max(verdict, self._quiet_until),
            self._roll.lost.next_deadline(),
            self._roll.next_call(),
        )

    def quiet(self, until: float) -> None:
        """We slept: what was open is void, and nobody is accused before `until`."""
        self._detector.drop_all()
        self._roll.reopen_all(until)
        self._quiet_until = until

    def forgive(self, gap_s: float) -> None:
        """We ran late by this much: it counts against nobody but ourselves."""
        self._detector.shift(gap_s)
        self._roll.shift(gap_s)
        self._detector.worse()

    def drop(self, node: NodeId) -> None:
        self._detector.drop(node)

    def _probe_next(self, now: float, out: list[Effect]) -> None:
        self._roll.forget_left(now)
        node = self._detector.next_target(lambda node: self._askable(node, now), self._roll.live())
        if node is not None:
            self._question(node, now, out)
        self._next_probe = now + self._detector.interval_s()
        self._greet(now, out)

    def _question(self, node: NodeId, now: float, out: list[Effect]) -> None:
        """A ping whose lack of an answer counts. Who cannot speak yet asks nothing, and so accuses nobody."""
        if self._voice.may_speak(now):
            self._voice.ping(node, self._detector.open(node, self._rtt_s(node), now), now, out)
            self._roll.asked(node, now)

    def _greet(self, now: float, out: list[Effect]) -> None:
        greeted = 0
        while self._strangers and greeted < GREETED_EACH:
            node = self._strangers.popleft()
            row = self._roll.rows.get(node)
            if row is not None and row.live and row.last_heard == NEVER:
                self.hello(node, now, out)
                greeted += 1

    def _askable(self, node: NodeId, now: float) -> bool:
        """Whom we only know from hearsay gets a moment to be introduced: we may lack its address yet."""
        row = self._roll.rows.get(node)
        if row is None or not row.live:
            return False
        met = row.last_heard != NEVER or row.meta is not None
        return met or now - row.since > self._settings.suspect_s_max

    def _widen(self, seq: int, probe: Probe, now: float, out: list[Effect]) -> None:
        others = [node for node in self._roll.live() if node != probe.target and self._sound(node)]
        helpers = self._rng.sample(others, min(self._settings.indirect_probes, len(others)))
        self._detector.widen(probe, len(helpers), self._rtt_s(probe.target), now)
        for helper in helpers:
            self._voice.ask_for(helper, seq, probe.target, now, out)
        self._voice.ping(probe.target, seq, now, out)

    def _failed(self, probe: Probe, now: float, out: list[Effect]) -> None:
        row = self._roll.rows.get(probe.target)
        if row is None or not row.live:
            return
        if row.claim.status is Status.ALIVE and row.since > probe.sent:
            return  # it was gone and is back: this was asked of its former self
        self._roll.accuse(probe.target, now, out)
        self._roll.asked(probe.target, now)

    def _call_lost(self, now: float, out: list[Effect]) -> None:
        for node in self._roll.lost.due(now, may_speak=self._voice.may_speak(now)):
            if self._roll.lost.stale(node, now):
                out.append(Redial(node))
            self.hello(node, now, out)

    def _sound(self, node: NodeId) -> bool:
        return node not in self._roll.suspects

    def _rtt_s(self, node: NodeId) -> float | None:
        row = self._roll.rows.get(node)
        return None if row is None else row.rtt_s
