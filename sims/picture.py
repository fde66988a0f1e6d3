"""From the rows of a trace to what `timeline.html` draws: plain lists, times in ticks of 10 µs, names as numbers.

`Picture` reads rows in the order of time. Nothing that happened is left out but messages beyond ARROWS_MAX, and of
those the picture says how many.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from openclaw import messages
from openclaw.trace import (
    AnyRow,
    CutRow,
    DownRow,
    EndRow,
    LeaderRow,
    MarkRow,
    MemberRow,
    MendRow,
    NamedRow,
    PauseRow,
    ReceiveRow,
    ResumeRow,
    SendRow,
    StartRow,
    TaskRow,
    TraceRow,
    UpRow,
    tail,
)

TICKS_PER_S = 100_000
ARROWS_MAX = 250_000
LOST = -1
GROUPS = {
    "membership": ("Ping", "Ack", "PingRequest", "Nack", "Gossip", "Digest", "MetaWant", "MetaHave"),
    "election": ("Elect", "ElectAnswer", "Coordinator", "Higher", "Offer", "OfferRefused"),
    "placing": ("Demand", "Grant", "Report", "Probe", "Room"),
    "tasks": (
        "Assign",
        "Returned",
        "Started",
        "Outcomes",
        "OutcomesStored",
        "Ask",
        "Have",
        "End",
        "Cancel",
        "Guard",
        "Guarded",
        "Unguarded",
        "Superseded",
        "Keeping",
        "Release",
        "Released",
        "Seek",
        "Found",
        "Known",
        "Adopt",
    ),
    "service": ("RosterSync", "Query", "Reply", "DialBulk"),
}
GROUP_OF = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
assert set(GROUP_OF) <= set(messages.__all__), "a group names a message that is no more"

Json = dict[str, object]


class Names:
    """Words as numbers, in the order in which they were first said."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}

    def __getitem__(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self.words)
            self.words.append(word)
        return number


class Spans:
    """What begins and ends on a lane: at most one at a time, whatever is open at the end ends there."""

    def __init__(self) -> None:
        self.done: list[list[object]] = []
        self._open: dict[object, list[object]] = {}

    def open(self, key: object, at: int, *what: object) -> None:
        self.close(key, at)
        self._open[key] = [key, at, None, *what]

    def close(self, key: object, at: int) -> None:
        if (span := self._open.pop(key, None)) is not None:
            span[2] = at
            self.done.append(span)

    def all(self, end: int) -> list[list[object]]:
        for key in list(self._open):
            self.close(key, end)
        return self.done


