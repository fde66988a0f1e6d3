"""What an owner promises of its tasks: kept, moved by the rules, ended once, and never ended by invention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from openclaw.effects import (
    CancelAsked,
    Effect,
    Event,
    Fetched,
    ForgetAsked,
    Received,
    Send,
    Store,
    Submitted,
)
from openclaw.ids import Claim, TaskId, Token
from openclaw.messages import Assign, Cancel
from openclaw.notes import Accepted
from openclaw.records import FINAL, Attempt, Copy, Counts, Exit, Number, Progress, State, Submission, Table
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host

_S = State
NEXT: Mapping[State | None, frozenset[State]] = {
    None: frozenset({_S.QUEUED}),
    _S.QUEUED: FINAL | {_S.PLACED, _S.RUNNING, _S.CANCELLING},
    _S.RETRYING: FINAL | {_S.QUEUED, _S.RUNNING},
    _S.PLACED: FINAL | {_S.RUNNING, _S.QUEUED, _S.RETRYING, _S.CANCELLING},
    _S.RUNNING: FINAL | {_S.QUEUED, _S.RETRYING, _S.CANCELLING},
    _S.CANCELLING: FINAL,
    **{state: frozenset() for state in FINAL},
}
"""DESIGN section 8, written a second time."""

_SHOWN_AS = {_S.RETRYING: _S.QUEUED, _S.CANCELLING: _S.RUNNING}


def moved(host: Host, stores: Sequence[Store]) -> Iterator[tuple[Progress | None, Progress]]:
    """Every row of progress in a batch, with the one that it replaces: on disk, or earlier in the batch."""
    before: dict[TaskId, Progress] = {}
    for store in stores:
        row = store.value
        if isinstance(row, Progress):
            yield before.get(row.task) or host.disk.progress(row.task), row
            before[row.task] = row


def placed_anew(old: Progress | None, new: Progress) -> bool:
    """Whether a row says that its owner gave the task to a worker: not what it adopts, nor what it says again."""
    again = old is not None and (old.state, old.token) == (new.state, new.token)
    return not again and not new.story[-1].reason.startswith("adopted")


class AcceptedIsDurable(Property):
    name = "accepted is durable"
    sentence = (
        "What was promised is on its owner's disk as it was submitted, and stays there or becomes a copy, until it is "
        "over and somebody asks to delete it: then it never comes back under that owner's claim."
    )
    hears = (Submitted, ForgetAsked)
    says = (Accepted,)

    def __init__(self) -> None:
        self._asked: dict[TaskId, Submission] = {}
        self._to_forget: dict[Host, set[TaskId]] = {}
        self._forgotten: dict[tuple[Host, TaskId], Claim] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        if isinstance(event, Submitted):
            self._asked.update((submission.task, submission) for submission in event.tasks)
        elif isinstance(event, ForgetAsked):
            self._to_forget[host] = {ended.task for ended in event.tasks}

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, Accepted):
            for task in effect.tasks:
                if (host, task) in self._forgotten:
                    continue  # its guardian was silent for longer than it took to run it and to delete it
                copy = host.disk.copy_of(task)
                submission = host.disk.submission(task) or (copy and copy.submission)
                if submission is None or (copy is None and host.disk.progress(task) is None):
                    self.fail(f"{task} was promised by {host.name} and is not on its disk")
                if self._asked.get(task, submission) != submission:
                    self.fail(f"{host.name} keeps {task} otherwise than it was submitted")

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        yielded = {copy.progress.task for store in stores if isinstance(copy := store.value, Copy)}
        for store in stores:
            deleted = store.table in (Table.TASKS, Table.PROGRESS) and store.value is None
            if deleted and TaskId(store.key) not in yielded:
                self._deletes(host, TaskId(store.key))
            if isinstance(store.value, Progress):
                gone = self._forgotten.get((host, store.value.task))
                if gone is not None and store.value.claim <= gone:
                    self.fail(f"{host.name} has {store.key} again, which it had deleted")
            old = host.disk.submission(TaskId(store.key)) if store.table is Table.TASKS else None
            if old is not None and store.value is not None and old != store.value:
                self.fail(f"{host.name} changes the submission of {store.key}")

    def _deletes(self, host: Host, task: TaskId) -> None:
        row = host.disk.progress(task)
        if task not in self._to_forget.get(host, ()) or (row is not None and not row.over):
            self.fail(f"{host.name} deletes {task}, which is {row and row.state}")
        if row is not None:
            self._forgotten[host, task] = row.claim


class OneFinal(Property):
    name = "one final"
    sentence = "A final state is reached once and never changes, nor does what is said of it."

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for old, new in moved(host, stores):
            if old is None or not old.state.final:
                continue
            if _kept(old) != _kept(new):
                self.fail(f"{new.task} was {old.state} and becomes {new.state}")
            if old.fetched and not new.fetched:
                self.fail(f"{new.task} had its outputs and has them no more")


def _kept(row: Progress) -> object:
    return row.state, row.exit, row.token, row.worker, row.attempt, row.finished, len(row.story)


class MovesAreLegal(Property):
    name = "legal moves"
    sentence = "A task moves as DESIGN section 8 says, and its story has every move, numbered in order."

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for old, new in moved(host, stores):
            was = None if old is None else old.state
            told = -1 if old is None or not old.story else old.story[-1].n
            lines = [line for line in new.story if line.n > told]
            if old is not None and was == new.state and not lines:
                continue  # something beside the state: its outputs are here, or its guardian is another
            if old is None and new.takeover:
                if new.state not in (_S.QUEUED, _S.CANCELLING) or "taken over" not in lines[-1].reason:
                    self.fail(f"{host.name} takes {new.task} over as {new.state}: {lines[-1:]}")
                continue
            if not lines or lines[-1].state is not new.state or lines[-1].n != told + 1:
                self.fail(f"the story of {new.task} ends with {new.story[-1:]} as it becomes {new.state}")
            if new.state not in NEXT[was]:
                self.fail(f"{new.task} goes from {was} to {new.state} at {host.name}")


class TokensAreNew(Property):
    name = "new tokens"
    sentence = (
        "Every placement of a task has a token of its own, higher than all before it, under its owner's name."
    )

    def __init__(self) -> None:
        self._highest: dict[tuple[TaskId, Claim], Token] = {}

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        raised = [
            store.value.value
            for store in stores
            if isinstance(store.value, Number) and store.key == "incarnation"
        ]
        incarnation = max([host.disk.number("incarnation"), *raised])
        for old, new in moved(host, stores):
            if new.state is not State.PLACED or new.token is None or not placed_anew(old, new):
                continue
            key = (new.task, new.claim)
            before = self._highest.get(key)
            if before is not None and new.token <= before:
                self.fail(f"{host.name} places {new.task} under {new.token} after {before}")
            if new.token.owner != host.id or new.token.incarnation > incarnation:
                self.fail(f"{host.name} mints {new.token}, and is in {incarnation}")
            if old is not None and new.attempt != old.attempt + 1:
                self.fail(f"attempt {new.attempt} of {new.task} follows {old.attempt}")
            self._highest[key] = new.token


class IntentFirst(Property):
    name = "intent first"
    sentence = (
        "An assignment leaves as its owner's disk has it, for a task without a final, in its own words."
    )
    says = (Assign,)

    def performed(self, host: Host, effect: Effect) -> None:
        if not (isinstance(effect, Send) and isinstance(effect.message, Assign)):
            return
        assign = effect.message
        for item in assign.items:
            row, submission = host.disk.progress(item.task), host.disk.submission(item.task)
            if row is None or submission is None or row.token is None or row.token < item.token:
                self.fail(f"{host.name} assigns {item.task} under {item.token}, which is not on its disk")
            elif row.state.final:
                self.fail(f"{host.name} assigns {item.task}, which is {row.state}")
            elif row.token == item.token and (row.worker, row.worker_boot, row.epoch) != (
                effect.to,
                assign.boot,
                assign.epoch,
            ):
                self.fail(f"{host.name} assigns {item.task} elsewhere than its disk says")
            elif submission.once and not row.intent:
                self.fail(f"{host.name} assigns {item.task}, and the intent of --once is not on its disk")
            elif submission is not None and (
                assign.batches[item.batch] != submission.batch
                or (item.leaf, item.payload, item.needs, item.once)
                != (submission.leaf, submission.payload, submission.needs, submission.once)
            ):
                self.fail(f"{host.name} assigns {item.task} with what was not submitted")


class RetriesAreCounted(Property):
    name = "retries"
    sentence = "A task runs again after a failure as often as was asked for, and never for another reason of its own."

    def __init__(self) -> None:
        self._counted: dict[tuple[TaskId, Claim], set[Token | None]] = {}

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for old, new in moved(host, stores):
            submission = host.disk.submission(new.task)
            if submission is not None and old is not None and not old.state.final:
                self._judge(host, submission, old, new)

    def _judge(self, host: Host, submission: Submission, old: Progress, new: Progress) -> None:
        if new.failures - old.failures not in (0, 1) or new.deaths - old.deaths not in (0, 1):
            self.fail(f"{new.task} had {old.failures}/{old.deaths} failures/deaths, and has {new.failures}")
        if new.failures > (0 if submission.once else submission.retries):
            self.fail(
                f"{new.task} failed {new.failures} times and goes on; {submission.retries} were allowed"
            )
        own = new.exit is not None and new.exit.ended_by in ("", "timeout")
        ended = new.state in (_S.FAILED, _S.TIMED_OUT) and own
        if new.failures > old.failures or ended:
            if new.failures > old.failures and new.state is not State.RETRYING:
                self.fail(f"a failure of {new.task} is counted as it becomes {new.state}")
            counted = self._counted.setdefault((new.task, new.claim), set())
            if new.token in counted:
                self.fail(f"the failure of {new.task} under {new.token} is counted again")
            counted.add(new.token)
        if new.deaths >= host.world.settings.deaths_max and not new.state.final:
            self.fail(f"{new.task} took {new.deaths} workers with it and goes on")
        if submission.once and old.attempt and new.state is State.QUEUED and old.state is State.RUNNING:
            self.fail(f"{new.task} ran, is --once, and goes back to the queue")
        early = new.failures < submission.retries and not submission.once
        joined = new.takeover > 0  # another owner may have counted the others
        if ended and early and not joined and old.state is not _S.CANCELLING:
            self.fail(f"{new.task} is {new.state} after {new.failures} of {submission.retries} retries")


class ResultsAreReal(Property):
    name = "real results"
    sentence = (
        "A final says what its attempt did: a worker stored that very end, and the state follows from it."
    )
    hears = (CancelAsked, Cancel)
    says = ()

    def __init__(self) -> None:
        self._ends: dict[tuple[TaskId, Token], Exit] = {}
        self._cancelled: set[TaskId] = set()

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        match event:
            case CancelAsked(tasks=tasks) | Received(message=Cancel(tasks=tasks)):
                self._cancelled.update(tasks)
            case _:
                pass

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if isinstance(store.value, Attempt) and store.value.exit is not None:
                self._ends[store.value.task, store.value.token] = store.value.exit
        for old, new in moved(host, stores):
            if new.state.final and (old is None or not old.state.final):
                self._judge(host, new)

    def _judge(self, host: Host, row: Progress) -> None:
        exit, once = row.exit, bool((submission := host.disk.submission(row.task)) and submission.once)
        if exit is not None and (row.token is None or self._ends.get((row.task, row.token)) != exit):
            self.fail(f"{row.task} is {row.state} by an end that no worker has stored: {exit}")
        if not self._fits(row, exit, once, host.world.settings.deaths_max):
            self.fail(f"{row.task} is {row.state} with {exit}, {row.deaths} deaths")

    def _fits(self, row: Progress, exit: Exit | None, once: bool, deaths_max: int) -> bool:
        by = None if exit is None else exit.ended_by
        match row.state:
            case State.SUCCEEDED:
                return exit is not None and by == "" and exit.code == 0
            case State.FAILED:
                poison = exit is None and row.deaths >= deaths_max
                return poison or (exit is not None and by != "timeout" and (by != "" or exit.code != 0))
            case State.TIMED_OUT:
                return by == "timeout"
            case State.CANCELLED:
                return row.task in self._cancelled
            case _:
                return once and (row.intent or row.takeover > 0)


class OutputsAreHere(Property):
    name = "outputs"
    sentence = (
        "The outputs of a task are called fetched once they are here, and not before; and a guardian calls an end kept "
        "only when it has its outputs too, or has tried to get them."
    )
    hears = (Fetched,)
    says = ()

    def __init__(self) -> None:
        self._fetched: set[tuple[TaskId, Token]] = set()
        self._tried: set[tuple[Host, TaskId, Token]] = set()

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        if isinstance(event, Fetched):
            self._tried.add((host, event.task, event.token))
            if event.ok or event.gone:
                self._fetched.add((event.task, event.token))

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for _, row in moved(host, stores):
            if row.exit is None or row.token is None or row.exit.inline or not row.fetched:
                continue
            if (row.task, row.token) not in self._fetched:
                self.fail(f"{host.name} says that it has the outputs of {row.task}")
        for store in stores:
            if store.table is Table.RESULTS and isinstance(store.value, Copy):
                self._closed(host, store.value.progress)

    def _closed(self, host: Host, row: Progress) -> None:
        if row.exit is None or row.exit.inline or row.token is None:
            return
        size = row.exit.stdout_size + row.exit.stderr_size
        if (
            size <= host.world.settings.guard_output_bytes_max
            and (host, row.task, row.token) not in self._tried
        ):
            self.fail(f"{host.name} keeps the end of {row.task}, and never asked for its outputs")


class CountsAgree(Property):
    name = "counts"
    sentence = "What an owner counts of its tasks is what is on its disk."

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        if not any(isinstance(store.value, Counts) for store in stores):
            return
        states = {row.task: row.state for row in host.disk.tasks()}
        for store in stores:
            if isinstance(store.value, Progress):
                states[store.value.task] = store.value.state
            elif store.table is Table.PROGRESS:
                states.pop(TaskId(store.key), None)
            elif isinstance(store.value, Counts):
                shown = Counter(_SHOWN_AS.get(state, state).value for state in states.values())
                right = Counts(**{name: shown[name] for name in Counts.__struct_fields__})
                if store.value != right:
                    self.fail(f"{host.name} counts {store.value}, and has {right}")
