"""A run to watch in the terminal while it happens: nodes, leader, terms, processes, messages, the last events.

`python -m sims live --seed 17 --speed 2` runs a world at twice the pace of life (0: as fast as it can).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

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
    ResumeRow,
    SendRow,
    StartRow,
    TaskRow,
    UpRow,
    tail,
)
from sims.picture import GROUP_OF, GROUPS
from sims.plan import Plan, draw
from sims.recording import record
from sims.tomlfile import load

FRAMES_PER_S = 12
EVENTS_SHOWN = 14
RATE_S = 2.0  # over which messages are averaged
STYLES = {"up": "green", "down": "bold red", "stands still": "yellow", "not started": "dim"}
GROUP_STYLES = dict(zip(GROUPS, ("blue", "yellow", "cyan", "magenta", "white"), strict=True))


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("live", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a scenario, instead of a seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, help="without it the seed decides")
    parser.add_argument("--seconds", type=float, help="of the world's own time; without it the seed decides")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="seconds of the world in one of ours; 0: no limit"
    )


def main(options: argparse.Namespace) -> int:
    plan = load(options.file) if options.file else draw(options.seed, options.nodes, options.seconds)
    board = Board(plan)
    with Live(board, auto_refresh=False) as screen:
        pace = Pace(options.speed, screen.refresh)

        def write(row: AnyRow) -> None:
            pace.until(row.at)
            board.add(row)

        try:
            record(plan, write)
        except KeyboardInterrupt:
            return 130
        finally:
            screen.refresh()
    return 0


class Pace:
    """Keeps a world from running ahead of its viewer."""

    def __init__(self, speed: float, refresh: Callable[[], None]) -> None:
        self._speed = speed
        self._refresh = refresh
        self._began = self._shown = time.monotonic()

    def until(self, at: float) -> None:
        """Come back when it is time for what happens at `at`; the screen is kept fresh meanwhile."""
        due = self._began + at / self._speed if self._speed > 0 else 0.0
        while True:
            now = time.monotonic()
            if now - self._shown >= 1 / FRAMES_PER_S:
                self._shown = now
                self._refresh()
            if now >= due:
                return
            time.sleep(min(due - now, 1 / FRAMES_PER_S))


@dataclass(slots=True)
class Lane:
    """What is known of one node just now."""

    status: str = "not started"
    leader: str = ""
    term: int = 0
    running: set[str] = field(default_factory=set)
    ended: int = 0
    owns: Counter[str] = field(default_factory=Counter)
    sent: deque[float] = field(default_factory=deque)

    def rate(self, now: float) -> float:
        while self.sent and self.sent[0] < now - RATE_S:
            self.sent.popleft()
        return len(self.sent) / RATE_S


class Board:
    """The screen: fed with rows, drawn whenever it is asked for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._now = 0.0
        self.lanes: dict[str, Lane] = {}
        self._states: dict[str, str] = {}
        self._sent: Counter[str] = Counter()
        self._cut: set[tuple[str, str]] = set()
        self._events: deque[tuple[float, str, str, str]] = deque(maxlen=EVENTS_SHOWN)

    # --- what happens ----------------------------------------------------------------------------

    def add(self, row: AnyRow) -> None:
        self._now = row.at
        lane = self.lanes.setdefault(row.node, Lane()) if row.node else None
        match row:
            case NamedRow(of=of):
                self.lanes.setdefault(of, Lane())
            case MarkRow(text=text):
                self._tell(row, text, "cyan")
            case CutRow(to=to):
                self._cut.add((row.node, to))
            case MendRow(to=to):
                self._cut.discard((row.node, to))
            case _ if lane is not None:
                self._node(row, lane)

    def _node(self, row: AnyRow, lane: Lane) -> None:
        match row:
            case SendRow(kind=kind):
                lane.sent.append(row.at)
                self._sent[GROUP_OF.get(kind, "service")] += 1
            case UpRow() | ResumeRow():
                lane.status = "up"
                self._tell(row, "starts" if isinstance(row, UpRow) else "goes on", "green")
            case DownRow(how=how, machine=machine):
                lane.status, lane.leader = "down", ""
                lane.running -= lane.running if machine else set()
                self._tell(row, how, "red")
            case PauseRow(how=how):
                lane.status = "stands still"
                self._tell(row, how, "yellow")
            case LeaderRow():
                self._leader(row, lane)
            case MemberRow(of=of, status=status) if status != "alive":
                self._tell(row, f"calls {of} {status}", "dim")
            case StartRow() | EndRow() | TaskRow():
                self._task(row, lane)
            case _:
                pass

    def _leader(self, row: LeaderRow, lane: Lane) -> None:
        lane.leader, lane.term = row.leader, row.term
        if row.leader == row.node:
            self._tell(row, f"leads term {row.term} ({row.why})", "bold yellow")

    def _task(self, row: StartRow | EndRow | TaskRow, lane: Lane) -> None:
        match row:
            case StartRow(task=task, token=token):
                lane.running.add(f"{task} {token}")
            case EndRow(task=task, token=token):
                lane.running.discard(f"{task} {token}")
                lane.ended += 1
            case TaskRow(task=task, state=state, why=why):
                self._states[task] = state
                if state in ("failed", "timed_out", "cancelled", "lost"):
                    self._tell(row, f"{tail(task)} {state.replace('_', ' ')}{why and f' ({why})'}", "magenta")

    def _tell(self, row: AnyRow, text: str, style: str) -> None:
        self._events.append((row.at, row.node, text, style))

    # --- how it looks ----------------------------------------------------------------------------

    def __rich__(self) -> RenderableType:
        return Group(self._head(), self._nodes(), self._totals(), self._news())

    def _head(self) -> RenderableType:
        took_s = max(1e-9, time.monotonic() - self._began)
        leaders = sorted(name for name, lane in self.lanes.items() if lane.leader == name)
        text = Text.assemble(
            (f" seed {self._plan.seed} ", "bold reverse"),
            f"  {self._now:8.2f} of {self._plan.seconds:g} s   {self._now / took_s:.1f} times life   ",
            (
                f"♛ {' '.join(leaders)}" if leaders else "nobody leads",
                "bold yellow" if leaders else "bold red",
            ),
        )
        if len(leaders) > 1:
            text.append("   split", "bold red")
        if self._cut:
            text.append(f"   ✂ {len(self._cut)} ways are cut", "red")
        return text

    def _nodes(self) -> RenderableType:
        table = Table(expand=True, box=None, header_style="dim", padding=(0, 1))
        for title in ("node", "status", "follows", "term", "processes", "messages/s"):
            table.add_column(title, justify="right" if title in ("term",) else "left")
        for name, lane in self.lanes.items():
            leads = lane.leader == name
            rate = lane.rate(self._now)
            table.add_row(
                Text(f"{'♛ ' if leads else '  '}{name}", "bold yellow" if leads else "bold"),
                Text(lane.status, STYLES[lane.status]),
                Text(lane.leader or "–", "yellow" if lane.leader else "red"),
                str(lane.term) if lane.leader else "",
                Text.assemble(("█ " * min(len(lane.running), 16), "blue"), (f"{lane.ended} ended", "dim")),
                Text.assemble(f"{rate:5.0f} ", ("▇" * min(24, round(rate / 4)), "blue")),
            )
        return table

    def _totals(self) -> RenderableType:
        states = Counter(self._states.values())
        tasks = "  ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(states.items()))
        sent = Text.assemble(
            *((f"{self._sent[group]} {group}  ", style) for group, style in GROUP_STYLES.items())
        )
        table = Table.grid(padding=(0, 2))
        table.add_row(Text("tasks", "dim"), tasks or "none yet")
        table.add_row(Text("messages", "dim"), sent)
        return table

    def _news(self) -> RenderableType:
        lines = [
            Text.assemble((f"{at:9.3f} ", "dim"), (f"{who:<5}", "bold"), (text, style))
            for at, who, text, style in self._events
        ]
        lines += [Text("")] * (EVENTS_SHOWN - len(lines))
        return Panel(Group(*lines), title="events", title_align="left", border_style="dim")
