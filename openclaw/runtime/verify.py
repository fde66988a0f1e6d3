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

from openclaw.ids import KEYED, Incarnation, NodeId, TaskId, owner_of
from openclaw.messages import (
    Ack,
    AnyMessage,
    Assign,
    Coordinator,
    Digest,
    Elect,
    ElectAnswer,
    Gossip,
    Guard,
    Higher,
    Item,
    Kept,
    MetaHave,
    Offer,
    Ping,
    PingRequest,
    Rumour,
)
from openclaw.records import Batch, Kind, Needs
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
    match message:
        case Assign(items=items, batches=batches):
            genuine = tuple(item for item in items if _genuine_item(context, batches, item))
            return message if len(genuine) == len(items) else _only(message, genuine)
        case Guard(items=kept, batches=batches):
            copies = tuple(item for item in kept if _genuine_copy(context, batches, item))
            return message if len(copies) == len(kept) else _only(message, copies)
        case _:
            return message


def _only(message: Assign | Guard, items: tuple[object, ...]) -> AnyMessage | None:
    return msgspec.structs.replace(message, items=items) if items else None


def _genuine_item(context: Context, batches: tuple[Batch, ...], item: Item) -> bool:
    """Its submitter signed exactly this task, these needs and this payload."""
    submitter = item.submitter or item.token.owner
    signed = _signed(context, batches, item.batch, item.leaf, submitter, item.task, item.needs, item.payload)
    return signed and _as_needed(item)


def _genuine_copy(context: Context, batches: tuple[Batch, ...], item: Kept) -> bool:
    """The same of a copy; without its submission it only says how far the task is."""
    submission, task = item.submission, item.progress.task
    if submission is None:
        return TASK_ID.fullmatch(task) is not None
    return submission.task == task and _signed(
        context,
        batches,
        item.batch,
        submission.leaf,
        submission.submitter,
        task,
        submission.needs,
        submission.payload,
    )


def _signed(
    context: Context,
    batches: tuple[Batch, ...],
    index: int,
    place: int,
    submitter: NodeId,
    task: TaskId,
    needs: Needs,
    payload: bytes,
) -> bool:
    key = context.mesh.roster.signing_key(submitter)
    if key is None or index >= len(batches) or not TASK_ID.fullmatch(task):
        return False
    if owner_of(task) not in (submitter, KEYED):
        return False
    batch = batches[index]
    start = place * LEAF_BYTES
    signed = batch.leaves[start : start + LEAF_BYTES]
    return signed == leaf(task, needs_bytes(needs), payload) and verify_batch(
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
