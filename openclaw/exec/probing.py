"""Placing work while nobody leads: ask two, take the less loaded (Sparrow's power of two choices).

Promises: one round of probes at a time, each of bounded length; only nodes that could run the task are asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from openclaw import messages as m
from openclaw.effects import Effect, Rng, Send
from openclaw.exec.demand import Row
from openclaw.exec.eligible import refusals
from openclaw.ids import NodeId
from openclaw.records import Member, Meta

CHOICES = 2


class Probing:
    def __init__(self, rng: Rng) -> None:
        self.metas: dict[NodeId, Meta] = {}
        self.members: Mapping[NodeId, Member] = {}
        self.row = 0
        self.slots = 1  # what each task of that row takes
        self._rng = rng
        self._seq = 0
        self._asked: frozenset[NodeId] = frozenset()
        self._answers: dict[NodeId, m.Room] = {}

    def ask(self, rows: list[Row], alive: list[NodeId]) -> list[Effect]:
        """Probe for the first of `rows` that anybody of `alive` could run; nothing when nobody can."""
        self._asked, self._answers = frozenset(), {}
        for row in rows:
            able = [n for n in alive if not refusals(row.needs, self.metas.get(n), self.members.get(n), True)]
            if able:
                chosen = self._rng.sample(able, min(CHOICES, len(able)))
                self.row, self.slots = row.number, row.needs.size.slots
                self._seq += 1
                self._asked = frozenset(chosen)
                return [Send(node, m.Probe(self._seq)) for node in chosen]
        return []

    def answer(self, room: m.Room, sender: NodeId) -> bool:
        """Take an answer in; true when it was the last one."""
        if room.seq != self._seq or sender not in self._asked:
            return False
        self._answers[sender] = room
        return len(self._answers) == len(self._asked)

    def best(self) -> tuple[NodeId, m.Room] | None:
        """The less loaded of those that answered and have room. Ends the round."""
        rooms = [(room.load, node, room) for node, room in sorted(self._answers.items()) if room.free > 0]
        self._asked, self._answers = frozenset(), {}
        if not rooms:
            return None
        _, node, room = min(rooms, key=lambda answer: answer[0])
        return node, room
