"""The asyncio twin of the Python API: `openclaw.aio.Mesh` awaits what `openclaw.Mesh` blocks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Self

from openclaw.api import mesh
from openclaw.api.tasks import Command, Doc, Skill


class Mesh:
    """As `openclaw.Mesh`; to be used in one event loop."""

    def __init__(self, state_dir: str | Path | None = None) -> None:
        self._mesh = mesh.Mesh(state_dir)

    def using(self, **options: Any) -> Mesh:
        other = Mesh.__new__(Mesh)
        other._mesh = self._mesh.using(**options)
        return other

    def submit(
        self, fn: str | Command | Skill | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """A future to await; cancelling it cancels the task."""
        return asyncio.wrap_future(self._mesh.submit(fn, *args, **kwargs))

    async def map(self, fn: str | Callable[..., Any], /, *iterables: Iterable[Any]) -> AsyncIterator[Any]:
        """Results in the order of the arguments. Whoever stops early cancels the rest."""
        futures = [self.submit(fn, *args) for args in zip(*iterables, strict=False)]
        futures.reverse()
        try:
            while futures:
                yield await futures.pop()
        finally:
            for future in futures:
                future.cancel()

    async def status(self) -> Doc:
        return await asyncio.to_thread(self._mesh.status)

    async def nodes(self) -> list[Doc]:
        return await asyncio.to_thread(self._mesh.nodes)

    async def close(self, *, cancel: bool = False) -> None:
        """Nothing more is taken; returns when all has ended."""
        await asyncio.to_thread(self._mesh.shutdown, True, cancel_futures=cancel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
