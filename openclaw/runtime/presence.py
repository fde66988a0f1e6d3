"""What this node publishes of itself, and keeps true: addresses, slots, labels, skills, whether it drains."""

from __future__ import annotations

import asyncio
import os

import msgspec

import openclaw
from openclaw import platform
from openclaw.config import GPU_TOOL_S_MAX, GPUS_MAX
from openclaw.discovery.interfaces import usable
from openclaw.effects import DrainAsked, MetaChanged
from openclaw.records import Meta, Policy, SkillRow, Tier
from openclaw.runtime.context import Context
from openclaw.runtime.views import facts


class Presence:
    """Made when the ports are known; `meta` is what the core was last told."""

    def __init__(self, context: Context, intro_port: int, handlers: tuple[str, ...]) -> None:
        self._context = context
        options = context.options
        hostname, system, arch = facts()
        self.meta = Meta(
            name=context.name_of(context.me),
            addresses=self._addresses(),
            hostname=hostname[:128],
            platform=system,
            arch=arch,
            version=openclaw.__version__,
            slots=options.slots or os.cpu_count() or 1,
            policy=Policy(options.policy),
            tier=_tier() if options.lead else Tier.NO_LEAD,
            labels=tuple(sorted(options.labels)),
            skills=context.skills.rows,
            bulk_port=context.bulk.port,
            intro_port=intro_port,
            memory_bytes=platform.memory_bytes(),
            handlers=handlers,
        )
        context.skills.published = self.offer

    def offer(self, skills: tuple[SkillRow, ...]) -> None:
        """What this node can do is different now."""
        self._publish(skills=skills)

    def moved(self, tailscale: str) -> None:
        """This machine's addresses changed. Connections made from one that is gone are made anew."""
        before = set(self.meta.addresses)
        self._publish(addresses=self._addresses(), tailscale=tailscale)
        if before - set(self.meta.addresses):
            self._context.transport.redial_all()
            self._context.bulk.redial()

    async def find_gpus(self) -> None:
        """Their tools may take seconds: the node serves meanwhile, without them."""
        gpus = await asyncio.to_thread(platform.count_gpus, GPU_TOOL_S_MAX)
        if gpus:
            self._publish(gpus=min(gpus, GPUS_MAX))

    def drain(self, draining: bool) -> None:
        """Others read in our meta that they need not offer us anything; what waits here goes back."""
        self._publish(draining=draining)
        self._context.post(DrainAsked(draining))

    def offer_handlers(self, handlers: tuple[str, ...]) -> None:
        """Others may send tasks of these types."""
        self._publish(handlers=handlers)

    def _publish(self, **changes: object) -> None:
        self.meta = msgspec.structs.replace(self.meta, **changes)
        self._context.post(MetaChanged(self.meta))

    def _addresses(self) -> tuple[str, ...]:
        port = self._context.transport.port
        hosts = list(self._context.options.binds) or usable()
        return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)


def _tier() -> Tier:
    return Tier.BATTERY if platform.power_source() == "battery" else Tier.MAINS
