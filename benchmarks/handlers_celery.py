"""The Celery application that `benchmarks.handlers` measures; its workers import it by name."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("handlers", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])


@app.task
def task(value: int) -> int:
    return value + 1
