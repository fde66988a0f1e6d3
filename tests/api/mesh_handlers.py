"""Handlers that the tests of the Python API call."""

from __future__ import annotations

import time
from pathlib import Path

import openclaw


class Odd(Exception):
    """An exception that only this module knows."""


@openclaw.handler
def double(value: int) -> int:
    return value * 2


@openclaw.handler
def pair(first: object, second: object = "nothing", **named: object) -> list[object]:
    return [first, second, named]


@openclaw.handler
def divide(value: int, by: int) -> float:
    return value / by


@openclaw.handler
def odd(text: str) -> None:
    raise Odd(text)


@openclaw.handler
def echo(value: object) -> object:
    return value


@openclaw.handler
def opens(path: str) -> None:
    raise FileNotFoundError(2, "No such file", path)


@openclaw.handler
def waits(ready: str, gate: str) -> str:
    openclaw.task.progress(1, 4, "waiting")
    Path(ready).touch()
    while not Path(gate).exists():
        time.sleep(0.005)
    return "passed"


@openclaw.handler
def notes(path: str, word: str) -> str:
    """Leaves a line for each start of it."""
    with open(path, "a") as file:
        file.write(f"{word}\n")
    return word
