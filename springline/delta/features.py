"""Which Delta tables a coordinator may commit to: an allow-list of table features, refused ones by name.

A coordinator here copies a writer's payload into the log byte for byte and, for blind appends, under a
version the writer did not choose (docs/protocol.md#commits). A table feature is therefore safe if what it demands of a
commit can be met by the *writer* before it knows the version its commit will get. It is refused if a commit's
content depends on the version it gets or on the commits just before it (timestamps that must grow, row ids
that continue a counter), or if another system decides who wins.

Safe does not mean that we check data, which we never read. Constraints, invariants, generated columns, defaults,
append-only and column mapping are promises of the writer. A strict commit carries whatever its writer
computed; our own Python client appends only to tables for which `writer_duties` is empty.

Sources: the feature names and the versions that imply them are those of the Delta transaction protocol; other
readers' makers document which of them they support.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from springline.delta.limits import shortened, shown
from springline.delta.strictjson import BadJson, strict_json
from springline.errors import Code, Refused, refused

ALLOWED: dict[str, str] = {
    "appendOnly": "a duty of the writer: it leaves out removes that change data",
    "invariants": "a duty of the writer: it checks rows before it stages",
    "checkConstraints": "a duty of the writer: it checks rows before it stages",
    "generatedColumns": "a duty of the writer: it computes the columns before it stages",
    "allowColumnDefaults": "a duty of the writer: it fills the defaults before it stages",
    "changeDataFeed": "change files are data the writer stages; they carry no version",
    "columnMapping": "ids and names change only with metaData, which is committed in strict mode only",
    "deletionVectors": "vectors are named by the actions; their change is a remove, so strict mode only",
    "domainMetadata": "a domain's action replaces the one before it and is committed in strict mode only",
    "clustering": "the columns are domain metadata; files are only asked to carry statistics",
    "materializePartitionColumns": "about the content of data files only",
    "timestampNtz": "a type; nothing in a commit depends on it",
    "typeWidening": "changes only with metaData, which is committed in strict mode only",
    "typeWidening-preview": "as typeWidening",
    "variantType": "a type; nothing in a commit depends on it",
    "variantType-preview": "as variantType",
    "variantShredding-preview": "about the content of data files only",
    "v2Checkpoint": "about checkpoints only; commits are as before",
    "vacuumProtocolCheck": "about removing files, which we do not do",
}
"""Allowed table features, each with the reason why copying payloads unchanged is safe."""

REFUSED: dict[str, str] = {
    "inCommitTimestamp": "every commit must carry a timestamp greater than that of the version before it",
    "rowTracking": "every added file must carry row ids that continue those of the version before it",
    "identityColumns": "generated values continue a counter that every commit moves",
    "icebergCompatV1": "another format's metadata has to follow every version",
    "icebergCompatV2": "another format's metadata has to follow every version",
    "icebergCompatV3": "another format's metadata has to follow every version",
    "icebergWriterCompatV1": "another format's metadata has to follow every version",
    "icebergWriterCompatV3": "another format's metadata has to follow every version",
    "catalogManaged": "a catalog decides which commit wins",
    "catalogOwned-preview": "a catalog decides which commit wins",
    "coordinatedCommits-preview": "another coordinator decides which commit wins",
    "checkpointProtection": "log clean-up must spare versions that a table property names",
}
"""Table features that are refused by name, each with what it would need."""

READER_FEATURES = frozenset(
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
        "variantType",
        "variantType-preview",
        "variantShredding-preview",
        "catalogManaged",
        "catalogOwned-preview",
    }
)
"""Features that readers have to know too; the others are for writers only."""

_DUTIES_WHEN_LISTED = frozenset(
    {
        "materializePartitionColumns",
        "variantType",
        "variantType-preview",
        "variantShredding-preview",
        "clustering",
    }
)
_DUTY_OF_FIELD = {
    "delta.invariants": "invariants",
    "delta.generationExpression": "generatedColumns",
    "CURRENT_DEFAULT": "allowColumnDefaults",
}
"""Features whose use shows in the metadata of a column."""

MAX_READER_VERSION = 3
MAX_WRITER_VERSION = 7
_FEATURES_READER = 3
_FEATURES_WRITER = 7
_WRITER_IMPLIES: dict[int, tuple[str, ...]] = {
    2: ("appendOnly", "invariants"),
    3: ("checkConstraints",),
    4: ("changeDataFeed", "generatedColumns"),
    5: ("columnMapping",),
    6: ("identityColumns",),
}
_REFUSED_IF_TRUE: dict[str, str] = {
    "delta.enableInCommitTimestamps": "inCommitTimestamp",
    "delta.enableRowTracking": "rowTracking",
    "delta.enableIcebergCompatV1": "icebergCompatV1",
    "delta.enableIcebergCompatV2": "icebergCompatV2",
    "delta.enableIcebergCompatV3": "icebergCompatV3",
    "delta.enableIcebergWriterCompatV1": "icebergWriterCompatV1",
    "delta.enableIcebergWriterCompatV3": "icebergWriterCompatV3",
}
_REFUSED_IF_SET: dict[str, str] = {
    "delta.coordinatedCommits.commitCoordinator-preview": "coordinatedCommits-preview",
    "delta.universalFormat.enabledFormats": "universalFormat",
}
_REMEDY = (
    "drop the feature with the engine that set it (ALTER TABLE ... DROP FEATURE), or create a table without "
    "it and copy the data"
)


def declared(protocol: Mapping[str, Any]) -> set[str]:
    """Return the names of the features that a `protocol` action declares, also by its legacy version numbers.

    Raises `Refused` (`NOT_A_DELTA_TABLE`) if the action has not the form the protocol gives it.
    """
    reader, writer = _versions(protocol)
    found: set[str] = set()
    if writer >= _FEATURES_WRITER:
        found.update(_names(protocol, "writerFeatures"))
    else:
        for version, names in _WRITER_IMPLIES.items():
            if writer >= version:
                found.update(names)
    if reader >= _FEATURES_READER:
        found.update(_names(protocol, "readerFeatures"))
    elif reader == 2:
        found.add("columnMapping")
    return found


def judge_protocol(protocol: Mapping[str, Any], *, field: str, code: Code = Code.INVALID_PAYLOAD) -> None:
    """Judge whether a `protocol` action is consistent with itself ("Table Features" of the protocol).

    Raises `Refused` (`code`) with `field` in front of the place.
    """
    reader, writer = protocol["minReaderVersion"], protocol["minWriterVersion"]
    reading, writing = protocol.get("readerFeatures"), protocol.get("writerFeatures")

    def bad(place: str, value: Any, problem: str, remedy: str) -> Refused:
        where = f"{field}.{place}"
        return refused(code, f"{where}: {shown(value)} {problem}", field=where, value=shortened(value), remedy=remedy)

    for name, version, threshold, names in (
        ("reader", reader, _FEATURES_READER, reading),
        ("writer", writer, _FEATURES_WRITER, writing),
    ):
        if version >= threshold and names is None:
            raise bad(f"{name}Features", None, f"is missing, and {name} version {version} lists features", "list them")
        if version < threshold and names is not None:
            remedy = f"leave it out, or write {name} version {threshold}"
            raise bad(f"{name}Features", names, f"is listed, which {name} version {version} does not do", remedy)
    if reader >= _FEATURES_READER and writer < _FEATURES_WRITER:
        remedy = f"write {_FEATURES_WRITER}, and list the features for writers too"
        raise bad("minWriterVersion", writer, f"is too low for reader version {reader}", remedy)
    if reader == 2 and writer < 5:
        raise bad("minWriterVersion", writer, "is too low for reader version 2", "write 5, or reader version 1")
    for name in reading or ():
        if name not in (writing or ()):
            raise bad("writerFeatures", writing, f"lacks {name!r}, which readerFeatures has", "list it in both")
        if name not in READER_FEATURES and name in ALLOWED:
            remedy = "list it in writerFeatures only"
            raise bad("readerFeatures", name, "is a feature for writers only", remedy)
    for name in writing or ():
        known_to_readers = name in (reading or ()) or (name == "columnMapping" and reader == 2)
        if name in READER_FEATURES and name in ALLOWED and not known_to_readers:
            remedy = f"list it in both, with reader version {_FEATURES_READER}"
            raise bad("readerFeatures", reading, f"lacks {name!r}, which writerFeatures has", remedy)
    if reader == 2 and writing is not None and "columnMapping" not in writing:
        raise bad("writerFeatures", writing, "lacks 'columnMapping', which reader version 2 stands for", "list it")
    if "clustering" in (writing or ()) and "domainMetadata" not in (writing or ()):
        raise bad("writerFeatures", writing, "lacks 'domainMetadata', which 'clustering' needs", "list it")


def unsupported(protocol: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> list[str]:
    """Return why we may not commit to a table: one line per finding, each beginning with the feature's name.

    `protocol` and `metadata` are the bodies of the table's latest `protocol` and `metaData` actions. The list
    is empty if every feature in them is on the allow-list. Besides declared features it looks at the table
    properties and the schema, because a feature can be switched on there in a table whose protocol is legacy.
    Raises `Refused` (`NOT_A_DELTA_TABLE`) if the actions are malformed.
    """
    reader, writer = _versions(protocol)
    findings: dict[str, str] = {}
    if reader > MAX_READER_VERSION:
        findings["minReaderVersion"] = f"{reader} is newer than {MAX_READER_VERSION}, the newest we know"
    if writer > MAX_WRITER_VERSION:
        findings["minWriterVersion"] = f"{writer} is newer than {MAX_WRITER_VERSION}, the newest we know"
    names = declared(protocol)
    for name in names:
        if name in REFUSED:
            findings[name] = REFUSED[name]
        elif name not in ALLOWED:
            findings[name] = "we do not know this table feature"
    if metadata is not None:
        findings |= _findings_in_metadata(names, metadata)
    return [f"{name}: {why}" for name, why in sorted(findings.items())]


def require_supported(protocol: Mapping[str, Any], metadata: Mapping[str, Any] | None, *, field: str) -> None:
    """Raise `Refused` (`UNSUPPORTED_FEATURE`) unless the table's features are all on the allow-list.

    `field` names what of the request led to this table, for the refusal.
    """
    found = unsupported(protocol, metadata)
    if found:
        raise unsupported_refusal(found, field=field)


def unsupported_refusal(found: list[str], *, field: str) -> Refused:
    """Build the refusal for the findings of `unsupported`."""
    return refused(
        Code.UNSUPPORTED_FEATURE,
        "the table uses features that cannot be committed to here: " + "; ".join(found),
        field=field,
        value=[line.split(":", 1)[0] for line in found],
        remedy=_REMEDY,
    )


def switched_on_by(key: str) -> str | None:
    """Return the refused feature that the table property `key` switches on, or None."""
    return _REFUSED_IF_TRUE.get(key) or _REFUSED_IF_SET.get(key)


def writer_duties(protocol: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[str]:
    """Return the duties of a writer that our own Python client does not fulfil: none for a plain table.

    Features whose use shows in the properties or the schema count only where they are used (every table of
    writer version 4 may have generated columns, few have); the others count where the protocol lists them.
    """
    names = declared(protocol)
    configuration = _configuration(metadata)
    listed = set(_names(protocol, "writerFeatures")) if _versions(protocol)[1] >= _FEATURES_WRITER else set()
    duties = listed & _DUTIES_WHEN_LISTED
    if configuration.get("delta.columnMapping.mode", "none") != "none" and "columnMapping" in names:
        duties.add("columnMapping")
    if any(key.startswith("delta.constraints.") for key in configuration):
        duties.add("checkConstraints")
    duties |= features_in_use(metadata) & set(_DUTY_OF_FIELD.values())
    return sorted(duties)


def features_in_use(metadata: Mapping[str, Any]) -> set[str]:
    """Return the features for writers only that a table's properties or schema make use of."""
    configuration = _configuration(metadata)
    used = {
        feature
        for key, feature in (
            ("delta.appendOnly", "appendOnly"),
            ("delta.enableChangeDataFeed", "changeDataFeed"),
        )
        if configuration.get(key) == "true"
    }
    if any(key.startswith("delta.constraints.") for key in configuration):
        used.add("checkConstraints")
    return used | {
        _DUTY_OF_FIELD[key] for field in _fields(metadata) for key in _field_metadata(field) if key in _DUTY_OF_FIELD
    }


