"""Whether a payload fits its table: the judgement that needs the protocol and metadata in force.

A single action is judged when a payload is parsed (`springline.delta.payload`); this module judges it for the table:
partition values against their columns, statistics against the schema, features that actions need, metadata and protocol
against those in force before. Everything here is a function of these; whether rows of the table conflict with
a change is left to the caller as a `Doubt`, because that costs reading the table's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from springline.delta.actions import BadAction, judge_inline_vector
from springline.delta.features import declared, features_in_use
from springline.delta.limits import MAX_LONG
from springline.delta.metadata import (
    PHYSICAL_NAME,
    breaks_readers,
    breaks_rows,
    judge_metadata,
    judge_needs,
    lost_features,
    mapping_mode,
)
from springline.delta.partition_values import Fits, partition_type
from springline.delta.payload import Line, Payload, bad_action
from springline.delta.schema import stored_schema
from springline.errors import Code, Refusal, Refused, refused

ROWS_REMEDY = (
    "Remove every file of the table in the same commit and add the rewritten ones, or leave the columns as they are."
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A refusal that stands if the table keeps any file besides those that the commit removes."""

    refusal: Refusal
    removed: frozenset[tuple[str, str | None]]
    """Decoded path and deletion vector of each file that the commit removes."""


class FileRules:
    """A table's rules for files that are added to it, made once from its protocol and metadata.

    Raises `Refused` (`NOT_A_DELTA_TABLE`) if its metadata cannot be read. Names are those that actions use: physical
    ones under column mapping.
    """

    def __init__(self, protocol: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.features = declared(protocol)
        configuration = metadata.get("configuration") or {}
        if not isinstance(configuration, Mapping):
            raise _unreadable("metaData.configuration", configuration)
        self.append_only = configuration.get("delta.appendOnly") == "true" and "appendOnly" in self.features
        self.change_data = configuration.get("delta.enableChangeDataFeed") == "true"
        fields = _fields(metadata)
        self.mapped = mapping_mode(metadata) != "none"
        names = metadata.get("partitionColumns")
        if not isinstance(names, list):
            raise _unreadable("metaData.partitionColumns", names)
        self.partition: dict[str, tuple[Fits | None, str, bool]] = {}
        for name in names:
            field = fields.get(name) if isinstance(name, str) else None
            if field is None:
                raise _unreadable("metaData.partitionColumns", name)
            try:
                fits, wanted = partition_type(field["type"])
            except (KeyError, TypeError):
                fits, wanted = None, ""
            self.partition[_physical(field, mapped=self.mapped)] = (fits, wanted, bool(field.get("nullable", True)))
        self.columns = _leaves(list(fields.values()), mapped=self.mapped)

    def judge(self, line: Line) -> None:
        """Judge one file's action. Raises `BadAction`."""
        action = line.action
        values = action.get("partitionValues")
        if values is not None:
            self._judge_values(values)
        stats = line.stats
        if stats is not None:
            lowest = stats.get("minValues")
            if lowest:
                _judge_bounds(lowest, self.columns, "stats.minValues")
            if stats.get("maxValues"):
                _judge_bounds(stats["maxValues"], self.columns, "stats.maxValues", lowest)
            if stats.get("nullCount"):
                _judge_counts(stats["nullCount"], self.columns, "stats.nullCount")
        vector = action.get("deletionVector")
        if vector is not None:
            self._needs("deletionVectors", "deletionVector", vector)
            if vector["storageType"] == "i":
                judge_inline_vector(vector)
        if line.kind == "cdc":
            self._needs("changeDataFeed", "path", action["path"])
            if not self.change_data:
                raise BadAction(
                    "path",
                    action["path"],
                    "is a change file, and the table's property delta.enableChangeDataFeed is not true",
                    "Leave change files out, or switch the property on in a commit before.",
                )

    def _judge_values(self, values: Mapping[str, str | None]) -> None:
        partition = self.partition
        if values.keys() != partition.keys():
            missing = sorted(partition.keys() - values.keys())
            name = missing[0] if missing else min(values.keys() - partition.keys())
            problem = "is missing: each partition column needs a value" if missing else "is no partition column"
            columns = ", ".join(partition) or "none"
            raise BadAction(
                f"partitionValues.{name}",
                values.get(name),
                problem,
                f"Give a text or null for exactly the partition columns of the table: {columns}.",
            )
        for name, text in values.items():
            fits, wanted, nullable = partition[name]
            if text is None or (text == "" and (fits is None or not fits("a"))):
                if not nullable:
                    raise BadAction(
                        f"partitionValues.{name}",
                        text,
                        "stands for null, and the column takes none",
                        "Give the value, or allow nulls in the column first.",
                    )
            elif fits is not None and not fits(text):
                raise BadAction(f"partitionValues.{name}", text, "does not fit its column", f"Write {wanted}.")

    def _needs(self, feature: str, place: str, value: Any) -> None:
        if feature not in self.features:
            raise BadAction(
                place,
                value,
                f"needs the table feature {feature}, which the table does not have",
                f"Commit a protocol action that has {feature} first, or leave this out.",
            )


def judge_against_table(
    payload: Payload,
    protocol: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    rules: FileRules | None,
) -> Doubt | None:
    """Judge a parsed payload against the protocol and metadata in force before it; None of either: there is none.

    `rules` are those of exactly these two, if the caller has them. Raises `Refused` (`INVALID_PAYLOAD`, or
    `NOT_A_DELTA_TABLE` for a table whose own metadata cannot be read). A `Doubt` is the caller's to settle.
    """
    protocol_line = _line(payload, "protocol")
    metadata_line = _line(payload, "metaData")
    after_protocol, after_metadata = payload.protocol or protocol, payload.metadata or metadata
    doubt: Doubt | None = None
    if metadata_line is not None and after_protocol is not None:
        schema = judge_metadata(metadata_line.action, field=metadata_line.place)
        judge_needs(after_protocol, metadata_line.action, schema, field=metadata_line.place)
        if metadata is not None:
            doubt = _doubt(payload, metadata_line, metadata, schema, declared(after_protocol))
    if protocol_line is not None and protocol is not None:
        _keep_features(protocol_line, protocol, after_metadata)
    if after_protocol is None or after_metadata is None:
        return doubt
    if protocol_line is not None or metadata_line is not None or rules is None:
        rules = FileRules(after_protocol, after_metadata)
    append_only = rules.append_only if metadata is None else _append_only(protocol or after_protocol, metadata)
    for line in payload.lines:
        kind = line.kind
        try:
            # Files that a commit removes were added under earlier metadata.
            if kind in ("add", "cdc") or (kind == "remove" and metadata_line is None):
                rules.judge(line)
            if kind == "remove" and append_only:
                _judge_remove(line)
            elif kind == "domainMetadata":
                _judge_domain(line, rules.features)
        except BadAction as error:
            raise bad_action(line, error) from None
    return doubt


def _line(payload: Payload, kind: str) -> Line | None:
    if kind not in payload.kinds:
        return None
    return next(line for line in payload.lines if line.kind == kind)


def _append_only(protocol: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    configuration = metadata.get("configuration")
    set_ = isinstance(configuration, Mapping) and configuration.get("delta.appendOnly") == "true"
    return set_ and "appendOnly" in declared(protocol)


def _judge_remove(line: Line) -> None:
    if line.action["dataChange"]:
        raise BadAction(
            "dataChange",
            True,
            "removes data of a table that only grows: its property delta.appendOnly is true",
            "Leave the remove out, or set delta.appendOnly to false in a commit before.",
        )


def _judge_domain(line: Line, features: set[str]) -> None:
    domain = line.action["domain"]
    for feature in ("domainMetadata", *(("clustering",) if domain == "delta.clustering" else ())):
        if feature not in features:
            raise BadAction(
                "domain",
                domain,
                f"needs the table feature {feature}, which the table does not have",
                f"Commit a protocol action that has {feature} first, or leave this out.",
            )


def _keep_features(line: Line, before: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> None:
    lost = lost_features(before, line.action, features_in_use(metadata) if metadata is not None else set())
    if lost:
        raise bad_action(
            line,
            BadAction(
                "writerFeatures" if "writerFeatures" in line.action else "minWriterVersion",
                line.action.get("writerFeatures", line.action["minWriterVersion"]),
                f"lacks {', '.join(lost)}, which the table has and its rows or older versions may need",
                "Keep the feature, or let the engine that set it drop it (ALTER TABLE ... DROP FEATURE).",
            ),
        )


def _doubt(
    payload: Payload, line: Line, before: Mapping[str, Any], schema: Mapping[str, Any], features: set[str]
) -> Doubt | None:
    """Return the doubt that a change of metadata leaves; None if rows of the table survive it."""
    try:
        old_schema = stored_schema(str(before.get("schemaString")), mapped=True)
    except Refused:
        broken: tuple[str, Any, str] | None = ("schemaString", line.action["schemaString"], "follows an unreadable one")
    else:
        column = breaks_readers(before, line.action, old_schema, schema)
        if column is not None:
            raise bad_action(
                line,
                BadAction(
                    f"schemaString: {column}.type",
                    next(one["type"] for one in schema["fields"] if _physical(one, mapped=True) == column),
                    "is another type of a partition column, and readers read the values of removed files too",
                    "Give the new partition column another name, or write a new table.",
                ),
            )
        broken = breaks_rows(before, line.action, old_schema, schema, features)
    if broken is None:
        return None
    place, value, problem = broken
    refusal = bad_action(line, BadAction(place, value, problem, ROWS_REMEDY)).refusal
    return Doubt(refusal, payload.removed)


def _fields(metadata: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    text = metadata.get("schemaString")
    try:
        schema = stored_schema(str(text), mapped=True)
    except Refused as error:
        raise _unreadable("metaData.schemaString", error.refusal.message) from None
    return {field["name"]: field for field in schema["fields"]}


def _physical(field: Mapping[str, Any], *, mapped: bool) -> str:
    return str((field["metadata"] if mapped else {}).get(PHYSICAL_NAME, field["name"]))


def _leaves(fields: list[Mapping[str, Any]], *, mapped: bool) -> dict[str, Any]:
    """Return what statistics may say of each column.

    A Python type or a range that bounds must be of, a dictionary for a struct, `_ANY_NUMBER` for decimals, None for the
    rest.
    """
    found: dict[str, Any] = {}
    for field in fields:
        data_type = field["type"]
        name = _physical(field, mapped=mapped)
        if isinstance(data_type, Mapping):
            nested = data_type.get("type") == "struct"
            found[name] = _leaves(list(data_type["fields"]), mapped=mapped) if nested else None
        else:
            found[name] = _ANY_NUMBER if data_type.startswith("decimal") else _BOUNDS.get(data_type)
    return found


_ANY_NUMBER = object()
_BOUNDS: dict[str, Any] = {
    **{
        name: range(-(1 << (bits - 1)), 1 << (bits - 1))
        for name, bits in (("byte", 8), ("short", 16), ("integer", 32), ("long", 64))
    },
    **dict.fromkeys(("string", "date", "timestamp", "timestamp_ntz"), str),
    **dict.fromkeys(("float", "double"), float),
    "boolean": bool,
}
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "inf", "-inf")
_STATISTICS_REMEDY = "Write statistics as the protocol has them, or leave them out: readers skip files by them."


def _judge_bounds(
    bounds: Mapping[str, Any], columns: Mapping[str, Any], place: str, lowest: Mapping[str, Any] | None = None
) -> None:
    """Judge least or greatest values; `lowest` are the least ones, where `bounds` are the greatest."""
    for name, value in bounds.items():
        known = columns.get(name)
        if known is None or value is None:
            continue
        kind = type(value)
        if kind is known:
            continue
        if type(known) is dict:
            if kind is not dict:
                raise BadAction(f"{place}.{name}", value, "is not an object, and the column is a struct")
            below = lowest.get(name) if lowest is not None else None
            _judge_bounds(value, known, f"{place}.{name}", below if type(below) is dict else None)
        elif not (kind is int and type(known) is range and value in known) and not _is_number_for(known, value):
            raise BadAction(f"{place}.{name}", value, "does not fit its column's type", _STATISTICS_REMEDY)
        elif lowest is not None and kind is int:
            low = lowest.get(name)
            if type(low) is int and low > value:
                raise BadAction(f"{place}.{name}", value, f"is below the least value, {low}", _STATISTICS_REMEDY)


def _is_number_for(known: Any, value: Any) -> bool:
    if known is float:
        return type(value) is int or value in _NO_NUMBERS
    if known is _ANY_NUMBER:
        return type(value) in (int, float) or (type(value) is str and value.lstrip("-").replace(".", "", 1).isdigit())
    return False


def _judge_counts(counts: Mapping[str, Any], columns: Mapping[str, Any], place: str) -> None:
    for name, value in counts.items():
        if value is None or (type(value) is int and 0 <= value <= MAX_LONG and type(columns.get(name)) is not dict):
            continue
        known = columns.get(name)
        if type(value) is dict and (name not in columns or known is None or type(known) is dict):
            if type(known) is dict:
                _judge_counts(value, known, f"{place}.{name}")
        else:
            raise BadAction(f"{place}.{name}", value, "is not a count of nulls for this column")


def _unreadable(field: str, value: Any) -> Refused:
    return refused(
        Code.NOT_A_DELTA_TABLE,
        f"the table's own {field} cannot be read: {str(value)[:300]}",
        field=field,
        value=str(value)[:200],
        remedy="Commit metadata that is right with mode 'strict', or let an engine repair the table.",
    )
