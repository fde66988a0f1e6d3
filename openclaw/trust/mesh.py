"""The mesh that this node belongs to, as it is on this node's disk.

Holds the roster together with its rows: a paper that counts in memory is on disk first, so whatever this node has
told another about the roster survives its own death. An admin's answers on the intro port are given here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import msgpack

from openclaw.errors import BadState, BadToken, Junk, Unavailable
from openclaw.ids import NodeId
from openclaw.records import Name, Record, Table
from openclaw.trust.admission import Admission
from openclaw.trust.certificates import (
    KEEPS_MAX,
    Capability,
    Certificate,
    Invite,
    Key,
    MeshId,
    Request,
    Revocation,
    mesh_id_of,
    paper_hash,
    seal,
)
from openclaw.trust.intro import Elsewhere, Introduce, Introduced, Join, decode, encode, fitting
from openclaw.trust.invites import HINTS_MAX, Token
from openclaw.trust.keys import CurvePair, NodeKeys, Signer, gate_pair, new_seed, raw_curve_key
from openclaw.trust.roster import Roster

MESH, ROSTER = "mesh", "roster"
IDENTITY = "identity"
ADDRESS = "address/"
TAG_CHARS = 8


class Rows(Protocol):
    """What trust needs of a store: rows of bytes, put together or not at all."""

    def rows(self, table: str) -> dict[str, bytes]: ...

    def put_rows(self, rows: Mapping[tuple[str, str], bytes | None]) -> None: ...

    def count(self, table: str) -> int: ...


class MeshRow(Record, frozen=True):
    """What is the mesh's own. The root seed is only where the mesh was made."""

    name: Name
    root_public: Key
    gate_secret: Key
    root_seed: bytes = b""


