"""What an owner promises of its tasks: kept, ended once, and started under tokens that nobody can use twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Send, Store
from openclaw.messages import Assign
from openclaw.notes import Accepted
from openclaw.records import Progress, Table
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host


class AcceptedIsDurable(Property):
    name = "accepted is durable"
    sentence = "A task that was promised is on its owner's disk, and stays there."

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, Accepted):
            for task in effect.tasks:
                if host.disk.submission(task) is None or host.disk.progress(task) is None:
                    self.fail(f"{task} was promised by {host.name} and is not on its disk")

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if store.table in (Table.TASKS, Table.PROGRESS) and store.value is None:
                self.fail(f"{host.name} deletes {store.key}")


class OneFinal(Property):
    name = "one final"
    sentence = "A final state is reached once and never changes."

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if not isinstance(store.value, Progress):
                continue
            old, new = host.disk.progress(store.value.task), store.value
            if old is not None and old.state.final and (old.state, old.exit) != (new.state, new.exit):
                self.fail(f"{new.task} was {old.state} and becomes {new.state}")


class IntentFirst(Property):
    name = "intent first"
    sentence = "An assignment leaves only when its token is on its owner's disk and the task has no final."

    def performed(self, host: Host, effect: Effect) -> None:
        if not (isinstance(effect, Send) and isinstance(effect.message, Assign)):
            return
        for item in effect.message.items:
            row = host.disk.progress(item.task)
            if row is None or row.token is None or row.token < item.token:
                self.fail(f"{host.name} assigns {item.task} under {item.token}, which is not on its disk")
            elif row.state.final:
                self.fail(f"{host.name} assigns {item.task}, which is {row.state}")
