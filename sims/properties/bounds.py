"""Nothing grows without a limit: what runs, what waits, what one message carries, what happens at one instant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from openclaw.config import Settings
from openclaw.effects import Effect, Event, Run, Send, Tick
from openclaw.exec.room import Taken
from openclaw.messages import Assign, Demand, Digest, Grant, Offer, Outcomes, Report
from openclaw.notes import LoadChanged
from openclaw.records import ONE_SLOT
from sims.properties.base import Property
from sims.properties.membership import head_of
from sims.properties.views import clock

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start

EFFECTS_MAX = 20_000
ITEMS_MAX = 1024


class SlotsAreKept(Property):
    name = "slots"
    sentence = (
        "No node runs more than its slots, memory and GPUs, gives a GPU to two, or lets more wait than run-ahead and "
        "one message can bring."
    )

    def started(self, host: Host, start: Start) -> None:
        taken = Taken()
        for task in host.executor.running:
            submission = host.world.owner_host(task).disk.submission(task)
            taken.add(ONE_SLOT if submission is None else submission.needs.size)
        meta, gpus = host.meta, host.executor.gpus
        whole = taken.slots <= meta.slots and taken.memory_bytes <= meta.memory_bytes
        if (
            not whole
            or taken.gpus > len(gpus)
            or len(gpus) > len(set(gpus))
            or set(gpus) - {*range(meta.gpus)}
        ):
            self.fail(f"{host.name} has {meta.size}, and runs {taken.size} on GPUs {gpus} with {start.task}")

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        settings = host.world.settings
        for effect in effects:
            if isinstance(effect, LoadChanged):
                waits_max = host.meta.slots * (1 + settings.ahead_per_slot_max) + settings.assign_tasks_max
                if effect.queued > waits_max or effect.running < 0:
                    self.fail(f"{host.name} holds {effect}")
        if len(effects) > EFFECTS_MAX:
            self.fail(f"{host.name} makes {len(effects)} effects of one event")


class OnceWaitsForItsRoom(Property):
    name = "once waits for its room"
    sentence = (
        "What must not run twice is given to the executor only when there is room for it, not to wait there."
    )
    says = (Run,)

    def performed(self, host: Host, effect: Effect) -> None:
        if not isinstance(effect, Run):
            return
        sizes = {}
        for task in {effect.task, *host.executor.given}:
            submission = host.world.owner_host(task).disk.submission(task)
            sizes[task] = ONE_SLOT if submission is None else submission.needs.size
            if task == effect.task and (submission is None or not submission.exclusive):
                return
        if sum(size.slots for size in sizes.values()) > host.meta.slots:
            self.fail(
                f"{host.name} has {host.meta.slots} slots, and gives {effect.task} to its executor beside {sizes}"
            )


class NobodySpins(Property):
    name = "no spinning"
    sentence = (
        "A node is woken by its own deadlines a bounded number of times a second: what is due gets done."
    )
    hears = (Tick,)
    says = ()

    WINDOW_S = 0.1
    TICKS_MAX = 400

    def __init__(self) -> None:
        self._since: dict[Host, float] = {}
        self._ticks: Counter[Host] = Counter()

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if not isinstance(event, Tick):
            return
        self._ticks[host] += 1
        if self._ticks[host] <= self.TICKS_MAX:
            return
        now = clock(host)
        if now - self._since.get(host, float("-inf")) < self.WINDOW_S:
            self.fail(
                f"{host.name} is woken {self.TICKS_MAX} times in {self.WINDOW_S} s, and makes {effects}"
            )
        self._since[host] = now
        self._ticks[host] = 0


class MessagesAreBounded(Property):
    name = "bounded messages"
    sentence = (
        "No message carries more than its limit, so that nothing which was said is refused for its size."
    )

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, Send):
            for what, size, limit in _sizes(effect.message, host.world.settings):
                if size > limit:
                    self.fail(f"{host.name} sends {size} {what} in one {type(effect.message).__name__}")


def _sizes(message: object, settings: Settings) -> Iterator[tuple[str, int, int]]:
    head = head_of(message)
    if head is not None:
        yield "rumours", len(head.rumours), settings.rumours_per_message_max + 2
        yield "beats", len(head.beats), 1 + settings.beats_relayed_max
        return
    match message:
        case Digest(entries=entries):
            yield "entries", len(entries), settings.digest_entries_max
        case Assign(items=items):
            yield "tasks", len(items), settings.assign_tasks_max
            yield "bytes", sum(len(item.payload) for item in items[1:]), settings.assign_bytes_max
        case Demand(rows=rows, unused=unused):
            yield "rows", max(len(rows), len(unused)), settings.demand_rows_max
        case Grant(rows=rows):
            yield "places", len(rows), settings.grants_per_message_max
        case Offer(demands=demands, outstanding=outstanding):
            yield "rows", max(sum(len(of.rows) for of in demands), len(outstanding)), settings.demand_rows_max
        case Outcomes(items=items):
            yield "outcomes", len(items), settings.outcomes_per_message_max
        case Report(taken=taken):
            yield "grants", len(taken), 4 * ITEMS_MAX
        case _:
            return
