"""The skills of this node, kept true while it runs, and those of the whole mesh for whoever asks here.

Folders are looked at again every few seconds, the rarer the longer a look takes. What differs is published; what a
task is to run is found here and never in what another node says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from openclaw.config import SKILLS_EVERY_S, SKILLS_FIRST_S_MAX, SKILLS_SHARE_MAX
from openclaw.errors import MeshError, Unavailable
from openclaw.ids import NodeId
from openclaw.messages import Status
from openclaw.records import Payload, SkillCall, SkillRow
from openclaw.runtime.context import Context
from openclaw.runtime.control import Emit, Frame, Operation
from openclaw.runtime.docs import Doc
from openclaw.runtime.queries import Args
from openclaw.skills.gating import Gate, environment
from openclaw.skills.machine import ThisMachine
from openclaw.skills.registry import Skill, choose, fit, row
from openclaw.skills.resolve import resolved
from openclaw.skills.scan import Catalog, Scanner

OTHER = "other"
RESOLVING_MAX = (
    2  # calls whose parameters are checked at the same time: others wait, and the threads are for all
)
log = logging.getLogger("openclaw")


class Skills:
    """`rows` is what others are told. `published` is called, in the event loop, when that has changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._scanner = Scanner(context.options.skills_dirs, context.state_dir)
        self._looking = asyncio.Lock()
        self._resolving = asyncio.Semaphore(RESOLVING_MAX)
        self._took_s = 0.0
        self.catalog = Catalog()
        self.rows: tuple[SkillRow, ...] = ()
        self.published: Callable[[tuple[SkillRow, ...]], None] = lambda _: None
        context.queries.answerers["skill"] = self._answer_skill

    async def first(self) -> None:
        """The first look; a node with very many skills serves before it is through."""
        looking = asyncio.ensure_future(self.look())
        await asyncio.wait((looking,), timeout=SKILLS_FIRST_S_MAX)

    async def look(self) -> None:
        """Read the folders again, and publish what is different. When it returns, that has been done."""
        async with self._looking:
            catalog = await asyncio.to_thread(self._scan)
            for warning in set(catalog.warnings) - set(self.catalog.warnings):
                log.info("skills: %s:%d: %s", *warning)
            self.catalog = catalog
            rows = fit(row(skill) for skill in catalog.skills)
            if rows != self.rows:
                self.rows = rows
                self.published(rows)

    def _scan(self) -> Catalog:
        began_s = time.thread_time()
        try:
            return self._scanner.scan()
        finally:
            self._took_s = time.thread_time() - began_s

    async def watch(self) -> None:
        """For ever: notices what is installed, changed and removed."""
        while True:
            await asyncio.sleep(max(SKILLS_EVERY_S, self._took_s / SKILLS_SHARE_MAX))
            await self.look()

    def find(self, name: str) -> Skill | None:
        return self.catalog.find(name)

    async def resolve(self, payload: Payload, call: SkillCall) -> Payload:
        """The command that the call is here. Raises `SkillRefused`."""
        skill = self.find(call.name)
        if skill is not None and await asyncio.to_thread(self._scanner.changed, Path(skill.folder)):
            await self.look()
            skill = self.find(call.name)
        gate = skill.described.gate if skill is not None else Gate()
        own = environment(gate, ThisMachine(self._context.state_dir))
        async with self._resolving:
            return await asyncio.to_thread(resolved, payload, call, skill, own)

    # --- the mesh --------------------------------------------------------------------------------

    def table(self) -> dict[str, Operation]:
        return {"skills": self._list, "skill": self._show}

    def _holders(self, name: str) -> list[tuple[NodeId, SkillRow]]:
        return [(node, each) for node, each in self._everywhere() if each.name == name]

    def _everywhere(self) -> Iterator[tuple[NodeId, SkillRow]]:
        """Of every node that is there, in their order."""
        for node, view in sorted(self._context.node.membership.members().items()):
            if view.meta is not None and view.status in (Status.ALIVE, Status.SUSPECT):
                yield from ((node, each) for each in view.meta.skills)

    async def _list(self, request: Frame, _emit: Emit) -> Frame:
        if request.get("refresh"):
            await self.look()
        names: dict[str, list[tuple[NodeId, SkillRow]]] = {}
        for node, each in self._everywhere():
            names.setdefault(each.name, []).append((node, each))
        skills = [self._doc(name, holders) for name, holders in sorted(names.items())]
        by_category: dict[str, int] = {}
        for skill in skills:
            category = str(skill["category"])
            by_category[category] = by_category.get(category, 0) + 1
        return {
            "skills": skills,
            "total": len(skills),
            "by_category": dict(sorted(by_category.items())),
            "warnings": [
                {"file": file, "line": line, "message": text} for file, line, text in self.catalog.warnings
            ],
        }

    def _doc(self, name: str, holders: list[tuple[NodeId, SkillRow]]) -> Doc:
        best = choose(holders, self._context.me) or holders[0][1]
        return {
            "name": name,
            "category": best.category or OTHER,
            "description": best.description,
            "versions": sorted({each.version for _, each in holders}),
            "variants": len({each.tree for _, each in holders}),
            "nodes": [
                {
                    "id": node,
                    "name": self._context.name_of(node),
                    "version": each.version,
                    "tree": each.tree,
                    "eligible": each.eligible,
                    "missing": list(each.missing),
                    "entries": list(each.entries),
                }
                for node, each in holders
            ],
        }

    async def _show(self, request: Frame, _emit: Emit) -> Frame:
        """What is known of a skill in the mesh; with the entrypoints of the one that a call of it would mean."""
        name = str(request["name"])
        holders = self._holders(name)
        if not holders:
            raise Unavailable(
                f"no node of this mesh has a skill {name!r}; see: openclaw skill list", kind="no_such_skill"
            )
        chosen = choose(holders, self._context.me)
        shown = chosen or holders[0][1]
        nodes = [node for node, each in holders if each.tree == shown.tree]
        return {
            "skill": self._doc(name, holders),
            "tree": shown.tree,
            **await self._details(name, shown.tree, nodes),
        }

    async def _details(self, name: str, tree: str, nodes: list[NodeId]) -> Doc:
        """From our own copy, else from the first node that has it and answers."""
        mine = self.find(name)
        if mine is not None and mine.tree == tree:
            return _details(mine)
        for node in nodes:
            if node != self._context.me:
                try:
                    answer = await self._context.queries.ask(node, "skill", {"name": name, "tree": tree})
                except MeshError:
                    continue
                return {key: answer.get(key) for key in ("description", "entries", "variables")}
        raise Unavailable(
            f"no node that has the skill {name!r} answers; see: openclaw nodes", kind="no_answer"
        )

    async def _answer_skill(self, _peer: NodeId, args: Args) -> Args:
        skill = self.find(str(args["name"]))
        if skill is None or skill.tree != args["tree"]:
            raise MeshError("this node has no such skill any more", kind="no_such_skill")
        return _details(skill)


def _details(skill: Skill) -> Doc:
    described = skill.described
    return {
        "description": described.description,
        "entries": {entry.name: entry.raw for entry in described.entries},
        "variables": list(described.gate.variables()),
    }
