"""Nothing grows without a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start


class SlotsAreKept(Property):
    name = "slots"
    sentence = "No node runs more than its slots."

    def started(self, host: Host, start: Start) -> None:
        if host.executor.running > host.meta.slots:
            self.fail(f"{host.name} runs {host.executor.running} with {start.task}")
