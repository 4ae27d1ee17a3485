"""Schemas: of tables that we create, and as other engines have written them into a table's log.

A schema to be created comes as a list of columns (`{"name", "type", "nullable"}`) or as the struct that Delta itself
writes, and becomes the exact struct of version 0. A stored one is judged by the same rules, except that an engine may
use what we do not create: names that column mapping allows, variants, and field metadata of table features.
The types and their nesting are those of the Delta transaction protocol, "Schema Serialization Format".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import orjson

from springline.delta.limits import MAX_NAME, shortened, shown
from springline.delta.strictjson import BadJson, strict_json
from springline.errors import Code, Refused, refused

PRIMITIVES = frozenset(
    {
        "string",
        "long",
        "integer",
        "short",
        "byte",
        "float",
        "double",
        "boolean",
        "binary",
        "date",
        "timestamp",
        "timestamp_ntz",
    }
)
MAX_COLUMNS = 5_000
MAX_DEPTH = 32
MAX_NAME_LENGTH = 255

STORED_PRIMITIVES = PRIMITIVES | {"variant"}

_DECIMAL = re.compile(r"decimal\(\s*([0-9]{1,2})\s*,\s*([0-9]{1,2})\s*\)")
_FORBIDDEN_IN_NAMES = frozenset(" ,;{}()\n\t=\r\0")
_OTHER_NAMES = {
    "int": "integer",
    "int32": "integer",
    "int64": "long",
    "bigint": "long",
    "int16": "short",
    "smallint": "short",
    "int8": "byte",
    "tinyint": "byte",
    "str": "string",
    "text": "string",
    "varchar": "string",
    "utf8": "string",
    "bool": "boolean",
    "float32": "float",
    "float64": "double",
    "real": "float",
    "bytes": "binary",
    "datetime": "timestamp",
    "decimal": "decimal(38,18)",
    "numeric": "decimal(38,18)",
}
_MADE_BY_ENGINES = ("delta.", "CURRENT_DEFAULT", "EXISTS_DEFAULT")


def normalised_schema(columns: Any) -> dict[str, Any]:
    """Return the struct type of `columns`, complete and in one spelling, from either form.

    Absent `nullable` means true, absent `metadata` empty. Raises `Refused` (`INVALID_REQUEST`) naming the
    column, the value and the remedy.
    """
    fields = columns
    if isinstance(columns, dict):
        if columns.get("type") != "struct" or not isinstance(columns.get("fields"), list):
            raise _bad("columns", columns, "is not a struct type", 'give {"type": "struct", "fields": [...]}')
        fields = columns["fields"]
    if not isinstance(fields, list):
        raise _bad("columns", columns, "is neither a list of columns nor a struct type", "give a list of columns")
    struct = _struct(fields, "columns", 1, _Walk())
    if not struct["fields"]:
        raise _bad("columns", [], "is empty", "give at least one column")
    return struct


def stored_schema(text: str, *, mapped: bool) -> dict[str, Any]:
    """Return the struct type in a `schemaString`. `mapped`: the table has column mapping, so names may be any.

    Raises `Refused` (`INVALID_REQUEST`) with a field such as `schemaString.fields[0].type`.
    """
    try:
        schema = strict_json(text.encode())
    except (BadJson, UnicodeEncodeError) as error:
        raise _bad("schemaString", text, str(error), "write the JSON of a struct type") from None
    if not isinstance(schema, dict) or schema.get("type") != "struct" or not isinstance(schema.get("fields"), list):
        raise _bad("schemaString", text, "is not the JSON of a struct type", 'write {"type":"struct","fields":[...]}')
    if not schema["fields"]:
        raise _bad("schemaString", text, "has no columns", "give the table at least one column")
    _struct(schema["fields"], "schemaString.fields", 1, _Walk(stored=True, mapped=mapped))
    return schema


def check_partition_columns(schema: dict[str, Any], partition_columns: Sequence[str], *, stored: bool = False) -> None:
    """Raise `Refused` unless the columns exist, once each, can be partitioned by, and leave a data column.

    We do not create tables partitioned by bytes, or by columns of names that are no names of folders, but engines may
    have: `stored` accepts them.
    """
    by_name = {field["name"]: field for field in schema["fields"]}
    seen: set[str] = set()
    for name in partition_columns:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            raise _bad(
                "partition_columns",
                name,
                "is not a column of the table",
                f"write {near[0]!r}" if near else "name one of the columns, in the same spelling",
            )
        if name in seen:
            raise _bad("partition_columns", name, "is named twice", "name each column once")
        seen.add(name)
        separator = next((one for one in "/:" if one in name and not stored), None)
        if separator is not None:
            raise _bad(
                "partition_columns",
                name,
                f"holds {separator!r}; folders are named by it, which some engines then cannot read",
                "rename the column, or partition by another",
            )
        column_type = by_name[name]["type"]
        if not isinstance(column_type, str) or column_type in (("variant",) if stored else ("binary", "variant")):
            raise _bad(
                "partition_columns",
                name,
                f"is of type {column_type if isinstance(column_type, str) else column_type['type']}, "
                "which cannot be written as a partition value",
                "partition by columns of plain types",
            )
    if seen and len(seen) == len(by_name):
        raise _bad("partition_columns", list(partition_columns), "leaves no column for the data files", "leave one out")


def uses_type(schema: Any, wanted: str) -> bool:
    """Say whether the primitive type `wanted` occurs anywhere in a type, an array, a map or a struct."""
    if isinstance(schema, str):
        return schema == wanted
    if schema["type"] == "struct":
        return any(uses_type(field["type"], wanted) for field in schema["fields"])
    return any(uses_type(schema[key], wanted) for key in ("elementType", "keyType", "valueType") if key in schema)


class _Walk:
    """A walk through one schema: how many columns it has counted, and whether an engine wrote the schema."""

    def __init__(self, *, stored: bool = False, mapped: bool = False) -> None:
        self.columns = 0
        self.root = "schemaString" if stored else "columns"
        self.stored = stored
        self.mapped = mapped


def _struct(fields: list[Any], where: str, depth: int, walk: _Walk) -> dict[str, Any]:
    seen: dict[str, str] = {}
    done = []
    for index, field in enumerate(fields):
        place = f"{where}[{index}]"
        if not isinstance(field, dict):
            raise _bad(place, field, "is not a column", 'give {"name": ..., "type": ..., "nullable": true}')
        unknown = set(field) - {"name", "type", "nullable", "metadata"}
        if unknown and not walk.stored:
            raise _bad(
                place, sorted(unknown), "has fields no column has", "leave name, type, nullable and metadata only"
            )
        walk.columns += 1
        if walk.columns > MAX_COLUMNS:
            raise _bad(walk.root, walk.columns, f"has more than {MAX_COLUMNS} columns", "split the table")
        name = _column_name(field.get("name"), place, walk)
        folded = name.lower()
        if folded in seen:
            raise _bad(
                f"{place}.name",
                name,
                f"differs from {seen[folded]!r} at most in case",
                "give every column a name of its own; engines compare them without case",
            )
        seen[folded] = name
        nullable = field.get("nullable", None if walk.stored else True)
        if not isinstance(nullable, bool):
            raise _bad(f"{place}.nullable", nullable, "is not a truth value", "write true or false")
        if "type" not in field:
            raise _bad(place, field, "has no type", f"add one of {', '.join(sorted(PRIMITIVES))}")
        done.append(
            {
                "name": name,
                "type": _type(field["type"], f"{place}.type", depth, walk),
                "nullable": nullable,
                "metadata": _metadata(field.get("metadata"), f"{place}.metadata", walk),
            }
        )
    return {"type": "struct", "fields": done}


def _column_name(name: Any, place: str, walk: _Walk) -> str:
    longest = MAX_NAME if walk.stored else MAX_NAME_LENGTH
    if not isinstance(name, str) or name == "":
        raise _bad(f"{place}.name", name, "is not a name", "give a text that is not empty")
    if len(name) > longest:
        raise _bad(f"{place}.name", name[:50], f"is longer than {longest} characters", "shorten it")
    if walk.mapped and "\0" not in name:
        return name
    held = sorted(_FORBIDDEN_IN_NAMES & set(name))
    if held or not name.isprintable():
        raise _bad(
            f"{place}.name",
            name,
            f"holds {held[0]!r}" if held else "holds a character that cannot be printed",
            "use letters, digits, _ and -; other names need column mapping, which an engine has to set up",
        )
    return name


def _type(value: Any, place: str, depth: int, walk: _Walk) -> Any:
    if depth > MAX_DEPTH:
        raise _bad(walk.root, place, f"is nested deeper than {MAX_DEPTH}", "flatten the type")
    if isinstance(value, str):
        return _primitive(value, place, walk)
    default = None if walk.stored else True
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "struct" and isinstance(value.get("fields"), list):
        struct = _struct(value["fields"], f"{place}.fields", depth + 1, walk)
        if not struct["fields"]:
            raise _bad(place, value, "is a struct without fields", "give it at least one field")
        return struct
    if kind == "array":
        return {
            "type": "array",
            "elementType": _type(value.get("elementType"), f"{place}.elementType", depth + 1, walk),
            "containsNull": _truth(value.get("containsNull", default), f"{place}.containsNull"),
        }
    if kind == "map":
        return {
            "type": "map",
            "keyType": _type(value.get("keyType"), f"{place}.keyType", depth + 1, walk),
            "valueType": _type(value.get("valueType"), f"{place}.valueType", depth + 1, walk),
            "valueContainsNull": _truth(value.get("valueContainsNull", default), f"{place}.valueContainsNull"),
        }
    raise _bad(
        place,
        value,
        "is not a type",
        f"use one of {', '.join(sorted(PRIMITIVES))}, decimal(p,s), or a struct, array or map object",
    )


def _primitive(name: str, place: str, walk: _Walk) -> str:
    if name in (STORED_PRIMITIVES if walk.stored else PRIMITIVES):
        return name
    decimal = _DECIMAL.fullmatch(name)
    if decimal is not None and not (walk.stored and " " in name):
        precision, scale = int(decimal[1]), int(decimal[2])
        if 1 <= precision <= 38 and scale <= precision:
            return f"decimal({precision},{scale})"
        raise _bad(place, name, "is out of range", "use decimal(p,s) with p from 1 to 38 and s from 0 to p")
    if name == "variant":
        raise _bad(place, name, "cannot be created here", "create the table with an engine, then adopt it")
    other = _OTHER_NAMES.get(name.lower(), name.lower() if name.lower() in PRIMITIVES else None)
    near = [other] if other else difflib.get_close_matches(name, PRIMITIVES, n=1)
    remedy = f"write {near[0]!r}" if near else f"use one of {', '.join(sorted(PRIMITIVES))} or decimal(p,s)"
    raise _bad(place, name, "is not a Delta type", remedy)


def _truth(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _bad(place, value, "is not a truth value", "write true or false")
    return value


def _metadata(value: Any, place: str, walk: _Walk) -> dict[str, Any]:
    if walk.stored:
        if not isinstance(value, dict):
            raise _bad(place, value, "is not an object", "write {} for a column without metadata")
        return value
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(place, value, "is not an object", "give an object, or leave it out")
    for key in value:
        if key.startswith(_MADE_BY_ENGINES):
            raise _bad(
                place,
                key,
                "asks every writer to compute or check values, which nobody does here",
                "leave it out, or create the table with an engine and adopt it",
            )
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise _bad(place, value, f"cannot be written as JSON ({error})", "leave the value out") from error
    return dict(sorted(value.items()))


def _bad(field: str, value: Any, problem: str, remedy: str) -> Refused:
    return refused(
        Code.INVALID_REQUEST, f"{field}: {shown(value)} {problem}", field=field, value=shortened(value), remedy=remedy
    )
