"""What the services of one running node share: its parts, by name, and nothing that decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openclaw.config import Settings
from openclaw.effects import Event
from openclaw.errors import Unavailable
from openclaw.files import Files
from openclaw.ids import NodeId, short
from openclaw.messages import AnyMessage
from openclaw.node import Node
from openclaw.runtime.feed import Feed, Moves
from openclaw.runtime.options import StartOptions
from openclaw.store import Store
from openclaw.trust.keys import NodeKeys
from openclaw.trust.mesh import Mesh

if TYPE_CHECKING:
    from openclaw.executor.link import ExecutorLink
    from openclaw.runtime.queries import Queries
    from openclaw.runtime.skills import Skills
    from openclaw.transport.bulk import Bulk
    from openclaw.transport.mesh import MeshTransport


@dataclass(slots=True)
class Context:
    """Filled in start-up order by `runtime.app`; a part is used only after it was started."""

    options: StartOptions
    settings: Settings
    state_dir: Path
    keys: NodeKeys
    boot: str
    store: Store
    files: Files
    mesh: Mesh
    node: Node
    now: Callable[[], float]
    wall_offset_s: float
    post: Callable[[Event], None] = field(init=False)
    send: Callable[[NodeId, AnyMessage], bool] = field(init=False)
    transport: MeshTransport = field(init=False)
    bulk: Bulk = field(init=False)
    link: ExecutorLink = field(init=False)
    queries: Queries = field(init=False)
    skills: Skills = field(init=False)
    feed: Feed = field(default_factory=Feed)
    moves: Moves = field(default_factory=Moves)
    warnings: list[str] = field(default_factory=list)
    incompatible: set[NodeId] = field(default_factory=set)  # members that speak another version

    @property
    def me(self) -> NodeId:
        return self.keys.node_id

    def disk_low(self, more_bytes: int = 0) -> int:
        """The bytes that the disk has left, when it could not take `more_bytes` and keep its reserve; else 0."""
        free = self.store.free_bytes()
        return max(1, free) if free - more_bytes < self.options.limits.disk_free_bytes else 0

    def wall(self) -> float:
        """UTC seconds, for people."""
        return self.now() + self.wall_offset_s

    def name_of(self, node: NodeId) -> str:
        """The label that people gave the node, or the beginning of its id."""
        member = self.mesh.roster.members().get(node)
        return member.name if member is not None and member.name else short(node)

    def node_named(self, name: str) -> NodeId:
        """The one member of that name or id, or whose id begins with it; raises Unavailable."""
        members = self.mesh.roster.members()
        found = [node for node, member in sorted(members.items()) if name in (member.name, node)]
        found = found or [node for node in sorted(members) if len(name) >= 4 and node.startswith(name)]
        match found:
            case [node]:
                return node
            case []:
                names = ", ".join(sorted({member.name for member in members.values()}))
                raise Unavailable(f"no node is called {name!r}; there are: {names}", kind="no_such_node")
            case _:
                raise Unavailable(
                    f"{len(found)} nodes are called {name!r}; use an id: {' and '.join(found)}",
                    kind="ambiguous",
                )
