"""Bulk bytes between two nodes, beside a bare CURVE socket pair that moves the same chunks in the same run.

Two processes each: one sends a file (or the same bytes from memory, for the bare pair), this one counts. Rounds
alternate, so that whatever else the machine does hits both. Prints the median and the spread of each, and the
ratio of every pair of rounds.

    python benchmarks/bulk.py [--mib 256] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import zmq

from openclaw.config import BULK_CHUNK_BYTES, BULK_CREDIT_CHUNKS
from openclaw.ids import NodeId
from openclaw.transport.bulk import Bulk
from openclaw.transport.frames import Ref
from openclaw.transport.serving import FileSource
from openclaw.transport.zap import Zap
from openclaw.wire import Counters

SENDER, RECEIVER = NodeId("sender"), NodeId("receiver")
LOOPBACK = ["127.0.0.1"]


@dataclass(frozen=True)
class Keys:
    curve_public: bytes
    curve_secret: bytes


@dataclass(frozen=True)
class Pair:
    """A roster of two."""

    keys: dict[NodeId, bytes]

    def curve_key(self, node: NodeId, /) -> bytes | None:
        return self.keys.get(node)

    def by_curve_key(self, key: bytes, /) -> NodeId | None:
        return next((node for node, known in self.keys.items() if known == key), None)

    def status_of_key(self, key: bytes, /) -> str:
        return "unknown" if self.by_curve_key(key) is None else "member"

    def allows(self, node: NodeId, /) -> bool:
        return node in self.keys


def bulk_of(me: NodeId, keys: Keys, roster: Pair, path: Path, port: int) -> tuple[Bulk, Zap]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    counters = Counters()
    zap = Zap(context, roster, counters)
    bulk = Bulk(
        context, keys, me, roster, LOOPBACK, 0, lambda _peer, _ref: FileSource(path),
        lambda _peer: [f"127.0.0.1:{port}"], lambda _peer: None, counters=counters, log=lambda _line: None,
    )  # fmt: skip
    return bulk, zap


async def send_bulk(keys: Keys, roster: Pair, path: Path) -> None:
    bulk, _zap = bulk_of(SENDER, keys, roster, path, 0)
    await bulk.start()
    print(bulk.port, flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def receive_bulk(keys: Keys, roster: Pair, path: Path, port: int, size: int) -> float:
    bulk, zap = bulk_of(RECEIVER, keys, roster, path, port)
    await bulk.start()
    await bulk.pull(SENDER, Ref("file", "x", size - 1), lambda _data: None)
    begun = time.perf_counter()
    assert await bulk.pull(SENDER, Ref("file", "x"), lambda _data: None) == size
    took = time.perf_counter() - begun
    await bulk.close()
    zap.close()
    return size / took


def send_bare(keys: Keys, size: int) -> None:
    socket = zmq.Context().socket(zmq.PUSH)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.curve_secret)
    socket.setsockopt(zmq.SNDHWM, BULK_CREDIT_CHUNKS)
    socket.bind("tcp://127.0.0.1:*")
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2], flush=True)
    chunk = bytes(BULK_CHUNK_BYTES)
    socket.send(b"")
    for _ in range(size // BULK_CHUNK_BYTES):
        socket.send(chunk)
    sys.stdin.readline()


def receive_bare(keys: Keys, roster: Pair, port: int, size: int) -> float:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.setsockopt(zmq.CURVE_SERVERKEY, roster.keys[SENDER])
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.curve_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.curve_secret)
        socket.setsockopt(zmq.RCVHWM, BULK_CREDIT_CHUNKS)
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.recv()
        begun = time.perf_counter()
        received = 0
        while received < size:
            received += len(socket.recv())
        return size / (time.perf_counter() - begun)


def one_round(what: str, path: Path, size: int) -> float:
    """Bytes per second, with a fresh sender process and fresh keys."""
    sender, receiver = Keys(*zmq.curve_keypair()), Keys(*zmq.curve_keypair())
    roster = Pair({SENDER: sender.curve_public, RECEIVER: receiver.curve_public})
    words = [sender.curve_public, sender.curve_secret, receiver.curve_public]
    with subprocess.Popen(
        [sys.executable, __file__, "--send", what, "--path", str(path), "--mib", str(size >> 20)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(" ".join(word.decode() for word in words) + "\n")
        child.stdin.flush()
        port = int(child.stdout.readline())
        if what == "bulk":
            rate = asyncio.run(receive_bulk(receiver, roster, path, port, size))
        else:
            rate = receive_bare(receiver, roster, port, size)
        child.communicate("done\n")
    return rate


def send(what: str, path: Path, size: int) -> None:
    public, secret, peer = (word.encode() for word in sys.stdin.readline().split())
    keys = Keys(public, secret)
    if what == "bulk":
        asyncio.run(send_bulk(keys, Pair({SENDER: public, RECEIVER: peer}), path))
    else:
        send_bare(keys, size)


def line(what: str, values: list[float], unit: str) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{what:28} {middle:8.2f} ({low:.2f}-{high:.2f}) {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--send", choices=["bulk", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.mib << 20
    if options.send is not None:
        send(options.send, options.path, size)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(size))
        file.flush()
        rates = [
            (one_round("bulk", Path(file.name), size) / 1e6, one_round("bare", Path(file.name), size) / 1e6)
            for _ in range(options.rounds)
        ]
    print(line("bulk, file to counter", [bulk for bulk, _ in rates], "MB/s"))
    print(line("bare CURVE pair", [bare for _, bare in rates], "MB/s"))
    print(line("ratio", [bulk / bare for bulk, bare in rates], ""))


if __name__ == "__main__":
    main()
