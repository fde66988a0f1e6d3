"""Why a task is where it is, or why it waits: node by node, in the JSON of `CLI.md`.

What this node has heard is what it says: the tasks of others are as of their last heartbeat. Only the owner knows how
a task stands in its queue, so it is the owner who is asked about one.
"""

from __future__ import annotations

from openclaw.exec.eligible import refusals, submitter_refusal
from openclaw.ids import NOBODY, NodeId, TaskId
from openclaw.messages import Status
from openclaw.records import Needs, Progress, State
from openclaw.runtime.context import Context
from openclaw.runtime.docs import Doc
from openclaw.runtime.queries import Args
from openclaw.runtime.tasks import Tasks

WAITS = (State.QUEUED, State.RETRYING)


class Explain:
    """`needs` is about what might be submitted here; `task` is about what was, wherever it is owned."""

    def __init__(self, context: Context, tasks: Tasks) -> None:
        self._context, self._tasks = context, tasks
        context.queries.answerers["explain"] = self._answer

    def needs(self, needs: Needs) -> Doc:
        """Whom the leader would choose now; `chosen` is None while nobody that could has a free slot."""
        rows = self._rows(needs, self._context.me)
        free = [row for row in rows if row["eligible"] and not row["reasons"]]
        best = min(free, key=_fewest, default=None)
        waiting = None if best is not None else _nobody_free(rows)
        return {"chosen": best and best["name"], "waiting": waiting, "nodes": rows}

    async def task(self, task: TaskId) -> Doc:
        snapshot = await self._tasks.read(task)
        if snapshot.owner == self._context.me:
            return self._own(snapshot.submission.needs, snapshot.progress)
        answer = await self._context.queries.ask(snapshot.owner, "explain", {"id": task})
        return {key: value for key, value in answer.items() if key != "ok"}

    async def _answer(self, _peer: NodeId, args: Args) -> Args:
        return await self.task(TaskId(str(args["id"])))

    def _own(self, needs: Needs, progress: Progress) -> Doc:
        rows = self._rows(needs, self._context.me)
        waits = progress.state in WAITS
        worker = NOBODY if waits else progress.worker
        return {
            "chosen": self._context.name_of(worker) if worker else None,
            "state": str(progress.state),
            "waiting": self._why(needs, progress, rows) if waits else self._held(progress),
            "nodes": rows,
        }

    def _rows(self, needs: Needs, submitter: NodeId) -> list[Doc]:
        context = self._context
        members = context.mesh.roster.members()
        refused = submitter_refusal(needs.kind, members.get(submitter))
        rows: list[Doc] = []
        for node, view in context.node.membership.members().items():
            reasons = refusals(needs, view.meta, members.get(node), view.status is Status.ALIVE)
            reasons += [refused] if refused else []
            eligible = not reasons
            tasks = view.beat.running + view.beat.queued if view.beat is not None else 0
            slots = view.meta.slots if view.meta is not None else 0
            if eligible and tasks + needs.size.slots > slots:
                reasons = [f"has {tasks} tasks for its {slots} slots"]
            rows.append(
                {
                    "id": node,
                    "name": context.name_of(node),
                    "eligible": eligible,
                    "reasons": reasons,
                    "tasks": tasks,
                    "slots": slots,
                }
            )
        return sorted(rows, key=lambda row: (not row["eligible"], str(row["name"])))

    def _held(self, progress: Progress) -> str | None:
        """Why what has a place does not start: whoever could start it again is to know first."""
        entry = self._context.node.owner.ledger.tasks.get(progress.task)
        if entry is None or entry.held is None:
            return None
        names = " and ".join(self._context.name_of(node) for node in progress.guardians)
        return f"it must not run twice: it starts when {names}, with a copy of it, knows that it does"

    def _why(self, needs: Needs, progress: Progress, rows: list[Doc]) -> str:
        """Why a task of ours waits, the first reason that holds."""
        context, ledger = self._context, self._context.node.owner.ledger
        if progress.state is State.RETRYING:
            due = ledger.timers.when("retry", progress.task)
            wait_s = max(0.0, due - context.now()) if due is not None else 0.0
            return f"it is tried again in {wait_s:.1f} s ({progress.story[-1].reason or 'attempt failed'})"
        if context.node.election.leader is None:
            return "no leader at the moment; without one it is placed by asking two nodes"
        entry = ledger.tasks.get(progress.task)
        if entry is not None and entry.sought:
            worker = context.name_of(progress.worker) if progress.worker else "whoever had it"
            return f"its owner was gone, and whether it ran is being asked; only {worker} can know"
        ahead = 0
        if entry is not None and progress.task in entry.row.tasks:
            ahead = list(entry.row.tasks).index(progress.task)
        why = _nobody_free(rows) or "it is about to be placed"
        if not _nobody_free(rows) and (needs.memory_bytes or needs.gpus):
            why = "a slot is free, but not the memory or the GPUs that it needs"
        return f"{why}; {ahead} of its kind are before it"


def _nobody_free(rows: list[Doc]) -> str:
    """Why none of them has a slot for it; empty when one has."""
    able = [row for row in rows if row["eligible"]]
    if not able:
        return "no node that is here can run it"
    if all(row["reasons"] for row in able):
        return "every node that can run it is full" if len(able) > 1 else f"{able[0]['name']} is full"
    return ""


def _fewest(row: Doc) -> tuple[float, int]:
    tasks, slots = int(str(row["tasks"])), int(str(row["slots"]))
    return tasks / max(1, slots), tasks
