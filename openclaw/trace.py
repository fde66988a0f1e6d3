"""The trace of a mesh: what its nodes did, one JSON object a line, the same from a simulated node and a real one.

Version 1. The first line (and the first of each later start of a real node) is a `trace` row; in every row `do` is
the class's name below in lower case, `at` is in seconds (of the world, or UTC) and `node` is who wrote it:

    {"do":"trace","at":0.0,"node":"","version":1,"source":"simulation","title":"seed 17"}
    {"do":"send","at":3.2071,"node":"n0","to":"n2","kind":"Ping","id":"41","text":"term 1"}
    {"do":"receive","at":3.2080,"node":"n2","sender":"n0","kind":"Ping","id":"41"}

A message's `id` is what both ends call it: `sender`, receiver and `id` match the two rows, oldest first; a `send`
that finds no `receive` was lost. A reader skips a row or a field that it does not know, so both may be added within
a version. A file that ends in the middle of a row is whole up to there.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from openclaw.effects import Effect
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import (
    Ack,
    AnyMessage,
    Ask,
    Assign,
    Cancel,
    Coordinator,
    Demand,
    Digest,
    Elect,
    ElectAnswer,
    End,
    Gossip,
    Grant,
    Have,
    Head,
    Higher,
    MetaHave,
    MetaWant,
    Nack,
    Offer,
    OfferRefused,
    Outcomes,
    OutcomesStored,
    Ping,
    PingRequest,
    Query,
    Report,
    Returned,
    Room,
    Started,
)
from openclaw.notes import Cloned, Duplicate, LeaderChanged, MemberChanged, MetaLearned, TaskMoved

VERSION = 1
TASKS_NAMED_MAX = 4  # in the words for one message


class Row(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="do", tag=lambda name: name.removesuffix("Row").lower()
):  # fmt: skip
    at: float
    node: str


class TraceRow(Row, frozen=True):
    """The head of a file: who writes, and (a real node) its name for people."""

    version: int = 0
    source: str = ""  # "simulation" or "node"
    title: str = ""


class NamedRow(Row, frozen=True):
    """What people call the node `of`."""

    of: str = ""
    name: str = ""


class UpRow(Row, frozen=True):
    pass


class DownRow(Row, frozen=True):
    """`machine`: everything that ran on it ended too."""

    how: str = ""
    machine: bool = False


class PauseRow(Row, frozen=True):
    """Its process stands still: it was stopped, or its machine sleeps."""

    how: str = ""


class ResumeRow(Row, frozen=True):
    pass


class LeaderRow(Row, frozen=True):
    """Whom `node` follows from now on; `leader` is empty while nobody leads."""

    leader: str = ""
    term: int = 0
    why: str = ""


class MemberRow(Row, frozen=True):
    """What `node` now believes of the member `of`."""

    of: str = ""
    status: str = ""


class SendRow(Row, frozen=True):
    to: str = ""
    kind: str = ""
    id: str = ""
    text: str = ""


class ReceiveRow(Row, frozen=True):
    sender: str = ""
    kind: str = ""
    id: str = ""


class TaskRow(Row, frozen=True):
    """A task that `node` owns is in a new state."""

    task: str = ""
    state: str = ""
    worker: str = ""
    why: str = ""


class StartRow(Row, frozen=True):
    """A process has started on `node`. `token` names the attempt; its last number counts from 1."""

    task: str = ""
    token: str = ""


class EndRow(Row, frozen=True):
    task: str = ""
    token: str = ""
    code: int = 0
    by: str = ""


class CutRow(Row, frozen=True):
    """From now on nothing gets from `node` to `to`."""

    to: str = ""


class MendRow(Row, frozen=True):
    to: str = ""


class MarkRow(Row, frozen=True):
    """Anything else that a person should see."""

    text: str = ""


AnyRow = (
    TraceRow | NamedRow | UpRow | DownRow | PauseRow | ResumeRow | LeaderRow | MemberRow | SendRow | ReceiveRow
    | TaskRow | StartRow | EndRow | CutRow | MendRow | MarkRow
)  # fmt: skip

encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[AnyRow] = msgspec.json.Decoder(AnyRow)


def decode(line: bytes) -> AnyRow | None:
    """The row in a line; None for one that this version does not know, or that was cut off."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def row_of(at: float, node: str, effect: Effect, named: Callable[[NodeId], str]) -> AnyRow | None:
    """How an effect other than `Send` stands in a trace, if it does."""
    match effect:
        case LeaderChanged(epoch, reason):
            leader, term = (named(epoch.node), epoch.term) if epoch is not None else ("", 0)
            return LeaderRow(at, node, leader, term, reason)
        case MemberChanged(of, status):
            return MemberRow(at, node, named(of), status.name.lower())
        case MetaLearned(of, meta=meta):
            return NamedRow(at, node, named(of), meta.name)
        case TaskMoved(task, state, worker, reason):
            return TaskRow(at, node, task, state.value, named(worker) if worker else "", reason)
        case Duplicate(task, token):
            return MarkRow(at, node, f"{tail(task)} ran twice (attempt {token.attempt})")
        case Cloned(boot):
            return MarkRow(at, node, f"another node speaks under this one's key (start {boot})")
        case _:
            return None


