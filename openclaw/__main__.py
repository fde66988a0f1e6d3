"""The `openclaw` command's entry: runs it, and turns every failure into one message and one exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
COMPLETE_VARIABLE = "_OPENCLAW_COMPLETE"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    import click

    from openclaw.cli.root import cli
    from openclaw.errors import MeshError

    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        return _complete(cli, instruction)
    meta: dict[str, object] = {}
    try:
        with cli.make_context("openclaw", args) as context:
            meta = context.meta
            code = cli.invoke(context)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except MeshError as error:
        return _fail(meta, str(error), error.kind, error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "openclaw"
        return _fail(meta, f"{error.format_message()} (see: {command} --help)", "usage", 2)
    except click.ClickException as error:
        return _fail(meta, error.format_message(), "error", error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        return _fail(meta, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), "os", 1)


def _fail(meta: dict[str, object], message: str, kind: str, exit_code: int) -> int:
    if meta.get("json"):
        import json

        print(json.dumps({"ok": False, "error": {"type": kind, "message": message}}), flush=True)
    else:
        print(f"openclaw: {message}", file=sys.stderr)
    return exit_code


def _complete(cli: click.Command, instruction: str) -> int:
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, "openclaw", COMPLETE_VARIABLE, instruction)


if __name__ == "__main__":
    sys.exit(main())
