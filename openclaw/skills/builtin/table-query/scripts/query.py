"""One SQL query over the files that came along, by DuckDB that can reach nothing else."""

from __future__ import annotations

import json
import re
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

Doc = dict[str, Any]
READERS = {
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".parquet": "read_parquet",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}
FORMATS = {
    ".csv": "FORMAT csv, HEADER",
    ".tsv": "FORMAT csv, HEADER, DELIMITER '\t'",
    ".parquet": "FORMAT parquet",
    ".json": "FORMAT json, ARRAY true",
}


def text(value: str) -> str:
    """As an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def table_name(file: str) -> str:
    name = re.sub(r"\W", "_", Path(file).stem)
    return f"_{name}" if name[:1].isdigit() else name


def confined(params: Doc) -> duckdb.DuckDBPyConnection:
    """A database in memory that sees the given files and the result's, and can be told nothing else."""
    connection = duckdb.connect(":memory:")
    here = Path.cwd()
    files = [*params["table"], *([params["out"]] if params.get("out") else [])]
    allowed = ", ".join(text(str(here / file)) for file in files)
    connection.execute(f"SET memory_limit = '{params['memory_mb']}MB'")
    connection.execute(f"SET temp_directory = {text(str(here / '.duckdb'))}")
    if allowed:
        connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    for file in params["table"]:
        reader = READERS.get(Path(file).suffix.lower())
        if reader is None:
            raise ValueError(f"{file}: there is no reader for it; there are {', '.join(READERS)}")
        connection.execute(
            f'CREATE VIEW "{table_name(file)}" AS SELECT * FROM {reader}({text(str(here / file))})'
        )
    return connection


def plain(value: Any) -> Any:
    """As JSON has it; what it has no type for, as text."""
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case date() | datetime() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case list() | tuple():
            return [plain(each) for each in value]
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case None | bool() | int() | str():
            return value
        case float():
            return value if value == value and abs(value) != float("inf") else None
    return str(value)


def run(params: Doc) -> Doc:
    connection = confined(params)
    query, out = params["query"].strip().rstrip(";"), params.get("out")
    if out:
        target = text(str(Path.cwd() / out))
        written = connection.execute(
            f"COPY ({query}) TO {target} ({FORMATS[Path(out).suffix.lower()]})"
        ).fetchall()
        return {"out": out, "rows": int(written[0][0])}
    connection.execute(query)
    columns = [each[0] for each in connection.description or ()]
    rows = connection.fetchmany(params["rows_max"] + 1)
    kept = rows[: params["rows_max"]]
    return {
        "columns": columns,
        "rows": [[plain(each) for each in row] for row in kept],
        "truncated": len(rows) > len(kept),
    }


if __name__ == "__main__":
    try:
        print(json.dumps(run(json.loads(sys.argv[1]))))
    except (duckdb.Error, ValueError) as error:
        sys.exit(f"table-query: {error}")
