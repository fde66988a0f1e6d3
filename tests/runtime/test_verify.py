"""What passes the gate to the core: only what its owner signed, and no command in the clothes of a skill."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from openclaw.ids import NO_EPOCH, TaskId, Token
from openclaw.messages import Assign, Item
from openclaw.records import Batch, Kind, Needs, Payload, SkillCall
from openclaw.runtime.context import Context
from openclaw.runtime.verify import admit
from openclaw.trust.batches import leaf, needs_bytes, sign_batch
from openclaw.trust.certificates import MeshId
from openclaw.trust.keys import NodeKeys

KEYS = NodeKeys.from_seed(b"s" * 32)
MESH = MeshId("mesh")
TASK = TaskId(f"{KEYS.node_id}-boota")
encode = msgspec.msgpack.encode


def admitted(kind: Kind, payload: bytes, *, signed: bytes | None = None) -> bool:
    """Whether a task of this kind gets to the core, which `signed` says what its owner put its name to."""
    needs = Needs(kind)
    leaves = leaf(TASK, needs_bytes(needs), payload if signed is None else signed)
    item = Item(TASK, Token(0, KEYS.node_id, 1, 1), needs, payload, 0, 0)
    assign = Assign(NO_EPOCH, 0, "boot", (Batch(sign_batch(KEYS, MESH, leaves), leaves),), (item,))
    roster = SimpleNamespace(signing_key=lambda node: KEYS.signing_public if node == KEYS.node_id else None)
    context = cast("Context", SimpleNamespace(mesh=SimpleNamespace(mesh_id=MESH, roster=roster)))
    return admit(context, assign, KEYS.node_id) is not None


COMMAND = encode(Payload(("/bin/sh", "-c", "anything")))
SKILL = encode(Payload((), skill=SkillCall("s", "tree", "go")))
SCRIPT = encode(Payload(("scripts/x",), skill=SkillCall("s", "tree")))


@pytest.mark.parametrize(
    ("kind", "payload", "passes"),
    [
        (Kind.COMMAND, COMMAND, True),
        (Kind.SKILL, SKILL, True),
        (Kind.SKILL, SCRIPT, True),
        (Kind.SKILL, COMMAND, False),
        (Kind.SKILL, b"junk", False),
        (Kind.SKILL, encode(Payload((), skill=SkillCall("s", "tree", "go"), handler="h")), False),
    ],
)
def test_a_skill_names_its_skill(kind: Kind, payload: bytes, passes: bool) -> None:
    assert admitted(kind, payload) is passes


def test_another_payload_than_was_signed_does_not_pass() -> None:
    assert not admitted(Kind.SKILL, SKILL, signed=SCRIPT)
