"""What handlers are given and give back, as bytes: msgpack, with a few types more. Never pickle.

None, bool, int (of any size), float, str, bytes, lists, tuples (they come back as lists), dicts, datetimes with a
time zone, and numpy arrays of plain numbers. Reading an array copies nothing: it is a read-only view of the bytes
that it came in.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import msgpack

BIG_INT, ARRAY = 1, 2
RESULT_FILE = ".openclaw-result"  # a result that is too large to ride in a record is an output of this name
NUMPY_KINDS = "biufc"
ARRAY_HEAD_BYTES_MAX = 1024


class Unsendable(TypeError):
    """A value that cannot be sent as it is; the message names its type and what to do."""


def encode(value: object) -> bytes:
    """Raises `Unsendable`."""
    try:
        return bytes(msgpack.packb(value, default=_extend, datetime=True, strict_types=False))
    except RecursionError:
        raise Unsendable("it is nested too deeply, or contains itself") from None
    except UnicodeEncodeError as error:
        raise Unsendable(f"it holds text that is not valid Unicode: {error.reason}") from None
    except ValueError as error:
        raise Unsendable(f"it cannot be encoded: {error}") from None


def decode(data: bytes | memoryview) -> Any:
    """The value. Raises ValueError for what `encode` never made."""
    try:
        return msgpack.unpackb(data, ext_hook=_revive, timestamp=3, strict_map_key=False, raw=False)
    except (msgpack.UnpackException, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise ValueError(f"no value: {error!r}") from None


def shown(data: bytes) -> Any:
    """What a value is to a person, or in JSON; what cannot be decoded is said to be that."""
    try:
        return jsonable(msgpack.unpackb(data, ext_hook=_describe, timestamp=3, strict_map_key=False))
    except (msgpack.UnpackException, ValueError, RecursionError):
        return f"<{len(data)} bytes that are no value>"


def jsonable(value: Any) -> Any:
    """The nearest thing that JSON has: text for bytes (hex where it is none) and for integers over 64 bits."""
    match value:
        case dict():
            return {str(key): jsonable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [jsonable(inner) for inner in value]
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value.hex()
        case datetime():
            return value.isoformat()
        case int() if value.bit_length() > 63:
            return str(value)
        case None | bool() | int() | float() | str():
            return value
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _describe(code: int, data: bytes) -> Any:
    """Without numpy, which whoever shows a value may not have."""
    if code != ARRAY:
        return _revive(code, data)
    kind, shape, _ = _array_head(data)
    return f"<array {kind} {shape}>"


def _extend(value: Any) -> Any:
    if isinstance(value, int):
        return msgpack.ExtType(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    numpy = sys.modules.get("numpy")  # whoever has an array has loaded it
    if numpy is not None and isinstance(value, numpy.ndarray) and value.dtype.kind in NUMPY_KINDS:
        head = msgpack.packb([value.dtype.str, list(value.shape)])
        return msgpack.ExtType(ARRAY, head + value.tobytes())
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in NUMPY_KINDS:
        return value.item()
    kind = type(value)
    raise Unsendable(
        f"a {kind.__module__}.{kind.__qualname__} cannot be sent: use None, bool, int, float, str, bytes, lists, "
        "dicts, datetimes with a time zone or numpy arrays of numbers"
    )


def _revive(code: int, data: bytes) -> Any:
    match code:
        case 1:
            return int.from_bytes(data, "big", signed=True)
        case 2:
            import numpy

            kind, shape, offset = _array_head(data)
            return numpy.frombuffer(data, kind, offset=offset).reshape(shape)
    raise ValueError(f"an unknown extension {code}")


def _array_head(data: bytes) -> tuple[str, list[int], int]:
    """Its dtype, its shape, and where its bytes begin."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(data[:ARRAY_HEAD_BYTES_MAX])
    kind, shape = unpacker.unpack()
    return kind, shape, unpacker.tell()
