"""How a task changes its owner: taken over from one that is gone, or yielded to one that took it over from us.

Promises: whoever takes over asks every live node first, adopts what runs or has ended, and runs again only what
nobody knows; an exclusive task with an intent starts again only when its worker has sworn that it never started;
of two owners that meet the higher claim stays, an end beats no end, and what ran twice is kept as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from openclaw import messages as m
from openclaw import notes as n
from openclaw.effects import Send
from openclaw.exec.custody import Custody
from openclaw.exec.guards import pack
from openclaw.exec.ledger import Entry, Ledger
from openclaw.exec.outbox import cut
from openclaw.exec.outcome import explain, ran
from openclaw.exec.task import ACTIVE, WAITING
from openclaw.exec.watch import Watch
from openclaw.ids import NOBODY, Claim, NodeId, TaskId, Token, short
from openclaw.messages import Holding, Status
from openclaw.records import Copy, Progress, State

_RIVALS_MAX = 8
_LATE_MAX = 1024  # questions to nodes that were away when everybody was asked
_SIGNIFICANCE = {
    Holding.ENDED: 4,
    Holding.RUNNING: 3,
    Holding.WAITING: 2,
    Holding.MAYBE_STARTED: 1,
    Holding.NOT_STARTED: 0,
}

Attempts = dict[tuple[NodeId, Token], Holding]


@dataclass(slots=True, eq=False)
class _Round:
    """One question to everybody. `left` are the answers that are missing: what a worker has, what a disk knows."""

    tasks: tuple[TaskId, ...]
    left: set[tuple[NodeId, str]]
    asked: set[NodeId]
    found: dict[TaskId, Attempts] = field(default_factory=dict)


class Succession:
    def __init__(self, ledger: Ledger, watch: Watch, custody: Custody) -> None:
        self.ledger = ledger
        self.settings = ledger.settings
        self._watch = watch
        self._custody = custody
        self._rounds: dict[int, _Round] = {}
        self._asked = 0
        self._late: dict[int, tuple[NodeId, m.Seek]] = {}  # and who has not answered yet
        self._settled = False  # until then we do not know whom to ask

    # --- taking over -----------------------------------------------------------------------------

    def take_over(self, note: n.TakeOver, now: float) -> None:
        for copy in note.copies:
            self._custody.keep(self.ledger.inherit(copy, now, note.reason))
        self.seek(now)

    def seek(self, now: float) -> None:
        """Ask everybody about what may be elsewhere and is in no round yet."""
        under_way = {task for round in self._rounds.values() for task in round.tasks}
        by_takeover: dict[int, list[TaskId]] = {}
        for task, entry in self.ledger.tasks.items():
            if entry.sought and task not in under_way:
                by_takeover.setdefault(entry.progress.takeover, []).append(task)
        nodes = [node for node in sorted(self._watch.peers) if self._watch.up(node)]
        for takeover, tasks in sorted(by_takeover.items()):
            for part in cut(tasks):
                self._asked += 1
                left = {(node, what) for node in nodes for what in ("found", "known")}
                self._rounds[self._asked] = _Round(part, left, set(nodes))
                seek = m.Seek(self._asked, takeover, part)
                self.ledger.out.effects.extend(Send(node, seek) for node in nodes)
                self.ledger.timers.set(now + self.settings.seek_s, "seek", str(self._asked))

    def found(self, message: m.Found, sender: NodeId, now: float) -> None:
        round = self._rounds.get(message.seq)
        if round is None:
            return
        for task, token, holding in message.items:
            round.found.setdefault(task, {})[sender, token] = holding
        self._answered(message.seq, sender, "found", now)

    def known(self, message: m.Known, sender: NodeId, now: float) -> None:
        ended = []
        for item in message.items:
            entry = self.ledger.tasks.get(item.progress.task)
            if entry is None and item.progress.state.final:
                ended.append(item.progress)
            elif entry is not None and item.progress.state.final and self._outranked(entry, item.progress):
                self._abandon(entry, item.progress)
            elif entry is not None and item.progress.state.final:
                self.join(entry, item.progress, now)
                ended.append(item.progress)
            elif entry is not None:
                self._copied(entry, item.progress, sender, now)
        if ended:
            self.ledger.out.effects.append(n.EndedElsewhere(sender, tuple(ended)))
        if message.last:
            self._late.pop(message.seq, None)
            self._answered(message.seq, sender, "known", now)

    def _copied(self, entry: Entry, theirs: Progress, sender: NodeId, now: float) -> None:
        """`sender` has a copy from before we owned it, and may know of an intent that we do not."""
        ours = entry.progress
        if theirs.intent and theirs.token is not None and (not ours.intent or ours.token is None):
            known = replace(ours, intent=True, token=theirs.token, worker=theirs.worker)
            self.ledger.rewrite(entry, known)
        self._custody.found(entry, sender, now)

    def member(self, node: NodeId, status: Status, now: float) -> None:
        """Who is down answers nothing any more; who is back may know what became of a task."""
        if status >= Status.DOWN:
            for seq, round in list(self._rounds.items()):
                round.asked -= {each for each, _ in round.left if each == node}
                for what in ("found", "known"):
                    self._answered(seq, node, what, now)
        elif self._settled:
            self.seek(now)
            self._ask_late(node, now)

    def settle(self, now: float) -> None:
        """Whom to ask is known now. Who is there may have come back while we were away ourselves."""
        self._settled = True
        self.seek(now)
        for node in sorted(self._watch.peers):
            if node != self.ledger.me and self._watch.up(node):
                self._ask_late(node, now)

    def _ask_late(self, node: NodeId, now: float) -> None:
        """Who was away when we asked everybody may have owned one of these too. Asked until it has answered."""
        by_takeover: dict[int, list[TaskId]] = {}
        for task, entry in self.ledger.tasks.items():
            if entry.progress.takeover and not entry.sought:
                by_takeover.setdefault(entry.progress.takeover, []).append(task)
        for takeover, tasks in sorted(by_takeover.items()):
            for part in cut(tasks):
                self._asked += 1
                self._late[self._asked] = node, m.Seek(self._asked, takeover, part)
                self._repeat(self._asked, now)
                if len(self._late) > _LATE_MAX:
                    del self._late[next(iter(self._late))]

    def _repeat(self, seq: int, now: float) -> None:
        node, seek = self._late[seq]
        if not self._watch.up(node):
            del self._late[seq]  # when it is back it is asked anew
            return
        self.ledger.out.effects.append(Send(node, seek))
        self.ledger.timers.set(now + self.settings.seek_s, "seek", str(seq))

    def stranded(self, worker: NodeId, now: float) -> None:
        """Only this worker can say whether an exclusive task began. While it is away we wait for its return."""
        if self._watch.up(worker):
            self.seek(now)

    def timed_out(self, seq: int, now: float) -> None:
        """Whoever is silent for so long and is not down is asked again; a task waits no longer than that."""
        round = self._rounds.get(seq)
        if round is not None:
            round.asked -= {node for node, _ in round.left}
            self._conclude(seq, now)
        elif seq in self._late:
            self._repeat(seq, now)

    def _answered(self, seq: int, node: NodeId, what: str, now: float) -> None:
        round = self._rounds.get(seq)
        if round is None:
            return
        round.left.discard((node, what))
        if not round.left:
            self._conclude(seq, now)

    def _conclude(self, seq: int, now: float) -> None:
        round = self._rounds.pop(seq)
        for task in round.tasks:
            entry = self.ledger.tasks.get(task)
            if entry is not None and entry.sought and not entry.progress.state.final:
                self._settle(entry, round.found.get(task, {}), round.asked, now)

    def _settle(self, entry: Entry, attempts: Attempts, asked: set[NodeId], now: float) -> None:
        """Everybody has said what they have of one task."""
        ranked = sorted(attempts.items(), key=lambda row: (_SIGNIFICANCE[row[1]], row[0][1]), reverse=True)
        alive = [row for row in ranked if row[1] > Holding.NOT_STARTED]
        entry.sought = False
        if alive and alive[0][1] is not Holding.MAYBE_STARTED:
            (node, token), holding = alive[0]
            self._adopt(entry, node, token, holding, now)
            for (other, rival), _ in alive[1:]:
                self._claim(entry, other, rival)
                self.ledger.out.end(other, entry.progress.task, rival, "superseded")
        elif alive:
            (node, token), _ = alive[0]
            self._claim(entry, node, token)
            self.ledger.out.acknowledge(node, entry.progress.task, token)
            self._again(entry, now, f"node {short(node)} lost track of it", died=True)
        elif entry.progress.intent and entry.progress.worker not in asked:
            entry.sought = True
            self.ledger.timers.set(now + self.settings.ask_every_s, "stranded", entry.progress.worker)
        else:
            self._again(entry, now, "nobody has it", died=False)

    @staticmethod
    def _outranked(entry: Entry, theirs: Progress) -> bool:
        """Whether an end elsewhere leaves us nothing to own: we only took it over, or ended it under a lower claim."""
        ours = entry.progress
        return entry.sought or (ours.state.final and ours.claim < theirs.claim)

    def _abandon(self, entry: Entry, theirs: Progress) -> None:
        """It had ended elsewhere: its result is kept as a copy."""
        ours = entry.progress
        if ours.state.final and ours.token is not None and ours.token != theirs.token:
            self.ledger.out.effects.append(n.Duplicate(ours.task, ours.token))
        self.ledger.drop(entry)
        self._custody.forget(theirs.task)
        self.ledger.out.effects.append(n.Yielded((Copy(entry.submission, theirs),)))

    def _again(self, entry: Entry, now: float, reason: str, *, died: bool) -> None:
        if died or entry.progress.state is State.CANCELLING:
            self.ledger.give_up(entry, now, reason, died=died)
        else:
            self.ledger.requeue(entry, now, reason, intent=False)

    def _adopt(self, entry: Entry, node: NodeId, token: Token, holding: Holding, now: float) -> None:
        self.ledger.out.spare(node, entry.progress.task, token)
        self._claim(entry, node, token)
        self.ledger.take_back(entry, node, token, now, waits=holding is Holding.WAITING)
        entry.heard_s = now
        entry.known = True
        if entry.progress.state is State.CANCELLING:
            self.ledger.out.end(node, entry.progress.task, token, "cancel")
        self._watch.arm(node, now)

    def _claim(self, entry: Entry, node: NodeId, token: Token) -> None:
        self.ledger.out.adopt(node, entry.progress.task, token, entry.progress.takeover)

    # --- two owners ------------------------------------------------------------------------------

    def contested(self, note: n.Contested, now: float) -> None:
        """Somebody claims a task of ours."""
        theirs = note.progress
        entry = self.ledger.tasks.get(theirs.task)
        if entry is None:
            return
        if entry.progress.claim < theirs.claim:
            self.give(entry, theirs.claim)
            return
        if theirs.state.final:
            self.join(entry, theirs, now)
        elif theirs.token is not None and theirs.worker and theirs.state in ACTIVE:
            self._heard_of(entry, theirs.worker, theirs.token, now)
        elif entry.sought and self._only_it_could_know(theirs, entry.progress):
            self._told(entry, theirs, now)
        answer = m.Superseded(((theirs.task, entry.progress.claim),))
        self.ledger.out.effects.append(Send(note.sender, answer))
        if not entry.submission.exclusive:  # by the intent that it keeps of such a one it starts nothing
            self._custody.found(entry, note.sender, now)

    @staticmethod
    def _only_it_could_know(theirs: Progress, ours: Progress) -> bool:
        """Whether the owner before us speaks of an exclusive task of which we cannot say whom it was meant for."""
        unknown = ours.intent and not ours.worker
        return unknown and theirs.takeover + 1 == ours.takeover and theirs.state is State.QUEUED

    def _told(self, entry: Entry, theirs: Progress, now: float) -> None:
        if not theirs.intent:
            entry.sought = False
            self._again(entry, now, "its former owner never gave it out", died=False)
        elif theirs.worker:
            self.ledger.rewrite(entry, replace(entry.progress, token=theirs.token, worker=theirs.worker))
            self.seek(now)

    def _heard_of(self, entry: Entry, worker: NodeId, token: Token, now: float) -> None:
        """A former owner says where an attempt is: ours if we have none yet, else it ends."""
        progress = entry.progress
        if progress.token == token and progress.worker == worker:
            return
        if progress.state in WAITING or (progress.state is State.CANCELLING and not progress.worker):
            entry.sought = False
            self._adopt(entry, worker, token, Holding.RUNNING, now)
        else:
            self._claim(entry, worker, token)
            self.ledger.out.end(worker, progress.task, token, "superseded")

    def elsewhere(self, copy: Copy, worker: NodeId, token: Token) -> None:
        """A worker speaks to us of a task that is not ours any more: its owner is told where the attempt is."""
        said = Progress(
            copy.progress.task,
            State.RUNNING,
            token=token,
            worker=worker,
            owner=token.owner,
            takeover=token.takeover,
        )
        if token.owner == self.ledger.me:
            self.ledger.out.effects.append(Send(copy.progress.claim.owner, m.Guard((), (m.Kept(said),))))

    def superseded(self, message: m.Superseded) -> None:
        for task, claim in message.items:
            entry = self.ledger.tasks.get(task)
            if entry is not None and entry.progress.claim < claim:
                self.give(entry, claim)

    def give(self, entry: Entry, claim: Claim) -> None:
        """Yield: the next owner hears how far it is here, and we keep what we know as its copy."""
        progress = entry.progress
        task = progress.task
        for guard in pack([(None, progress)], self.settings):
            self.ledger.out.effects.append(Send(claim.owner, guard))
        self.ledger.drop(entry)
        self._custody.forget(task)
        if progress.state.final:  # whatever the next owner makes of it: it ended, and that is not forgotten
            self.ledger.out.effects.append(
                n.Yielded((Copy(entry.submission, replace(progress, provisional=False), told=False),))
            )
            return
        kept = replace(progress, owner=claim.owner, takeover=claim.takeover, guardians=())
        if entry.submission.exclusive:  # from now on it may have been started anywhere
            kept = replace(kept, intent=True, worker=NOBODY, token=None)
        self.ledger.out.effects.append(n.Yielded((Copy(entry.submission, kept, told=False),)))

    def join(self, entry: Entry, theirs: Progress, now: float) -> None:
        """What another owner of the task saw of its end. Ours stands if there is one."""
        ours = entry.progress
        if ours.state.final:
            if theirs.token != ours.token and theirs.exit is not None and ran(theirs.exit):
                text = f"{theirs.state} on node {short(theirs.worker)} (exit code {theirs.exit.code})"
                if text not in ours.rivals and len(ours.rivals) < _RIVALS_MAX:
                    self.ledger.rewrite(entry, replace(ours, rivals=(*ours.rivals, text)))
                    if theirs.token is not None:
                        self.ledger.out.effects.append(n.Duplicate(ours.task, theirs.token))
            return
        if ours.token is not None and ours.worker and entry.held is None and ours.token != theirs.token:
            self.ledger.out.end(ours.worker, ours.task, ours.token, "superseded")
            self._watch.shadow(ours.worker, ours.task, ours.token, now)
        entry.sought = False
        entry.held = None
        if theirs.exit is None or theirs.token is None:
            self.ledger.finish(entry, theirs.state, now, theirs.error or "it ended at another owner")
            return
        self._claim(entry, theirs.worker, theirs.token)  # it keeps the outcome until we have all of it
        self.ledger.conclude(
            entry, theirs.state, theirs.exit, theirs.token, theirs.worker, now,
            explain(theirs.exit) or f"it ended while node {short(theirs.claim.owner or NOBODY)} owned it",
        )  # fmt: skip

    def replaced(self, note: n.Replaced) -> None:
        """A task that was over here ended elsewhere under a higher claim, which keeps it from now on."""
        mine, theirs = note.mine.progress, note.theirs.progress
        if mine.claim.owner == self.ledger.me and note.mine.told:  # else it was a copy already
            self.ledger.disown(mine.task, mine.state)
        if mine.token is not None and mine.token != theirs.token:
            self.ledger.out.effects.append(n.Duplicate(mine.task, mine.token))
