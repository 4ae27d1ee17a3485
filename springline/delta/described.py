"""What a table's stored protocol and metadata say, as far as they can be read: for people who look at a table.

A log may be anybody's, and whoever asks for a table whose metadata is odd is to be told so, and the rest of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from springline.bounds import on_one_line, problem_in_json

_UNTIL = "engines may refuse the table until a commit brings a good one"


@dataclass(slots=True)
class Described:
    """A table's schema, partition columns, properties and protocol; what cannot be read is left out.

    `problems` says of each thing that is left out, or odd, what is wrong with it and what to do.
    """

    columns: dict[str, Any] | None = None
    partition_columns: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)


def described(metadata: Mapping[str, Any] | None, protocol: Mapping[str, Any] | None) -> Described:
    """Read the bodies of the `metaData` and `protocol` actions in force; None where the log has none."""
    found = Described()
    stored = dict(metadata or {})
    found.columns = _schema(stored.get("schemaString"), found.problems) if "schemaString" in stored else None
    columns = stored.get("partitionColumns")
    if isinstance(columns, list | tuple) and all(isinstance(one, str) for one in columns):
        found.partition_columns = list(columns)
    elif columns is not None:
        found.problems.append(_odd("metaData.partitionColumns", columns, "a list of texts"))
    properties = stored.get("configuration")
    if isinstance(properties, dict):
        found.properties = {key: value for key, value in properties.items() if isinstance(value, str)}
        found.problems += [
            _odd(f"metaData.configuration[{on_one_line(key, 100)!r}]", value, "a text")
            for key, value in properties.items()
            if not isinstance(value, str | None)
        ]
    elif properties is not None:
        found.problems.append(_odd("metaData.configuration", properties, "an object of texts"))
    if protocol is not None:
        deep = problem_in_json(dict(protocol))
        if deep is None:
            found.protocol = dict(protocol)
        else:
            found.problems.append(f"protocol {deep.text}; {_UNTIL}")
    return found


def _schema(text: Any, problems: list[str]) -> dict[str, Any] | None:
    try:
        schema = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        schema = None
    if not isinstance(schema, dict):
        problems.append(_odd("metaData.schemaString", text, "a struct type as JSON"))
        return None
    deep = problem_in_json(schema)
    if deep is not None:
        problems.append(f"metaData.schemaString {deep.text}; {_UNTIL}")
        return None
    return schema


def _odd(where: str, value: Any, wanted: str) -> str:
    kind = type(value).__name__ if not isinstance(value, str | bool | int | float) else on_one_line(repr(value), 100)
    return f"{where} is {kind} and not {wanted}; {_UNTIL}"
