"""The core's one door: events in, effects out.

`handle(event, now) -> [effects]`, and `next_deadline()` says when to call again with `Tick`. `now` is
monotonic seconds that also count sleep; it is never on the wire. Chance comes from a named stream.

**Store precedes Send.** The runtime commits all `Store`s of a batch as one transaction and only then performs
the other effects, in order (`messages.EARLY` lists the exceptions). A crash may cut the effects anywhere.

`Note`s are what machines tell each other and the people who watch: `node` routes them to its other machines,
then hands them out.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.messages import AnyMessage
from openclaw.notes import Note
from openclaw.records import Copy, Ended, Exit, Held, Member, Meta, Metrics, Record, Submission, Table

T = TypeVar("T")


class Rng(Protocol):
    """The part of `random.Random` that the core uses; always a stream of its own."""

    def random(self) -> float: ...
    def choice(self, population: Sequence[T], /) -> T: ...
    def sample(self, population: Sequence[T], k: int) -> list[T]: ...
    def shuffle(self, population: MutableSequence[T], /) -> None: ...


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The first event. `wall_offset_s` added to `now` gives UTC seconds, for people."""

    meta: Meta
    wall_offset_s: float


@dataclass(frozen=True, slots=True)
class Received:
    message: AnyMessage
    sender: NodeId


@dataclass(frozen=True, slots=True)
class Tick:
    pass


@dataclass(frozen=True, slots=True)
class WallClock:
    wall_offset_s: float


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A hint that `node` may be reachable: discovery, a seed, an address on disk."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class LinkUp:
    peer: NodeId


@dataclass(frozen=True, slots=True)
class LinkDown:
    """Our connection to `peer` broke. `refused`: its machine answered a fresh dial with "nobody here"."""

    peer: NodeId
    refused: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """This node did not run for `gap_s`: it slept, or was stopped."""

    gap_s: float


@dataclass(frozen=True, slots=True)
class RosterChanged:
    members: Mapping[NodeId, Member]
    digest: bytes


@dataclass(frozen=True, slots=True)
class MetaChanged:
    meta: Meta


@dataclass(frozen=True, slots=True)
class Measured:
    metrics: Metrics
    lag_s: float = 0.0  # how late the event loop ran, at worst, since the last reading
    disk_low: bool = False  # the state folder's disk has less left than it must


@dataclass(frozen=True, slots=True)
class Submitted:
    tasks: tuple[Submission, ...]


@dataclass(frozen=True, slots=True)
class CancelAsked:
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class ForgetAsked:
    """These tasks of ours are over and have been kept long enough. Answered by `Forgotten`."""

    tasks: tuple[Ended, ...]


@dataclass(frozen=True, slots=True)
class DrainAsked:
    draining: bool


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A clean stop. `keep`: the executor and what it runs stay, we are back soon."""

    keep: bool
    grace_s: float
    leave: bool = True  # tell the others that we left, so that nobody has to find out


@dataclass(frozen=True, slots=True)
class ExecutorUp:
    """The executor answers, and this is all that it holds. `life` counts executors: a `Run` is meant for one."""

    held: tuple[Held, ...]
    life: int = 0


@dataclass(frozen=True, slots=True)
class ExecutorDown:
    pass


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    task: TaskId
    token: Token
    started: float  # wall clock


@dataclass(frozen=True, slots=True)
class ProcessExited:
    task: TaskId
    token: Token
    exit: Exit


@dataclass(frozen=True, slots=True)
class HandedBack:
    """It waited in the executor for a slot, longer than is worth it: it did not start, and will not from there."""

    task: TaskId
    token: Token


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outputs of `task` are at its owner now, or (`ok` false) cannot be had for the moment.

    `gone`: the worker answers, and does not have them as it announced them.
    """

    task: TaskId
    token: Token
    ok: bool
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Recalled:
    """Answers `Recall`: those of the tasks that this disk has the end of, ours or copied."""

    number: int
    ended: tuple[Copy, ...]


Event = (
    Started | Received | Tick | WallClock | PeerFound | LinkUp | LinkDown | Resumed | RosterChanged
    | MetaChanged | Measured | Submitted | CancelAsked | ForgetAsked | DrainAsked | StopAsked | ExecutorUp
    | ExecutorDown | ProcessStarted | ProcessExited | HandedBack | Fetched | Recalled
)  # fmt: skip


# --- effects -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    to: NodeId
    message: AnyMessage


@dataclass(frozen=True, slots=True)
class Store:
    """Put `value` under `key`, or delete the row when `value` is None."""

    table: Table
    key: str
    value: Record | None


@dataclass(frozen=True, slots=True)
class Run:
    """Stage the inputs from `owner`, then start. Answered by `ProcessStarted` and `ProcessExited`, or `HandedBack`.

    It is done by the executor of that `life` or by none: the one that follows has told already what it holds.
    """

    task: TaskId
    token: Token
    owner: NodeId
    payload: bytes
    epoch: Epoch
    life: int = 0
    gpus: tuple[int, ...] = ()  # which ones it has to itself
    slots: int = 1  # until so many are free there, it waits in the executor
    until_s: float = 0.0  # when it is ended, unless `Extend` says later; 0 is never


@dataclass(frozen=True, slots=True)
class Extend:
    """Its lease is over at `until_s` of the node's clock, which its executor reads too, and no sooner."""

    task: TaskId
    token: Token
    until_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    task: TaskId
    token: Token
    reason: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class Redial:
    """Our connection to a lost peer may be dead, though nothing says so: dial afresh. Answered by `LinkUp`."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Forget:
    """The owner has all of it: the scratch directory and the exit record may go."""

    task: TaskId
    token: Token


@dataclass(frozen=True, slots=True)
class Fetch:
    """Pull the outputs of `task` from `worker`, or (`kept`) from an owner who has them. Answered by `Fetched`."""

    task: TaskId
    token: Token
    worker: NodeId
    exit: Exit
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Recall:
    """Look on the disk for tasks that ended: they are not in memory any more. Answered by `Recalled`."""

    number: int
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """A clean stop is done: the process may end once this batch has left. `keep` spares the executor."""

    keep: bool


Effect = Send | Store | Run | Extend | Kill | Redial | Forget | Fetch | Recall | Stopped | Note


class Machine(Protocol):
    """One of the state machines that make up a node. A machine is given notes as events too."""

    def handle(self, event: Event | Note, now: float) -> list[Effect]: ...

    def next_deadline(self) -> float | None: ...
