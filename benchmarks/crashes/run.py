"""One run of one cell: four tasks, a death at its point, a return, and what must be true then.

Every accepted task has one final state, the same from every node; a default task started at least once and succeeded;
a `--once` task started at most once; what was not answered may exist or not, but not half; and nothing is left over.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

import psutil

from benchmarks.crashes.cells import EXECUTOR, GUARDIAN, OWNER, Cell, Death
from benchmarks.crashes.mesh import FINAL, Cast, CrashMesh, Submitting, alive, show
from benchmarks.local_mesh import Doc, Failed, LocalNode, executor_pids, wait_until
from openclaw.errors import MeshError
from openclaw.faultpoints import read

HIT_S = 20.0
AGREED_S = 20.0
DEFAULT = ("plain", "other", "keyed")
ONCE = "once"


class Return(StrEnum):
    """When those who died come back."""

    AT_ONCE = "at once"
    GIVEN_UP = "as they are given up"
    AWAY = "when all is over without them"


@dataclass(slots=True)
class Report:
    cell: Cell
    returns: Return
    problems: list[str] = field(default_factory=list)
    accepted: int = 0
    unanswered: int = 0  # tasks that exist though nobody was told
    starts: int = 0
    again: int = 0  # starts of default tasks after their first
    lost: int = 0  # `--once` tasks that ended lost
    former: int = 0  # tasks of which a node that kept their end names an owner before the last
    took_s: float = 0.0


class Run:
    def __init__(self, mesh: CrashMesh, cell: Cell, returns: Return, name: str, rng: random.Random) -> None:
        self.mesh, self.cell, self.name = mesh, cell, name
        self._rng = rng
        self.report = Report(cell, returns)
        self.finals: dict[str, tuple[object, ...]] = {}

    def play(self) -> Report:
        began = time.monotonic()
        try:
            self._play()
        except (Failed, MeshError) as error:
            dead = [node for node in self.mesh.nodes.values() if not alive(node)]
            logs = [f"{node.name} is dead; its log ends:\n{node.log()[-2000:]}" for node in dead]
            self.report.problems.append("\n".join((str(error), *logs)))
        finally:
            self.mesh.disarm()
            self.mesh.ledger.open(self.name)
        self.report.took_s = time.monotonic() - began
        return self.report

    def _play(self) -> None:
        cast = self.mesh.cast()
        if not self.cell.held:
            self.mesh.ledger.open(self.name)
        submitting = self._strike(cast)
        self.mesh.resume()
        gone = list(dict.fromkeys(cast[role] for role in self.cell.victims if role is not EXECUTOR))
        answered = self._come_back(cast, gone, submitting)
        submitting.join(HIT_S)
        if submitting.taken is None and OWNER not in self.cell.victims:
            raise Failed("the owner lives and never answered")
        answered |= self._ids(submitting)
        self.report.accepted = len(answered)
        known = self._unanswered() | answered
        self.report.unanswered = len(known) - len(answered)
        self._all_over(list(known.values()))
        for kind, task in known.items():
            self._agreed(kind, task)
        self._count(known)

    # --- the death -------------------------------------------------------------------------------

    def _rows(self) -> list[Doc]:
        return [self._row(kind) for kind in (*DEFAULT, ONCE)]

    def _row(self, kind: str) -> Doc:
        key = f"{self.name}-{kind}"
        return {
            "kind": "command",
            "argv": list(self.mesh.ledger.command(self.name, key)),
            "name": key,
            "once": kind == ONCE,
            "key": key if kind == "keyed" else "",
        }

    def _strike(self, cast: Cast) -> Submitting:
        """All deaths of the cell, each at its point."""
        hits = [self.mesh.arm(death.step, cast, death.victims) for death in self.cell.deaths]
        submitting = Submitting(cast[OWNER], self._rows())
        for death, hit in zip(self.cell.deaths, hits, strict=True):
            try:
                wait_until(hit.exists, "", HIT_S, 0.005)
            except Failed:
                raise Failed(f"{death}: the kill missed its point") from None
            self._dead(death, cast, hit.read_text())
        return submitting

    @staticmethod
    def _dead(death: Death, cast: Cast, hit: str) -> None:
        for role in death.victims:
            process = cast[role].process
            if role is EXECUTOR:
                armed, passed_by = hit.splitlines()
                pids = read(armed).pids or (int(passed_by),)
                wait_until(lambda pids=pids: not any(map(lives, pids)), "the executor to be dead")  # type: ignore[misc]
            elif process is not None and process.wait(HIT_S) != -signal.SIGKILL:
                raise Failed(f"{death}: it ended by itself, with {process.returncode}")

    # --- the return ------------------------------------------------------------------------------

    def _come_back(self, cast: Cast, gone: list[LocalNode], submitting: Submitting) -> dict[str, str]:
        """Those who died are there again; what was submitted by its key once more, since nobody had answered."""
        returns, mesh = self.report.returns, self.mesh
        both_copies = {OWNER, GUARDIAN} <= set(self.cell.victims)
        again: dict[str, str] = {}
        if returns is Return.AWAY:
            for node in gone:
                for pid in executor_pids(node.state_dir):
                    os.kill(pid, signal.SIGKILL)
            mesh.ledger.open(self.name)
            if not both_copies:
                again = self._over_without(cast, gone, submitting)
        elif returns is Return.GIVEN_UP:
            self._given_up(gone)
        for node in reversed(gone) if both_copies and returns is Return.AWAY else gone:
            mesh.restart(node)
        mesh.ledger.open(self.name)
        return again or self._by_key(cast[OWNER], submitting)

    def _given_up(self, gone: list[LocalNode]) -> None:
        def known() -> bool:
            return all(self.mesh.known_down(node) for node in gone)

        wait_until(known, f"{[node.name for node in gone]} to be given up", every_s=0.05)

    def _over_without(self, cast: Cast, gone: list[LocalNode], submitting: Submitting) -> dict[str, str]:
        """What survives a machine that stays away is over before it comes back."""
        self._given_up(gone)
        survivor = self._rng.choice(self.mesh.live())
        submitting.join(HIT_S)
        again = self._by_key(survivor, submitting)
        copied = submitting.taken is not None and (alive(cast[OWNER]) or submitting.taken["guardians"])
        tasks = [task for kind, task in self._ids(submitting).items() if kind in DEFAULT and copied]
        for task in (*tasks, *again.values()):
            wait_until(lambda task=task: ended(survivor, task), f"{task} to end without those who died")  # type: ignore[misc]
        return again

    def _by_key(self, node: LocalNode, submitting: Submitting) -> dict[str, str]:
        """A person who had no answer asks again."""
        submitting.join(HIT_S)
        if submitting.taken is not None or OWNER not in self.cell.victims:
            return {}
        return {"keyed": str(node.control("submit", tasks=[self._row("keyed")])["ids"][0])}

    @staticmethod
    def _ids(submitting: Submitting) -> dict[str, str]:
        return dict(zip((*DEFAULT, ONCE), submitting.taken["ids"], strict=True)) if submitting.taken else {}

    # --- what must be true -----------------------------------------------------------------------

    def _unanswered(self) -> dict[str, str]:
        """Tasks of this run that any node knows of."""
        found: dict[str, str] = {}
        for node in self.mesh.nodes.values():
            for row in tasks_in(node.frames("tasks", all=True, limit=40)):
                run, _, kind = str(row["name"]).rpartition("-")
                if run == self.name and found.setdefault(kind, row["id"]) != row["id"]:
                    raise Failed(f"{row['name']} is two tasks: {row['id']} and {found[kind]}")
        return found

    def _all_over(self, tasks: list[str]) -> None:
        """Cheaper than asking again and again; what never ends is found out afterwards."""
        try:
            self._rng.choice(self.mesh.live()).control("wait", ids=tasks, answer_s=AGREED_S)
        except MeshError:
            pass

    def _agreed(self, kind: str, task: str) -> None:
        """Every node says the same of it, and that it is over."""
        nodes = list(self.mesh.nodes.values())
        views: dict[str, Doc | None] = {}

        def same() -> bool:
            views.update({node.name: show(node, task) for node in nodes})
            said = {final(view) for view in views.values()}
            return len(said) == 1 and None not in said and settled(views)

        try:
            wait_until(same, f"one end of {kind}", AGREED_S, 0.05)
        except Failed:
            raise Failed(f"{kind} {task} has no single end:\n{stories(views)}") from None
        end = views[owner_of(views)]
        assert end is not None
        named = {view["owner"]["name"] for view in views.values() if view}
        self.report.former += len(named) > 1
        self.finals[task] = final(end) or ()
        self._judge(kind, task, end)

    def _judge(self, kind: str, task: str, end: Doc) -> None:
        starts = self.mesh.ledger.starts()[f"{self.name}-{kind}"]
        state = end["state"]
        wrong = ""
        if state == "succeeded":
            reader = self._rng.choice(self.mesh.live())
            (row,) = tasks_in(reader.frames("wait", ids=[task]))
            if row["stdout"] != f"{self.name}-{kind}\n".encode():
                wrong = f"its output is {row['stdout']!r} at {reader.name}"
            elif not starts:
                wrong = "it never started"
        elif kind != ONCE or state != "lost":
            wrong = f"it ended {state}"
        if kind == ONCE and starts > 1:
            wrong = f"--once started {starts} times"
        if wrong:
            self.report.problems.append(f"{kind} {task}: {wrong}\n{stories({'': end})}")

    def _count(self, known: dict[str, str]) -> None:
        starts: Counter[str] = Counter()
        for key, count in self.mesh.ledger.starts().items():
            run, _, kind = key.rpartition("-")
            if run == self.name:
                starts[kind] = count
        if strange := starts.keys() - known.keys():
            self.report.problems.append(f"started, and no node knows of it: {sorted(strange)}")
        self.report.starts = sum(starts.values())
        self.report.again = sum(max(0, starts[kind] - 1) for kind in DEFAULT)
        if ONCE in known:
            self.report.lost = self.finals[known[ONCE]][0] == "lost"


def tasks_in(frames: list[Doc]) -> list[Doc]:
    return [frame["task"] for frame in frames if "task" in frame]


def final(view: Doc | None) -> tuple[object, ...] | None:
    """What must be the same everywhere; None while it is not over."""
    if view is None or view["state"] not in FINAL:
        return None
    return (
        view["state"],
        view["exit_code"],
        view["attempt"],
        view["finished"],
        (view["node"] or {}).get("name"),
    )


def owner_of(views: dict[str, Doc | None]) -> str:
    """Who owns it: the highest claim that anybody names."""
    claims = [
        (view["takeover"], view["owner"]["id"], view["owner"]["name"]) for view in views.values() if view
    ]
    return str(max(claims)[-1])


def settled(views: dict[str, Doc | None]) -> bool:
    """Whether the owner counts on nobody any more for what it says."""
    said = views[owner_of(views)]
    return said is not None and not said["provisional"]


def ended(node: LocalNode, task: str) -> bool:
    view = show(node, task)
    return view is not None and view["state"] in FINAL


def stories(views: dict[str, Doc | None]) -> str:
    lines = []
    for name, view in views.items():
        lines.append(f"  as {name or 'all'} say: " + ("nothing" if view is None else summary(view)))
    return "\n".join(lines)


def summary(view: Doc) -> str:
    moves = [f"{m['state']}@{(m['node'] or {}).get('name')} {m['reason']}".strip() for m in view["story"]]
    who = f"owner {view['owner']['name']}, guardians {[each['name'] for each in view['guardians']]}"
    return f"{view['state']}{' (provisional)' * view['provisional']}, {who}: " + " | ".join(moves)


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
