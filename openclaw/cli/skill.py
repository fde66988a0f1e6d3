"""`openclaw skill`: what the machines of the mesh can do, and whether a folder is a skill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from openclaw.cli.common import connect, json_option, state_dir, state_dir_option
from openclaw.cli.output import emit, facts, leave, note, table
from openclaw.client import Doc

TREE_CHARS = 8


@click.group()
def skill() -> None:
    """Show what the machines can do, and check a folder that is to be a skill."""


@skill.command("list")
@click.option("--refresh", is_flag=True, help="Read this machine's folders again first.")
@json_option
@state_dir_option
def list_skills(refresh: bool, as_json: bool) -> None:
    """List the skills of the whole mesh: a line each, with the machines that have it."""
    with connect() as client:
        found = _answer(client.call("skills", refresh=refresh))
    if as_json:
        emit(found)
        return
    table(("NAME", "CATEGORY", "VERSION", "TREE", "NODES"), (_line(each) for each in found["skills"]))
    counts = ", ".join(f"{category} {count}" for category, count in found["by_category"].items())
    print(f"\n{found['total']} skills" + (f": {counts}" if counts else ""))
    for warning in found["warnings"]:
        note(f"{warning['file']}:{warning['line']}: {warning['message']}")


def _answer(frame: Doc) -> Doc:
    return {key: value for key, value in frame.items() if key != "ok"}


def _line(found: Doc) -> tuple[str, ...]:
    variants: dict[tuple[str, str], list[str]] = {}
    for node in found["nodes"]:
        name = node["name"] if node["eligible"] else f"({node['name']}: no {', no '.join(node['missing'])})"
        variants.setdefault((node["version"], node["tree"]), []).append(name)
    several = len(variants) > 1
    nodes = [
        f"{tree[:TREE_CHARS] or 'none'}: {', '.join(names)}" if several else ", ".join(names)
        for (_, tree), names in variants.items()
    ]
    return (
        found["name"],
        found["category"],
        " / ".join(dict.fromkeys(version or "-" for version, _ in variants)),
        " / ".join(tree[:TREE_CHARS] or "-" for _, tree in variants),
        "; ".join(nodes),
    )


@skill.command()
@click.argument("name")
@json_option
@state_dir_option
def show(name: str, as_json: bool) -> None:
    """Show one skill: where it is, what is missing where, how to call it."""
    with connect() as client:
        found = _answer(client.call("skill", name=name))
    if as_json:
        emit(found)
        return
    about = found["skill"]
    facts((("name", about["name"]), ("category", about["category"]), ("about", found["description"])))
    print()
    rows = (
        (node["name"], node["version"] or "-", node["tree"][:TREE_CHARS] or "-", _state(node))
        for node in about["nodes"]
    )
    table(("NODE", "VERSION", "TREE", "STATE"), rows)
    for entry, raw in found["entries"].items():
        print(f"\nopenclaw run --skill {name}:{entry}{_usage(raw)}")
        print(f"  {raw.get('description', '')}".rstrip())
        for key, part in _properties(raw).items():
            print(f"  -p {key}=…  {part.get('description', '')}".rstrip())


def _state(node: Doc) -> str:
    if not node["eligible"]:
        return f"no {', no '.join(node['missing'])}"
    return f"ready; lacks for {'; for '.join(node['missing'])}" if node["missing"] else "ready"


def _properties(raw: Doc) -> dict[str, Any]:
    return dict((raw.get("params") or {}).get("properties") or {})


def _usage(raw: Doc) -> str:
    required = (raw.get("params") or {}).get("required") or []
    return "".join(f" -p {name}=…" for name in required)


@skill.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
@state_dir_option
def check(folder: Path, as_json: bool) -> None:
    """Check a folder that is to be a skill. Needs no node."""
    from openclaw.skills.lint import check as checked

    found = checked(folder, state_dir())
    described = found.described
    if as_json:
        about = None
        if described is not None:
            entries = [entry.name for entry in described.entries]
            about = {
                "name": described.name,
                "version": described.version,
                "entries": entries,
                "tree": found.tree,
            }
        problems = [
            dict(zip(("level", "file", "line", "message"), each, strict=True)) for each in found.problems
        ]
        emit({"ok": found.ok, "skill": about, "missing_here": list(found.missing), "problems": problems})
    else:
        for level, file, line, text in found.problems:
            print(f"{file}:{line}: {level}: {text}")
        if described is not None:
            names = ", ".join(entry.name for entry in described.entries) or "none"
            print(f"{described.name}: {'fine' if found.ok else 'not yet'}; entrypoints: {names}")
        if found.missing:
            print(f"on this machine it lacks: {', '.join(found.missing)}")
    leave(0 if found.ok else 1)
