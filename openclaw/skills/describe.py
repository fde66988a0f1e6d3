"""From a front matter to a skill: who it is, what it asks for, what can be run of it. Pure.

Lenient where other programs are, and every leniency is told with its line. What cannot be known for sure makes the
skill not eligible instead of freely runnable: `problem` says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw.skills.entries import Entry, read_entries
from openclaw.skills.gating import ALIASES, SYSTEMS, Gate
from openclaw.skills.json5 import Json, NotJson, parse

NAME_CHARS_MAX = 64
DESCRIPTION_CHARS_MAX = 1024
VERSION_CHARS_MAX = 64
CATEGORY_CHARS_MAX = 64
MANIFESTS = ("openclaw", "clawdbot", "clawdis")
OURS = "openclaw-mesh"
FORBIDDEN_IN_NAMES = frozenset(" :/\\@,")


@dataclass(frozen=True, slots=True)
class Described:
    """`name` is empty where the folder's name has to do; `problem` is why it cannot be offered, or ""."""

    name: str
    description: str
    version: str = ""
    category: str = ""
    gate: Gate = field(default_factory=Gate)
    entries: tuple[Entry, ...] = ()
    problem: str = ""

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)


class Told:
    """Collects what is told to the author: (top-level key, text)."""

    def __init__(self) -> None:
        self.warnings: list[tuple[str, str]] = []

    def __call__(self, key: str, text: str) -> None:
        self.warnings.append((key, text))


def usable(name: str) -> bool:
    """Whether a name can be written after `--skill` and shown."""
    return 0 < len(name) <= NAME_CHARS_MAX and name.isprintable() and not FORBIDDEN_IN_NAMES & set(name)


def describe(values: dict[str, Json], broken: frozenset[str], folder: str, told: Told) -> Described | None:
    """The skill in `folder`; None when it has no description or no name that can be used."""
    name = _name(text_of(values.get("name")), folder, told)
    description = text_of(values.get("description"))
    if not description:
        told("description", "there is no description, so this is no skill")
        return None
    if not name:
        return None
    if len(description) > DESCRIPTION_CHARS_MAX:
        told("description", f"over {DESCRIPTION_CHARS_MAX} characters")
    metadata = _block(values.get("metadata"), "metadata", told)
    theirs = next((block for key in MANIFESTS if (block := _block(metadata.get(key), key, told))), {})
    ours = _block(metadata.get(OURS), OURS, told)
    version = text_of(values.get("version")) or text_of(metadata.get("version"))
    if not version.isprintable() or len(version) > VERSION_CHARS_MAX:
        told("version", "no version that can be shown")
        version = ""
    problem = "metadata that can be read (see: openclaw skill list)" if "metadata" in broken else ""
    entries, wrong = read_entries(_block(ours.get("entrypoints"), "entrypoints", told))
    for each in wrong:
        told("metadata", each)
    return Described(
        name,
        description[:DESCRIPTION_CHARS_MAX],
        version,
        _category(ours, told),
        _gate(name, theirs, ours, told),
        entries,
        problem,
    )


def text_of(value: Json) -> str:
    return value.strip() if isinstance(value, str) else ""


def words(value: Json) -> tuple[str, ...]:
    """A list, or a text with commas; what is neither is nothing."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(
        text for part in parts if isinstance(part, str | int | float) and (text := str(part).strip())
    )


def _name(name: str, folder: str, told: Told) -> str:
    if not name:
        told("name", f"there is no name; the folder's is taken: {folder}")
    elif not usable(name):
        told("name", f"{name!r} cannot be written on a command line; the folder's name is taken: {folder}")
    else:
        if name != folder:
            told("name", f"the name {name!r} is not the folder's, {folder!r}")
        return name
    return folder if usable(folder) else ""


def _block(value: Json, key: str, told: Told) -> dict[str, Json]:
    """A mapping, also one that stands there as JSON in a text, as a strict reading of the format wants it."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = parse(value)
        except NotJson as error:
            told("metadata", f"{key} is not JSON: {error}")
            return {}
    return value if isinstance(value, dict) else {}


def _category(ours: dict[str, Json], told: Told) -> str:
    category = text_of(ours.get("category"))
    if not category.isprintable() or len(category) > CATEGORY_CHARS_MAX:
        told("metadata", "no category that can be shown")
        return ""
    return category


def _gate(name: str, theirs: dict[str, Json], ours: dict[str, Json], told: Told) -> Gate:
    requires = _block(theirs.get("requires"), "requires", told)
    systems = words(theirs.get("os"))
    for system in systems:
        if system in ALIASES:
            told(
                "metadata", f"os {system!r} is {ALIASES[system]!r} to OpenClaw, which never runs it otherwise"
            )
        elif system not in SYSTEMS:
            told("metadata", f"os {system!r} is no system that there is; there are {', '.join(SYSTEMS)}")
    paths = requires.get("config")
    if isinstance(paths, list) and any(isinstance(path, dict) for path in paths):
        told("metadata", "a configuration that is an object is passed over; only paths are understood")
    more = theirs.get("envVars")
    named = (
        [each.get("name") if isinstance(each, dict) else each for each in more]
        if isinstance(more, list)
        else []
    )
    our_requires = _block(ours.get("requires"), "requires", told)
    return Gate(
        key=text_of(theirs.get("skillKey")) or name,
        always=theirs.get("always") is True,
        os=systems,
        bins=words(requires.get("bins")),
        any_bins=words(requires.get("anyBins")),
        env=words(requires.get("env")),
        config=words(paths),
        primary_env=text_of(theirs.get("primaryEnv")),
        more_env=tuple(text for each in named if (text := text_of(each))),
        python=words(our_requires.get("python")),
        install=text_of(ours.get("install")),
    )
