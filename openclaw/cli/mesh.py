"""Commands that look at the mesh as a whole, and the two that need no node: `config` and `completion`."""

from __future__ import annotations

import sys
from typing import Any

import click

from openclaw.cli.common import connect, json_option, state_dir, state_dir_option
from openclaw.cli.output import emit, facts, fancy, table, when
from openclaw.client import Doc

FRESH_METRICS_S = 30
DAY_S = 86_400


@click.command()
@click.option("--watch", is_flag=True, help="Again whenever something changed, until Ctrl-C.")
@json_option
@state_dir_option
def nodes(watch: bool, as_json: bool) -> None:
    """List the machines of the mesh: their state, load and path."""
    with connect() as client:
        for frame in client.stream("nodes", watch=watch):
            if "nodes" not in frame:
                continue
            if as_json:
                emit({"nodes": frame["nodes"]})
                continue
            if watch and fancy():
                click.clear()
            _nodes_table(frame["nodes"])


def _nodes_table(found: list[Doc]) -> None:
    headers = ("NAME", "STATE", "RUNNING", "QUEUED", "CPU", "MEM", "DISK", "PATH", "RTT", "SYSTEM", "ADDRESS")
    table(headers, (_node_row(node) for node in found))


def _node_row(node: Doc) -> tuple[str, ...]:
    marks = "".join(mark for mark, holds in ((" *", node["self"]), (" (leader)", node["leader"])) if holds)
    metrics = node["metrics"] or {}
    state = "draining" if node["draining"] and node["state"] == "alive" else node["state"]
    return (
        node["name"] + marks,
        state,
        f"{node['running']}/{node['slots'] or '?'}",
        str(node["queued"]),
        _percent(metrics, "cpu_percent"),
        _percent(metrics, "memory_percent"),
        _percent(metrics, "disk_percent"),
        node["path"] or "-",
        "-" if node["rtt_ms"] is None else f"{node['rtt_ms']:.1f} ms",
        f"{node['platform']}/{node['arch']}" if node["platform"] else "-",
        next(iter(node["addresses"]), "-"),
    )


def _percent(metrics: Doc, key: str) -> str:
    """A stale reading says nothing about the machine as it is now."""
    if metrics.get(key) is None or (metrics.get("age_s") or 0) > FRESH_METRICS_S:
        return "-"
    return f"{metrics[key]:.0f}%"


@click.command()
@json_option
@state_dir_option
def status(as_json: bool) -> None:
    """Show the mesh in a few lines: nodes, leader, skills, tasks."""
    with connect() as client:
        document = {key: value for key, value in client.call("status").items() if key != "ok"}
    if as_json:
        emit(document)
        return
    leading, counted = document["leader"], document["nodes"]
    rows = [
        ("mesh", f"{document['mesh']['name']} ({document['mesh']['id']})"),
        ("this node", document["node"]["name"]),
        ("leader", "none now" if leading is None else f"{leading['name']}, term {leading['term']}"),
        ("nodes", _counts(counted)),
        ("skills", f"{document['skills']['total']} ({_counts(document['skills']['by_category']) or 'none'})"),
        ("tasks", _counts(document["tasks"])),
    ]
    facts([*rows, *(("warning", text) for text in document.get("warnings", ()))])


def _counts(counted: dict[str, Any]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counted.items())


@click.command()
@click.option("--watch", is_flag=True, help="Again at each change, until Ctrl-C.")
@json_option
@state_dir_option
def leader(watch: bool, as_json: bool) -> None:
    """Show the node that schedules now."""
    with connect() as client:
        for frame in client.stream("leader", watch=watch):
            if "leader" not in frame:
                continue
            found = frame["leader"]
            if as_json:
                emit({"leader": found})
            elif found is None:
                print("no leader at the moment; one is being elected", flush=True)
            else:
                print(f"{found['name']}, term {found['term']}, since {when(found['since'])}", flush=True)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@json_option
@state_dir_option
def events(follow: bool, as_json: bool) -> None:
    """Show what happened, as this node saw it."""
    with connect() as client:
        lines = (frame["line"] for frame in client.stream("events", follow=follow) if "line" in frame)
        if as_json and not follow:
            emit({"events": list(lines)})
            return
        for line in lines:
            if as_json:
                emit(line)
            else:
                print(f"{when(line['at'])}  {line['kind']}  {line['text']}", flush=True)


@click.command()
@json_option
@state_dir_option
def config(as_json: bool) -> None:
    """Show every setting, its value, and where it comes from.

    A flag of `node start` beats OPENCLAW_MESH_NAME and the like, which beat config.toml in the state folder.
    """
    from openclaw.cli.settings import CONFIG_FILE, resolve

    folder = state_dir()
    found = resolve(folder, {})
    if as_json:
        settings = {name: {"value": value, "source": source} for name, (value, source) in found.items()}
        emit({"state_dir": str(folder), "file": str(folder / CONFIG_FILE), "settings": settings})
        return
    facts((("state folder", str(folder)), ("file", str(folder / CONFIG_FILE))))
    print()
    table(
        ("SETTING", "VALUE", "FROM"),
        ((name, _shown(name, value), source) for name, (value, source) in found.items()),
    )


def _shown(name: str, value: object) -> str:
    match value:
        case int() if name.endswith("_bytes"):
            return _size(value)
        case int() | float() if name.endswith("_s"):
            return f"{value / DAY_S:g}d" if value >= DAY_S else f"{value:g}s"
        case None | ():
            return "-"
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(value)
    return str(value)


def _size(value: int) -> str:
    """As it may be written: the largest unit of which it is a whole number."""
    for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if value and not value % (1 << shift):
            return f"{value >> shift}{unit}"
    return str(value)


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script, for example: eval "$(openclaw completion bash)"."""
    from click.shell_completion import get_completion_class

    from openclaw.__main__ import COMPLETE_VARIABLE
    from openclaw.cli.root import cli

    script = get_completion_class(shell)
    assert script is not None
    instance = script(cli, {}, "openclaw", COMPLETE_VARIABLE)
    sys.stdout.write(instance.source_template % instance.source_vars() + "\n")
