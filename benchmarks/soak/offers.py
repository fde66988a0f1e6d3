"""What the nodes of a soak offer as handlers."""

from __future__ import annotations

import time

from openclaw.handlers.declared import handler


@handler("soak.double")
def double(number: int, sleep_s: float) -> int:
    time.sleep(sleep_s)
    return 2 * number