class Mesh:
    """Membership of one mesh, on disk."""

    def __init__(self, store: Rows, keys: NodeKeys, row: MeshRow) -> None:
        self._store, self._keys, self._row = store, keys, row
        self.mesh_id: MeshId = mesh_id_of(row.root_public)
        self.name: str = row.name
        self.gate: CurvePair = gate_pair(row.gate_secret)
        self.roster = Roster(self.mesh_id, row.root_public)
        self._root = Signer.from_seed(row.root_seed) if row.root_seed else None
        self._addresses: dict[NodeId, tuple[str, ...]] = {}

    @classmethod
    def load(cls, store: Rows, keys: NodeKeys) -> Mesh | None:
        """The mesh in this store, or None. Raises BadState when this node is not in it (any more)."""
        rows = store.rows(MESH)
        if IDENTITY not in rows:
            return None
        mesh = cls(store, keys, msgpack.decode(rows[IDENTITY], type=MeshRow))
        mesh.roster.add_all(store.rows(ROSTER).values())
        mesh._addresses = {
            NodeId(key.removeprefix(ADDRESS)): msgpack.decode(value, type=tuple[str, ...])
            for key, value in rows.items()
            if key.startswith(ADDRESS)
        }
        mesh._refuse_unless_member()
        return mesh

    @classmethod
    def create(cls, store: Rows, keys: NodeKeys, name: str, now_wall: float) -> Mesh:
        """A new mesh, called after the node that is its root's keeper and first admin."""
        seed = new_seed()
        root = Signer.from_seed(seed)
        curve = raw_curve_key(keys.curve_public)
        request = Request(mesh_id_of(root.public), keys.signing_public, curve, name)
        certificate = Certificate(
            seal(keys.signer, request), tuple(sorted(Capability)), now_wall, root.public
        )
        row = MeshRow(name, root.public, new_seed(), seed)
        return cls._found(store, keys, row, (seal(root, certificate),))

    @classmethod
    def adopt(cls, store: Rows, keys: NodeKeys, token: Token, papers: Sequence[bytes]) -> Mesh:
        """A member by the papers that `Joining.read` has checked; what was here of another mesh goes."""
        return cls._found(store, keys, MeshRow(token.name, token.root_public, token.gate_secret), papers)

    @classmethod
    def _found(cls, store: Rows, keys: NodeKeys, row: MeshRow, papers: Sequence[bytes]) -> Mesh:
        """All rows of the mesh in one transaction, in place of whatever mesh was there."""
        rows: dict[tuple[str, str], bytes | None] = {
            (table, key): None for table in (MESH, ROSTER) for key in store.rows(table)
        }
        rows[MESH, IDENTITY] = msgpack.encode(row)
        store.put_rows(rows | _rows_of(papers))
        mesh = cls.load(store, keys)
        assert mesh is not None
        return mesh

    @property
    def tag(self) -> str:
        return mesh_tag(self.mesh_id)

    def check_replaceable(self) -> None:
        """Raises BadToken where joining another mesh would throw away one that somebody uses."""
        others, tasks = len(self.roster.members()) - 1, self._store.count(Table.TASKS)
        if others or tasks:
            raise BadToken(
                f"this node already belongs to the mesh {self.name!r}, with {others} other nodes and {tasks} tasks, "
                "and the token is for another. For a second node on this machine: openclaw --state-dir DIR node "
                "start --port 0 --join TOKEN; to leave the old mesh: openclaw node leave",
                kind="other_mesh",
            )

    # --- the roster ------------------------------------------------------------------------------

    def learn(self, paper: bytes) -> bool:
        """Take in a paper that somebody showed us: whether it was news. Raises Junk on a bad one."""
        if not self.roster.add(paper):
            return False
        self._store.put_rows(_rows_of((paper,)))
        return True

    def known_addresses(self) -> dict[NodeId, tuple[str, ...]]:
        """Where the members were last seen."""
        return dict(self._addresses)

    def remember_addresses(self, node: NodeId, addresses: Sequence[str]) -> None:
        if self._addresses.get(node) != tuple(addresses):
            self._addresses[node] = tuple(addresses)
            self._store.put_rows({(MESH, ADDRESS + node): msgpack.encode(tuple(addresses))})

    def invite(
        self, expires: float, uses: int, capabilities: frozenset[str], hints: Sequence[str] = ()
    ) -> str:
        """A token that lets `uses` machines in until `expires` (wall clock). Raises Unavailable."""
        unknown = capabilities - set(Capability)
        if unknown:
            raise Unavailable(
                f"there is no capability {min(unknown)!r}; there are: {', '.join(Capability)}", exit_code=2
            )
        signer = self._issuer(admins=Capability.ADMIN in capabilities)
        seed = new_seed()
        invite = Invite(
            self.mesh_id,
            Signer.from_seed(seed).public,
            tuple(sorted(capabilities)),
            expires,
            uses,
            signer.public,
        )
        row = self._row
        paper = seal(signer, invite)
        return Token(
            1, row.root_public, row.name, row.gate_secret, paper, seed, tuple(hints[:HINTS_MAX])
        ).text()

    def revoke(self, subject: str) -> bytes:
        """End a node or an invite for good, or leave for good (our own id). Returns the paper to pass on.

        Whom a revoked admin let in stays in: that list is this node's, now, and the thief cannot add to it.
        """
        member = self.roster.certificate(NodeId(subject))
        keeps = self.roster.issued_by(member.signing)[:KEEPS_MAX] if member is not None else ()
        signer = self._keys.signer if subject == self._keys.node_id else self._issuer(admins=False)
        paper = seal(
            signer, Revocation(self.mesh_id, subject, signer.public, tuple(item.hash for item in keeps))
        )
        self.learn(paper)
        return paper

    # --- the intro port --------------------------------------------------------------------------

    def answer_intro(
        self,
        question: bytes,
        now_wall: float,
        admin_addresses: Sequence[str] = (),
        own_addresses: Sequence[str] = (),
    ) -> tuple[bytes | None, tuple[bytes, ...]]:
        """The answer to a question on the intro port, if any, and the papers that were news in it."""
        try:
            frame = decode(question)
        except Junk:
            return None, ()
        match frame:
            case Join() if not self._may_admit():
                return encode(Elsewhere(tuple(admin_addresses[:HINTS_MAX]))), ()
            case Join():
                answer, papers = Admission(self.roster, self._keys.signer, self._root).answer(frame, now_wall)
                return encode(answer), self._news(papers)
            case Introduce(_, papers):
                news = self._news(papers)
                own = tuple(own_addresses[:HINTS_MAX])
                return encode(Introduced(self._keys.node_id, self._own_papers(), own)), news
            case _:
                return None, ()

    def introduction(self) -> bytes:
        """What a member says on another member's intro port."""
        return encode(Introduce(self._keys.node_id, self._own_papers()))

    def read_introduction(self, answer: bytes) -> tuple[NodeId, tuple[bytes, ...], tuple[str, ...]]:
        """Who answered, its papers, still to be learned, and its addresses. Raises Junk."""
        frame = decode(answer)
        if not isinstance(frame, Introduced):
            raise Junk("an answer to another question")
        return NodeId(frame.node), frame.papers, frame.addresses

    def _news(self, papers: Sequence[bytes]) -> tuple[bytes, ...]:
        news = self.roster.add_all(papers)
        if news:
            self._store.put_rows(_rows_of(news))
        return news

    def _own_papers(self) -> tuple[bytes, ...]:
        return fitting(self.roster.chain(self._keys.node_id))

    def _may_admit(self) -> bool:
        return self.roster.certifies(self._keys.signing_public)

    def _issuer(self, admins: bool) -> Signer:
        if admins:
            if self._root is None:
                raise Unavailable("only the machine where this mesh was made can make admins: run this there")
            return self._root
        if not self._may_admit():
            names = [
                item.name for item in self.roster.members().values() if Capability.ADMIN in item.capabilities
            ]
            raise Unavailable(
                f"only an admin can do this; run it on: {', '.join(sorted(names)) or 'nobody left'}"
            )
        return self._keys.signer

    def _refuse_unless_member(self) -> None:
        me = self._keys.node_id
        if self.roster.revoked(me):
            raise BadState(
                f"this node is revoked in the mesh {self.name!r}. To come back, begin a new node in another "
                "state folder with a new invite: openclaw --state-dir DIR node start --join TOKEN",
                kind="revoked",
            )
        if not self.roster.allows(me) and me not in self.roster.pending():
            raise BadState(
                f"the store is that of another node than the seed beside it, {me}. Bring back the seed that belongs "
                "to it, or begin a new node in another state folder: openclaw --state-dir DIR node start"
            )


def mesh_tag(mesh_id: MeshId) -> str:
    """How a mesh is told from others on the LAN. No secret."""
    return mesh_id[:TAG_CHARS]


def _rows_of(papers: Iterable[bytes]) -> dict[tuple[str, str], bytes | None]:
    return {(ROSTER, paper_hash(paper).hex()): paper for paper in papers}
