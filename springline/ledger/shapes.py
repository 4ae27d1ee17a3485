"""Checks values field by field against the structs of events, with the path of a wrong field.

msgspec's own decoder is faster, but it does not detect repeated keys, ignores misspelt fields, has no
bound as wide as 64 bits, and does not check timestamps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import inspect

from springline.ledger.json_text import MAX_DEPTH, JsonObject, OtherNumber
from springline.ledger.nested import TIMESTAMP_MARK
from springline.ledger.timestamps import format_timestamp, parse_timestamp

_MAX_U64: Final = 2**64 - 1
_MIN_I64: Final = -(2**63)
_SHOWN: Final = 80


class ShapeError(ValueError):
    """A value does not fit. `path` names the field (`tasks[0].key`, empty for the whole), `problem` says why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ReadingMode:
    """How to read: `strict` refuses unknown fields; `rewrite` converts timestamps to their written form."""

    strict: bool = False
    rewrite: bool = False


Reader = Callable[[Any, str, ReadingMode], Any]


def reader_of(kind: inspect.Type) -> Reader:
    """Return the function that reads values of a type; it raises `ShapeError`.

    It takes the value (objects as dicts or as `JsonObject`), the path to name in errors, and the mode.
    """
    if isinstance(kind, inspect.Metadata):
        return _timestamp if kind.extra == TIMESTAMP_MARK else reader_of(kind.type)
    if isinstance(kind, inspect.StrType):
        return _string
    if isinstance(kind, inspect.BoolType):
        return _boolean
    if isinstance(kind, inspect.IntType):
        return _integer_reader(kind)
    if isinstance(kind, inspect.LiteralType):
        return _literal_reader(kind)
    if isinstance(kind, inspect.ListType):
        return _list_reader(kind)
    if isinstance(kind, inspect.DictType):
        return _dict_reader(kind)
    if isinstance(kind, inspect.StructType):
        return struct_reader(kind)
    if isinstance(kind, inspect.UnionType):
        return _union_reader(kind)
    if isinstance(kind, inspect.AnyType):
        return _anything
    raise TypeError(f"no reader for {kind}")


def pairs_of(value: Any, path: str) -> list[tuple[Any, Any]]:
    """Return the pairs of an object, repeated keys included; raises `ShapeError` for another value."""
    if isinstance(value, JsonObject):
        return value
    if isinstance(value, Mapping):
        return list(value.items())
    raise ShapeError(path, f"is {_shown(value)}, not an object")


def only(pairs: list[tuple[Any, Any]], field: str, path: str) -> Any:
    """Return the value of a field that an object must have once; raises `ShapeError`."""
    values = [value for key, value in pairs if key == field]
    if len(values) != 1:
        raise ShapeError(_join(path, field), "stands twice" if values else "is missing")
    return values[0]


def tag_of(value: Any, field: str, path: str) -> str:
    """Return the text of an object's tag field, which says what the object is; raises `ShapeError`."""
    return str(_string(only(pairs_of(value, path), field, path), _join(path, field), ReadingMode()))


def struct_reader(kind: inspect.StructType, build: Callable[..., Any] | None = None) -> Reader:
    """Return the reader of a struct's fields; `build` gets them by name and makes the result (else the struct itself).

    Ignores the tag of the struct: the caller chooses the struct by `tag_of`.
    """
    fields = {field.encode_name: (field.name, reader_of(field.type)) for field in kind.fields}
    required = [field.encode_name for field in kind.fields if field.required]
    optional = {field.encode_name for field in kind.fields if field.default is None}
    make = kind.cls if build is None else build

    def read(value: Any, path: str, mode: ReadingMode) -> Any:
        found: dict[str, Any] = {}
        for key, item in pairs_of(value, path):
            known = fields.get(key)
            if known is None:
                if mode.strict and key != kind.tag_field:
                    raise ShapeError(_join(path, str(key)[:_SHOWN]), "is no field here: remove it, or mend its name")
                continue
            name, read_item = known
            if name in found:
                raise ShapeError(_join(path, key), "stands twice")
            found[name] = None if item is None and key in optional else read_item(item, _join(path, key), mode)
        for key in required:
            if fields[key][0] not in found:
                raise ShapeError(_join(path, key), "is missing")
        return make(**found)

    return read


