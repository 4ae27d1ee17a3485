"""What may become of a table's schema, partitioning, features and mapping from one version to the next.

Two questions are kept apart. What a change would break for rows that stand in the table is found from the two schemas
alone (`breaks_rows`); whether the table still has such rows is asked of the store only if something would break. A
commit that removes every file may therefore replace the schema, as engines do to overwrite one.

A protocol may not lose a feature that rows, or versions before, may need (`lost_features`): reader features, and
domains, whose state stands in the log. A feature for writers only may go once nothing in the metadata uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from springline.delta.features import READER_FEATURES, declared
from springline.delta.metadata import COLUMN_ID, PHYSICAL_NAME, mapping_mode

_DECIMAL = re.compile(r"decimal\(([0-9]+),([0-9]+)\)")
_WIDER = {
    "byte": ("short", "integer", "long", "double"),
    "short": ("integer", "long", "double"),
    "integer": ("long", "double"),
    "float": ("double",),
    "date": ("timestamp_ntz",),
}
_WHOLE_WIDER = {"byte": ("short", "integer", "long"), "short": ("integer", "long"), "integer": ("long",)}
_DIGITS = {"byte": 10, "short": 10, "integer": 10, "long": 20}
_STATEFUL = frozenset({"domainMetadata", "clustering"})


def breaks_rows(
    old: Mapping[str, Any], new: Mapping[str, Any], old_schema: Any, new_schema: Any, features: set[str]
) -> tuple[str, Any, str] | None:
    """Return the first change between two `metaData` bodies that rows of the old one do not survive, or None.

    (Place, the new value, what is wrong.) The schemas are the judged ones; `features` are those in force afterwards.
    """
    before, after = mapping_mode(old), mapping_mode(new)
    if before != after and not (before == "none" and after == "name"):
        return "configuration.delta.columnMapping.mode", after, f"cannot follow {before!r}"
    if list(old.get("partitionColumns") or []) != list(new["partitionColumns"]) and not (
        before != "none" and _physical(old, old_schema) == _physical(new, new_schema)
    ):
        return "partitionColumns", new["partitionColumns"], f"differ from {list(old.get('partitionColumns') or [])!r}"
    mapped = after != "none"
    # A table that turns column mapping on keeps its files: their columns have the names they had.
    by_name = before == "none"
    return next(_struct_changes(old_schema, new_schema, "", features, mapped=mapped, by_name=by_name), None)


def breaks_readers(old: Mapping[str, Any], new: Mapping[str, Any], old_schema: Any, new_schema: Any) -> str | None:
    """Return the partition column whose old values cannot be read as the type that `new` gives it, or None.

    delta-kernel (DuckDB) reads the partition values of removed files too, as long as the log holds them; so an empty
    table is no excuse here.
    """
    before, after = _partition_types(old, old_schema), _partition_types(new, new_schema)
    for name, data_type in after.items():
        known = before.get(name, data_type)
        if data_type not in (known, "string", *_WHOLE_WIDER.get(str(known), ())):
            return name
    return None


def _partition_types(metadata: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    columns = metadata.get("partitionColumns") or ()
    return {_name(one, by_name=False): one["type"] for one in schema["fields"] if one["name"] in columns}


def lost_features(old: Mapping[str, Any], new: Mapping[str, Any], used: set[str]) -> list[str]:
    """Return the features of the protocol `old` that `new` lacks and must have; `used` by the metadata in force."""
    gone = declared(old) - declared(new)
    return sorted(name for name in gone if name in READER_FEATURES or name in _STATEFUL or name in used)


def _physical(metadata: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    names = {one["name"]: _name(one, by_name=False) for one in schema["fields"]}
    return [names.get(column, column) for column in metadata.get("partitionColumns") or []]


def _name(field: Mapping[str, Any], *, by_name: bool) -> str:
    return str(field["name"] if by_name else (field.get("metadata") or {}).get(PHYSICAL_NAME, field["name"]))


def _struct_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], place: str, features: set[str], *, mapped: bool, by_name: bool
) -> Iterator[tuple[str, Any, str]]:
    kept = {_name(one, by_name=False): one for one in new["fields"]}
    known = set()
    for one in old["fields"]:
        name = _name(one, by_name=by_name)
        known.add(name)
        here = f"schemaString: {place}{one['name']}"
        other = kept.get(name)
        if other is None:
            if not mapped or by_name:
                yield here, None, "is gone from the schema, and the table has rows with it"
            continue
        if not by_name and mapped:
            numbers = [(field.get("metadata") or {}).get(COLUMN_ID) for field in (one, other)]
            if numbers[0] != numbers[1]:
                yield f"{here}.metadata.{COLUMN_ID}", numbers[1], f"differs from {numbers[0]!r}"
        if one.get("nullable", True) and not other["nullable"]:
            yield f"{here}.nullable", False, "cannot follow true: the table has rows, and some may be null"
        yield from _type_changes(one["type"], other["type"], here, features, mapped=mapped, by_name=by_name)
    for one in new["fields"]:
        if _name(one, by_name=False) not in known and not one["nullable"]:
            where = f"schemaString: {place}{one['name']}.nullable"
            yield where, False, "is a new column's, and the rows that the table has are null there"


def _type_changes(
    old: Any, new: Any, here: str, features: set[str], *, mapped: bool, by_name: bool
) -> Iterator[tuple[str, Any, str]]:
    if isinstance(old, str) or isinstance(new, str):
        if old == new:
            return
        if isinstance(old, str) and isinstance(new, str) and is_wider(old, new):
            if features.isdisjoint({"typeWidening", "typeWidening-preview"}):
                yield f"{here}.type", new, f"is wider than {old!r}, which needs the table feature typeWidening"
            return
        shown = old if isinstance(old, str) else old.get("type")
        yield f"{here}.type", new, f"cannot follow {shown!r}: the table has rows of the old type"
        return
    if old.get("type") != new["type"]:
        yield f"{here}.type", new["type"], f"cannot follow {old.get('type')!r}: the table has rows of the old type"
        return
    if new["type"] == "struct":
        below = here.removeprefix("schemaString: ") + "."
        yield from _struct_changes(old, new, below, features, mapped=mapped, by_name=by_name)
    for key, part in (("elementType", "element"), ("keyType", "key"), ("valueType", "value")):
        if key in new:
            yield from _type_changes(old[key], new[key], f"{here}.{part}", features, mapped=mapped, by_name=by_name)
    for key in ("containsNull", "valueContainsNull"):
        if new.get(key) is False and old.get(key, True):
            yield f"{here}.{key}", False, "cannot follow true: the table has rows, and some may hold null"


def is_wider(old: str, new: str) -> bool:
    """Say whether type widening may turn `old` into `new` ("Type Widening" of the protocol)."""
    if new in _WIDER.get(old, ()):
        return True
    wide = _DECIMAL.fullmatch(new)
    if wide is None:
        return False
    precision, scale = int(wide[1]), int(wide[2])
    narrow = _DECIMAL.fullmatch(old)
    if narrow is not None:
        more_scale = scale - int(narrow[2])
        return more_scale >= 0 and precision - int(narrow[1]) >= more_scale
    digits = _DIGITS.get(old)
    return digits is not None and precision - scale >= digits
