"""Who submits the tasks of a soak, and who looks after each until every node says the same end of it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from benchmarks.local_mesh import Doc
from benchmarks.soak.fleet import Fleet
from benchmarks.soak.work import Maker, Task, differences
from openclaw.errors import MeshError

FINAL = {"succeeded", "failed", "timed_out", "cancelled", "lost"}
OPEN_MAX = 300  # so many may be under way: a busy machine is given fewer
SUBMIT_EVERY_S = 0.5
LOOK_EVERY_S = 2.0
STALLED_S = 180.0  # after the last kill: without any task coming to its end
RECHECKED_MAX = 500

End = tuple[str, int, str | None, str | None]


@dataclass(slots=True)
class Book:
    """What was accepted. `ends` are of tasks that every node has told the same end of."""

    open: dict[str, Task] = field(default_factory=dict)
    ends: dict[str, tuple[Task, End, Doc]] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    without_guardian: int = 0
    unanswered: int = 0  # submitted, and the node went before it answered
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def accept(self, task: Task, id: str, guardians: list[Doc]) -> None:
        task.id = id
        self.accepted[task.kind] += 1
        self.without_guardian += not guardians
        self.open[id] = task


class Submitter:
    def __init__(self, fleet: Fleet, book: Book, maker: Maker, rng: Random, per_s: float) -> None:
        self._fleet, self._book, self._maker, self._rng = fleet, book, maker, rng
        self._batch = max(1, round(per_s * SUBMIT_EVERY_S))

    def run(self, ending: threading.Event) -> None:
        while not ending.wait(SUBMIT_EVERY_S):
            names = self._fleet.up()
            if not names or len(self._book.open) >= OPEN_MAX:
                continue
            tasks = [self._maker.draw() for _ in range(self._batch)]
            answer = self._submit(self._rng.choice(names), tasks)
            if answer is None:
                continue
            for task, id in zip(tasks, answer["ids"], strict=True):
                self._book.accept(task, id, answer["guardians"])
            for task in tasks:
                if task.kind == "keyed":
                    self._again(task)

    def _submit(self, name: str, tasks: list[Task]) -> Doc | None:
        try:
            answer = self._fleet.call(name, "submit", tasks=[task.request for task in tasks])
        except MeshError as error:
            self._book.refused[f"{error.kind}: {error}"] += len(tasks)
            return None
        if answer is None:
            self._book.unanswered += len(tasks)
        return answer

    def _again(self, task: Task) -> None:
        """The same key, wherever: the same task."""
        answer = self._submit(self._rng.choice(self._fleet.up() or self._fleet.names), [task])
        if answer is not None and answer["ids"] != [task.id]:
            self._book.problems.append(f"key {task.request['key']} is {task.id} and {answer['ids']}")


class Checker:
    """Asks any node how each open task is; once it has ended, every node, and for its bytes too."""

    def __init__(self, fleet: Fleet, book: Book, rng: Random) -> None:
        self._fleet, self._book, self._rng = fleet, book, rng
        self._due_s: dict[str, float] = {}
        self.doubts: dict[str, str] = {}  # why a task is still open, by id

    def run(self, ending: threading.Event) -> None:
        while not ending.wait(0.2):
            self.look_at_all()

    def finish(self) -> None:
        """Everybody is up again: until nothing is open, or nothing comes to its end any more."""
        moved_s = time.monotonic()
        while self._book.open and time.monotonic() - moved_s < STALLED_S:
            before = len(self._book.open)
            self.look_at_all()
            if len(self._book.open) < before:
                moved_s = time.monotonic()
            time.sleep(0.2)

    def look_at_all(self) -> None:
        for task in list(self._book.open.values()):
            if self._due_s.get(task.id, 0.0) <= time.monotonic():
                self._due_s[task.id] = time.monotonic() + LOOK_EVERY_S
                try:
                    self._look(task)
                except MeshError as error:  # its owner is away, or its output: it is looked at again
                    self.doubts[task.id] = str(error)

    def _look(self, task: Task) -> None:
        names = self._fleet.up()
        doc = self._show(self._rng.choice(names), task) if names else None
        if doc is None:
            return
        if task.wanted.cancel and doc["state"] not in (*FINAL, "cancelling"):
            self._fleet.call(self._rng.choice(names), "cancel", ids=[task.id])
        if doc["state"] not in FINAL or doc["provisional"]:
            self.doubts[task.id] = f"{doc['state']}, provisional: {doc['provisional']}"
            return
        said = {name: self._show(name, task) for name in self._fleet.names}
        known = {end_of(each) for each in said.values() if each is not None}
        if None in said.values() or len(known) != 1:
            self.doubts[task.id] = f"nodes differ: { {n: d and end_of(d) for n, d in said.items()} }"
            return
        wrong = differences(task, doc) + self._wrong_bytes(task, doc)
        self._book.problems += [f"{task.kind} {task.id}: {text}\n{story(doc)}" for text in wrong]
        self._book.ends[task.id] = task, end_of(doc), doc
        del self._book.open[task.id], self._due_s[task.id]
        self.doubts.pop(task.id, None)

    def _show(self, name: str, task: Task) -> Doc | None:
        answer = self._fleet.call(name, "task_show", id=task.id)
        return None if answer is None else answer["task"]

    def _wrong_bytes(self, task: Task, doc: Doc) -> list[str]:
        """What it printed, as some node reads it."""
        if task.wanted.stdout is None or doc["state"] != task.wanted.state:
            return []
        name = self._rng.choice(self._fleet.up())
        found, size = hashlib.sha256(), 0
        for frame in self._fleet.frames(name, "task_logs", id=task.id):
            if frame.get("event") == "out":
                found.update(frame["data"])
                size += len(frame["data"])
        same = found.hexdigest() == task.wanted.stdout
        return [] if same else [f"{name} reads {size} bytes of output that are not its own"]

    def changed(self) -> list[str]:
        """Ends that are not what they were. What has been forgotten since cannot be asked for."""
        found = []
        for task, end, _ in list(self._book.ends.values())[-RECHECKED_MAX:]:
            try:
                doc = self._show(self._rng.choice(self._fleet.names), task)
            except MeshError:
                continue
            if doc is not None and end_of(doc) != end:
                found.append(f"{task.id} ended {end}, and now {end_of(doc)}")
        return found


def end_of(doc: Doc) -> End:
    return doc["state"], doc["exit_code"], doc["node"] and doc["node"]["name"], doc["finished"]


def story(doc: Doc) -> str:
    node = lambda move: move["node"] and move["node"]["name"]  # noqa: E731
    return "\n".join(f"    {m['n']} {m['state']} {node(m)} {m['reason']}" for m in doc["story"])