def _findings_in_metadata(names: set[str], metadata: Mapping[str, Any]) -> dict[str, str]:
    configuration = _configuration(metadata)
    findings: dict[str, str] = {}
    for key, feature in _REFUSED_IF_TRUE.items():
        if configuration.get(key, "").strip().lower() == "true":
            findings[feature] = f"{REFUSED[feature]} (switched on by the property {key})"
    for key, feature in _REFUSED_IF_SET.items():
        if configuration.get(key, "").strip():
            why = REFUSED.get(feature, "another format's metadata has to follow every version")
            findings[feature] = f"{why} (switched on by the property {key})"
    mode = configuration.get("delta.columnMapping.mode", "none")
    if mode not in ("none", "name", "id"):
        findings["columnMapping"] = f"delta.columnMapping.mode is {mode!r}, not one of none, name, id"
    elif mode != "none" and "columnMapping" not in names:
        findings["columnMapping"] = f"delta.columnMapping.mode is {mode!r} but the protocol has no column mapping"
    for field in _fields(metadata):
        if any(key.startswith("delta.identity.") for key in _field_metadata(field)):
            findings["identityColumns"] = f"{REFUSED['identityColumns']} (column {field.get('name')!r})"
    file_format = metadata.get("format")
    provider = file_format.get("provider", "parquet") if isinstance(file_format, Mapping) else "parquet"
    if provider != "parquet":
        findings["format"] = f"data files are {provider!r}, not parquet"
    return findings


