"""How an owner's queue finds places: demand to the leader, grants from it, probes while nobody leads.

Promises: nothing is placed before this node is settled; the leader hears of every change that it cannot know; a
grant is used in the instant that it arrives, and what it has too much goes straight back.
"""

from __future__ import annotations

from openclaw import messages as m
from openclaw.effects import Rng, Send
from openclaw.exec.custody import Custody
from openclaw.exec.ledger import Ledger
from openclaw.exec.probing import Probing
from openclaw.exec.watch import Watch
from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.records import State


class Placing:
    def __init__(self, ledger: Ledger, watch: Watch, custody: Custody, rng: Rng, epoch: Epoch) -> None:
        self.settings = ledger.settings
        self.probing = Probing(rng)
        self.settled = False
        self.stopping = False
        self.incarnation = 0
        self._ledger = ledger
        self._watch = watch
        self._custody = custody
        self._leader: Epoch | None = None
        self._epoch = epoch
        self._leaderless_since_s = 0.0
        self._seen = 0
        self._unused: list[m.Unused] = []
        self._told = False  # the leader believes that we want something
        self._demand_due_s = 0.0
        self._probe_due_s: float | None = None

    @property
    def ready(self) -> bool:
        return self.settled and self._custody.confirmed and self.incarnation > 0 and not self.stopping

    @property
    def pending(self) -> bool:
        """Whether a flush would have something to say."""
        return self._ledger.demands.changed or (
            bool(self._unused) and self._leader is not None and self.ready
        )

    def next(self) -> float | None:
        if not self.ready:
            return None
        if self._leader is None:
            return self._probe_due_s
        return self._demand_due_s if self._told else None

    def dispatch(self) -> None:
        """Something that stood in the way is gone: look at the queue anew."""
        self._ledger.demands.changed = True

    def follow(self, epoch: Epoch | None, now: float) -> None:
        if epoch is None:
            self._leaderless_since_s = now
        else:
            self._epoch = max(self._epoch, epoch)
            self._seen = 0
            self._told = False
        self._unused.clear()
        self._leader = epoch
        self._probe_due_s = None
        self.dispatch()

    def flush(self, now: float) -> None:
        """Tell the leader all that we want, when it cannot know or has not heard for a while."""
        demands = self._ledger.demands
        changed, demands.changed = demands.changed, False
        if not self.ready:
            return
        if self._leader is None:
            if self._probe_due_s is None and demands.queued:
                self._probe_due_s = max(now, self._leaderless_since_s + self.settings.leaderless_after_s)
            if self._probe_due_s is not None and self._probe_due_s <= now:
                self._probe(now)
            return
        due = self._told and self._demand_due_s <= now
        if not (self._unused or due or (changed and (demands.queued or self._told))):
            return
        rows_max = self.settings.demand_rows_max
        unused, self._unused = self._unused[:rows_max], self._unused[rows_max:]
        message = m.Demand(self._leader, self._seen, demands.table(now), tuple(unused))
        self._ledger.out.effects.append(Send(self._leader.node, message))
        self._told = demands.queued > 0
        self._demand_due_s = now + self.settings.demand_every_s

    def granted(self, grant: m.Grant, sender: NodeId, now: float) -> None:
        """Use the places at once; what finds no task goes straight back."""
        if sender != grant.epoch.node or grant.epoch < self._epoch:
            return
        if grant.epoch == self._leader:
            self._seen = max(self._seen, grant.seq)
        for row in grant.rows:
            if not (self.ready and self._watch.alive(row.worker)):
                # To say so at once would only bring the same grant again; its lease keeps the leader off.
                self._told = True
                continue
            tasks = self._ledger.demands.take(row.row, row.count, now)
            self._place(tasks, row.worker, row.boot, grant.epoch, grant.seq, now)
            if len(tasks) < row.count and grant.epoch == self._leader:
                self._unused.append(m.Unused(grant.seq, row.worker, row.count - len(tasks)))

    def answered(self, room: m.Room, sender: NodeId, now: float) -> None:
        """A probe came back; after the last one the next round follows soon if this one found room."""
        if self.probing.answer(room, sender) and self._use_answers(now):
            self._probe_due_s = now + self.settings.turnaround_s_min

    def _probe(self, now: float) -> None:
        """While nobody leads: use what the last round of probes brought, begin the next."""
        self._use_answers(now)
        demands = self._ledger.demands
        self._probe_due_s = None
        if demands.queued:
            alive = sorted(node for node in self._watch.peers if self._watch.alive(node))
            self._ledger.out.effects += self.probing.ask(demands.rows(), alive)
            self._probe_due_s = now + 2 * self.settings.probe_timeout_s

    def _use_answers(self, now: float) -> bool:
        best = self.probing.best()
        if best is None or self._leader is not None or not self.ready:
            return False
        node, room = best
        tasks = self._ledger.demands.take(self.probing.row, room.free // self.probing.slots, now)
        self._place(tasks, node, room.boot, self._epoch, 0, now)
        return bool(tasks)

    def _place(
        self, tasks: list[TaskId], worker: NodeId, boot: str, epoch: Epoch, grant: int, now: float
    ) -> None:
        ledger, place = self._ledger, (worker, boot, epoch, grant)
        for task in tasks:
            entry = ledger.tasks[task]
            attempt = entry.progress.attempt + 1
            token = Token(entry.progress.takeover, ledger.me, self.incarnation, attempt)
            ledger.move(
                entry, State.PLACED, now, worker, "" if grant else "leaderless",
                attempt=attempt, token=token, worker=worker, worker_boot=boot, epoch=epoch,
                started=0.0, intent=entry.submission.exclusive,
            )  # fmt: skip
            entry.heard_s = now
            entry.known = False
            if self._custody.may_start(entry):
                ledger.assign(entry, place)
            else:
                entry.held = place
        if tasks:
            self._watch.arm(worker, now)
