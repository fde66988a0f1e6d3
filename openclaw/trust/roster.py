"""Who belongs to the mesh: a set of certificates and revocations that merges by union.

Any member checks every paper offline, back to the root key. Who is in is a function of the set alone, so the
order in which papers arrive never matters:

* the root certifies admins; admins certify everyone else; nobody else's word counts
* a revocation by the root, an admin, or the node itself beats every certificate of its subject
* an admin whom the root has revoked never was one; an admin whom another admin has revoked keeps only
  what that revocation keeps
* an invite that more nodes have used than it allows lets none of them in until some are revoked
* a CURVE key belongs to the node whose certificate is the oldest
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from openclaw.config import ROSTER_RECORDS_MAX
from openclaw.errors import Junk
from openclaw.ids import NodeId
from openclaw.records import Member
from openclaw.trust.certificates import (
    Capability,
    Certificate,
    MeshId,
    Request,
    Revocation,
    mesh_id_of,
    paper_hash,
    unseal,
)
from openclaw.trust.keys import raw_curve_key, z85_of

KeyStatus = Literal["member", "unknown", "revoked"]
DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate whose signatures hold, as far as the roster asks about it."""

    paper: bytes
    hash: bytes
    node: NodeId
    name: str
    signing: bytes
    curve: bytes
    invite: str
    uses: int
    capabilities: frozenset[str]
    issued: float
    issuer: bytes

    @property
    def order(self) -> tuple[float, bytes]:
        return (self.issued, self.hash)


@dataclass(frozen=True, slots=True)
class _View:
    """What the set of papers amounts to."""

    certified: dict[NodeId, Certified]
    members: dict[NodeId, Member]
    pending: tuple[NodeId, ...]
    node_by_curve: dict[bytes, NodeId]
    revoked: frozenset[str]
    revoked_curves: frozenset[bytes]
    admin_keys: frozenset[bytes]
    digest: bytes


