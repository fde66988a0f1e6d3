"""One signature over many submissions, so that whoever relays or takes over a task cannot forge it.

The owner signs the leaves of a whole batch, 16 bytes a task; a task travels with its batch and its place in it.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import msgspec

from openclaw.ids import TaskId
from openclaw.records import Batch, Needs
from openclaw.trust.certificates import MeshId
from openclaw.trust.keys import Domain, NodeKeys, verify

LEAF_BYTES = 16
FIRST_NEEDS = 4  # fields of `Needs` that were always there
NEEDS_KEPT_MAX = 1024
VERIFIED_MAX = 512


def leaf(task: TaskId, needs: bytes, payload: bytes) -> bytes:
    """What stands for one task in its batch. Each part goes in with its length, so none can run into the next."""
    whole = blake2b(digest_size=LEAF_BYTES, person=b"leaf")
    for part in (task.encode(), needs, payload):
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part)
    return whole.digest()


@lru_cache(NEEDS_KEPT_MAX)
def needs_bytes(needs: Needs) -> bytes:
    """The needs as they are signed: without what was not asked for of the fields that came later, so that a task
    which was signed before there were any is still what its owner signed."""
    fields = list(msgspec.structs.astuple(needs))
    while len(fields) > FIRST_NEEDS and not fields[-1]:
        fields.pop()
    return msgspec.msgpack.encode(fields)


def sign_batch(keys: NodeKeys, mesh_id: MeshId, leaves: bytes) -> bytes:
    return keys.sign(Domain.BATCH, mesh_id.encode() + leaves)


@lru_cache(VERIFIED_MAX)
def verify_batch(signing_public: bytes, mesh_id: MeshId, batch: Batch) -> bool:
    """Whether the owner of this key signed these leaves. The tasks of one batch cost one verification."""
    return verify(signing_public, Domain.BATCH, mesh_id.encode() + batch.leaves, batch.signature)
