"""Which handlers a module declares, and how they are named: `MODULE` or `MODULE:ATTR`, or a file in place of MODULE.

A handler has a task type, by default its function's name. `MODULE` alone offers all that `@handler` marks in it;
`MODULE:ATTR` one function, or a dict of task types and functions.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from openclaw.errors import MeshError

Handler = Callable[..., Any]
Declared = TypeVar("Declared", bound=Handler)
TASK_TYPE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
MARK = "__openclaw_task_type__"


class NoHandler(MeshError):
    """A reference that leads to no handler; the message says which and why."""

    kind = "no_handler"
    exit_code = 125


@overload
def handler(function: Declared, /) -> Declared: ...
@overload
def handler(task_type: str, /) -> Callable[[Declared], Declared]: ...
def handler(function_or_type: Any, /) -> Any:
    """Marks a function as a handler: `@handler`, or `@handler("type")` for a task type of another name."""
    if isinstance(function_or_type, str):
        task_type = checked_type(function_or_type)
        return lambda function: _mark(function, task_type)
    return _mark(function_or_type, checked_type(function_or_type.__name__))


def _mark(function: Handler, task_type: str) -> Handler:
    setattr(function, MARK, task_type)
    return function


def checked_type(task_type: str) -> str:
    if not TASK_TYPE.fullmatch(task_type):
        raise NoHandler(
            f"{task_type!r} is no task type: up to 128 letters, digits and _ . : / -", kind="usage"
        )
    return task_type


def type_of(function: Handler) -> str | None:
    """The task type of a function that is marked as a handler."""
    return getattr(function, MARK, None)


def reference(task_type: str, function: Handler) -> str:
    """How another process finds `function`: "TYPE=MODULE:NAME". Raises `NoHandler` where it cannot."""
    module, name = function.__module__, getattr(function, "__qualname__", "")
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__file__", None) or ""
    found: Any = sys.modules.get(function.__module__)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not module or found is not function:
        raise NoHandler(
            f"the handler of {task_type!r} ({name or function!r}) runs in a process of its own, which has to find it "
            "by name: define it at the top level of a module or script"
        )
    return f"{checked_type(task_type)}={module}:{name}"


def load(references: Iterable[str], folders: Iterable[str]) -> dict[str, Handler]:
    """Task types and what they call. `folders` go before everything else that is imported from."""
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    found: dict[str, Handler] = {}
    for each in references:
        for task_type, function in _load(each).items():
            if found.setdefault(task_type, function) is not function:
                raise NoHandler(f"two handlers are called {task_type!r} ({each}); name one of them otherwise")
    return found


def _load(each: str) -> Mapping[str, Handler]:
    task_type, _, place = each.rpartition("=")
    name, _, attribute = place.partition(":")
    try:
        module = _from_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        value: Any = module
        for part in attribute.split(".") if attribute else ():
            value = getattr(value, part)
    except NoHandler:
        raise
    except BaseException as error:
        raise NoHandler(f"cannot load the handlers of {place}: {type(error).__name__}: {error}") from error
    if not attribute:
        marked = [each for each in vars(module).values() if callable(each) and type_of(each)]
        value = {type_of(each): each for each in marked}
        if not value:
            raise NoHandler(
                f"nothing in {place} is marked as a handler: put @openclaw.handler before a function, or name one "
                f"({place}:NAME)"
            )
    if callable(value):
        value = {task_type or type_of(value) or value.__name__: value}
    if not isinstance(value, dict) or not all(callable(each) for each in value.values()):
        raise NoHandler(f"{place} is neither a function nor a dict of task types and functions")
    return {checked_type(str(key)): function for key, function in value.items()}


def _from_file(path: Path) -> Any:
    """A script or module by its path. It is not `__main__` here, so a guarded start does not run."""
    for known in sys.modules.values():
        if getattr(known, "__file__", None) == str(path):
            return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise NoHandler(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
