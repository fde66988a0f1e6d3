"""The world: one heap of things to come, keyed by time and order, and the machines, links and chance in it.

Use it from a test as well: `World(seed)`, `add_host`, `submit`, `run(until)`; then look at anything.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from openclaw.config import Settings
from openclaw.effects import Submitted
from openclaw.ids import BASE32, NODE_ID_CHARS, NodeId, TaskId, mint_task_id, owner_of
from openclaw.records import Batch, Member, Meta, Needs, Payload, Submission
from sims.host import Host
from sims.network import Network, Weather
from sims.processes import Start
from sims.properties import Property, Violated
from sims.trace import Trace

WALL_S = 1.8e9
INSTANT_EVENTS_MAX = 100_000
CAPABILITIES = frozenset({"observe", "skill", "shell"})


class World:
    """`now` is its own time in seconds; every host has a clock with an offset of its own."""

    def __init__(
        self,
        seed: int,
        settings: Settings | None = None,
        weather: Weather | None = None,
        properties: Sequence[Property] = (),
    ) -> None:
        self.seed = seed
        self.settings = settings or Settings()
        self.now = 0.0
        self.trace = Trace()
        self.properties = tuple(properties)
        self.hosts: dict[NodeId, Host] = {}
        self.starts: list[Start] = []
        self.network = Network(self, weather or Weather())
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._at_instant = 0
        self._submitted = 0

    @property
    def wall(self) -> float:
        return WALL_S + self.now

    def rng(self, stream: str) -> random.Random:
        """A stream of its own for every purpose: one more draw here changes nothing there."""
        return random.Random(f"{self.seed}:{stream}")

    # --- who is in it ----------------------------------------------------------------------------

    def add_host(self, name: str, meta: Meta | None = None) -> Host:
        """A machine that is in the roster and off; all must be added before the first starts."""
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        node = NodeId("".join(BASE32[byte % 32] for byte in digest[:NODE_ID_CHARS]))
        meta = meta or Meta(slots=2)
        address = f"10.0.0.{len(self.hosts) + 1}:27460"
        host = Host(self, name, node, msgspec.structs.replace(meta, name=name, addresses=(address,)))
        self.hosts[node] = host
        return host

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts.values() if host.name == name)

    def owner_host(self, task: TaskId) -> Host:
        return self.hosts[owner_of(task)]

    def roster(self) -> Mapping[NodeId, Member]:
        return {node: Member(node, host.name, CAPABILITIES) for node, host in self.hosts.items()}

    @property
    def roster_digest(self) -> bytes:
        return hashlib.sha256("".join(self.hosts).encode()).digest()[:8]

    def submit(
        self,
        host: Host,
        runs_s: Sequence[float],
        *,
        code: int = 0,
        output_bytes: int = 1,
        once: bool = False,
        retries: int = 0,
    ) -> list[TaskId]:
        """Tasks that run for `runs_s` each, submitted at `host`; none when it is not running."""
        if not host.running:
            return []
        batch = Batch(b"", b"")
        tasks = []
        for leaf, runs in enumerate(runs_s):
            self._submitted += 1
            task = mint_task_id(host.id, f"{host.starts:06d}", self._submitted)
            payload = Payload(argv=(repr(runs), str(code), str(output_bytes)))
            tasks.append(
                Submission(
                    task,
                    Needs(),
                    msgspec.msgpack.encode(payload),
                    batch,
                    leaf,
                    self.wall,
                    once=once,
                    retries=retries,
                )
            )
        host.post(Submitted(tuple(tasks)))
        return [submission.task for submission in tasks]

    def witness(self, start: Start, host: Host) -> None:
        """A process has really started."""
        self.starts.append(start)
        self.trace.mark(self.now, host.name, f"runs {start.task} {start.token}")
        for prop in self.properties:
            prop.started(host, start)

    # --- time ------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (max(when, self.now), self._sequence, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay_s, action)

    def run(self, until: float) -> None:
        """Let everything happen that comes before `until`."""
        while self._heap and self._heap[0][0] < until:
            when, _, action = heapq.heappop(self._heap)
            self._at_instant = self._at_instant + 1 if when == self.now else 0
            if self._at_instant > INSTANT_EVENTS_MAX:
                raise Violated("bounded instant", f"more than {INSTANT_EVENTS_MAX} events at {when}")
            self.now = when
            self.trace.counts["steps"] += 1
            action()
        self.now = until