class Roster:
    """The papers of one mesh, and what they amount to."""

    def __init__(self, mesh_id: MeshId, root_public: bytes) -> None:
        if mesh_id != mesh_id_of(root_public):
            raise ValueError("this root key is not the key of this mesh")
        self.mesh_id = mesh_id
        self.root_public = root_public
        self._certificates: dict[bytes, Certified] = {}
        self._revocations: dict[bytes, Revocation] = {}
        self._admin_keys: set[bytes] = set()
        self._signing_of: dict[bytes, set[NodeId]] = defaultdict(set)
        self._cached: _View | None = None

    def add(self, paper: bytes) -> bool:
        """Take a paper in; False if it was there. Raises Junk on one that nobody with a say has signed.

        An admin's own certificate must come before what it signed, as `records` has it.
        """
        if paper in self._certificates or paper in self._revocations:
            return False
        if len(self._certificates) + len(self._revocations) >= ROSTER_RECORDS_MAX:
            raise Junk("the roster is full")
        if paper[:1] == b"r":
            self._add_revocation(paper)
        else:
            self._add_certificate(paper)
        self._cached = None
        return True

    def add_all(self, papers: Iterable[bytes]) -> tuple[bytes, ...]:
        """Take in what verifies, in whatever order it comes, and drop the rest. Returns what was news."""
        left, news = list(papers), []
        while left:
            refused = []
            for paper in left:
                try:
                    if self.add(paper):
                        news.append(paper)
                except Junk:
                    refused.append(paper)
            if len(refused) == len(left):
                break
            left = refused
        return tuple(news)

    def _add_certificate(self, paper: bytes) -> None:
        certified = read_certificate(paper, self.mesh_id)
        by_root = certified.issuer == self.root_public
        if not by_root and (certified.issuer not in self._admin_keys or _is_admin(certified)):
            raise Junk("a certificate by somebody who may not issue it")
        self._certificates[paper] = certified
        self._signing_of[certified.signing].add(certified.node)
        if by_root and _is_admin(certified):
            self._admin_keys.add(certified.signing)

    def _add_revocation(self, paper: bytes) -> None:
        revocation = unseal(paper, Revocation)
        if revocation.mesh != self.mesh_id:
            raise Junk("a revocation of another mesh")
        own = revocation.subject in self._signing_of.get(revocation.issuer, ())
        if revocation.issuer != self.root_public and revocation.issuer not in self._admin_keys and not own:
            raise Junk("a revocation by somebody who may not revoke")
        self._revocations[paper] = revocation

    def members(self) -> dict[NodeId, Member]:
        """Everyone who is in, and everyone who was and is revoked."""
        return self._view.members

    def pending(self) -> tuple[NodeId, ...]:
        """Nodes with a certificate that does not count: their invite was used too often."""
        return self._view.pending

    def digest(self) -> bytes:
        return self._view.digest

    def records(self) -> tuple[bytes, ...]:
        """Every paper, in an order in which another roster can take them in one by one."""
        by_root = {paper: item.issuer == self.root_public for paper, item in self._certificates.items()}
        certificates = sorted(by_root, key=lambda paper: (not by_root[paper], paper))
        return (*certificates, *sorted(self._revocations))

    def supports(self, issuer: bytes) -> tuple[bytes, ...]:
        """The certificate of the admin with this key; nothing for the root."""
        admins = (item for item in self._certificates.values() if _is_admin(item))
        return tuple(item.paper for item in admins if item.signing == issuer)[:1]

    def chain(self, node: NodeId) -> tuple[bytes, ...]:
        """What another member needs to see that `node` is one."""
        own = self.certificate(node)
        return () if own is None else (*self.supports(own.issuer), own.paper)

    def certificate(self, node: NodeId) -> Certified | None:
        """The certificate by which `node` is in."""
        return self._view.certified.get(node)

    def issued_under(self, invite: str) -> dict[NodeId, Certified]:
        """Who has a certificate under this invite, whatever became of it."""
        return {item.node: item for item in self._certificates.values() if item.invite == invite}

    def issued_by(self, signing: bytes) -> tuple[Certified, ...]:
        """Who is in by the word of this key, newest first."""
        found = [item for item in self._view.certified.values() if item.issuer == signing]
        return tuple(sorted(found, key=lambda item: item.order, reverse=True))

    def certifies(self, signing: bytes) -> bool:
        """Whether this key may let others in: the root's, or that of an admin who stands."""
        return signing == self.root_public or signing in self._view.admin_keys

    def curve_key(self, node: NodeId) -> bytes | None:
        """The z85 key of a member, to dial it by."""
        certified = self._view.certified.get(node)
        return None if certified is None else z85_of(certified.curve)

    def signing_key(self, node: NodeId) -> bytes | None:
        """What a member signs with."""
        certified = self._view.certified.get(node)
        return None if certified is None else certified.signing

    def by_curve_key(self, key: bytes) -> NodeId | None:
        """The member that speaks with `key` (raw or z85)."""
        return self._view.node_by_curve.get(raw_curve_key(key))

    def status_of_key(self, key: bytes) -> KeyStatus:
        raw = raw_curve_key(key)
        if raw in self._view.node_by_curve:
            return "member"
        return "revoked" if raw in self._view.revoked_curves else "unknown"

    def allows(self, node: NodeId) -> bool:
        return node in self._view.certified

    def revoked(self, subject: str) -> bool:
        """Whether this node, or this invite, is revoked."""
        return subject in self._view.revoked

    @property
    def _view(self) -> _View:
        if self._cached is None:
            self._cached = self._resolve()
        return self._cached

    def _resolve(self) -> _View:
        valid = self._valid_revocations()
        revoked = frozenset(item.subject for item in valid)
        everyone = sorted(self._certificates.values(), key=lambda item: item.order)
        sound = self._issuer_stands(everyone, valid)
        counting = _drop_overused([item for item in everyone if item.node not in revoked and sound(item)])
        certified: dict[NodeId, Certified] = {}
        node_by_curve: dict[bytes, NodeId] = {}
        for item in counting:
            if node_by_curve.setdefault(item.curve, item.node) == item.node:
                certified[item.node] = item
        fallen = {item.node: item for item in everyone if item.node in revoked}
        members = {item.node: Member(item.node, item.name, item.capabilities) for item in certified.values()}
        members |= {item.node: Member(item.node, item.name, frozenset(), True) for item in fallen.values()}
        return _View(
            certified=certified,
            members=members,
            pending=tuple(sorted({item.node for item in everyone} - members.keys())),
            node_by_curve=node_by_curve,
            revoked=revoked,
            revoked_curves=frozenset(item.curve for item in fallen.values()),
            admin_keys=frozenset(item.signing for item in certified.values() if _is_admin(item)),
            digest=_digest((*self._certificates, *self._revocations)),
        )

    def _valid_revocations(self) -> list[Revocation]:
        everything = self._revocations.values()
        by_root = {item.subject for item in everything if item.issuer == self.root_public}
        admins = {
            item.signing
            for item in self._certificates.values()
            if _is_admin(item) and item.node not in by_root
        }
        return [
            item
            for item in everything
            if item.issuer == self.root_public
            or item.issuer in admins
            or item.subject in self._signing_of.get(item.issuer, ())
        ]

    def _issuer_stands(
        self, everyone: list[Certified], valid: list[Revocation]
    ) -> Callable[[Certified], bool]:
        """Whether the issuer of a certificate is the root, a standing admin, or one whose fall kept it."""
        keeps: dict[str, set[bytes]] = {}
        for item in valid:
            keeps[item.subject] = keeps.get(item.subject, set(item.keeps)).intersection(item.keeps)
        admins = [item for item in everyone if _is_admin(item)]
        standing = {item.signing for item in admins if item.node not in keeps}
        kept = {(item.signing, paper) for item in admins if item.node in keeps for paper in keeps[item.node]}

        def stands(item: Certified) -> bool:
            return (
                item.issuer == self.root_public or item.issuer in standing or (item.issuer, item.hash) in kept
            )

        return stands


def read_certificate(paper: bytes, mesh_id: MeshId) -> Certified:
    """What a certificate says, once the signatures of its issuer and of its node hold. Raises Junk."""
    certificate = unseal(paper, Certificate)
    request = unseal(certificate.request, Request)
    if request.mesh != mesh_id:
        raise Junk("a certificate of another mesh")
    return Certified(
        paper=paper,
        hash=paper_hash(paper),
        node=request.node,
        name=request.name,
        signing=request.signing,
        curve=request.curve,
        invite=request.invite,
        uses=certificate.uses,
        capabilities=frozenset(certificate.capabilities),
        issued=certificate.issued,
        issuer=certificate.issuer,
    )


def _is_admin(item: Certified) -> bool:
    return Capability.ADMIN.value in item.capabilities


def _drop_overused(counting: list[Certified]) -> list[Certified]:
    nodes_under: dict[str, set[NodeId]] = defaultdict(set)
    for item in counting:
        if item.invite:
            nodes_under[item.invite].add(item.node)
    return [item for item in counting if not item.invite or len(nodes_under[item.invite]) <= item.uses]


def _digest(papers: Iterable[bytes]) -> bytes:
    whole = blake2b(digest_size=DIGEST_BYTES, person=b"roster")
    for paper in sorted(papers):
        whole.update(paper_hash(paper))
    return whole.digest()
