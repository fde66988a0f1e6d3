"""Three machines as gates see them: nothing of the one that the tests run on."""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw.skills.json5 import Json

CONFIG: dict[str, Json] = {
    "channels": {"slack": {"token": "x"}},
    "count": 0,
    "blank": "  ",
    "off": False,
    "list": [],
}
ENTRIES: dict[str, dict[str, Json]] = {
    "off": {"enabled": False},
    "env-configured": {"env": {"SOME_TOKEN": "x"}},
    "env-api-key": {"apiKey": "k"},
}


@dataclass(frozen=True)
class FakeMachine:
    system: str
    bins: frozenset[str]
    variables: dict[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset({"json"})

    def has_bin(self, name: str) -> bool:
        return name in self.bins

    def variable(self, name: str) -> str:
        return self.variables.get(name, "")

    def has_module(self, name: str) -> bool:
        return name in self.modules

    def config(self, path: str) -> Json:
        value: Json = CONFIG
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def entry(self, key: str) -> dict[str, Json]:
        return ENTRIES.get(key, {})


MACHINES = {
    "linux": FakeMachine("linux", frozenset({"sh", "git", "ffmpeg"}), {"GITHUB_TOKEN": "t", "EMPTY": ""}),
    "darwin": FakeMachine("darwin", frozenset({"sh", "git", "brew", "osascript"}), {"EMPTY": ""}),
    "win32": FakeMachine("win32", frozenset({"git", "winget"}), {"EMPTY": ""}),
}