def tail(task: TaskId | str) -> str:
    """A task's id without its owner's: what is short and still tells tasks apart."""
    return task.rpartition("-")[2]


def token_name(token: Token) -> str:
    """Who may start it, shortened; the attempt stands last."""
    return f"{token.takeover}.{token.incarnation}.{token.attempt}"


def _tasks(tasks: list[TaskId]) -> str:
    more = len(tasks) - TASKS_NAMED_MAX
    return " ".join(tail(task) for task in tasks[:TASKS_NAMED_MAX]) + (
        f" and {more} more" if more > 0 else ""
    )


def _head(head: Head) -> str:
    news = f", {len(head.rumours)} rumours" if head.rumours else ""
    return f"term {head.epoch.term}{news}"


def words(message: AnyMessage, named: Callable[[NodeId], str]) -> str:
    """A message in a few words."""
    match message:
        case PingRequest(target=target, head=head):
            return f"for {named(target)}, {_head(head)}"
        case Ack(target=target, head=head) if target:
            return f"of {named(target)}, {_head(head)}"
        case Ping(head=head) | Ack(head=head) | Gossip(head=head):
            return _head(head)
        case Nack(target=target):
            return f"nothing from {named(target)}"
        case Digest(entries, reply):
            return f"{len(entries)} members{', as an answer' * reply}"
        case MetaWant(nodes):
            return " ".join(named(node) for node in nodes[:TASKS_NAMED_MAX])
        case MetaHave(node, version):
            return f"{named(node)}, version {version}"
        case _:
            return _election_words(message, named) or _task_words(message, named)


def _election_words(message: AnyMessage, named: Callable[[NodeId], str]) -> str:
    match message:
        case Elect(term):
            return f"for term {term}"
        case ElectAnswer(term, standing, leader=leader):
            known = f", {named(leader.node)} leads term {leader.term}" if leader.term else ""
            return f"term {term}: {'I stand' if standing else 'not I'}{known}"
        case Coordinator(epoch) | Higher(epoch):
            return f"{named(epoch.node)}, term {epoch.term}"
        case Offer(term):
            return f"term {term} is yours"
        case OfferRefused(term, reason):
            return f"term {term}: {reason}"
        case _:
            return ""


def _task_words(message: AnyMessage, named: Callable[[NodeId], str]) -> str:
    match message:
        case Demand(rows=rows):
            return f"{sum(row.count for row in rows)} tasks wait"
        case Grant(rows=rows):
            return ", ".join(f"{row.count} on {named(row.worker)}" for row in rows[:TASKS_NAMED_MAX])
        case Report(running=running, queued=queued, slots=slots):
            return f"{running} of {slots} slots, {queued} wait"
        case Assign(items=items):
            return _tasks([item.task for item in items])
        case Returned(items) | Outcomes(items):
            return _tasks([item.task for item in items])
        case Started(items) | Have(items=items):
            return _tasks([task for task, _, _ in items])
        case OutcomesStored(items) | Ask(items) | End(items):
            return _tasks([task for task, _ in items])
        case Cancel(tasks):
            return _tasks(list(tasks))
        case Room(load=load, free=free):
            return f"{load} here, {free} free"
        case Query(op=op):
            return op
        case _:
            return ""
