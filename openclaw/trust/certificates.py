"""The signed papers of a mesh: requests, certificates, revocations, invites.

A paper is one kind byte, one signature, and the exact body that was signed. It is stored and passed on as
those bytes and never encoded again, so a paper has one form only and whoever holds it can check it offline.
Whose signature counts is the roster's business; here it only has to be the one that the body names.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, NewType, TypeVar

from msgspec import DecodeError, msgpack
from msgspec import Meta as Bound

from openclaw.errors import Junk
from openclaw.ids import NODE_ID_CHARS, NodeId
from openclaw.records import Count, Name, Record, Seconds
from openclaw.trust.keys import KEY_BYTES, SIGNATURE_BYTES, Domain, Signer, name_of, node_id_of, verify

MeshId = NewType("MeshId", str)
"""16 characters of base32: the hash of the root public key."""

Key = Annotated[bytes, Bound(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Id = Annotated[str, Bound(min_length=NODE_ID_CHARS, max_length=NODE_ID_CHARS)]
PAPER_BYTES_MAX = 8192
KEEPS_MAX = 400


class Capability(StrEnum):
    """What a member may ask of others."""

    OBSERVE = "observe"
    SKILL = "skill"
    SHELL = "shell"
    ADMIN = "admin"


Capabilities = Annotated[tuple[Name, ...], Bound(max_length=16)]


class Request(Record, frozen=True):
    """A node asks for a certificate and signs that these are its keys."""

    mesh: Id
    signing: Key
    curve: Key
    name: Name
    invite: Annotated[str, Bound(max_length=NODE_ID_CHARS)] = ""

    @property
    def node(self) -> NodeId:
        return node_id_of(self.signing, self.curve)


class Certificate(Record, frozen=True):
    """An admin, or the root, countersigns a request. `uses` repeats how many the invite is good for."""

    request: Annotated[bytes, Bound(max_length=1024)]
    capabilities: Capabilities
    issued: Seconds
    issuer: Key
    uses: Count = 0


class Revocation(Record, frozen=True):
    """`subject`, a node or an invite, no longer counts.

    What a revoked admin had certified falls with it, but for the papers whose hashes stand in `keeps`: else
    the thief of an admin's machine could go on letting machines in, with an old date on their papers.
    """

    mesh: Id
    subject: Id
    issuer: Key
    keeps: Annotated[tuple[bytes, ...], Bound(max_length=KEEPS_MAX)] = ()


class Invite(Record, frozen=True):
    """An admin's word that whoever holds the key named `invite` may join, until `expires` (wall clock)."""

    mesh: Id
    key: Key
    capabilities: Capabilities
    expires: Seconds
    uses: Annotated[int, Bound(ge=1, le=10_000)]
    issuer: Key

    @property
    def id(self) -> str:
        return name_of(b"invite", self.key)


B = TypeVar("B", Request, Certificate, Revocation, Invite)
KINDS: dict[type[Record], tuple[bytes, Domain]] = {
    Request: (b"q", Domain.REQUEST),
    Certificate: (b"c", Domain.CERTIFICATE),
    Revocation: (b"r", Domain.REVOCATION),
    Invite: (b"i", Domain.INVITE),
}


def mesh_id_of(root_public: bytes) -> MeshId:
    return MeshId(name_of(b"mesh", root_public))


def paper_hash(paper: bytes) -> bytes:
    """How a paper is named where 16 bytes must do."""
    return blake2b(paper, digest_size=16, person=b"paper").digest()


def seal(signer: Signer, body: Request | Certificate | Revocation | Invite) -> bytes:
    """The paper that carries `body` under `signer`'s signature."""
    kind, domain = KINDS[type(body)]
    data = msgpack.encode(body)
    paper = kind + signer.sign(domain, data) + data
    if len(paper) > PAPER_BYTES_MAX:
        raise ValueError(f"a paper of {len(paper)} bytes; at most {PAPER_BYTES_MAX} are allowed")
    return paper


def unseal(paper: bytes, body_type: type[B]) -> B:
    """The body of a paper that is signed by the key it names itself. Raises Junk on anything else."""
    kind, domain = KINDS[body_type]
    head = 1 + SIGNATURE_BYTES
    if not paper.startswith(kind) or not head < len(paper) <= PAPER_BYTES_MAX:
        raise Junk("not a paper of this kind")
    data = paper[head:]
    try:
        body = msgpack.decode(data, type=body_type)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Junk(f"a paper that cannot be read: {error}") from None
    key = body.signing if isinstance(body, Request) else body.issuer
    if not verify(key, domain, data, paper[1:head]):
        raise Junk("a paper with a wrong signature")
    return body
