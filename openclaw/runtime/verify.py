"""The gate between the wire and the core: what a message claims is checked against signatures here.

An `Assign` is taken only with the items whose submission its owner really signed; the rest are dropped and counted
by the sender's next question. The core sees nothing unsigned.
"""

from __future__ import annotations

import re

import msgspec

from openclaw.ids import owner_of
from openclaw.messages import AnyMessage, Assign, Item
from openclaw.records import Batch
from openclaw.runtime.context import Context
from openclaw.trust.batches import leaf, verify_batch

LEAF_BYTES = 16
TASK_ID = re.compile(r"[a-z2-7]{16}-[a-z2-7]{1,32}")  # it becomes a key of our store and a name on our disk

_encode = msgspec.msgpack.encode


def admit(context: Context, message: AnyMessage) -> AnyMessage | None:
    """`message` with what is not genuine taken out, or None when nothing is left of it."""
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
    batch = batches[item.batch]
    start = item.leaf * LEAF_BYTES
    signed = batch.leaves[start : start + LEAF_BYTES]
    return signed == leaf(item.task, _encode(item.needs), item.payload) and verify_batch(
        key, context.mesh.mesh_id, batch
    )
