"""What a task left on its two streams, from its row where it is whole, else from the node that keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from openclaw.client import Client, Doc

STREAMS = (("stdout", 1), ("stderr", 2))
FIELDS = ("stdout", "stderr", "stdout_size", "stderr_size")


def output(client: Client, task: Doc, name: str, stream: int) -> Iterable[bytes]:
    """All bytes of one stream of a task that has ended; `task` is a row of `wait`."""
    if len(task[name]) == task[f"{name}_size"]:
        return (task[name],)
    return _asked(client, task["id"], stream)


def without_output(task: Doc) -> Doc:
    return {key: value for key, value in task.items() if key not in FIELDS}


def _asked(client: Client, task: str, stream: int) -> Iterator[bytes]:
    for frame in client.stream("task_logs", id=task, follow=False, offset=0, stream=stream):
        if frame.get("event") == "out" and frame["stream"] == stream:
            yield frame["data"]
