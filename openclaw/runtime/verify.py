"""The gate between the wire and the core: what a message claims is checked against signatures here.

An `Assign` is taken only with the items whose submission its owner really signed; the rest are dropped and counted
by the sender's next question. The core sees nothing unsigned.

Terms and incarnations rise by one, and whoever takes part answers a higher one with one more. A claim that leaps
ahead of all that can have happened would lead everybody to the end of numbers, where nobody can lead or live: it
is dropped with the message that brings it.
"""

from __future__ import annotations

import re

import msgspec

from openclaw.ids import Incarnation, NodeId, owner_of
from openclaw.messages import (
    Ack,
    AnyMessage,
    Assign,
    Coordinator,
    Digest,
    Elect,
    ElectAnswer,
    Gossip,
    Higher,
    Item,
    MetaHave,
    Offer,
    Ping,
    PingRequest,
    Rumour,
)
from openclaw.records import Batch, Kind
from openclaw.runtime.context import Context
from openclaw.runtime.docs import decode_payload
from openclaw.trust.batches import leaf, needs_bytes, verify_batch

LEAF_BYTES = 16
LEAP_MAX = 1 << 24  # more turns and restarts than a mesh lives to see
TASK_ID = re.compile(r"[a-z2-7]{16}-[a-z2-7]{1,32}")  # it becomes a key of our store and a name on our disk


def admit(context: Context, message: AnyMessage, sender: NodeId) -> AnyMessage | None:
    """`message` with what is not genuine taken out, or None when nothing is left of it."""
    if not _credible(context, message, sender):
        return None
    if not isinstance(message, Assign):
        return message
    items = tuple(item for item in message.items if _genuine(context, message.batches, item))
    if len(items) == len(message.items):
        return message
    return msgspec.structs.replace(message, items=items) if items else None


def _genuine(context: Context, batches: tuple[Batch, ...], item: Item) -> bool:
    """The owner whom the task's id names signed exactly this task, these needs and this payload."""
    key = context.mesh.roster.signing_key(owner_of(item.task))
    if key is None or item.batch >= len(batches) or not TASK_ID.fullmatch(item.task):
        return False
    if not _as_needed(item):
        return False
    batch = batches[item.batch]
    start = item.leaf * LEAF_BYTES
    signed = batch.leaves[start : start + LEAF_BYTES]
    return signed == leaf(item.task, needs_bytes(item.needs), item.payload) and verify_batch(
        key, context.mesh.mesh_id, batch
    )


def _as_needed(item: Item) -> bool:
    """A node that lets handlers or skills run and no commands must not be given a command under their needs."""
    if item.needs.kind is Kind.COMMAND:
        return True
    try:
        payload = decode_payload(item.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    if item.needs.kind is Kind.SKILL:
        return payload.skill is not None and not payload.handler
    return payload.handler == item.needs.handler != ""


def _credible(context: Context, message: AnyMessage, sender: NodeId) -> bool:
    """Whether every counter in it can have been reached by counting, from as far as we know."""
    match message:
        case Coordinator(epoch) | Higher(epoch):
            return _term(context, epoch.term)
        case Elect(term) | Offer(term):
            return _term(context, term)
        case ElectAnswer(term=term, stored=stored, leader=leader):
            return _term(context, max(term, stored.term, leader.term))
        case Ping(head=head) | Ack(head=head) | PingRequest(head=head) | Gossip(head=head):
            return (
                _term(context, head.epoch.term)
                and _counted(context, sender, head.incarnation, head.meta_version)
                and all(_rumour(context, rumour) for rumour in head.rumours)
            )
        case Digest(entries=entries):
            return all(_rumour(context, entry) for entry in entries)
        case MetaHave(node=node, version=version):
            return version <= context.node.membership.counters(node)[1] + LEAP_MAX
        case _:
            return True


def _rumour(context: Context, rumour: Rumour) -> bool:
    return _counted(context, rumour.node, rumour.incarnation, rumour.meta_version)


def _counted(context: Context, node: NodeId, incarnation: Incarnation, meta_version: int) -> bool:
    counter, version = context.node.membership.counters(node)
    return incarnation.counter <= counter + LEAP_MAX and meta_version <= version + LEAP_MAX


def _term(context: Context, term: int) -> bool:
    return term <= context.node.election.epoch.term + LEAP_MAX
