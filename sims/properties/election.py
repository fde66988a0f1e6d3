"""What the election promises: epochs are stored before they are said, never fall, and one leader is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Send, Store
from openclaw.ids import NO_EPOCH, Epoch, NodeId
from openclaw.messages import Ack, Coordinator, Gossip, Head, Ping, PingRequest
from openclaw.notes import LeaderChanged
from openclaw.records import EpochRow, Number
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host


class StoredBeforeSaid(Property):
    name = "stored before said"
    sentence = "An epoch or incarnation that anyone hears of is on its origin's disk, and neither ever falls."

    def __init__(self) -> None:
        self._boots: dict[tuple[NodeId, int], str] = {}

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            match store.value:
                case EpochRow(epoch) if epoch <= host.disk.epoch:
                    self.fail(f"{host.name} stores {epoch} over {host.disk.epoch}")
                case Number(value) if value <= host.disk.number(store.key):
                    self.fail(f"{host.name} stores {store.key} {value} over {host.disk.number(store.key)}")

    def performed(self, host: Host, effect: Effect) -> None:
        if not isinstance(effect, Send):
            return
        match effect.message:
            case Coordinator(epoch):
                self._said(host, epoch)
            case Ping(head=head) | Ack(head=head) | PingRequest(head=head) | Gossip(head=head):
                self._said(host, head.epoch)
                self._vouched(host, head)
            case _:
                pass

    def _said(self, host: Host, epoch: Epoch) -> None:
        if epoch > host.disk.epoch:
            self.fail(f"{host.name} names {epoch}, and has only {host.disk.epoch} on disk")

    def _vouched(self, host: Host, head: Head) -> None:
        counter, boot = head.incarnation
        if counter > host.disk.number("incarnation"):
            self.fail(f"{host.name} says {head.incarnation}, and has not stored it")
        if self._boots.setdefault((host.id, counter), boot) != boot:
            self.fail(f"{host.name} uses incarnation {counter} in two of its starts")


class NeverAnOlderLeader(Property):
    name = "never an older leader"
    sentence = "The epochs that a node follows never fall, across its restarts."

    def __init__(self) -> None:
        self._highest: dict[NodeId, Epoch] = {}

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, LeaderChanged) and effect.epoch is not None:
            highest = self._highest.get(host.id, NO_EPOCH)
            if effect.epoch < highest:
                self.fail(f"{host.name} follows {effect.epoch} after {highest}")
            self._highest[host.id] = effect.epoch
