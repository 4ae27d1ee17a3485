"""Whether a `metaData` action is consistent with itself and with the protocol in force, so that every engine opens it.

For metadata that a caller is about to commit, or that we create. Metadata in an existing table is its engine's
responsibility: only metadata that we cannot read is refused there (`springline.delta.features`).

A change of metadata raises two separate questions. The two schemas alone show what it would break for existing rows
(`breaks_rows`); only if something would break, the caller reads from the store whether the table still has such
rows. So a commit that removes every file may replace the schema, as engines do to overwrite tables.

A protocol may not lose a feature that rows, or versions before, may need (`lost_features`): reader features, and
domains, whose state is in the log. A feature for writers only may be dropped once nothing in the metadata uses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from springline.delta.features import READER_FEATURES, declared
from springline.delta.limits import MAX_INTEGER, MIN_INTEGER, shortened, shown
from springline.delta.properties import FEATURE_OF_PROPERTY, property_problem
from springline.delta.schema import check_partition_columns, stored_schema
from springline.delta.strictjson import BadJson, strict_json
from springline.errors import Code, Refused, refused

MAPPING_MODE = "delta.columnMapping.mode"
MAX_COLUMN_ID = "delta.columnMapping.maxColumnId"
COLUMN_ID = "delta.columnMapping.id"
PHYSICAL_NAME = "delta.columnMapping.physicalName"
TYPE_CHANGES = "delta.typeChanges"
INVARIANTS = "delta.invariants"
_COMPUTED = "delta.metadataSpec"
"""How delta-kernel marks a column that it computes itself; in a stored schema it opens no table that has one."""

_FEATURE_OF_TYPE = {"timestamp_ntz": ("timestampNtz",), "variant": ("variantType", "variantType-preview")}
_FEATURE_OF_FIELD = {
    INVARIANTS: ("invariants",),
    "delta.generationExpression": ("generatedColumns",),
    "CURRENT_DEFAULT": ("allowColumnDefaults",),
    TYPE_CHANGES: ("typeWidening", "typeWidening-preview"),
}


def mapping_mode(metadata: Mapping[str, Any]) -> str:
    """Return the column mapping mode of a table: none, name or id."""
    configuration = metadata.get("configuration")
    return str((configuration if isinstance(configuration, Mapping) else {}).get(MAPPING_MODE) or "none")


def judge_metadata(metadata: Mapping[str, Any], *, field: str, code: Code = Code.INVALID_PAYLOAD) -> dict[str, Any]:
    """Judge metadata by itself, for any table; return the schema's struct type.

    The action's own fields have been judged (`springline.delta.actions`). Raises `Refused` (`code`) with `field` in
    front of the place, such as `payload line 3: metaData.schemaString.fields[0].type`.
    """
    mapped = mapping_mode(metadata) != "none"
    judge = _Judge(field, code)
    judge.properties(metadata["configuration"])
    try:
        schema = stored_schema(metadata["schemaString"], mapped=mapped)
        check_partition_columns(schema, metadata["partitionColumns"], stored=True)
    except Refused as error:
        refusal = error.refusal
        place = (refusal.field or "").replace("partition_columns", "partitionColumns")
        message = refusal.message.replace("partition_columns", "partitionColumns", 1)
        changes = {"code": code, "field": f"{field}.{place}", "message": f"{field}.{message}"}
        raise Refused(refusal.model_copy(update=changes)) from None
    judge.columns(schema, mapped=mapped)
    if mapped:
        judge.mapping(schema, metadata)
    return schema


def judge_needs(
    protocol: Mapping[str, Any],
    metadata: Mapping[str, Any],
    schema: Mapping[str, Any],
    *,
    field: str,
    code: Code = Code.INVALID_PAYLOAD,
) -> None:
    """Judge whether the protocol that will be in force has every feature that judged metadata needs.

    Raises `Refused` (`code`).
    """
    judge = _Needs(field, code, declared(protocol))
    judge.properties(metadata["configuration"])
    judge.columns(schema)


def fields_of(data_type: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, struct field) of a judged type, parents before children."""
    if not isinstance(data_type, Mapping):
        return
    kind = data_type.get("type")
    if kind == "struct":
        for one in data_type["fields"]:
            here = f"{place}.{one['name']}" if place else one["name"]
            yield here, one
            yield from fields_of(one["type"], here)
    elif kind == "array":
        yield from fields_of(data_type["elementType"], f"{place}.element")
    elif kind == "map":
        yield from fields_of(data_type["keyType"], f"{place}.key")
        yield from fields_of(data_type["valueType"], f"{place}.value")


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_integer(value: Any) -> bool:
    return type(value) is int and MIN_INTEGER <= value <= MAX_INTEGER


