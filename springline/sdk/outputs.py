"""Outputs of functions as bytes and back: JSON, and the frames of pyarrow, polars and pandas as Arrow.

A frame comes back as one of the same library. Their libraries are imported only where a frame is in hand. Workers keep
outputs so for what takes them, and `materialize` hands them over so.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any, Final

MOST_BYTES: Final = 64 * 1024 * 1024
"""The greatest output that is stored for other assets."""

_JSON: Final = "json"
_ARROW: Final = "arrow"
_REMEDY: Final = (
    "return JSON values (texts, numbers, lists, dicts with texts as keys) or a frame of pyarrow, polars or pandas, or "
    "write a table and return what names it"
)


class NotStorable(Exception):
    """A value that cannot be stored as an output; the message goes on from `output`."""


def not_storable(asset: str, error: NotStorable) -> str:
    """Return what an attempt is told whose output, which others take, cannot be stored."""
    return f"other assets take the output of {asset}, and its output {error}: {_REMEDY}"


class NotReadable(Exception):
    """A stored output that this process cannot turn into a value."""


def encoded(value: Any) -> tuple[str, str | None, bytes]:
    """Return how a value is written, json or arrow, the library of a frame, and the bytes. Raises `NotStorable`."""
    library = _library_of(value)
    try:
        data = _json(value) if library is None else _WRITERS[library](value)
    except NotStorable:
        raise
    except BaseException as error:
        # Also a panic of polars, which is no Exception.
        raise NotStorable(f"of type {_type_name(value)} cannot be written ({type(error).__name__}: {error})") from error
    if len(data) > MOST_BYTES:
        raise NotStorable(f"of type {_type_name(value)} takes {len(data):,} bytes, more than {MOST_BYTES:,}")
    return (_JSON if library is None else _ARROW), library, data


def decoded(form: str, library: str | None, data: bytes) -> Any:
    """Return the value of such bytes. Raises `NotReadable`."""
    if form == _JSON:
        return json.loads(data)
    reader = _READERS.get(library or "")
    if form != _ARROW or reader is None:
        raise NotReadable(f"it is written as {form} of {library}, which this build does not know")
    try:
        return reader(data)
    except ImportError as error:
        raise NotReadable(f"it is a frame of {library}, and {error.name} is not installed here") from error
    except Exception as error:
        raise NotReadable(f"{library} refuses it: {type(error).__name__}: {error}") from error


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _library_of(value: Any) -> str | None:
    """Return the library whose frame a value is, exactly: what is derived from one would come back as another type."""
    for library, name in (("pyarrow", "Table"), ("polars", "DataFrame"), ("pandas", "DataFrame")):
        module = sys.modules.get(library)
        if module is not None and type(value) is getattr(module, name, None):
            return library
    return None


def _json(value: Any) -> bytes:
    _check_keys(value)
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotStorable(f"of type {_type_name(value)} is no JSON ({error})") from None


def _check_keys(value: Any) -> None:
    """Refuse keys that JSON would turn into texts: the value would come back as another one."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict | list | tuple) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            for key in one:
                if not isinstance(key, str):
                    raise NotStorable(f"has a dict with the key {key!r}, and JSON has only texts as keys")
            waiting += one.values()
        else:
            waiting += one


def _write_pyarrow(table: Any) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _read_pyarrow(data: bytes) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all()


def _write_polars(frame: Any) -> bytes:
    for name, kind in frame.schema.items():
        if _holds_objects(kind):
            # Polars would write where they lie in this process's memory.
            raise NotStorable(f"of type {_type_name(frame)} holds Python objects in its column {name}")
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return sink.getvalue()


def _holds_objects(kind: Any) -> bool:
    inner = [getattr(kind, "inner", None), *(one.dtype for one in getattr(kind, "fields", None) or ())]
    return str(kind) == "Object" or any(_holds_objects(one) for one in inner if one is not None)


def _read_polars(data: bytes) -> Any:
    import polars  # noqa: PLC0415 - heavy

    return polars.read_ipc_stream(io.BytesIO(data))


def _write_pandas(frame: Any) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    return _write_pyarrow(pa.Table.from_pandas(frame))


def _read_pandas(data: bytes) -> Any:
    import pandas  # noqa: F401, PLC0415 - heavy; its absence is to be told by its name

    return _read_pyarrow(data).to_pandas()


_WRITERS: Final = {"pyarrow": _write_pyarrow, "polars": _write_polars, "pandas": _write_pandas}
_READERS: Final = {"pyarrow": _read_pyarrow, "polars": _read_polars, "pandas": _read_pandas}
