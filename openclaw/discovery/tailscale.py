"""Tailscale by its command-line tool: which machines of the same person are online, and who of them answers.

`tailscale status --json` is "subject to change" and full of nulls, so it is read field by field and whatever
is not what we expect is passed over. It exits with 0 even when logged out. Each peer's intro port is then
tried with a bare TCP connection, ever less often.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from openclaw.config import (
    INTRO_OFFSET,
    PEERS_MAX,
    PORT,
    PROBE_AGAIN_S_MAX,
    PROBE_AGAIN_S_MIN,
    PROBE_TIMEOUT_S,
    PROBES_MAX,
    TAILSCALE_BYTES_MAX,
    TAILSCALE_EVERY_S,
    TAILSCALE_TIMEOUT_S,
)
from openclaw.discovery.interfaces import TAILNET
from openclaw.discovery.source import Found, OnFound, SourceError

MAC_TOOL = "/Applications/Tailscale.app/Contents/MacOS/Tailscale"
READ_BYTES = 1 << 16
END_S = 1.0
WHY_NOT = {
    "NeedsLogin": "logged out; run `tailscale up`",
    "NeedsMachineAuth": "this machine waits for approval in the admin console of Tailscale",
    "Stopped": "stopped; run `tailscale up`",
    "NoState": "its daemon has not started yet",
    "Starting": "still starting",
}


@dataclass(frozen=True, slots=True)
class Peer:
    address: str
    name: str


@dataclass(frozen=True, slots=True)
class Tailnet:
    address: str
    peers: tuple[Peer, ...]


def read_status(data: bytes, tags: frozenset[str] = frozenset()) -> Tailnet:
    """What the tool printed. Raises `SourceError` with the reason where there is no tailnet to use.

    A peer counts when it is online, its key has not expired, it was not shared in from outside, and it
    belongs to the same person or carries one of `tags`.
    """
    try:
        document: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceError("`tailscale status --json` printed something that is not JSON") from None
    top = _mapping(document)
    state = _text(top.get("BackendState"))
    if state != "Running":
        raise SourceError(WHY_NOT.get(state, f"its state is {state[:40]!r}"))
    me = _mapping(top.get("Self"))
    peers = _mapping(top.get("Peer")).values()
    chosen = (peer for peer in map(_mapping, peers) if _is_ours(peer, me, tags))
    return Tailnet(_address(me), tuple(_named(chosen)))


def _named(peers: Iterator[Mapping[object, object]]) -> Iterator[Peer]:
    for _, peer in zip(range(PEERS_MAX), peers, strict=False):
        address = _address(peer)
        if address:
            yield Peer(address, _text(peer.get("HostName"))[:64])


def _is_ours(peer: Mapping[object, object], me: Mapping[object, object], tags: frozenset[str]) -> bool:
    if peer.get("Online") is not True or peer.get("Expired") is True or peer.get("ShareeNode") is True:
        return False
    mine, theirs = _tags(me), _tags(peer)
    # Tagged machines belong to nobody: all of a tailnet's share one user id.
    same_person = not mine and not theirs and peer.get("UserID") == me.get("UserID") is not None
    return same_person or bool(theirs & tags)


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _tags(peer: Mapping[object, object]) -> frozenset[str]:
    listed = peer.get("Tags")
    return (
        frozenset(tag for tag in listed if isinstance(tag, str)) if isinstance(listed, list) else frozenset()
    )


def _address(peer: Mapping[object, object]) -> str:
    listed = peer.get("TailscaleIPs")
    for text in listed if isinstance(listed, list) else []:
        try:
            if isinstance(text, str) and ipaddress.IPv4Address(text) in TAILNET:
                return text
        except ValueError:
            continue
    return ""


def find_tool() -> str:
    """The tool's path. Raises `SourceError` where it is not installed."""
    tool = shutil.which("tailscale") or shutil.which(MAC_TOOL)
    if tool is None:
        raise SourceError("not installed")
    return tool


async def ask_tool(timeout_s: float = TAILSCALE_TIMEOUT_S) -> bytes:
    """The raw status. A tool that hangs, floods or fails ends in `SourceError`, and is not left running."""
    process = await asyncio.create_subprocess_exec(
        find_tool(),
        "status",
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            data = await _read_bounded(process)
            code = await process.wait()
    except TimeoutError:
        raise SourceError(f"`tailscale status` gave no answer in {timeout_s:g} s") from None
    finally:
        await _end(process)
    if code != 0:
        raise SourceError(f"`tailscale status` failed with exit code {code}; is its daemon running?")
    return data


async def _read_bounded(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    data = bytearray()
    while chunk := await process.stdout.read(READ_BYTES):
        data += chunk
        if len(data) > TAILSCALE_BYTES_MAX:
            raise SourceError(f"`tailscale status` printed over {TAILSCALE_BYTES_MAX >> 20} MB")
    return bytes(data)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it is left, not even what it started itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    assert process.stdout is not None
    try:
        async with asyncio.timeout(END_S):
            # asyncio counts a process as ended only once its pipe has been read to the end.
            while await process.stdout.read(READ_BYTES):
                continue
            await process.wait()
    except TimeoutError:
        pass


async def answers(address: str, port: int) -> bool:
    """Whether anything accepts a TCP connection there."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


class Tailscale:
    """Reports the peers on our tailnet whose intro port answers; `intro_port` is ours, and often theirs."""

    name = "tailscale"

    def __init__(self, intro_port: int, tags: frozenset[str], on_found: OnFound) -> None:
        self._ports = sorted({intro_port, PORT + INTRO_OFFSET})
        self._tags = tags
        self._on_found = on_found
        self._again: dict[
            str, tuple[float, float]
        ] = {}  # address -> (when to try again, the wait after that)
        self.address = ""

    async def round(self, addresses: list[str], fresh: bool) -> float:  # noqa: ARG002
        self.address = ""
        tailnet = read_status(await ask_tool(), self._tags)
        self.address = tailnet.address
        if fresh:
            self._again.clear()
        now = asyncio.get_running_loop().time()
        known = {peer.address for peer in tailnet.peers}
        self._again = {address: again for address, again in self._again.items() if address in known}
        due = [peer for peer in tailnet.peers if self._again.get(peer.address, (now, 0.0))[0] <= now]
        gate = asyncio.Semaphore(PROBES_MAX)
        await asyncio.gather(*(self._probe(peer, gate) for peer in due))
        return TAILSCALE_EVERY_S

    async def _probe(self, peer: Peer, gate: asyncio.Semaphore) -> None:
        async with gate:
            for port in self._ports:
                if await answers(peer.address, port):
                    mesh = f"{peer.address}:{port - INTRO_OFFSET}"
                    self._on_found(Found((mesh,), port, self.name, name=peer.name))
        wait_s = self._again.get(peer.address, (0.0, PROBE_AGAIN_S_MIN))[1]
        now = asyncio.get_running_loop().time()
        self._again[peer.address] = (now + wait_s, min(2 * wait_s, PROBE_AGAIN_S_MAX))

    async def close(self) -> None:
        pass
