"""The owner's eye on its workers: what became of an attempt that nobody speaks of.

Promises: no attempt waits for ever on a worker that is silent, restarted or gone; a task runs again only when
its worker said "not started", or has been down for the grace that its running time earned; a copy that was
given up is ended, or adopted, as soon as its worker is heard of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openclaw import messages as m
from openclaw.effects import Send
from openclaw.exec.ledger import Entry, Ledger
from openclaw.exec.task import ACTIVE, WAITING
from openclaw.ids import NodeId, TaskId, Token, short
from openclaw.messages import Holding, Status
from openclaw.notes import Duplicate, MemberChanged
from openclaw.records import State


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker as membership describes it; `since_s` is when it became so."""

    status: Status
    boot: str
    back_soon: bool
    since_s: float


class Watch:
    def __init__(self, ledger: Ledger, boot: str) -> None:
        self.ledger = ledger
        self.settings = ledger.settings
        self.peers = {ledger.me: Peer(Status.ALIVE, boot, False, 0.0)}
        self.quiet_until_s = 0.0
        # Attempts that we gave up and whose end nobody has confirmed, by worker.
        self._shadows: dict[NodeId, dict[TaskId, Token]] = {}
        self._shadows_asked_s: dict[NodeId, float] = {}
        self._armed: set[NodeId] = set()

    def alive(self, node: NodeId) -> bool:
        peer = self.peers.get(node)
        return peer is not None and peer.status is Status.ALIVE

    def up(self, node: NodeId) -> bool:
        """Whether it is not known to be gone."""
        peer = self.peers.get(node)
        return peer is not None and peer.status < Status.DOWN

    def member(self, note: MemberChanged, now: float) -> None:
        node = note.node
        before = self.peers.get(node)
        peer = self.peers[node] = Peer(note.status, note.incarnation.boot, note.back_soon, now)
        if note.status < Status.DOWN:  # a suspect as well: it may be all that we ever hear of it
            if before is None or before.status >= Status.DOWN or before.boot != peer.boot:
                self.ask_all(node, now)
        else:
            for entry in list(self.ledger.on.get(node, {}).values()):
                self._consider(entry, peer, now)
            if note.status is Status.LEFT and not note.back_soon:
                self._shadows.pop(node, None)

    def unheard(self, node: NodeId, now: float) -> None:
        """Our disk names `node` as a worker, and nobody in this mesh has spoken of it since we started."""
        if node not in self.peers:
            peer = self.peers[node] = Peer(Status.DOWN, "", False, now)
            for entry in list(self.ledger.on.get(node, {}).values()):
                self._consider(entry, peer, now)

    def ask_all(self, node: NodeId, now: float) -> None:
        """`node` is new, back, or we are: ask about everything that it may have of ours."""
        for entry in self.ledger.on.get(node, {}).values():
            self._ask(entry, now)
        self._ask_shadows(node, now)
        self.arm(node, now)

    def arm(self, node: NodeId, now: float) -> None:
        """Look at `node` again soon: something of ours is there."""
        if node not in self._armed:
            self._armed.add(node)
            self.ledger.timers.set(now + self.settings.ask_after_s, "watch", node)

    def check(self, node: NodeId, now: float) -> None:
        """Ask about what has been silent, and repeat what was not confirmed."""
        self._armed.discard(node)
        peer = self.peers.get(node)
        if peer is None or peer.status >= Status.DOWN:
            return  # its return, or its grace, goes on from here; a mere suspicion changes nothing
        for entry in self.ledger.on.get(node, {}).values():
            wait_s = self.settings.ask_every_s if entry.known else self.settings.ask_after_s
            if entry.progress.state is State.CANCELLING or entry.heard_s + wait_s <= now:
                self._ask(entry, now)
        if self._shadows_asked_s.get(node, 0.0) + self.settings.ask_every_s <= now:
            self._ask_shadows(node, now)
        if node in self.ledger.on or node in self._shadows:
            self.arm(node, now)

    def lost(self, task: TaskId, token: Token | None, now: float) -> None:
        """The grace of an attempt on a worker that is gone may be over."""
        entry = self.ledger.tasks.get(task)
        if entry is None or entry.progress.token != token or entry.progress.state not in ACTIVE:
            return
        peer = self.peers[entry.progress.worker]
        if peer.status >= Status.DOWN:
            self._consider(entry, peer, now)

    def started(self, rows: Sequence[tuple[TaskId, Token, float]], sender: NodeId, now: float) -> None:
        for task, token, at in rows:
            entry = self._current(task, token, sender)
            if entry is not None:
                self._runs(entry, at, now)
            elif not self._taken_back(task, token, sender, now):
                self.ledger.out.end(sender, task, token, "superseded")

    def have(self, rows: Sequence[tuple[TaskId, Token, Holding]], sender: NodeId, now: float) -> None:
        for task, token, holding in rows:
            entry = self._current(task, token, sender)
            if entry is not None:
                entry.heard_s = now
                entry.known = True
                self._answer(entry, holding, sender, now)
            elif holding is Holding.RUNNING and self._taken_back(task, token, sender, now):
                pass
            elif holding in (Holding.RUNNING, Holding.WAITING):
                self.ledger.out.end(sender, task, token, "superseded")
            elif holding is not Holding.ENDED:
                self._release(sender, task, token, holding)

    def renew(self, question: m.Renew, sender: NodeId, now: float) -> None:
        """An attempt that counts may go on, or begin."""
        rows = []
        for task, token in question.items:
            entry = self._current(task, token, sender)
            if entry is not None and entry.progress.state in (State.PLACED, State.RUNNING):
                self.ledger.lease(entry, now)
                rows.append((task, token))
        if rows:
            leased = m.Leased(question.number, self.settings.lease_s, tuple(rows))
            self.ledger.out.effects.append(Send(sender, leased))

    def shadow(self, node: NodeId, task: TaskId, token: Token, now: float) -> None:
        """This attempt is given up, but may run on: keep an eye on it, within limits."""
        there = self._shadows.setdefault(node, {})
        there[task] = token
        if len(there) > self.settings.fences_max:
            del there[next(iter(there))]
        self.arm(node, now)

    def unshadow(self, node: NodeId, task: TaskId, token: Token) -> bool:
        """Whether this was an attempt that we gave up; it is settled now."""
        there = self._shadows.get(node, {})
        if there.get(task) != token:
            return False
        del there[task]
        if not there:
            del self._shadows[node]
        return True

    def _taken_back(self, task: TaskId, token: Token, sender: NodeId, now: float) -> bool:
        """What we gave up runs on, and none that replaces it can have begun: it counts again.

        A newer attempt on the same worker is refused there for as long as this one is there.
        """
        entry = self.ledger.tasks.get(task)
        up = (
            sender in self.peers and self.peers[sender].status < Status.DOWN
        )  # else nobody would ask about it
        if entry is None or not up or self._shadows.get(sender, {}).get(task) != token:
            return False
        progress = entry.progress
        newer = progress.token if progress.state is State.PLACED and progress.worker == sender else None
        if newer is None and progress.state not in WAITING:
            return False
        if newer is not None:
            self.ledger.out.end(sender, task, newer, "superseded")
        self.unshadow(sender, task, token)
        self.ledger.out.spare(sender, task, token)
        self.ledger.take_back(entry, sender, token, now, waits=False)
        entry.heard_s, entry.known, entry.returns = now, True, 0
        self.arm(sender, now)
        return True

    def _current(self, task: TaskId, token: Token, sender: NodeId) -> Entry | None:
        entry = self.ledger.tasks.get(task)
        if entry is None or entry.progress.state.final:
            return None
        progress = entry.progress
        return entry if progress.token == token and progress.worker == sender else None

    def _ask(self, entry: Entry, now: float) -> None:
        progress = entry.progress
        if progress.token is None or entry.held is not None:
            return
        inherited = progress.token.owner != self.ledger.me
        if inherited:  # its worker may still hold it for its former owner
            self.ledger.out.adopt(progress.worker, progress.task, progress.token, progress.takeover)
        if progress.state is State.CANCELLING:
            self.ledger.out.end(progress.worker, progress.task, progress.token, "cancel")
        elif not inherited:
            self.ledger.out.ask(progress.worker, progress.task, progress.token)
        entry.heard_s = now

    def _ask_shadows(self, node: NodeId, now: float) -> None:
        self._shadows_asked_s[node] = now
        for task, token in self._shadows.get(node, {}).items():
            self.ledger.out.ask(node, task, token)

    def _consider(self, entry: Entry, peer: Peer, now: float) -> None:
        """The worker is gone: give the attempt up now, or when its grace is over."""
        due_s = max(peer.since_s + self._grace_s(entry, peer), self.quiet_until_s, entry.leased_until_s)
        progress = entry.progress
        if entry.held is not None:
            self.not_started(entry, now, f"node {short(progress.worker)} is gone, and was not told of it yet")
            return
        if due_s > now:
            self.ledger.timers.set(due_s, "lost", progress.task, progress.token)
            return
        if progress.token is not None:
            self.shadow(progress.worker, progress.task, progress.token, now)
        died = progress.state is State.RUNNING and peer.status is Status.DOWN
        word = "left" if peer.status is Status.LEFT else "is down"
        self.ledger.give_up(entry, now, f"node {short(progress.worker)} {word}", died=died)

    def _grace_s(self, entry: Entry, peer: Peer) -> float:
        settings, state = self.settings, entry.progress.state
        if state is State.CANCELLING:
            return 0.0
        if peer.back_soon and state is State.RUNNING:
            return settings.keep_restart_grace_s
        if entry.submission.once:
            return settings.rerun_grace_s_max
        if state is not State.RUNNING or peer.status is Status.LEFT:
            return 0.0
        ran_s = max(0.0, peer.since_s - entry.running_since_s)
        return min(ran_s * settings.rerun_grace_factor, settings.rerun_grace_s_max)

    def _runs(self, entry: Entry, at: float, now: float) -> None:
        progress = entry.progress
        peer = self.peers.get(progress.worker)
        if progress.state in WAITING and peer is not None and peer.status >= Status.DOWN:
            return  # word from before it went: taken back now, nobody would ask for it; it is asked when it is back
        entry.heard_s = now
        entry.known = True
        if progress.token is None:
            return
        gave_up = self.unshadow(progress.worker, progress.task, progress.token)
        if progress.state is State.CANCELLING:
            self._ask(entry, now)
        elif progress.state in WAITING and not gave_up:
            # Its end has been counted already, and overtook this word of it; or we forgot giving it up.
            self.ledger.out.end(progress.worker, progress.task, progress.token, "superseded")
        elif progress.state is not State.RUNNING:
            reason = "adopted: it still runs there" if gave_up else ""
            self.ledger.out.spare(progress.worker, progress.task, progress.token)
            entry.running_since_s = now
            entry.returns = 0
            started = progress.started or at or now + self.ledger.wall_offset_s
            starts = progress.starts + (progress.state is State.PLACED)
            self.ledger.move(
                entry, State.RUNNING, now, progress.worker, reason, started=started, starts=starts
            )
            self.arm(progress.worker, now)

    def _answer(self, entry: Entry, holding: Holding, sender: NodeId, now: float) -> None:
        """What a worker says about the attempt that counts."""
        progress, ledger = entry.progress, self.ledger
        waiting = progress.state in WAITING
        if progress.token is None:
            return
        match holding:
            case Holding.RUNNING:
                self._runs(entry, 0.0, now)
            case Holding.WAITING if waiting:
                ledger.out.end(sender, progress.task, progress.token, "superseded")
            case Holding.MAYBE_STARTED:
                ledger.out.acknowledge(sender, progress.task, progress.token)
                self.unshadow(sender, progress.task, progress.token)
                if not waiting:
                    ledger.give_up(entry, now, f"node {short(sender)} lost track of it", died=True)
            case Holding.NOT_STARTED:
                self.unshadow(sender, progress.task, progress.token)
                if not waiting:
                    self.not_started(entry, now, f"node {short(sender)} never started it")

    def not_started(self, entry: Entry, now: float, reason: str, *, refused: bool = True) -> None:
        """Its worker has sworn off this attempt; not `refused` when it would have started it later."""
        state = entry.progress.state
        if state is State.CANCELLING:
            self.ledger.finish(entry, State.CANCELLED, now, "cancelled before it started")
        elif state is State.RUNNING:
            self.ledger.give_up(entry, now, reason, died=False)
        elif state is State.PLACED:
            entry.returns += refused
            if not refused or entry.returns == 1:
                self.ledger.requeue(entry, now, reason)
            else:
                self.ledger.retry_later(entry, now, reason)

    def _release(self, sender: NodeId, task: TaskId, token: Token, holding: Holding) -> None:
        """An attempt that no longer matters is over; its worker may forget it."""
        gave_up = self.unshadow(sender, task, token)
        if holding is Holding.MAYBE_STARTED:
            self.ledger.out.acknowledge(sender, task, token)
            if gave_up:
                self.ledger.out.effects.append(Duplicate(task, token))
