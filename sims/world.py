"""The world: one heap of things to come, keyed by time and order, and the machines, links and chance in it.

Use it from a test as well: `World(seed)`, `add_host`, `submit`, `run(until)`; then look at anything.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from openclaw.config import Settings
from openclaw.effects import Submitted
from openclaw.ids import BASE32, NODE_ID_CHARS, NodeId, TaskId, mint_task_id, owner_of
from openclaw.records import Batch, Member, Meta, Needs, Payload, Progress, Submission
from sims.hooks import Hooks
from sims.host import Host
from sims.network import Network, Weather
from sims.processes import Start
from sims.properties import Property, Violated
from sims.shared import Shared
from sims.trace import Trace

WALL_S = 1.8e9
INSTANT_EVENTS_MAX = 100_000
CAPABILITIES = frozenset({"observe", "skill", "shell"})


class World:
    """`now` is its own time in seconds; every host has a clock with an offset of its own.

    Its hosts are machines of their own, unless they have `shared` one.
    """

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
        self.hooks = Hooks(self.properties)
        self.hosts: dict[NodeId, Host] = {}
        self.clones: dict[NodeId, list[Host]] = {}
        self.calmed = False
        self.starts: list[Start] = []
        self.network = Network(self, weather or Weather())
        self.shared: Shared | None = None
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._at_instant = 0
        self._look_at = 0.0
        self._submitted = 0
        self._lasting: dict[int, Callable[[], None]] = {}
        self._roster: dict[NodeId, Member] = {}
        self._roster_digest = b""

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

    def clone(self, host: Host) -> Host:
        """Another machine that runs on a copy of all that the host has, its key with it."""
        copies = self.clones.setdefault(host.id, [])
        name = host.name + "'" * (len(copies) + 1)
        address = f"10.1.0.{sum(map(len, self.clones.values())) + 1}:27460"
        meta = msgspec.structs.replace(host.meta, addresses=(address,))
        clone = Host(self, name, host.id, meta, host.disk.copy())
        clone.executor = host.executor.copy(clone)
        copies.append(clone)
        clone.start()
        return clone

    def host(self, name: str) -> Host:
        return next(host for host in self.machines() if host.name == name)

    def named(self, names: Sequence[str]) -> list[Host]:
        """The hosts of these names; all of them when there is none."""
        return [self.host(name) for name in names] if names else list(self.hosts.values())

    def machines(self) -> Iterator[Host]:
        """All hosts, and the copies of some."""
        yield from self.hosts.values()
        for copies in self.clones.values():
            yield from copies

    def bearers(self, node: NodeId) -> list[Host]:
        """Every machine with this key."""
        return [self.hosts[node], *self.clones.get(node, ())]

    def forked(self, node: NodeId) -> bool:
        """Whether its counters may stand for two pasts: it runs on a backup, or a copy of it runs somewhere."""
        return node in self.clones or self.hosts[node].put_back

    def peers(self, host: Host) -> list[NodeId]:
        return [node for node in sorted(self.hosts) if node != host.id]

    def owner_host(self, task: TaskId) -> Host:
        """The host that owns it: of several that think so, the one with the highest claim."""
        rows = [
            (row.claim, host) for host in self.hosts.values() if (row := host.disk.progress(task)) is not None
        ]
        return max(rows, key=lambda row: row[0])[1] if rows else self.hosts[owner_of(task)]

    def row(self, task: TaskId) -> Progress | None:
        """What is known of it on the disks: an end before anything else, then by the highest claim."""
        rows = [host.disk.progress(task) for host in self.hosts.values()]
        copies = [host.disk.copy_of(task) for host in self.hosts.values()]
        rows += [copy.progress for copy in copies if copy is not None]
        known = [row for row in rows if row is not None]
        return max(known, key=lambda row: (row.state.final, row.claim, row.moves), default=None)

    def roster(self) -> Mapping[NodeId, Member]:
        if len(self._roster) != len(self.hosts):
            self._roster = {node: Member(node, host.name, CAPABILITIES) for node, host in self.hosts.items()}
            self._roster_digest = hashlib.sha256("".join(self.hosts).encode()).digest()[:8]
        return self._roster

    @property
    def roster_digest(self) -> bytes:
        self.roster()
        return self._roster_digest

    def submit(
        self,
        host: Host,
        runs_s: Sequence[float],
        *,
        code: int = 0,
        output_bytes: int = 1,
        once: bool = False,
        no_overlap: bool = False,
        retries: int = 0,
        priority: int = 0,
        needs: Needs | None = None,
        job: str = "",
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
                    needs or Needs(),
                    msgspec.msgpack.encode(payload),
                    batch,
                    leaf,
                    host.wall,
                    once=once,
                    no_overlap=no_overlap,
                    retries=retries,
                    priority=priority,
                    job=job,
                )
            )
        host.post(Submitted(tuple(tasks)))
        return [submission.task for submission in tasks]

    def witness(self, start: Start, host: Host) -> None:
        """A process has really started."""
        self.starts.append(start)
        self.trace.mark(self.now, host.name, f"runs {start.task} {start.token}")
        for started in self.hooks.started:
            started(host, start)

    # --- time ------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (max(when, self.now), self._sequence, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay_s, action)

    def trouble(self, delay_s: float, action: Callable[[], None]) -> None:
        """Like `after`, but not once the world is calmed."""
        self.after(delay_s, lambda: None if self.calmed else action())

    def lasting(self, for_s: float, end: Callable[[], None]) -> None:
        """Call `end` after `for_s`, or when the world is calmed: once."""
        self._sequence += 1
        key = self._sequence
        self._lasting[key] = end
        self.after(for_s, lambda: self._lasting.pop(key, _nothing)())

    def calm(self) -> None:
        """Peace from now on: whatever is wrong ends, nothing new goes wrong, and everybody runs again soon."""
        self.calmed = True
        while self._lasting:
            self._lasting.pop(next(iter(self._lasting)))()
        for host in self.hosts.values():
            host.calm()

    def run(self, until: float) -> None:
        """Let everything happen that comes before `until`."""
        heap, pop = self._heap, heapq.heappop
        steps = 0
        try:
            while heap and heap[0][0] < until:
                when, _, action = pop(heap)
                if when == self.now:
                    self._at_instant += 1
                    if self._at_instant > INSTANT_EVENTS_MAX:
                        raise Violated("bounded instant", f"more than {INSTANT_EVENTS_MAX} events at {when}")
                else:
                    self._at_instant = 0
                    self.now = when
                steps += 1
                action()
                if when >= self._look_at:
                    self._look_at = self.hooks.stepped(self)
        finally:
            self.trace.counts["steps"] += steps
        self.now = until


def _nothing() -> None:
    """The end of something that has ended before."""
