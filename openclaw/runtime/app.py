"""One running node: its parts started in the order in which they depend on each other, and ended in reverse.

A part that cannot start takes those before it down again, and its error is what a person sees. The node serves
when the core runs and the control socket listens; discovery comes after that, so no network trouble can delay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import secrets
import signal
import sys
import time
from logging.handlers import RotatingFileHandler

import zmq

from openclaw import platform, wire
from openclaw.config import BULK_OFFSET, INTRO_OFFSET, Settings
from openclaw.discovery.discovery import Discovery
from openclaw.discovery.discovery import Sources as DiscoverySources
from openclaw.effects import (
    Event,
    ExecutorDown,
    LinkDown,
    LinkUp,
    Received,
    Started,
    StopAsked,
)
from openclaw.executor.link import LIMITS, ExecutorLink
from openclaw.executor.paths import socket_path
from openclaw.faultpoints import of_environment
from openclaw.files import Files
from openclaw.ids import BASE32, NodeId
from openclaw.messages import AnyMessage, DialBulk, Guard, Query, Reply, RosterSync
from openclaw.node import Node
from openclaw.runtime.bringing import Bringing
from openclaw.runtime.context import Context
from openclaw.runtime.control import Control
from openclaw.runtime.copies import Copies
from openclaw.runtime.faults import Faults
from openclaw.runtime.handlers import Handlers
from openclaw.runtime.intake import Intake
from openclaw.runtime.joining import open_mesh
from openclaw.runtime.keeping import Keeping
from openclaw.runtime.loop import CoreLoop
from openclaw.runtime.metrics import measure
from openclaw.runtime.operations import Operations
from openclaw.runtime.options import StartOptions
from openclaw.runtime.peers import Peers
from openclaw.runtime.perform import Perform
from openclaw.runtime.presence import Presence
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.queries import Queries
from openclaw.runtime.retention import Retention
from openclaw.runtime.sessions import Sessions
from openclaw.runtime.skills import Skills
from openclaw.runtime.sources import Sources
from openclaw.runtime.staging import Staging
from openclaw.runtime.submit import Submissions
from openclaw.runtime.tasks import Tasks
from openclaw.runtime.tracing import Tracing
from openclaw.runtime.verify import admit
from openclaw.store import Store
from openclaw.transport.bulk import Bulk
from openclaw.transport.intro import Intro
from openclaw.transport.mesh import MeshTransport
from openclaw.transport.poller import SyncSocket
from openclaw.transport.sockets import raise_limits
from openclaw.transport.zap import Zap
from openclaw.trust.identity import Identity

BOOT_CHARS = 6
ORPHAN_S = 3600.0
CLOSE_S = 5.0
OFFERED_EVERY_S = 0.005
GOODBYE_S = 0.05  # for what was sent last to leave: closing a socket drops what waits in it
SWITCH_S = 0.0005  # LMDB gives up the interpreter's lock at each operation: a busy loop shall return it soon
LOG_BYTES_MAX = 4 << 20
LOG_FILES = 3
LOG_NAME = "node.log"

log = logging.getLogger("openclaw")


def serve(options: StartOptions) -> int:
    """Runs the node until it is told to stop. The exit code; raises `MeshError` when it could not start."""
    sys.setswitchinterval(SWITCH_S)
    return asyncio.run(_serve(options))


async def _serve(options: StartOptions) -> int:
    async with contextlib.AsyncExitStack() as stack:
        app = App(options, stack)
        await app.start()
        app.announce()
        app.heed_signals()
        return await app.run()


class App:
    """The parts of one node. `start` fills `stack` with what ends them, in reverse."""

    _loop: CoreLoop

    def __init__(self, options: StartOptions, stack: contextlib.AsyncExitStack) -> None:
        self._options, self._stack = options, stack
        self._settings = Settings(
            queued_max=options.limits.queue_tasks,
            guard_grace_s=options.limits.takeover_s,
            lease_s=options.limits.lease_s,
            lease_margin_s=1.0 + options.limits.lease_s / 8,
        )
        self._counters = wire.Counters()
        self._stopping = False
        self._left = False
        self._discovery: Discovery | None = None
        self._keep = True  # until the core says otherwise: after a crash the next start adopts what runs
        self._wall_offset_s = time.time() - platform.boot_clock_s()

    async def start(self) -> None:
        options = self._options
        identity = self._stack.enter_context(Identity.open(options.state_dir, options.name))
        self._start_log()
        opened = Store.open(options.state_dir / "store", power_lost=identity.power_lost)
        store = self._stack.enter_context(contextlib.closing(opened))
        if store.migrated_from is not None:
            log.info(
                "the store was brought up to this version; what was there before: %s", store.migrated_from
            )
        self._sockets: zmq.Context[SyncSocket] = zmq.Context()
        raise_limits(self._sockets)
        self._stack.callback(self._sockets.destroy, linger=0)
        mesh, self._met = await open_mesh(
            options, identity.keys, store, self._sockets, self._wall_offset_s + platform.boot_clock_s()
        )
        boot = "".join(secrets.choice(BASE32) for _ in range(BOOT_CHARS))
        restored = store.restored()
        seed = secrets.randbits(64)
        node = Node(
            identity.keys.node_id,
            boot,
            self._settings,
            lambda stream: random.Random(f"{seed}:{stream}"),
            restored,
        )
        self.context = Context(
            options,
            self._settings,
            options.state_dir,
            identity.keys,
            boot,
            store,
            Files(options.state_dir / "files"),
            mesh,
            node,
            platform.boot_clock_s,
            self._wall_offset_s,
        )
        self._tracing = Tracing(self.context, self._stack, log.warning)
        self._faults = Faults(of_environment())
        await self._start_services()
        await self._start_core()
        await self._start_surroundings()

    async def _start_services(self) -> None:
        """Everything that the core's effects and the operations need; nothing is served yet."""
        context, options = self.context, self._options
        context.post = self._faults.hearing(self._tracing.posting(lambda event: self._loop.post(event)))
        context.send = self._faults.sending(self._tracing.sending(self._send))
        self._take = self._faults.hearing(lambda event: self._loop.offer(event))
        self.peers = Peers(context, self._sockets, log.warning)
        zap = Zap(self._sockets, context.mesh.roster, self._counters)
        self._stack.callback(zap.close)
        await self._start_ports(options.port)
        context.queries = Queries(self._send)
        self._stack.push_async_callback(context.queries.close)
        context.skills = Skills(context)
        await context.skills.first()
        context.link = ExecutorLink(
            options.state_dir, self._executor_said, context.name_of(context.me), ORPHAN_S,
            LIMITS._replace(kept_bytes=options.limits.output_bytes, slots=options.slots or os.cpu_count() or 1),
        )  # fmt: skip
        self.sources = Sources(context)
        self.pulls = Pulls(context, self.sources)
        self.retention = Retention(context, self.sources)
        self.bringing = Bringing(context, self.pulls, self.retention)
        self.copies = Copies(context, self.sources, self.pulls)
        self._stack.push_async_callback(self.copies.close)
        self.staging = Staging(context, self.sources, self.pulls, self.bringing, self.retention)
        self._stack.push_async_callback(self.staging.close)
        self.keeping = Keeping(context, self.bringing, self._offer)
        self._stack.push_async_callback(self.keeping.close)
        self.submissions = Submissions(context, Intake(context, self.retention))
        self.tasks = Tasks(context)
        self.handlers = Handlers(context)

    async def _start_ports(self, port: int) -> None:
        context = self.context
        binds = list(self._options.binds) or [platform.any_address()]
        transport = context.transport = MeshTransport(
            self._sockets, context.keys, context.me, context.mesh.roster, binds, port,
            self._tracing.receiving(self._message), self._link, counters=self._counters, log=log.warning,
        )  # fmt: skip
        await transport.start()
        self._stack.push_async_callback(transport.close)
        self._intro = Intro(
            self._sockets, context.mesh.gate, binds, port and port + INTRO_OFFSET,
            self.peers.answer_intro, counters=self._counters, log=log.warning,
        )  # fmt: skip
        self._stack.push_async_callback(self._intro.close)
        context.bulk = Bulk(
            self._sockets, context.keys, context.me, context.mesh.roster, binds, port and port + BULK_OFFSET,
            lambda peer, ref: self.sources.serve(peer, ref), self.peers.bulk_addresses,
            self.peers.request_bulk_dial, counters=self._counters, log=log.warning,
        )  # fmt: skip
        await context.bulk.start()
        self._stack.push_async_callback(context.bulk.close)

    async def _start_core(self) -> None:
        context, options = self.context, self._options
        perform = Perform(
            context,
            self.staging,
            self.submissions,
            self.retention,
            meta_learned=self.peers.meta_learned,
            roster_differs=self.peers.roster_differs,
            stopped=self._stopped,
            cloned=self._cloned,
            raised=self._raised,
        )
        commit = self._faults.committing(context.store.commit)
        performed = self._faults.performing(self._tracing.performing(perform))
        self._loop = CoreLoop(context.node, context.now, commit, performed)
        self.presence = Presence(context, self._intro.port, await self.handlers.load(options.handlers))
        context.post(Started(self.presence.meta, self._wall_offset_s))
        self.peers.start()
        self.peers.introduce(self._met)
        self._stack.push_async_callback(self.peers.close)
        self._core = asyncio.create_task(self._loop.run())
        self._stack.push_async_callback(self._end_core)
        context.link.keep()
        operations = Operations(
            context, self.submissions, self.tasks, self.pulls, self.bringing, self.peers, self.stop,
            self.presence.drain,
        )  # fmt: skip
        sessions = Sessions(context, self.submissions, self.tasks, self.sources)
        table = {**operations.table(), **context.skills.table(), **self.copies.table()}
        table |= sessions.table()
        control = Control(socket_path(context.state_dir, "control.sock"), self._faults.answering(table))
        await control.start()
        self._stack.push_async_callback(control.close)

    async def _start_surroundings(self) -> None:
        """What the node does not need in order to serve."""
        context, options = self.context, self._options
        watching = (measure(context), context.skills.watch(), self.presence.find_gpus(), self.retention.run())
        for work in watching:
            self._stack.callback(asyncio.create_task(work).cancel)
        discovery = self._discovery = Discovery(
            context.mesh.tag,
            context.me,
            context.transport.port,
            self._intro.port,
            DiscoverySources(options.mdns, options.tailscale, frozenset(), options.seeds, options.binds),
            self.peers.found,
            lambda _: self.presence.moved(discovery.tailscale_address),
            log.warning,
        )
        await discovery.start()
        self._stack.push_async_callback(discovery.stop)

    def _start_log(self) -> None:
        """`node.log` in the state folder, rotated; secrets never reach it."""
        path = self._options.state_dir / LOG_NAME
        handler = RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        self._stack.callback(handler.close)
        self._stack.callback(log.removeHandler, handler)

    # --- what the world says ---------------------------------------------------------------------

    def _message(self, sender: NodeId, data: bytes) -> None:
        try:
            message = wire.decode(data)
        except wire.Rejected as rejected:
            self._counters.count(rejected.reason)
            if isinstance(rejected, wire.Incompatible):
                self.context.incompatible.add(sender)
            return
        self.context.incompatible.discard(sender)
        match message:
            case RosterSync():
                self.peers.received(message, sender)
            case Query() | Reply():
                self.context.queries.received(message, sender)
            case DialBulk():
                self.context.bulk.dial(sender, [f"{host}:{message.port}" for host in message.addresses])
            case _:
                admitted = admit(self.context, message, sender)
                if isinstance(admitted, Guard):
                    self.keeping.receive(admitted, sender)
                elif admitted is not None:
                    self._offer(admitted, sender)

    def _offer(self, message: AnyMessage, sender: NodeId) -> None:
        if not self._take(Received(message, sender)):
            self._counters.count(wire.Reason.THROTTLED)

    def _send(self, peer: NodeId, message: AnyMessage) -> bool:
        """Whoever makes a message cuts it to size; one that slipped through is lost like any other, and said."""
        try:
            data = wire.encode(message)
        except ValueError as error:
            log.error("not sent to %s: %s", peer, error)
            return False
        return self.context.transport.send(peer, data)

    def _executor_said(self, event: Event) -> None:
        if isinstance(event, ExecutorDown):
            self.staging.abandon()
        self.context.post(event)

    def _link(self, peer: NodeId, up: bool, refused: bool) -> None:
        self.context.post(LinkUp(peer) if up else LinkDown(peer, refused))

    # --- the end ---------------------------------------------------------------------------------

    def stop(self, keep: bool, grace_s: float | None, leave: bool) -> None:
        """Begins a clean stop, once; `leave` also gives up the membership when it is done."""
        if not self._stopping:
            self._stopping, self._left = True, leave
            grace_s = self._settings.stop_grace_s if grace_s is None else grace_s
            self.context.post(StopAsked(keep, grace_s))

    def heed_signals(self) -> None:
        """Of a process that is this node and nothing else."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: self.stop(False, None, False))

    async def offer(self, reference: str) -> None:
        """One more handler; returns when this node's own core knows of it."""
        types = await self.handlers.load([reference])
        self.presence.offer_handlers(types)
        while (meta := self.context.node.membership.meta_of(self.context.me)) and meta.handlers != types:
            await asyncio.sleep(OFFERED_EVERY_S)

    async def run(self) -> int:
        """Until the node has stopped."""
        await self._core
        if self._left:
            await self.peers.leave()
        await asyncio.sleep(GOODBYE_S)
        return 0

    def _stopped(self, keep: bool) -> None:
        """The core is done: nothing runs, or what runs stays with the executor."""
        self._keep = keep
        self._loop.stop()

    async def _end_core(self) -> None:
        self._loop.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._core, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSE_S):
                await (self.context.link.detach() if self._keep else self.context.link.stop())
        except TimeoutError:
            log.error("the executor has not ended within %g s; it goes on ending its commands", CLOSE_S)
            await self.context.link.detach()

    def _raised(self) -> None:
        """Our incarnation rose: at the start, or because we slept or were away. The network may be another."""
        if self._discovery is not None:
            self._discovery.refresh()

    def _cloned(self, boot: str) -> None:
        log.error(
            "another node runs with this node's key (start %s): this state folder is a copy. Stop one of them; for "
            "a new machine start with an empty state folder and --join",
            boot,
        )
        self.context.warnings.append("another node runs with this node's key; one of the two is a copy")

    # --- words -----------------------------------------------------------------------------------

    def announce(self) -> None:
        """The line for programs, or the text for people."""
        context = self.context
        if self._options.json:
            ready = {
                "event": "ready",
                "node": {"id": context.me, "name": context.name_of(context.me)},
                "mesh": {"id": context.mesh.mesh_id, "name": context.mesh.name},
                "addresses": list(self.presence.meta.addresses),
                "ports": [context.transport.port, self._intro.port, context.bulk.port],
                "state_dir": str(context.state_dir),
            }
            print(json.dumps(ready), flush=True)
