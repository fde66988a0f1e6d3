"""What the machines of a node tell each other, and the people who watch.

A note is an effect of one machine and an event of the others, at the same instant: `node` routes it, then hands it
out. It never leaves the node.
"""

from __future__ import annotations

from dataclasses import dataclass

from openclaw.ids import Epoch, Incarnation, NodeId, TaskId, Token
from openclaw.messages import DemandOf, GrantRow, Status
from openclaw.records import Copy, Counts, Meta, Progress, State


@dataclass(frozen=True, slots=True)
class MemberChanged:
    node: NodeId
    status: Status
    incarnation: Incarnation
    back_soon: bool = False


@dataclass(frozen=True, slots=True)
class MetaLearned:
    node: NodeId
    version: int
    meta: Meta


@dataclass(frozen=True, slots=True)
class LeaderSeen:
    """A peer says that it follows `epoch`."""

    peer: NodeId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """Whom this node follows now; `epoch` is None while nobody leads."""

    epoch: Epoch | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RosterDiffers:
    peer: NodeId


@dataclass(frozen=True, slots=True)
class Settled:
    """Peers have told us what they know of our own past (or there are none): we may dispatch and stand."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """These may be promised once this batch is committed: on our disk, and at a guardian if `guardians` names it.

    In the order of their submission, and all of it.
    """

    tasks: tuple[TaskId, ...]
    guardians: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskMoved:
    """A task that this node owns is in a new state."""

    task: TaskId
    state: State
    worker: NodeId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskFetched:
    """The outputs of a task that ended are on our disk as well: of ours, or of one that we keep a copy of."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The records of these tasks are deleted: what else is kept of them may go."""

    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An attempt that was superseded turns out to have run too."""

    task: TaskId
    token: Token


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The owner of these copies is gone, and its grace is over: we own the tasks from now on."""

    copies: tuple[Copy, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Yielded:
    """These have another owner, whom `progress` names: we keep what we have of them as copies."""

    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A task that ended here ended elsewhere too, under a higher claim: that end stands, `mine` is evidence."""

    mine: Copy
    theirs: Copy


@dataclass(frozen=True, slots=True)
class EndedElsewhere:
    """`sender` says how these ended, and so have they here: where our claim is higher, it is to hear of our end."""

    sender: NodeId
    ends: tuple[Progress, ...]


@dataclass(frozen=True, slots=True)
class Contested:
    """Somebody else counts a task of ours as its own, and says how far it is."""

    sender: NodeId
    progress: Progress


@dataclass(frozen=True, slots=True)
class LoadChanged:
    """The worker on this node: running and waiting now, for the next heartbeat."""

    running: int
    queued: int


@dataclass(frozen=True, slots=True)
class CountsChanged:
    """The owner on this node: its tasks by state, for the next heartbeat."""

    counts: Counts


@dataclass(frozen=True, slots=True)
class GrantedChanged:
    """The leader on this node: places granted since it started, for the next heartbeat."""

    granted: int


@dataclass(frozen=True, slots=True)
class IncarnationRaised:
    """Our own incarnation as of the batch that stores it."""

    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Cloned:
    """Another live node speaks under our key, from another start: one of us is a copy."""

    boot: str


@dataclass(frozen=True, slots=True)
class OfferTurn:
    """The election picked `to` for `term`: the leader machine adds what it knows and sends the `Offer`."""

    to: NodeId
    term: int
    expires_s: float


@dataclass(frozen=True, slots=True)
class TurnTaken:
    """We lead under `epoch` by an accepted offer: start from what the predecessor knew."""

    epoch: Epoch
    demands: tuple[DemandOf, ...]
    outstanding: tuple[GrantRow, ...]


Note = (
    MemberChanged | MetaLearned | LeaderSeen | LeaderChanged | RosterDiffers | Settled | Accepted | TaskMoved
    | TaskFetched | Forgotten | Duplicate | TakeOver | Yielded | Replaced | EndedElsewhere | Contested
    | LoadChanged | CountsChanged | GrantedChanged | IncarnationRaised | Cloned | OfferTurn | TurnTaken
)  # fmt: skip
