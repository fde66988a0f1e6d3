"""`python -m sims COMMAND`: each command is a module of its own, imported only when it is asked for.

A command's module has `add_parser(commands)`, which adds the sub-parser of the command's own name, and
`main(options) -> int`. Exit codes: 0 held, 1 a safety property did not, 2 a liveness property did not,
3 inconclusive (a run that did not repeat itself, a coverage mark that nothing hit).
"""

from __future__ import annotations

import argparse
import gc
import sys
from importlib import import_module

COMMANDS = {
    "run": ("sims.single", "one world, from a seed or from a file"),
    "campaign": ("sims.campaign", "many seeds, every knob drawn anew for each"),
    "scenarios": ("sims.catalogue", "every file in scenarios/ and bugs/"),
    "shrink": ("sims.shrink", "the smallest scenario that still fails as this one does"),
    "mutants": ("sims.mutants", "bugs planted in the core: is each of them caught?"),
    "measure": ("sims.measure", "how fast, how much, how often, at three nodes and at a thousand"),
    "timeline": ("sims.timeline", "a run to look at: one HTML file"),
    "live": ("sims.live", "a run to watch in the terminal"),
}


GARBAGE_EVERY = 50_000
"""What a world is made of lives long: looking for garbage in it as often as Python would costs a sixth of the time."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sims", description="Break the mesh on purpose, and look."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    gc.set_threshold(GARBAGE_EVERY)
    asked = arguments[0] if arguments else ""
    for name, (module, summary) in COMMANDS.items():
        if name == asked:
            import_module(module).add_parser(commands)
        else:
            commands.add_parser(name, help=summary)
    options = parser.parse_args(arguments)
    code = import_module(COMMANDS[options.command][0]).main(options)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
