"""One attempt as its worker sees it, from the assignment to the owner's acknowledgement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from openclaw.ids import NO_EPOCH, NOBODY, Claim, Epoch, NodeId, TaskId, Token
from openclaw.messages import Holding
from openclaw.records import ONE_SLOT, Attempt, Exit, Needs, Size


class Phase(IntEnum):
    WAITING = 0
    RUNNING = 1  # from the moment that its row is stored and the executor is told
    ENDED = 2
    UNKNOWN = 3  # from our disk; the executor has not spoken yet
    MAYBE = 4  # it was started, and the executor does not know it


NOTHING_SPECIAL = Needs()
HOLDING = {
    Phase.WAITING: Holding.WAITING,
    Phase.RUNNING: Holding.RUNNING,
    Phase.ENDED: Holding.ENDED,
    Phase.UNKNOWN: Holding.RUNNING,
    Phase.MAYBE: Holding.MAYBE_STARTED,
}


@dataclass(slots=True, eq=False)
class Job:
    task: TaskId
    token: Token
    owner: NodeId
    phase: Phase
    payload: bytes = b""
    epoch: Epoch = NO_EPOCH
    ending: str = ""  # why it was told to end
    needs: Needs = NOTHING_SPECIAL
    size: Size = ONE_SLOT
    gpus: tuple[int, ...] = ()  # while it runs
    once: bool = False
    volatile: bool = False  # its executor keeps it in memory alone: lost with it, it may have started
    takeover: int = 0  # by how much its owner claims it
    submitter: NodeId = NOBODY  # where it is not the owner
    runtime_s: float = -1.0  # what its kind took lately, as its owner says
    no_overlap: bool = False
    in_line: bool = False  # for a slot; what must not overlap waits for a lease before
    lease_s: float = 0.0  # how long its last one was
    lease_until_s: float = 0.0
    ask_lease_s: float = 0.0

    @property
    def claim(self) -> Claim:
        return Claim(self.takeover, self.owner)

    def row(self, exit: Exit | None = None) -> Attempt:
        """What our disk has of it."""
        return Attempt(
            self.task,
            self.token,
            self.owner,
            exit,
            self.size,
            self.gpus,
            self.takeover,
            self.submitter,
            self.no_overlap,
        )
