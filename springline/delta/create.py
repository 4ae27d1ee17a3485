"""Version 0 of a table that we create: its exact bytes, from the request alone (docs/formats.md#table-registry).

The same request, id and time always give the same bytes, so that a repeated creation finds its own file. Only
plain tables are made: tables with features that writers must support are left to engines, and can be adopted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from springline.delta.features import ALLOWED, require_supported, switched_on_by
from springline.delta.metadata import judge_metadata, judge_needs
from springline.delta.properties import FEATURE_OF_PROPERTY, PLAIN_PROPERTIES, problem_with, property_problem
from springline.delta.schema import check_partition_columns, normalised_schema, uses_type
from springline.delta.table_request import CreateTable, check_name
from springline.errors import Code, Refused, refused

ENGINE_INFO = "springline/0.1.0"

_READER_TOO = frozenset({"deletionVectors", "timestampNtz", "typeWidening", "v2Checkpoint", "vacuumProtocolCheck"})
_ALWAYS = ("appendOnly", "invariants")
_FEATURE_PREFIX = "delta.feature."
_CREATABLE_FEATURES = _READER_TOO | {"appendOnly", "changeDataFeed", "domainMetadata", "invariants"}


@dataclass(frozen=True, slots=True)
class NewTable:
    """A checked creation: the content of version 0."""

    protocol: dict[str, Any]
    schema: dict[str, Any]
    partition_columns: tuple[str, ...]
    configuration: dict[str, str]
    name: str
    description: str | None

    def metadata(self, table_id: str, created_at_ms: int) -> dict[str, Any]:
        """Return the `metaData` action's body."""
        fields: dict[str, Any] = {"id": table_id, "name": self.name}
        if self.description is not None:
            fields["description"] = self.description
        return fields | {
            "format": {"provider": "parquet", "options": {}},
            "schemaString": orjson.dumps(self.schema).decode(),
            "partitionColumns": list(self.partition_columns),
            "configuration": self.configuration,
            "createdTime": created_at_ms,
        }


def check_creation(spec: CreateTable) -> NewTable:
    """Check a creation and return its table.

    Raises `Refused`: `INVALID_REQUEST` for a bad name, column, partition column or property,
    `UNSUPPORTED_FEATURE` for properties that enable a feature which we do not support.
    """
    check_name(spec.name)
    schema = normalised_schema(spec.columns)
    check_partition_columns(schema, spec.partition_columns)
    features, configuration = _properties(spec.properties)
    if uses_type(schema, "timestamp_ntz"):
        features.add("timestampNtz")
    new = NewTable(
        protocol=_protocol(features),
        schema=schema,
        partition_columns=tuple(spec.partition_columns),
        configuration=configuration,
        name=spec.name,
        description=spec.description,
    )
    metadata = new.metadata("", 0)
    require_supported(new.protocol, metadata, field="properties")
    # Tables that we create are judged by the rules for commits.
    judged = judge_metadata(metadata, field="columns", code=Code.INVALID_REQUEST)
    judge_needs(new.protocol, metadata, judged, field="columns", code=Code.INVALID_REQUEST)
    return new


def version_zero(new: NewTable, table_id: str, created_at_ms: int) -> bytes:
    """Return the log file of version 0: commit information, protocol and metadata, one action per line.

    `commitInfo.txnId` is the table's id, so that the log alone identifies its owner.
    """
    actions: list[dict[str, Any]] = [
        {
            "commitInfo": {
                "timestamp": created_at_ms,
                "operation": "CREATE TABLE",
                "operationParameters": {
                    "isManaged": "false",
                    "partitionBy": orjson.dumps(list(new.partition_columns)).decode(),
                    "properties": orjson.dumps(new.configuration).decode(),
                },
                "isBlindAppend": True,
                "engineInfo": ENGINE_INFO,
                "txnId": table_id,
            }
        },
        {"protocol": new.protocol},
        {"metaData": new.metadata(table_id, created_at_ms)},
    ]
    return b"".join(orjson.dumps(action) + b"\n" for action in actions)


def is_version_zero_of(new: NewTable, table_id: str, data: bytes) -> bool:
    """Say whether the log file `data` is version 0 of the same creation, perhaps begun at another time."""
    try:
        lines = [orjson.loads(line) for line in data.split(b"\n") if line.strip()]
        created = next(line["metaData"]["createdTime"] for line in lines if "metaData" in line)
    except (orjson.JSONDecodeError, StopIteration, KeyError, TypeError):
        return False
    return isinstance(created, int) and data == version_zero(new, table_id, created)


def _protocol(features: set[str]) -> dict[str, Any]:
    """Return the smallest protocol with `features`; without any, the one that every engine reads."""
    if not features - set(_ALWAYS):
        return {"minReaderVersion": 1, "minWriterVersion": 2}
    writer = sorted(features | set(_ALWAYS))
    reader = sorted(features & _READER_TOO)
    if not reader:
        return {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": writer}
    return {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer}


def _properties(properties: dict[str, str]) -> tuple[set[str], dict[str, str]]:
    """Return the features the properties ask for and the table's configuration."""
    features: set[str] = set()
    configuration: dict[str, str] = {}
    for key, value in sorted(properties.items()):
        if key == "":
            raise _bad("properties", key, "is not the name of a property", "give it a name")
        if key.startswith(_FEATURE_PREFIX):
            features.add(_asked_feature(key, value))
            continue
        _check_value(key, value)
        if key in FEATURE_OF_PROPERTY and value == "true":
            features.add(FEATURE_OF_PROPERTY[key])
        configuration[key] = value
    return features, configuration


def _asked_feature(key: str, value: str) -> str:
    name = key.removeprefix(_FEATURE_PREFIX)
    if name in ALLOWED and name not in _CREATABLE_FEATURES:
        raise _bad(
            "properties",
            key,
            "asks for a feature that an engine has to set up",
            "create the table with an engine, then adopt it",
        )
    if value not in ("supported", "enabled"):
        raise _bad("properties", f"{key}={value}", "is not a way to ask for a feature", "write 'supported'")
    return name


def _check_value(key: str, value: str) -> None:
    if not key.startswith("delta."):
        return
    known = key in PLAIN_PROPERTIES or key in FEATURE_OF_PROPERTY
    if not known and switched_on_by(key) is None and (key, value) != ("delta.columnMapping.mode", "none"):
        raise _bad(
            "properties",
            key,
            "is not a table property that can be set here",
            "check its spelling; if an engine sets it up, create the table with that engine and adopt it",
        )
    problem = property_problem(key, value)
    if problem is not None:
        raise _bad(
            "properties",
            f"{key}={value}",
            f"is not {problem}",
            "write one" if problem[:2] == "a " else f"write {problem}",
        )
    found = problem_with(key, value)
    if found is not None:
        raise _bad("properties", f"{key}={value}", *found)


def _bad(field: str, value: Any, problem: str, remedy: str) -> Refused:
    return refused(Code.INVALID_REQUEST, f"{field}: {value!r} {problem}", field=field, value=value, remedy=remedy)