def _is_invariant(value: Any) -> bool:
    """Say whether a value is the JSON of one expression ("Column Invariants" of the protocol)."""
    try:
        parsed = strict_json(value.encode()) if type(value) is str else None
    except (BadJson, UnicodeEncodeError):
        return False
    inner = parsed.get("expression") if type(parsed) is dict else None
    return type(inner) is dict and type(inner.get("expression")) is str


def _is_type_changes(value: Any) -> bool:
    return type(value) is list and all(
        type(one) is dict and type(one.get("fromType")) is str and type(one.get("toType")) is str for one in value
    )


# Field metadata is its writer's affair but for these keys. Each was tried with delta-rs, DuckDB and Spark: over a value
# of another form one of them cannot open the table, and DuckDB's process ends over an odd parquet.field.id.
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    INVARIANTS: (_is_invariant, '{"expression":{"expression":"..."}} as a text'),
    TYPE_CHANGES: (_is_type_changes, "a list of objects with fromType and toType"),
    "parquet.field.id": (_is_integer, "a whole number of 32 bits"),
    **dict.fromkeys(
        ("delta.generationExpression", "CURRENT_DEFAULT", "EXISTS_DEFAULT", "__CHAR_VARCHAR_TYPE_STRING", "comment"),
        (_is_text, "a text"),
    ),
}


def _problem_of_entry(key: str, value: Any, *, mapped: bool) -> tuple[str, str] | None:
    """Return what is wrong with one entry of a field's metadata, and a remedy; None if it is fine.

    `mapped`: the table has column mapping.
    """
    if key in (COLUMN_ID, PHYSICAL_NAME) and not mapped:
        return "belongs to column mapping, which the table does not have", "leave it out, or set up column mapping"
    if key == _COMPUTED:
        return "marks a column that readers compute, which no table stores", "leave it out"
    known = _FORMS.get(key)
    if known is not None and not known[0](value):
        return f"is not {known[1]}", f"write {known[1]}, or leave it out"
    # Spark's reader of schemas takes no other lists.
    if any(not _is_of_one_kind(one) for one in _lists(value)):
        return "holds a list of more than one kind of value, or of nulls or lists", "write lists of one kind of value"
    return None


