"""The mesh as this node sees it, in the JSON of `CLI.md`: nodes, status, leader. Reads views, decides nothing."""

from __future__ import annotations

import platform as python_platform

import openclaw
from openclaw.ids import NodeId
from openclaw.messages import Status
from openclaw.records import Counts
from openclaw.runtime.context import Context
from openclaw.runtime.docs import Doc, counts_doc, node_ref, utc

INCOMPATIBLE = "incompatible"


class Views:
    """Built afresh at each call from the core's views."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def hello(self) -> Doc:
        context = self._context
        meta = context.node.membership.meta_of(context.me)
        return {
            "node": node_ref(context.me, context.name_of),
            "mesh": self.mesh(),
            "version": openclaw.__version__,
            "state_dir": str(context.state_dir),
            "addresses": list(meta.addresses) if meta is not None else [],
        }

    def mesh(self) -> Doc:
        return {"id": self._context.mesh.mesh_id, "name": self._context.mesh.name}

    def leader(self) -> Doc | None:
        """Whom this node follows; None while nobody leads."""
        election = self._context.node.election
        if election.leader is None:
            return None
        since = utc(election.since + self._context.wall_offset_s)
        ref = node_ref(election.leader.node, self._context.name_of) or {}
        return {**ref, "term": election.leader.term, "since": since}

    def nodes(self) -> list[Doc]:
        members = self._context.node.membership.members()
        rows = [self.node(node) for node in members]
        return sorted(rows, key=lambda row: (not row["self"], str(row["name"]), str(row["id"])))

    def node(self, node: NodeId) -> Doc:
        context = self._context
        view = context.node.membership.members()[node]
        meta, beat = view.meta, view.beat
        mine = node == context.me
        path = "self" if mine else self._path(node)
        leader = context.node.election.leader
        return {
            "id": node,
            "name": context.name_of(node),
            "state": self._state(node, view.status),
            "self": mine,
            "leader": leader is not None and leader.node == node,
            "addresses": list(meta.addresses) if meta else [],
            "path": path,
            "rtt_ms": round(view.rtt_s * 1000, 3) if view.rtt_s is not None else None,
            "version": meta.version if meta else None,
            "platform": meta.platform if meta else None,
            "arch": meta.arch if meta else None,
            "hostname": meta.hostname if meta else None,
            "tailscale": (meta.tailscale or None) if meta else None,
            "slots": meta.slots if meta else None,
            "memory_bytes": meta.memory_bytes if meta else None,
            "gpus": meta.gpus if meta else None,
            "running": beat.running if beat else 0,
            "queued": beat.queued if beat else 0,
            "draining": meta.draining if meta else False,
            "metrics": self._metrics(node),
            "skills": [skill.name for skill in meta.skills if skill.eligible] if meta else [],
            "handlers": list(meta.handlers) if meta else [],
            "labels": dict(meta.labels) if meta else {},
            "policy": str(meta.policy) if meta else None,
            "tier": str(meta.tier) if meta else None,
        }

    def status(self) -> Doc:
        context = self._context
        members = context.node.membership.members()
        states = [view.status for view in members.values()]
        beats = [view.beat for view in members.values() if view.beat is not None]
        counts = counts_doc([beat.counts for beat in beats] or [Counts()])
        roster = context.mesh.roster.members()
        admins = [
            member for member in roster.values() if "admin" in member.capabilities and not member.revoked
        ]
        return {
            "mesh": self.mesh(),
            "node": node_ref(context.me, context.name_of),
            "leader": self.leader(),
            "nodes": {
                "total": len(states),
                "alive": states.count(Status.ALIVE),
                "suspect": states.count(Status.SUSPECT),
                "down": states.count(Status.DOWN),
            },
            "skills": self._skills(),
            "scheduler": {
                "strategy": "least_tasks",
                "running": context.node.election.leader is not None,
                "granted_total": sum(beat.granted for beat in beats),
                "pending": counts["queued"],
            },
            "tasks": counts,
            "warnings": self._warnings(len(admins)),
        }

    def _skills(self) -> Doc:
        by_category: dict[str, set[str]] = {}
        for view in self._context.node.membership.members().values():
            for skill in view.meta.skills if view.meta is not None else ():
                by_category.setdefault(skill.category or "other", set()).add(skill.name)
        return {
            "total": len(set().union(*by_category.values())) if by_category else 0,
            "by_category": {category: len(names) for category, names in sorted(by_category.items())},
        }

    def _warnings(self, admins: int) -> list[str]:
        warnings = list(self._context.warnings)
        if free := self._context.disk_low():
            warnings.append(
                f"the disk under {self._context.state_dir} has only {free >> 20} MiB left: nothing is accepted "
                "and nothing new runs here until there is room"
            )
        if admins == 1 and len(self._context.mesh.roster.members()) > 1:
            warnings.append(
                "only one node can let others in; make a second admin: openclaw node invite --capabilities "
                "skill,shell,admin"
            )
        return warnings

    def _path(self, node: NodeId) -> str | None:
        found = self._context.transport.path(node)
        return found[0] if found is not None else None

    def _state(self, node: NodeId, status: Status) -> str:
        if status is not Status.ALIVE and node in self._context.incompatible:
            return INCOMPATIBLE
        return status.name.lower()

    def _metrics(self, node: NodeId) -> Doc | None:
        view = self._context.node.membership.members()[node]
        if view.beat is None:
            return None
        metrics = view.beat.metrics
        now = self._context.now()
        return {
            "cpu_percent": round(metrics.cpu_percent, 1),
            "memory_percent": round(metrics.memory_percent, 1),
            "disk_percent": round(metrics.disk_percent, 1),
            "running_tasks": view.beat.running,
            "age_s": round(max(0.0, now - view.last_heard), 3) if view.last_heard is not None else None,
        }


def facts() -> tuple[str, str, str]:
    """Host name, platform and architecture of this machine."""
    return python_platform.node(), python_platform.system().lower(), python_platform.machine()