def _union_reader(kind: inspect.UnionType) -> Reader:
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        return reader_of(members[0])
    structs = [member for member in members if isinstance(member, inspect.StructType)]
    if len(structs) != len(members):
        raise TypeError(f"no reader for {kind}")
    readers = {str(member.tag): struct_reader(member) for member in structs}
    tag_field = str(structs[0].tag_field)

    def read(value: Any, path: str, mode: ReadingMode) -> Any:
        tag = tag_of(value, tag_field, path)
        if tag not in readers:
            raise ShapeError(_join(path, tag_field), f"is {_shown(tag)}, not one of {', '.join(sorted(readers))}")
        return readers[tag](value, path, mode)

    return read


def _list_reader(kind: inspect.ListType) -> Reader:
    read_item = reader_of(kind.item_type)

    def read(value: Any, path: str, mode: ReadingMode) -> Any:
        if isinstance(value, JsonObject) or not isinstance(value, list):
            raise ShapeError(path, f"is {_shown(value)}, not a list")
        return [read_item(item, f"{path}[{index}]", mode) for index, item in enumerate(value)]

    return read


def _dict_reader(kind: inspect.DictType) -> Reader:
    read_value = reader_of(kind.value_type)

    def read(value: Any, path: str, mode: ReadingMode) -> Any:
        # Keys are data here, not fields: of a repeated one the last wins.
        return {
            _string(key, path, mode): read_value(item, _join(path, str(key)[:_SHOWN]), mode)
            for key, item in pairs_of(value, path)
        }

    return read


def _integer_reader(kind: inspect.IntType) -> Reader:
    least = kind.ge
    most = _MAX_U64 if kind.le is None else kind.le
    if least is None:
        raise TypeError(f"no lower bound for {kind}")

    def read(value: Any, path: str, mode: ReadingMode) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ShapeError(path, f"is {_shown(value)}, not an integer")
        if not least <= value <= most:
            raise ShapeError(path, f"is {_shown(value)}, not from {least} to {most}")
        return value

    return read


def _literal_reader(kind: inspect.LiteralType) -> Reader:
    allowed = set(kind.values)

    def read(value: Any, path: str, mode: ReadingMode) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise ShapeError(path, f"is {_shown(value)}, not one of {', '.join(sorted(map(str, allowed)))}")
        return value

    return read


def _string(value: Any, path: str, mode: ReadingMode) -> Any:
    if not isinstance(value, str):
        raise ShapeError(path, f"is {_shown(value)}, not a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ShapeError(path, "holds half of a surrogate pair, which is no character") from None
    return value


def _boolean(value: Any, path: str, mode: ReadingMode) -> Any:
    if not isinstance(value, bool):
        raise ShapeError(path, f"is {_shown(value)}, not true or false")
    return value


def _anything(value: Any, path: str, mode: ReadingMode) -> Any:
    """Read a value of any shape. One that has no JSON of its own, or none that fits, is None unless it is written."""
    try:
        return _plain(value, path, mode, MAX_DEPTH)
    except ShapeError:
        if mode.strict:
            raise
        return None


def _plain(value: Any, path: str, mode: ReadingMode, depth: int) -> Any:
    if depth == 0:
        raise ShapeError(path, f"nests deeper than {MAX_DEPTH}")
    if isinstance(value, JsonObject | Mapping):
        return {
            _string(key, path, mode): _plain(item, _join(path, str(key)[:_SHOWN]), mode, depth - 1)
            for key, item in pairs_of(value, path)
        }
    if isinstance(value, list):
        return [_plain(item, f"{path}[{index}]", mode, depth - 1) for index, item in enumerate(value)]
    if isinstance(value, str):
        return _string(value, path, mode)
    if isinstance(value, OtherNumber | float):
        number = float(value.text) if isinstance(value, OtherNumber) else value
        if mode.strict or not math.isfinite(number):
            raise ShapeError(path, f"is {_shown(value)}, which has no canonical form: give an integer or a string")
        return number
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and _MIN_I64 <= value <= _MAX_U64:
        return value
    raise ShapeError(path, f"is {_shown(value)}, which is no value of JSON")


def _timestamp(value: Any, path: str, mode: ReadingMode) -> Any:
    text = _string(value, path, mode)
    try:
        ns = parse_timestamp(text)
    except ValueError as error:
        raise ShapeError(path, str(error)) from None
    return format_timestamp(ns) if mode.rewrite else text


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, JsonObject | Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, OtherNumber):
        return repr(value)
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
