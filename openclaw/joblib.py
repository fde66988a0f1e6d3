"""joblib, and with it scikit-learn, on the mesh: `with joblib.parallel_config("openclaw"):` after importing this.

joblib sends whole functions, which is to say pickles, and the mesh does so nowhere else. Only nodes whose owner says
so take them: `openclaw node start --handlers openclaw.joblib`. Such a node runs whatever code a member with the
capability `skill` sends it, and results are unpickled here: use it among machines that are all yours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
from joblib import register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase

from openclaw.api.mesh import Mesh
from openclaw.api.tasks import MeshFuture
from openclaw.errors import Unavailable
from openclaw.handlers.declared import handler

NAME = "openclaw"
TASK_TYPE = "joblib/batch"


@handler(TASK_TYPE)
def run_batch(pickled: bytes) -> bytes:
    """Calls what joblib sent; its result goes back the same way."""
    return bytes(cloudpickle.dumps(cloudpickle.loads(pickled)()))


class MeshBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """`state_dir` names the node that is asked; other options are those of `Mesh.using`."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, state_dir: str | Path | None = None, nesting_level: int = 0, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level)
        self._state_dir, self._options = state_dir, options
        self._mesh: Mesh | None = None

    def _open(self) -> Mesh:
        """joblib ends a backend after each loop, and goes on with it."""
        if self._mesh is None:
            self._mesh = Mesh(self._state_dir).using(**self._options)
        return self._mesh

    def _close(self, *, cancel: bool) -> None:
        mesh, self._mesh = self._mesh, None
        if mesh is not None:
            mesh.shutdown(wait=False, cancel_futures=cancel)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """All slots of the nodes that take pickles, or fewer if fewer are asked for."""
        nodes = [
            node
            for node in self._open().nodes()
            if node["state"] == "alive" and TASK_TYPE in node["handlers"]
        ]
        slots: int = sum(node["slots"] for node in nodes)
        if not slots:
            raise Unavailable(
                "no node of this mesh takes functions from joblib; start one with: openclaw node start "
                f"--handlers {__name__}",
                kind="not_eligible",
            )
        return min(n_jobs, slots) if n_jobs is not None and n_jobs > 0 else slots

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> MeshFuture:
        future = self._open().submit(TASK_TYPE, cloudpickle.dumps(func))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: MeshFuture) -> Any:
        return cloudpickle.loads(out.result())

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """What has not ended is cancelled."""
        del ensure_ready
        self._close(cancel=True)

    def terminate(self) -> None:
        self._close(cancel=False)


register_parallel_backend(NAME, MeshBackend)
