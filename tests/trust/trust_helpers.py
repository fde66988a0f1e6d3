"""A small mesh to play with: rows in memory, keys by number."""

from __future__ import annotations

from collections.abc import Mapping

from openclaw.trust.certificates import Certificate, Request, mesh_id_of, seal
from openclaw.trust.keys import NodeKeys, Signer, raw_curve_key

NOW = 1_000_000.0
DAY = 86_400.0
ROOT = Signer.from_seed(b"r" * 32)
MESH_ID = mesh_id_of(ROOT.public)
WORK = ("shell", "skill")
ADMIN = ("admin", "shell", "skill")


class MemoryRows:
    """Rows as the store keeps them, without a disk."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], bytes] = {}

    def rows(self, table: str) -> dict[str, bytes]:
        return {key: value for (place, key), value in self.all.items() if place == table}

    def put_rows(self, rows: Mapping[tuple[str, str], bytes | None]) -> None:
        for place, value in rows.items():
            if value is None:
                self.all.pop(place, None)
            else:
                self.all[place] = value

    def count(self, table: str) -> int:
        return len(self.rows(table))


def keys(number: int) -> NodeKeys:
    return NodeKeys.from_seed(number.to_bytes(32, "big"))


def request(node: NodeKeys, invite: str = "", name: str = "node") -> bytes:
    curve = raw_curve_key(node.curve_public)
    return seal(node.signer, Request(MESH_ID, node.signing_public, curve, name, invite))


def certificate(
    node: NodeKeys,
    issuer: Signer = ROOT,
    capabilities: tuple[str, ...] = WORK,
    *,
    invite: str = "",
    uses: int = 1,
    issued: float = NOW,
) -> bytes:
    return seal(issuer, Certificate(request(node, invite), capabilities, issued, issuer.public, uses))
