"""The worker's last word: why this node does not take a task.

Promises: nothing is taken from a stranger, from a leader that was deposed (but for its unexpired grants), for
a former start of this node, or against our own policy.
"""

from __future__ import annotations

from collections.abc import Mapping

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.exec.eligible import refusals, submitter_refusal
from openclaw.ids import KEYED, NO_EPOCH, Epoch, NodeId, owner_of
from openclaw.records import Member, Meta, Needs, Size

DISK_LOW = "its disk is nearly full"


class Admission:
    def __init__(self, me: NodeId, boot: str, settings: Settings, epoch: Epoch) -> None:
        self.draining = False
        self.stopping = False
        self.disk_low = False
        self._me = me
        self._boot = boot
        self._settings = settings
        self._meta: Meta | None = None
        self._members: Mapping[NodeId, Member] = {}
        self._epoch = epoch
        self._previous = NO_EPOCH
        self._previous_until_s = 0.0
        self._by_needs: dict[tuple[Needs, NodeId], str] = {}
        self._others: dict[NodeId, Meta] = {}

    @property
    def open(self) -> bool:
        return not (self.draining or self.stopping or self.disk_low)

    @property
    def size(self) -> Size:
        return Size(0) if self._meta is None else self._meta.size

    @property
    def queue_max(self) -> int:
        return self.size.slots * (1 + self._settings.ahead_per_slot_max) + self._settings.assign_tasks_max

    def offer(self, meta: Meta) -> None:
        self._meta = meta
        self.draining = meta.draining
        self._by_needs.clear()

    def learn(self, node: NodeId, meta: Meta) -> None:
        self._others[node] = meta

    def could(self, node: NodeId, needs: Needs) -> bool:
        """Whether another node could run such a task, as far as we know."""
        return not refusals(needs, self._others.get(node), self._members.get(node), alive=True)

    def roster(self, members: Mapping[NodeId, Member]) -> None:
        self._members = members
        self._by_needs.clear()

    def member(self, node: NodeId) -> bool:
        member = self._members.get(node)
        return member is None or not member.revoked

    def follow(self, epoch: Epoch | None, now: float) -> None:
        """A new leader's epoch shuts out all before it, but for what its predecessor has just granted."""
        if epoch is not None and epoch > self._epoch:
            self._previous, self._epoch = self._epoch, epoch
            self._previous_until_s = now + self._settings.grant_ttl_s

    def leads(self, node: NodeId, epoch: Epoch) -> bool:
        """Whether this is the newest leader that we know, and it speaks under its own epoch."""
        return node == epoch.node and epoch == self._epoch

    def refuse_all(self, assign: m.Assign, sender: NodeId, now: float) -> str:
        """Why nothing of `assign` is taken; empty when each task is looked at."""
        if assign.boot != self._boot:
            return "meant for a former start of this node"
        if self.stopping:
            return "stopping"
        if self.draining:
            return "draining"
        if self.disk_low:
            return DISK_LOW
        if assign.epoch < self._epoch:
            unexpired = assign.epoch == self._previous and now < self._previous_until_s
            if not unexpired:
                return f"granted under term {assign.epoch.term}, and {self._epoch.term} has begun"
        if sender not in self._members:
            return "the submitter is not in the roster"
        return ""

    def refuse(self, item: m.Item, sender: NodeId) -> str:
        """Why this one is not taken: the owner's word, and the submitter's rights."""
        submitter = item.submitter or sender
        origin = owner_of(item.task)
        if item.token.owner != sender or origin not in (submitter, KEYED):
            return "not its owner's to give"
        key = (item.needs, submitter)
        reason = self._by_needs.get(key)
        if reason is None:
            if len(self._by_needs) >= self._settings.demand_rows_max:
                self._by_needs.clear()
            own = refusals(item.needs, self._meta, self._members.get(self._me), alive=True)
            reason = submitter_refusal(item.needs.kind, self._members.get(submitter)) or ", ".join(own)
            self._by_needs[key] = reason
        return reason