def _versions(protocol: Mapping[str, Any]) -> tuple[int, int]:
    values: list[int] = []
    for key in ("minReaderVersion", "minWriterVersion"):
        value = protocol.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _malformed(f"protocol.{key}", value, "a whole number from 1 on")
        values.append(value)
    return values[0], values[1]


def _names(protocol: Mapping[str, Any], key: str) -> list[str]:
    value = protocol.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _malformed(f"protocol.{key}", value, "a list of names")
    return value


def _configuration(metadata: Mapping[str, Any]) -> dict[str, str]:
    value = metadata.get("configuration")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _malformed("metaData.configuration", value, "an object of texts")
    return {str(key): str(item) for key, item in value.items() if item is not None}


def _fields(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return every struct field of the table's schema, nested ones too."""
    text = metadata.get("schemaString")
    try:
        schema = strict_json(text.encode()) if isinstance(text, str) else None
    except (BadJson, UnicodeEncodeError):
        schema = None
    if not isinstance(schema, dict) or not isinstance(schema.get("fields"), list):
        raise _malformed("metaData.schemaString", text, "the JSON of a struct type")
    found: list[Mapping[str, Any]] = []
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        fields = node.get("fields")
        if isinstance(fields, list):
            found.extend(field for field in fields if isinstance(field, dict))
            waiting.extend(field.get("type") for field in fields if isinstance(field, dict))
        waiting.extend(node.get(key) for key in ("elementType", "keyType", "valueType"))
    return found


def _field_metadata(field: Mapping[str, Any]) -> Mapping[str, Any]:
    value = field.get("metadata")
    return value if isinstance(value, Mapping) else {}


def _malformed(field: str, value: object, wanted: str) -> Refused:
    return refused(
        Code.NOT_A_DELTA_TABLE,
        f"{field} is not {wanted}",
        field=field,
        value=shortened(value),
        remedy="check that the location holds a Delta table written by a conforming engine",
    )
