"""`openclaw cp` between two nodes' services: what is refused, what goes on after a break, what arrives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from openclaw.errors import MeshError
from openclaw.ids import NodeId
from openclaw.records import Member
from openclaw.runtime.context import Context
from openclaw.runtime.copies import Copies
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.sources import Sources
from openclaw.transport.bulk import PullError, Why
from openclaw.transport.frames import Ref

NAMES = {"laptop": NodeId("a" * 16), "nas": NodeId("b" * 16)}
DATA = random.Random(3).randbytes(3 << 20)
CHUNK_BYTES = 256 << 10


class Peer:
    """One node's copies over real files; the other one is a call away."""

    def __init__(self, name: str, folder: Path, world: dict[NodeId, Peer]) -> None:
        self.me, self.world, self.policy = NAMES[name], world, "commands"
        self.answerers: dict[str, Callable[[NodeId, dict[str, object]], Awaitable[dict[str, object]]]] = {}
        self.capabilities = frozenset({"shell"})
        self.refs: list[Ref] = []
        self.breaks_after: int | None = None
        folder.mkdir()
        queries = SimpleNamespace(answerers=self.answerers, ask=self._ask)
        roster = SimpleNamespace(
            members=lambda: {peer.me: Member(peer.me, "", peer.capabilities) for peer in world.values()}
        )
        self.context = cast(
            "Context",
            SimpleNamespace(
                me=self.me, state_dir=folder, queries=queries, bulk=self, options=self, disk_low=lambda _size: 0,
                mesh=SimpleNamespace(roster=roster), now=lambda: 1.0, node_named=NAMES.__getitem__,
                name_of=lambda node: next(name for name, known in NAMES.items() if known == node),
            ),
        )  # fmt: skip
        self.sources = Sources(self.context)
        self.copies = Copies(self.context, self.sources, Pulls(self.context, self.sources))
        self.progress: list[int] = []
        world[self.me] = self

    async def _ask(self, node: NodeId, op: str, args: dict[str, object], _timeout_s: float) -> object:
        return await self.world[node].answerers[op](self.me, args)

    async def pull(self, peer: NodeId, ref: Ref, sink: Callable[[bytes], Awaitable[None]]) -> int:
        self.refs.append(ref)
        source = self.world[peer].sources.serve(self.me, ref)
        if source is None:
            raise PullError(Why.REFUSED, "not offered", 0)
        at = ref.offset
        try:
            while (data := await source.read(at, CHUNK_BYTES)) is not None:
                await sink(data)
                at += len(data)
                if self.breaks_after is not None and at >= self.breaks_after and ref.kind == "offer":
                    raise PullError(Why.REFUSED, "the source's node was restarted", at - ref.offset)
        finally:
            source.close()
        return at - ref.offset

    async def copy(self, node: str, near: Path, far: str, *, back: bool = False) -> dict[str, object]:
        async def emit(frame: dict[str, object]) -> None:
            self.progress.append(cast("int", frame["received"]))

        request = {"node": node, "near": str(near), "far": far, "back": back}
        async with asyncio.timeout(30):
            return await self.copies.table()["copy"](request, emit)


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    world: dict[NodeId, Peer] = {}
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Peer("nas", tmp_path / "nas", world)
    return Peer("laptop", tmp_path / "laptop", world)


def nas_of(laptop: Peer) -> Peer:
    return laptop.world[NAMES["nas"]]


