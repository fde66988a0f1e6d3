"""The names of things: nodes, tasks, and the four counters that order what happens to them.

Four counters, four meanings, never mixed:

* `Incarnation` orders what a node says about itself. Only its owner raises it, and stores it first.
* the heartbeat counts beats within an incarnation and never reaches a disk.
* the metadata version orders what a node publishes (addresses, skills, labels).
* `Epoch` orders leaders. Naming the claimant makes every epoch unique by construction.

`Token` orders the attempts of one task. It is minted by the task's owner alone, so that leaders who
disagree can overload a worker but never start an attempt twice.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, NamedTuple, NewType

from msgspec import Meta

NodeId = NewType("NodeId", str)
"""16 characters of base32: the hash of a node's two public keys."""

TaskId = NewType("TaskId", str)
"""`OWNER-BOOTSEQ`: the owner's id, then what is unique at the owner across all of its restarts."""

Counter = Annotated[int, Meta(ge=0, lt=1 << 53)]
"""Any of the four; a peer's packet with a number beyond it is junk."""

NODE_ID_CHARS = 16
SHORT_CHARS = 8
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


class Incarnation(NamedTuple):
    """How often a node has vouched for itself (`counter`), and during which of its starts (`boot`).

    Raising the counter refutes an accusation; a new boot means that what the node had in memory is gone.
    """

    counter: Counter
    boot: str


class Epoch(NamedTuple):
    """A leader's term. Ordered by term, then by node, so any two differ and compare."""

    term: Counter
    node: NodeId


class Claim(NamedTuple):
    """Who owns a task: ordered by how often it was taken over, then by node, so any two owners differ."""

    takeover: Counter
    owner: NodeId


class Token(NamedTuple):
    """The right to start one attempt: compared in order, highest wins.

    `takeover` counts owners (a guardian that takes over raises it), `owner` breaks ties between two that
    took over at once, `incarnation` is the owner's count, `attempt` counts from 1.
    """

    takeover: Counter
    owner: NodeId
    incarnation: Counter
    attempt: Counter

    @property
    def claim(self) -> Claim:
        """The claim that it was minted under."""
        return Claim(self.takeover, self.owner)


NOBODY = NodeId("")
KEYED = NodeId("keyedkeyedkeyedk")
"""Stands in the place of the owner in the id of a task that was submitted under a key."""
NO_EPOCH = Epoch(0, NOBODY)


def mint_task_id(owner: NodeId, boot: str, sequence: int) -> TaskId:
    """The id of the owner's task number `sequence` since the start named `boot`."""
    return TaskId(f"{owner}-{boot}{_digits(sequence)}")


def keyed_task_id(key: str) -> TaskId:
    """The id of the task submitted under `key`, wherever that is done: the same key is the same task."""
    digest = blake2b(key.encode(), digest_size=20, person=b"task key").digest()
    return TaskId(f"{KEYED}-{_digits(int.from_bytes(digest))}")


def _digits(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = BASE32[digit] + digits
    return digits or BASE32[0]


def owner_of(task: TaskId) -> NodeId:
    """The node that minted `task`: whom to ask about it first. `KEYED` when the id does not say."""
    return NodeId(task.partition("-")[0])


def short(name: str) -> str:
    """How an id is shown to people."""
    head, dash, tail = name.partition("-")
    return head[:SHORT_CHARS] + dash + tail