def _lists(value: Any) -> Iterator[list[Any]]:
    """Yield every list in a parsed value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) is list:
            yield one
            waiting.extend(one)
        elif type(one) is dict:
            waiting.extend(one.values())


def _is_of_one_kind(values: list[Any]) -> bool:
    kinds = {type(one) for one in values}
    return len(kinds) <= 1 and kinds <= {int, float, bool, str, dict}


class _Refusing:
    def __init__(self, field: str, code: Code) -> None:
        self.field = field
        self.code = code

    def refusal(self, place: str, value: Any, problem: str, remedy: str) -> Refused:
        where = f"{self.field}.{place}"
        return refused(
            self.code, f"{where}: {shown(value)} {problem}", field=where, value=shortened(value), remedy=remedy
        )


class _Judge(_Refusing):
    def properties(self, configuration: Mapping[str, str]) -> None:
        for key, value in configuration.items():
            wanted = property_problem(key, value)
            if wanted is not None:
                raise self.refusal(f"configuration.{key}", value, f"is not {wanted}", f"write {wanted}")

    def columns(self, schema: Mapping[str, Any], *, mapped: bool) -> None:
        for place, one in fields_of(schema):
            for key, value in one["metadata"].items():
                found = _problem_of_entry(key, value, mapped=mapped)
                if found is not None:
                    raise self.refusal(f"schemaString: {place}.metadata.{key}", value, *found)

    def mapping(self, schema: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Every field at every depth has an id and a physical name, each once ("Column Mapping")."""
        seen_ids: dict[int, str] = {}
        seen_names: dict[tuple[str, str], str] = {}
        for place, one in fields_of(schema):
            here = f"schemaString: {place}.metadata"
            number, name = one["metadata"].get(COLUMN_ID), one["metadata"].get(PHYSICAL_NAME)
            if type(number) is not int or not 0 < number < 2**31:
                raise self.refusal(
                    f"{here}.{COLUMN_ID}", number, "is not a whole number above 0", "give every field its id"
                )
            if number in seen_ids:
                raise self.refusal(
                    f"{here}.{COLUMN_ID}", number, f"is the id of {seen_ids[number]!r} too", "give every field its own"
                )
            if not isinstance(name, str) or name == "":
                raise self.refusal(f"{here}.{PHYSICAL_NAME}", name, "is not a name", "give every field its name")
            parent = place.rpartition(".")[0]
            if (parent, name.lower()) in seen_names:
                other = seen_names[parent, name.lower()]
                raise self.refusal(
                    f"{here}.{PHYSICAL_NAME}", name, f"is the name of {other!r} too", "give every field its own"
                )
            seen_ids[number] = place
            seen_names[parent, name.lower()] = place
        highest = metadata["configuration"].get(MAX_COLUMN_ID)
        if highest is None or int(highest) < max(seen_ids):
            raise self.refusal(
                f"configuration.{MAX_COLUMN_ID}",
                highest,
                f"is less than the highest id, {max(seen_ids)}",
                f"write {max(seen_ids)} or more",
            )


class _Needs(_Refusing):
    def __init__(self, field: str, code: Code, features: set[str]) -> None:
        super().__init__(field, code)
        self.features = features

    def properties(self, configuration: Mapping[str, str]) -> None:
        for key, value in configuration.items():
            place = f"configuration.{key}"
            if key in FEATURE_OF_PROPERTY and value == "true":
                self.needs(place, value, FEATURE_OF_PROPERTY[key], f"{FEATURE_OF_PROPERTY[key]}-preview")
            elif key == "delta.appendOnly" and value == "true":
                self.needs(place, value, "appendOnly")
            elif key.startswith("delta.constraints."):
                self.needs(place, value, "checkConstraints")
            elif key == "delta.checkpointPolicy" and value == "v2":
                self.needs(place, value, "v2Checkpoint")

    def columns(self, schema: Mapping[str, Any]) -> None:
        for place, one in fields_of(schema):
            for type_ in _primitives(one["type"]):
                if type_ in _FEATURE_OF_TYPE:
                    self.needs(f"schemaString: {place}", type_, *_FEATURE_OF_TYPE[type_])
            for key, features in _FEATURE_OF_FIELD.items():
                if one["metadata"].get(key) is not None:
                    self.needs(f"schemaString: {place}.metadata.{key}", one["metadata"][key], *features)

    def needs(self, place: str, value: Any, *features: str) -> None:
        if self.features.isdisjoint(features):
            raise self.refusal(
                place,
                value,
                f"needs the table feature {features[0]}, which the protocol does not have",
                f"commit a protocol action that has {features[0]} in the same payload, or leave this out",
            )


def _primitives(data_type: Any) -> Iterator[str]:
    """Yield the primitive types of a field that are not inside a field of its own."""
    if isinstance(data_type, str):
        yield data_type
    elif data_type["type"] == "array":
        yield from _primitives(data_type["elementType"])
    elif data_type["type"] == "map":
        yield from _primitives(data_type["keyType"])
        yield from _primitives(data_type["valueType"])


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
    """Return the first change between two `metaData` bodies that breaks existing rows, or None.

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

    delta-kernel (DuckDB) also reads the partition values of removed files, as long as the log has them; so this counts
    even for an empty table.
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