@pytest.mark.parametrize("far", ["film", "~/film", "", "~", "films/", "/there"])
async def test_a_file_goes_to_the_home_of_the_other_node_or_where_it_is_told(
    laptop: Peer, tmp_path: Path, far: str
) -> None:
    source, home = tmp_path / "film", tmp_path / "home"
    source.write_bytes(DATA)
    source.chmod(0o775)
    (home / "films").mkdir()
    wanted = {"films/": home / "films/film", "/there": tmp_path / "there"}.get(far, home / "film")
    answer = await laptop.copy("nas", source, str(tmp_path / "there") if far == "/there" else far)
    assert answer == {"path": str(wanted), "size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}
    assert wanted.read_bytes() == DATA
    assert wanted.stat().st_mode & 0o777 == 0o755
    assert os.listdir(wanted.parent).count(".film") == 0
    assert not nas_of(laptop).sources.offers
    assert not laptop.sources.offers


async def test_what_is_done_is_said_again_and_not_done_again(laptop: Peer, tmp_path: Path) -> None:
    """The answer may be lost on its way."""
    source, nas = tmp_path / "film", nas_of(laptop)
    source.write_bytes(DATA)
    asked: list[dict[str, object]] = []
    answer = nas.answerers["copy_take"]

    async def remember(peer: NodeId, args: dict[str, object]) -> dict[str, object]:
        asked.append(args)
        return await answer(peer, args)

    nas.answerers["copy_take"] = remember
    copied = await laptop.copy("nas", source, "film")
    pulls = len(nas.refs)
    assert (await answer(laptop.me, asked[0]))["sha256"] == copied["sha256"]
    assert len(nas.refs) == pulls


async def test_many_small_files_one_after_the_other_are_not_too_many(
    laptop: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openclaw.runtime.copies.COPIES_MAX", 2)
    (tmp_path / "small").write_bytes(b"x")
    for number in range(4):
        await laptop.copy("nas", tmp_path / "small", f"copy{number}")
    assert len(os.listdir(tmp_path / "home")) == 4


async def test_a_file_comes_back(laptop: Peer, tmp_path: Path) -> None:
    (tmp_path / "home" / "film").write_bytes(DATA)
    answer = await laptop.copy("nas", tmp_path, "film", back=True)
    assert answer["path"] == str(tmp_path / "film")
    assert (tmp_path / "film").read_bytes() == DATA


async def test_a_copy_that_broke_off_goes_on_where_it_stopped(laptop: Peer, tmp_path: Path) -> None:
    source, nas = tmp_path / "film", nas_of(laptop)
    source.write_bytes(DATA)
    nas.breaks_after = 1 << 20
    with pytest.raises(MeshError, match="goes on where it stopped"):
        await laptop.copy("nas", source, "film")
    (left,) = (tmp_path / "home").iterdir()
    reached = left.stat().st_size
    assert reached >= 1 << 20
    nas.breaks_after = None
    nas.refs.clear()
    await laptop.copy("nas", source, "film")
    assert nas.refs[0].offset == reached
    assert [each.name for each in (tmp_path / "home").iterdir()] == ["film"]
    assert (tmp_path / "home/film").read_bytes() == DATA


async def test_a_source_that_changed_meanwhile_is_found_out(laptop: Peer, tmp_path: Path) -> None:
    source, nas = tmp_path / "film", nas_of(laptop)
    source.write_bytes(DATA)
    nas.breaks_after = 1 << 20
    with pytest.raises(MeshError):
        await laptop.copy("nas", source, "film")
    times = source.stat()
    source.write_bytes(b"other" + DATA[5:])
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))  # unnoticed, but for the hash
    nas.breaks_after = None
    with pytest.raises(MeshError, match="changed while"):
        await laptop.copy("nas", source, "film")
    assert os.listdir(tmp_path / "home") == []


async def test_what_a_node_would_not_run_a_command_for_it_does_not_copy(laptop: Peer, tmp_path: Path) -> None:
    (tmp_path / "home" / "film").write_bytes(DATA)
    nas = nas_of(laptop)
    nas.policy = "skills"
    with pytest.raises(MeshError, match="nas: its policy is 'skills'"):
        await laptop.copy("nas", tmp_path / "here", "film", back=True)
    nas.policy = "commands"
    laptop.capabilities = frozenset({"skill"})
    with pytest.raises(MeshError, match="laptop lacks the capability 'shell'"):
        await laptop.copy("nas", tmp_path / "here", "film", back=True)
    with pytest.raises(MeshError, match="lacks the capability"):
        await laptop.copy("nas", tmp_path / "home/film", "copied")
    assert not laptop.refs
    assert not nas.refs


@pytest.mark.parametrize(
    ("near", "far", "says"),
    [
        ("home", "x", "laptop: .* is no plain file"),
        ("none", "x", "cannot read"),
        ("film", "no/such/x", "nas: .*no/such"),
    ],
)
async def test_what_cannot_be_copied_says_why(
    laptop: Peer, tmp_path: Path, near: str, far: str, says: str
) -> None:
    (tmp_path / "film").write_bytes(DATA)
    with pytest.raises(MeshError, match=says):
        await laptop.copy("nas", tmp_path / near, far)


async def test_what_is_offered_to_one_node_no_other_gets(laptop: Peer, tmp_path: Path) -> None:
    (tmp_path / "home" / "film").write_bytes(DATA)
    nas = nas_of(laptop)
    offer = await nas.answerers["copy_offer"](laptop.me, {"path": "film"})
    ref = Ref("offer", cast("dict[str, str]", offer["offer"])["id"])
    assert nas.sources.serve(NodeId("c" * 16), ref) is None
    assert nas.sources.serve(laptop.me, ref) is not None


@pytest.mark.parametrize(
    "change", [{"key": "../../../x.."}, {"name": "../x"}, {"id": "x"}, {"size": -1}, {"name": ""}]
)
async def test_an_offer_that_leads_elsewhere_is_not_taken(laptop: Peer, change: dict[str, object]) -> None:
    offer = {"id": "0" * 16, "name": "x", "size": 1, "mode": 0o600, "key": "0" * 12} | change
    with pytest.raises(ValueError, match="Expected"):
        await laptop.answerers["copy_take"](NAMES["nas"], {"offer": offer, "path": "x"})
