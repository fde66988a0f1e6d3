"""The guardian: keeps the second copy of other owners' tasks, and hands it over when an owner is gone.

Promises: what it said that it keeps is on this disk, and a final with its outputs; nothing is handed over before
the owner has been down for its grace, nor a copy whose owner was not heard of for a week; whoever claims a task
by less than is known here hears of it; what ended is remembered as long as it is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw.config import Settings
from openclaw.exec.guards import ITEMS_MAX, bundles, pack, unpack
from openclaw.exec.shelf import Shelf
from openclaw.ids import Claim, NodeId, TaskId, short
from openclaw.messages import Status
from openclaw.records import Copy, Progress, Restored, State, Submission, Table

_RECALLS_MAX = 1024
_CLAIMS_MAX = 16_384


class Owned(Protocol):
    """What a guardian may ask the owner on its own node."""

    def claim_of(self, task: TaskId) -> Claim | None:
        """By what it owns a task that is not over; None when it does not."""


_Knowledge = tuple[tuple[Claim, int] | None, Claim | None, Claim | None]


@dataclass(slots=True)
class _Question:
    """What a look at the disk is for: a `Seek` by number, copies of tasks that may have ended here, or other `ends`."""

    asker: NodeId
    seq: int = 0
    held: tuple[m.Kept, ...] = ()
    offered: tuple[tuple[Copy, _Knowledge], ...] = ()
    ends: tuple[Progress, ...] = ()


class Guardian(Shelf):
    def __init__(self, me: NodeId, settings: Settings, restored: Restored, owned: Owned) -> None:
        super().__init__(me, settings, restored)
        self._owned = owned
        self._gone_until_s: dict[NodeId, float] = {}  # owners that are gone, and the end of their grace
        self._questions: dict[int, _Question] = {}
        self._replaced: dict[TaskId, None] = {}  # ends that were given up, and may be recalled once more
        self._claims: dict[TaskId, Claim] = {}  # the highest by which anyone asked about a task
        self._asked = 0
        self._flush_due_s: float | None = None

    # --- the door --------------------------------------------------------------------------------

    def handle(self, event: e.Event | n.Note, now: float) -> list[e.Effect]:
        match event:
            case e.Received(message=message, sender=sender):
                self._receive(message, sender, now)
            case e.Tick():
                self._tick(now)
            case e.Recalled():
                self._recalled(event, now)
            case e.Fetched():
                self._fetched(event, now)
            case n.Yielded(copies=copies):
                for copy in copies:
                    self._keep(copy, now)
            case n.EndedElsewhere(sender=sender, ends=ends):
                self._recall(_Question(sender, ends=ends), [end.task for end in ends])
            case n.MemberChanged():
                self._member(event, now)
            case n.Settled():
                for owner in self._copies:
                    if owner not in self._status:
                        self._gone(owner, now + self.settings.guard_grace_s)
            case e.Resumed():
                for owner in self._gone_until_s:
                    self._gone(owner, now + self.settings.guard_grace_s)
            case e.Started(wall_offset_s=offset):
                self._wall_offset_s = offset
                for closing in self._closing.values():
                    self._fetch(closing)
            case e.WallClock(wall_offset_s=offset):
                self._wall_offset_s = offset
            case _:
                return []
        if self._replies.waiting:
            self._flush_due_s = now
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        timers = (self._flush_due_s, self._timers.next())
        return min((at for at in timers if at is not None), default=None)

    def _receive(self, message: m.AnyMessage, sender: NodeId, now: float) -> None:
        match message:
            case m.Guard(items=items, batches=batches):
                offered = []
                for item in items:
                    copy = self._look_at(item, unpack(item, batches), sender, now)
                    if copy is not None:
                        offered.append(copy)
                if offered:
                    tasks = [copy.progress.task for copy in offered]
                    known = tuple((copy, self._known_of(copy.progress.task)) for copy in offered)
                    self._recall(_Question(sender, offered=known), tasks)
            case m.Release(tasks=tasks, number=number):
                for task in tasks:
                    self._release(task, sender, number)
            case m.Seek():
                self._seek(message, sender)
            case m.Unguarded(tasks=tasks):
                self._doubt([task for task in tasks if self._is_of(task, sender)], sender)

    # --- copies ----------------------------------------------------------------------------------

    def _look_at(
        self, item: m.Kept, submission: Submission | None, sender: NodeId, now: float
    ) -> Copy | None:
        """Keep it, or say why not. What is given back is to be looked up on the disk first."""
        progress = item.progress
        task, claim = progress.task, progress.claim
        if claim.owner != sender:
            return None
        if self._owned.claim_of(task) is not None:
            self._out.append(n.Contested(sender, progress))
            return None
        held = self.copy(task)
        if held is not None and held.progress.claim > claim:
            self._replies.superseded(sender, task, held.progress.claim)
            return None
        if held is not None and held.progress.state.final and not progress.state.final:
            if claim > held.progress.claim:  # it took over without knowing
                self._out.append(e.Send(sender, m.Known(0, (m.Kept(held.progress),))))
            return None
        closed = self._closed.get(task)
        if closed is not None and closed[0] > claim:
            self._replies.superseded(sender, task, closed[0])
            return None
        if closed is not None and closed >= (claim, progress.moves):
            self._replies.guarded(sender, task, *closed)
            return None
        whole = _whole(held, submission, progress)
        if whole is None:
            self._replies.unguarded(sender, task)
        elif held is None and claim.takeover:
            return whole
        elif _newer(held, progress):
            self._replies.guarded(sender, task, claim, whole.progress.moves)
        else:
            self._keep(whole, now)
        return None

    def _known_of(self, task: TaskId) -> _Knowledge:
        """What memory has of a task."""
        held = self.copy(task)
        return (
            self._closed.get(task),
            self._owned.claim_of(task),
            None if held is None else held.progress.claim,
        )

    def _release(self, task: TaskId, sender: NodeId, number: int) -> None:
        mine = self._owned.claim_of(task)
        if mine is not None:
            self._replies.superseded(sender, task, mine)
            return
        if self._is_of(task, sender):
            self._forget(task)
            self._out.append(e.Store(Table.COPIES, task, None))
        self._replies.released(sender, task, number)

    # --- owners that are gone --------------------------------------------------------------------

    def _member(self, note: n.MemberChanged, now: float) -> None:
        owner, before = note.node, self._status.get(note.node)
        self._status[owner] = note.status
        if note.status < Status.DOWN:
            self._gone_until_s.pop(owner, None)
        if owner not in self._copies:
            return
        if note.status < Status.DOWN:
            if before is None or before >= Status.DOWN:
                self._met(owner, now)
            return
        grace_s = self.settings.guard_grace_s
        if note.back_soon:
            grace_s = self.settings.keep_restart_grace_s
        elif note.status is Status.LEFT:
            grace_s = 0.0
        self._gone(owner, now + grace_s)

    def _gone(self, owner: NodeId, until_s: float) -> None:
        self._gone_until_s[owner] = until_s
        self._timers.set(until_s, "gone", owner)

    def _met(self, owner: NodeId, now: float) -> None:
        """An owner is back, or we are: are its copies still of use? Asked again now and then."""
        self._doubt(list(self._copies.get(owner, ())), owner)
        self._hear(owner, now)

    def _take_over(self, owner: NodeId, now: float) -> None:
        until_s = self._gone_until_s.get(owner)
        if until_s is None or until_s > now:
            return
        del self._gone_until_s[owner]
        heard_s = self._heard.get(owner, now + self._wall_offset_s)
        if now + self._wall_offset_s - heard_s > self.settings.copy_stale_s:
            return
        copies = tuple(c for c in self._copies.get(owner, {}).values() if not c.progress.state.final)
        if not copies:
            return
        for copy in copies:
            self._forget(copy.progress.task)
            self._out.append(e.Store(Table.COPIES, copy.progress.task, None))
        word = "left" if self._status.get(owner) is Status.LEFT else "is down"
        self._out.append(n.TakeOver(copies, f"its owner {short(owner)} {word}"))

    def _doubt(self, tasks: list[TaskId], owner: NodeId) -> None:
        """Are our copies of these still of use? Their owner is back, or we are, or it does not know them."""
        for start in range(0, len(tasks), ITEMS_MAX):
            self._out.append(e.Send(owner, m.Keeping(tuple(tasks[start : start + ITEMS_MAX]))))

    # --- what others ask -------------------------------------------------------------------------

    def _seek(self, seek: m.Seek, sender: NodeId) -> None:
        claim = Claim(seek.takeover, sender)
        held: list[m.Kept] = []
        for task in seek.tasks:
            self._compare(task, claim)
            mine = self._owned.claim_of(task)
            copy = self.copy(task)
            if mine is not None and mine != claim:
                asked = Progress(task, State.QUEUED, owner=sender, takeover=seek.takeover)
                self._out.append(n.Contested(sender, asked))
            elif copy is not None and copy.progress.claim > claim:
                self._replies.superseded(sender, task, copy.progress.claim)
            elif copy is not None and sender != self.me:
                held.append(m.Kept(copy.progress))
                self._follow(copy, claim)
        self._recall(_Question(sender, seek.seq, tuple(held)), seek.tasks)

    def _compare(self, task: TaskId, claim: Claim) -> None:
        """Two may take a task over at once, from two copies, and not see each other: who hears both tells the lower."""
        known = self._claims.get(task, claim)
        low, high = sorted((known, claim))
        if low.owner != high.owner and self._status.get(high.owner, Status.DOWN) < Status.DOWN:
            self._replies.superseded(low.owner, task, high)
        self._claims[task] = high
        if len(self._claims) > _CLAIMS_MAX:
            del self._claims[next(iter(self._claims))]

    def _follow(self, copy: Copy, claim: Claim) -> None:
        """Another guardian owns it now: our copy is its copy."""
        progress = replace(copy.progress, owner=claim.owner, takeover=claim.takeover)
        if not progress.state.final and progress.claim != copy.progress.claim:
            after = replace(copy, progress=progress, told=False)
            self._remember(after)
            self._out.append(e.Store(Table.COPIES, progress.task, after))

    def _recall(self, question: _Question, tasks: Iterable[TaskId]) -> None:
        if len(self._questions) >= _RECALLS_MAX:
            return  # whoever asked asks again
        self._asked += 1
        self._questions[self._asked] = question
        self._out.append(e.Recall(self._asked, tuple(tasks)))

    def _recalled(self, event: e.Recalled, now: float) -> None:
        question = self._questions.pop(event.number, None)
        if question is None:
            return
        ended = {copy.progress.task: copy for copy in event.ended}
        for offered, before in question.offered:
            mine = ended.get(offered.progress.task)
            if mine is not None:
                self._rejoin(offered, mine, question.asker, now)
            elif before == self._known_of(offered.progress.task):
                self._keep(offered, now)  # else it is offered again, and looked at anew
        self._correct(question, ended)
        if question.seq:
            items = [*question.held, *(m.Kept(copy.progress) for copy in event.ended)]
            parts = list(bundles(items, self.settings))
            for part in parts:
                self._out.append(e.Send(question.asker, m.Known(question.seq, part, part is parts[-1])))

    def _correct(self, question: _Question, ended: dict[TaskId, Copy]) -> None:
        """Who knows another end under a lower claim hears of ours, which stands."""
        stand = []
        for theirs in question.ends:
            mine = ended.get(theirs.task)
            if (
                mine is not None
                and mine.progress.token != theirs.token
                and mine.progress.claim > theirs.claim
            ):
                stand.append((mine.submission, mine.progress))
        self._out += [e.Send(question.asker, guard) for guard in pack(stand, self.settings)]

    def _rejoin(self, offered: Copy, mine: Copy, sender: NodeId, now: float) -> None:
        """A task that ended here was taken over by who did not know. Final beats not final, then the claim."""
        theirs = offered.progress
        if theirs.state.final and theirs.claim == mine.progress.claim:
            self._keep(offered, now)  # it was kept already, and that was not heard
            return
        self._out.append(e.Send(sender, m.Known(0, (m.Kept(mine.progress),))))
        if theirs.state.final and theirs.claim > mine.progress.claim:
            if theirs.task not in self._replaced:
                self._out.append(n.Replaced(mine, offered))
                self._replaced[theirs.task] = None
                if len(self._replaced) > _RECALLS_MAX:
                    del self._replaced[next(iter(self._replaced))]
            self._keep(offered, now)

    # --- the end of a batch ----------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        for kind, key, _ in self._timers.due(now):
            match kind:
                case "gone":
                    self._take_over(NodeId(key), now)
                case "keeping" if self._status.get(NodeId(key), Status.DOWN) < Status.DOWN:
                    self._met(NodeId(key), now)
                case "fetch":
                    closing = self._closing.get(TaskId(key))
                    if closing is not None:
                        self._fetch(closing)
        self._flush_due_s = None
        self._out += self._replies.flush()


def _whole(held: Copy | None, submission: Submission | None, progress: Progress) -> Copy | None:
    """The copy as of `progress`; None when neither we nor the message have the submission."""
    if held is not None:
        return replace(held, progress=progress, told=True)
    return None if submission is None else Copy(submission, progress)


def _newer(held: Copy | None, progress: Progress) -> bool:
    """Whether we were told more already: messages may come late."""
    same = held is not None and held.told and held.progress.claim == progress.claim
    return same and held is not None and held.progress.moves > progress.moves