class Picture:
    """Feed it rows, then `data()`. A lane is a node, in the order in which nodes are first spoken of."""

    def __init__(self, rows: Iterable[AnyRow], title: str = "") -> None:
        self._title, self._source = title, "simulation"
        self._lanes, self._kinds, self._texts = Names(), Names(), Names()
        self._called: dict[str, str] = {}
        self._first: float | None = None
        self._last = 0
        self._arrows: list[list[int]] = []  # at, took, from, to, kind, text
        self._flying: dict[tuple[str, str, str], deque[list[int]]] = defaultdict(deque)
        self._down, self._paused, self._follows = Spans(), Spans(), Spans()
        self._cuts = Spans()
        self._bars: dict[tuple[str, str], list[object]] = {}
        self._done_bars: list[list[object]] = []
        self._moves: dict[str, list[list[object]]] = defaultdict(list)
        self._events: list[list[object]] = []
        self._writers: set[str] = set()
        self._unsent: list[tuple[int, ReceiveRow]] = []
        self._left_out = 0
        for row in rows:
            self._add(row)

    def _tick(self, at: float) -> int:
        if self._first is None:
            self._first = at
        self._last = max(self._last, tick := round((at - self._first) * TICKS_PER_S))
        return tick

    def _add(self, row: AnyRow) -> None:
        at = self._tick(row.at)
        self._writers.add(row.node)
        match row:
            case SendRow():
                self._send(at, row)
            case ReceiveRow():
                self._receive(at, row)
            case NamedRow(_, node, of, name):
                self._called[of] = name or self._called.get(of, of)
                if not node:  # a simulated world names its hosts before any of them starts
                    self._down.open(self._lanes[of], at, "not started yet")
            case TraceRow(_, node, _, source, title):
                self._source, self._title = source, self._title or title
                if node:
                    self._called[node] = title
            case StartRow() | EndRow() | TaskRow():
                self._task(at, row)
            case _:
                self._happens(at, row)

    # --- messages --------------------------------------------------------------------------------

    def _send(self, at: int, row: SendRow) -> None:
        if len(self._arrows) >= ARROWS_MAX:
            self._left_out += 1
            return
        ends = (self._lanes[row.node], self._lanes[row.to])
        arrow = [at, LOST, *ends, self._kinds[row.kind], self._texts[row.text]]
        self._arrows.append(arrow)
        self._flying[row.node, row.to, row.id].append(arrow)

    def _receive(self, at: int, row: ReceiveRow) -> None:
        flying = self._flying.get((row.sender, row.node, row.id))
        if not flying:
            self._unsent.append((at, row))
            return
        arrow = flying[0]
        if arrow[1] != LOST:  # the link delivers it once more
            self._arrows.append([arrow[0], max(0, at - arrow[0]), *arrow[2:]])
            return
        arrow[1] = max(0, at - arrow[0])
        if len(flying) > 1:
            flying.popleft()

    def _draw_unsent(self) -> None:
        """What came from a node that wrote no trace, at the instant when it came."""
        for at, row in self._unsent:
            if row.sender not in self._writers and len(self._arrows) < ARROWS_MAX:
                ends = (self._lanes[row.sender], self._lanes[row.node])
                self._arrows.append([at, 0, *ends, self._kinds[row.kind], self._texts[""]])

    # --- nodes -----------------------------------------------------------------------------------

    def _happens(self, at: int, row: AnyRow) -> None:
        node = row.node
        lane = self._lanes[node] if node else None
        match row:
            case UpRow():
                self._down.close(lane, at)
                self._event(at, lane, "up", "starts")
            case DownRow(how=how, machine=machine):
                self._goes_down(at, node, lane, how, machine)
            case PauseRow(how=how):
                self._paused.open(lane, at, how)
                self._event(at, lane, "pause", how)
            case ResumeRow():
                self._paused.close(lane, at)
                self._event(at, lane, "pause", "goes on")
            case LeaderRow():
                self._leader(at, lane, row)
            case MemberRow(of=of, status=status):
                if status != "alive":
                    self._event(at, lane, "member", f"calls {self._name(of)} {status}")
            case CutRow(to=to):
                self._cuts.open((lane, self._lanes[to]), at)
            case MendRow(to=to):
                self._cuts.close((lane, self._lanes[to]), at)
            case MarkRow(text=text):
                self._event(at, lane, "mark", text)
            case _:
                pass

    def _goes_down(self, at: int, node: str, lane: int | None, how: str, machine: bool) -> None:
        self._down.open(lane, at, how)
        self._paused.close(lane, at)
        self._follows.close(lane, at)
        self._event(at, lane, "down", how)
        if machine:
            for key in [key for key in self._bars if key[0] == node]:
                self._end_bar(key, at, "interrupted", how)

    def _leader(self, at: int, lane: int | None, row: LeaderRow) -> None:
        if not row.leader:
            self._follows.close(lane, at)
            self._event(at, lane, "leader", f"follows nobody{_because(row.why)}")
            return
        self._follows.open(lane, at, self._lanes[row.leader], row.term, row.why)
        if row.leader == row.node:
            self._event(at, lane, "crown", f"leads term {row.term}{_because(row.why)}")

    # --- tasks -----------------------------------------------------------------------------------

    def _task(self, at: int, row: StartRow | EndRow | TaskRow) -> None:
        lane = self._lanes[row.node]
        match row:
            case StartRow(task=task, token=token):
                attempt = int(token.rpartition(".")[2] or 0)
                self._bars[row.node, f"{task} {token}"] = [lane, at, None, task, attempt, "running", ""]
            case EndRow(task=task, token=token, code=code, by=by):
                state = _END_STATES.get(by, "interrupted") if by else "failed" if code else "succeeded"
                how = by if code < 0 else f"exit code {code}"
                self._end_bar((row.node, f"{task} {token}"), at, state, how)
            case TaskRow(task=task, state=state, worker=worker, why=why):
                self._moves[task].append([at, state, self._lanes[worker] if worker else None, why])
                if state in ("failed", "timed_out", "cancelled", "lost"):
                    self._event(at, lane, "task", f"{tail(task)} {state.replace('_', ' ')}{_because(why)}")

    def _end_bar(self, key: tuple[str, str], at: int, state: str, how: str) -> None:
        if (bar := self._bars.pop(key, None)) is not None:
            bar[2], bar[5], bar[6] = at, state, how
            self._done_bars.append(bar)

    # --- the whole -------------------------------------------------------------------------------

    def _event(self, at: int, lane: int | None, kind: str, text: str) -> None:
        self._events.append([at, lane, kind, text])

    def _name(self, node: str) -> str:
        return self._called.get(node, node)

    def data(self, verdict: Json | None = None) -> Json:
        """All of it, ready to be JSON."""
        end = self._last
        for key in list(self._bars):
            self._end_bar(key, end, "running", "")
        self._draw_unsent()
        self._arrows.sort(key=lambda arrow: arrow[0])
        columns = zip(*self._arrows, strict=True) if self._arrows else [()] * 6
        names = ("at", "took", "from", "to", "kind", "text")
        cuts = _joined(self._cuts.all(end))
        for since, until, pairs in cuts:
            self._events.append([since, None, "cut", f"cut: {self._ways(pairs)}"])
            if until < end:
                self._events.append([until, None, "cut", f"mended: {self._ways(pairs)}"])
        return {
            "title": self._title,
            "source": self._source,
            "verdict": verdict,
            "ticks": TICKS_PER_S,
            "end": max(end, 1),
            "lanes": [self._name(node) for node in self._lanes.words],
            "traced": [node in self._writers for node in self._lanes.words],
            "kinds": [[kind, GROUP_OF.get(kind, "service")] for kind in self._kinds.words],
            "texts": self._texts.words,
            "messages": dict(zip(names, map(list, columns), strict=True)),
            "left_out": self._left_out,
            "down": self._down.all(end),
            "paused": self._paused.all(end),
            "follows": self._follows.all(end),
            "cuts": cuts,
            "bars": sorted(self._done_bars, key=lambda bar: bar[1]),  # type: ignore[arg-type,return-value]
            "moves": self._moves,
            "events": sorted(self._events, key=lambda event: event[0]),  # type: ignore[arg-type,return-value]
        }

    def _ways(self, pairs: list[tuple[int, int]]) -> str:
        lanes = [self._name(node) for node in self._lanes.words]
        both = {pair for pair in pairs if pair[::-1] in pairs}
        words = [f"{lanes[a]}–{lanes[b]}" for a, b in pairs if (a, b) in both and a < b]
        words += [f"{lanes[a]}→{lanes[b]}" for a, b in pairs if (a, b) not in both]
        return ", ".join(words[:6]) + (f" and {len(words) - 6} more" if len(words) > 6 else "")


_END_STATES = {"timeout": "timed_out", "cancel": "cancelled", "stage": "failed", "spawn": "failed"}


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def _joined(cuts: list[list[object]]) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Pairs that were cut at one instant and mended at one instant were one cut."""
    together: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for pair, since, until in cuts:
        together[since, until].append(pair)  # type: ignore[index,arg-type]
    return [(since, until, sorted(pairs)) for (since, until), pairs in sorted(together.items())]
