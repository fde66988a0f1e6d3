"""Figures put into a document, between two comments that name them, so that the next run replaces them."""

from __future__ import annotations

from pathlib import Path


def put(document: Path, name: str, text: str) -> None:
    """Replace what stands in `document` between `<!-- name -->` and `<!-- end of name -->`."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = document.read_text().partition(begin)
    old, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{document} has no place for {name}: it needs the lines {begin} and {end}")
    del old
    document.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; all columns but the first are to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, marks, *rows])
