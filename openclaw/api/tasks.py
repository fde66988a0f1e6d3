"""What a program may submit beside handlers, and the future that it gets for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Doc = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command, as `openclaw run` has it. Its result is a `CommandResult`.

    `inputs` are files that go into its scratch directory, `outputs` names that come back from there. With `check`
    an exit code other than 0 is raised as `TaskError`.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    inputs: Sequence[str | Path] = ()
    outputs: Sequence[str] = ()
    check: bool = True

    def request(self) -> Doc:
        return {
            "kind": "command",
            "argv": list(self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "inputs": _inputs(self.inputs),
            "outputs": list(self.outputs),
        }


def _inputs(files: Iterable[str | Path]) -> list[Doc]:
    return [{"path": str(Path(file).absolute()), "name": Path(file).name} for file in files]


class Skill:
    """A call of a skill: `Skill("network:fetch", url=…)`. Its result is a `CommandResult`.

    Files among the parameters are paths here: inputs travel along, outputs come back (`CommandResult.files`).
    """

    def __init__(self, name: str, /, *args: str, **params: Any) -> None:
        self.name, self.args, self.params = name, args, params

    def request(self, described: Doc) -> Doc:
        """`described` is what the node says of the skill. Raises `MeshError` that names a wrong parameter."""
        from openclaw.skills.calls import call, pick

        name, _, entry_name = self.name.partition(":")
        request: Doc = {"kind": "skill", "argv": list(self.args)}
        skill: Doc = {"name": name, "tree": described["tree"]}
        if self.args and "/" in self.args[0] and not entry_name and not self.params:
            return {**request, "skill": skill, "title": f"{name}: {' '.join(self.args)}"}
        entry = pick(name, described["entries"], entry_name)
        made = call(name, entry, self.params, self.args)
        return {
            **request,
            "skill": {**skill, "entry": entry.name, "params": made.params},
            "title": made.title,
            "inputs": _inputs(file for _, file in made.inputs),
            "outputs": [Path(file).name for file in made.outputs],
            "needs": {"labels": dict(made.labels), **dict(made.room)},
        }


@dataclass(frozen=True)
class Options:
    """How and where tasks run, as the options of `openclaw run` say it; `Mesh.using` changes some of them."""

    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cpus: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    timeout_s: float = 0.0
    retries: int = 0
    once: bool = False
    no_overlap: bool = False
    replicas: int = 1
    priority: int = 0
    name: str = ""
    wait: bool = False

    def request(self, needs: Doc) -> Doc:
        """`needs` are the task's own: where both say something, these options do."""
        room = {"cpus": self.cpus, "memory_bytes": self.memory_bytes, "gpus": self.gpus}
        labels = {**needs.get("labels", {}), **self.labels}
        return {
            "needs": {
                **needs, "node": self.node, "labels": labels, **{key: size for key, size in room.items() if size},
            },
            "timeout_s": self.timeout_s,
            "retries": self.retries,
            "once": self.once,
            "no_overlap": self.no_overlap,
            "replicas": self.replicas,
            "priority": self.priority,
            "name": self.name,
        }  # fmt: skip


class MeshFuture(Future[Any]):
    """A task that was submitted, or is about to be. Also a task that runs can be cancelled: the mesh ends it."""

    def __init__(self, common: Doc, args: bytes, *, check: bool, wait: bool) -> None:
        super().__init__()
        self.common, self.args, self.check, self.wait = common, args, check, wait
        self.tag = 0
        self.task: str | None = None  # its id, once it has been accepted
        self.cancelled_late: Callable[[MeshFuture], None] | None = None

    def cancel(self) -> bool:
        """True unless it has ended. What the mesh makes of it shows in `openclaw task show`."""
        if not super().cancel():
            return False
        tell, self.cancelled_late = self.cancelled_late, None
        if tell is not None:
            tell(self)
        return True
