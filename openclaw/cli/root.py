"""The command `openclaw`: names every command and imports only the one that was asked for.

Start-up time is a promise (`openclaw run -- true` in tens of milliseconds), so a command's module is loaded
when that command is invoked, and the help of the list stands here.
"""

from __future__ import annotations

from importlib import import_module

import click

from openclaw import __version__
from openclaw.cli.common import state_dir_option

COMMANDS = {
    "node": ("openclaw.cli.node", "node", "Start, stop and manage the node on this machine."),
    "run": ("openclaw.cli.run", "run", "Run a command on the machine that can and has the fewest tasks."),
    "map": ("openclaw.cli.map", "map_lines", "Run a command once for each line of a file."),
    "explain": ("openclaw.cli.explain", "explain", "Say why a task is where it is, or why it waits."),
    "tasks": ("openclaw.cli.tasks", "tasks", "List tasks."),
    "task": ("openclaw.cli.tasks", "task", "Show, wait for, read or cancel one task."),
    "cp": ("openclaw.cli.copy", "cp", "Copy a file to another machine of the mesh, or back."),
    "nodes": ("openclaw.cli.mesh", "nodes", "List the machines of the mesh."),
    "status": ("openclaw.cli.mesh", "status", "Show the mesh in a few lines."),
    "leader": ("openclaw.cli.mesh", "leader", "Show who schedules."),
    "skill": ("openclaw.cli.skill", "skill", "Show what the machines can do; check a skill's folder."),
    "events": ("openclaw.cli.mesh", "events", "Show what happened: joins, elections, tasks."),
    "config": ("openclaw.cli.mesh", "config", "Show every setting and where its value comes from."),
    "completion": ("openclaw.cli.mesh", "completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="openclaw", message="%(prog)s %(version)s (OpenClaw Mesh)")
@state_dir_option
def cli() -> None:
    """Run work on whichever of your machines can do it and has the fewest tasks."""
