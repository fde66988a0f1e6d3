"""Fetches one URL into a file: retries, goes on where a connection broke, checks the hash."""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

Doc = dict[str, Any]
CHUNK_BYTES = 1 << 20
PAUSE_S, PAUSE_S_MAX = 0.5, 30.0
AGAIN = frozenset({408, 425, 429})
AGENT = "openclaw-mesh-fetch/1.0"


class Final(Exception):
    """Trying again would not help."""


class Fetch:
    """One file on its way. What has come is kept as long as the server's validator says it is the same file."""

    def __init__(self, params: Doc) -> None:
        self.params = params
        self.part = Path(f".{params['out']}.part")
        self.validator = ""
        self.resumed_bytes = 0
        self.attempts = 0
        self.url = params["url"]

    def run(self) -> Doc:
        began = time.monotonic()
        self.part.unlink(missing_ok=True)
        pause_s = PAUSE_S
        while True:
            self.attempts += 1
            try:
                self._attempt()
                break
            except Final:
                raise
            except (OSError, http.client.HTTPException) as error:
                if self.attempts > self.params["retries"]:
                    raise Final(
                        f"{self.params['url']}: {told(error)}, after {self.attempts} attempts"
                    ) from None
                wait_s = max(pause_s, retry_after_s(error))
                print(
                    f"attempt {self.attempts}: {told(error)}; again in {wait_s:g} s",
                    file=sys.stderr,
                    flush=True,
                )
                time.sleep(wait_s)
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
        return self._finish(began)

    def _attempt(self) -> None:
        have = self.part.stat().st_size if self.part.exists() and self.validator else 0
        request = urllib.request.Request(self.params["url"], headers={"User-Agent": AGENT})
        if have:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", self.validator)
        try:
            answer = urllib.request.urlopen(request, timeout=self.params["timeout_s"])
        except urllib.error.HTTPError as error:
            if error.code == 416:
                self.part.unlink(missing_ok=True)
            elif 400 <= error.code < 500 and error.code not in AGAIN:
                raise Final(f"{self.params['url']}: the server answers {error.code} {error.reason}") from None
            raise
        with answer:
            self._receive(answer, have)

    def _receive(self, answer: Any, have: int) -> None:
        self.url = answer.geturl()
        whole = answer.status != 206
        have = 0 if whole else have
        self.resumed_bytes += have
        tag = answer.headers.get("ETag") or ""
        self.validator = (
            tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified") or ""
        )
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
        limit = self.params["bytes_max"]
        if total is not None and total > limit:
            raise Final(f"{self.url}: it has {total} bytes, and {limit} are allowed (bytes_max)")
        with self.part.open("wb" if whole else "ab") as file:
            while chunk := answer.read(CHUNK_BYTES):
                have += len(chunk)
                if have > limit:
                    raise Final(
                        f"{self.url}: it has more than the {limit} bytes that are allowed (bytes_max)"
                    )
                file.write(chunk)
        if total is not None and have < total:
            raise http.client.IncompleteRead(b"", total - have)

    def _finish(self, began: float) -> Doc:
        digest = hashlib.sha256()
        with self.part.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
        wanted = self.params.get("sha256", "").lower()
        if wanted and digest.hexdigest() != wanted:
            raise Final(f"{self.url}: its SHA-256 is {digest.hexdigest()}, not {wanted}")
        size = self.part.stat().st_size
        self.part.replace(self.params["out"])
        return {
            "url": self.url,
            "bytes": size,
            "sha256": digest.hexdigest(),
            "checked": bool(wanted),
            "attempts": self.attempts,
            "resumed_bytes": self.resumed_bytes,
            "seconds": round(time.monotonic() - began, 3),
        }


def told(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection broke {error.expected} bytes before the end"
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def retry_after_s(error: Exception) -> float:
    """What the server asks for, as far as we wait for anyone."""
    asked = str(error.headers.get("Retry-After", "")) if isinstance(error, urllib.error.HTTPError) else ""
    return min(float(asked), PAUSE_S_MAX) if asked.isdecimal() else 0.0


if __name__ == "__main__":
    try:
        print(json.dumps(Fetch(json.loads(sys.argv[1])).run(), indent=2))
    except Final as final:
        sys.exit(f"fetch: {final}")
