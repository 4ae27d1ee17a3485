"""The Delta protocol's rules for each action by itself: fields, types, ranges ("Actions" of the protocol).

Fields that the protocol does not name are accepted: readers ignore them (tried with delta-rs, DuckDB and Spark).
What an action means for a table is judged elsewhere (`springline.delta.compatibility`).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from typing import Any

from springline.delta.limits import (
    MAX_ENTRIES,
    MAX_INTEGER,
    MAX_LONG,
    MAX_NAME,
    MAX_PARTITION_VALUE,
    MAX_PROPERTY,
    MAX_TEXT,
    MIN_INTEGER,
    MIN_LONG,
)
from springline.delta.strictjson import BadJson, strict_json

Check = Callable[[Any], bool]


class BadAction(ValueError):
    """An action breaks a rule: `place` below the action ("" for the action itself), the value, what is wrong.

    `remedy` where it is more than to write the action as the protocol describes it.
    """

    def __init__(self, place: str, value: Any, problem: str, remedy: str | None = None) -> None:
        super().__init__(f"{place} {problem}")
        self.place = place
        self.value = value
        self.problem = problem
        self.remedy = remedy


def is_long(value: Any) -> bool:
    """Say whether a parsed JSON value is a whole number of 64 bits, unlike 1.0 and true."""
    return type(value) is int and MIN_LONG <= value <= MAX_LONG


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_LONG


def _is_version(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_INTEGER


def _is_integer_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER


def _is_integer(value: Any) -> bool:
    return type(value) is int and MIN_INTEGER <= value <= MAX_INTEGER


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT


def _is_name(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= MAX_NAME


def _is_map(value: Any) -> bool:
    return type(value) is dict and len(value) <= MAX_ENTRIES


def _is_list(value: Any) -> bool:
    return type(value) is list and len(value) <= MAX_ENTRIES


_LONG = (is_long, "a whole number of 64 bits")
_COUNT = (_is_count, "a whole number of 64 bits from 0 on")
_BOOL = (_is_bool, "true or false")
_TEXT = (_is_text, f"a text of at most {MAX_TEXT} characters")
_NAME = (_is_name, f"a text of 1 to {MAX_NAME} characters")
_MAP = (_is_map, f"an object of at most {MAX_ENTRIES} entries")
_LIST = (_is_list, f"a list of at most {MAX_ENTRIES} names")
_VERSION = (_is_version, "a whole number from 1 on")

Fields = Mapping[str, tuple[Check, str]]

_FILE: Fields = {
    "path": _TEXT,
    "partitionValues": _MAP,
    "size": _COUNT,
    "dataChange": _BOOL,
    "tags": _MAP,
}
_LOGICAL_FILE: Fields = {
    **_FILE,
    "stats": _TEXT,
    "deletionVector": _MAP,
    "baseRowId": _COUNT,
    "defaultRowCommitVersion": _COUNT,
}
FIELDS: dict[str, Fields] = {
    "add": {**_LOGICAL_FILE, "modificationTime": _LONG, "clusteringProvider": _NAME},
    "remove": {**_LOGICAL_FILE, "deletionTimestamp": _LONG, "extendedFileMetadata": _BOOL},
    "cdc": _FILE,
    "metaData": {
        "id": _NAME,
        "name": (_is_text, _TEXT[1]),
        "description": _TEXT,
        "format": _MAP,
        "schemaString": (lambda value: type(value) is str, "a text"),
        "partitionColumns": _LIST,
        "configuration": _MAP,
        "createdTime": _LONG,
    },
    "protocol": {
        "minReaderVersion": _VERSION,
        "minWriterVersion": _VERSION,
        "readerFeatures": _LIST,
        "writerFeatures": _LIST,
    },
    "txn": {"appId": _NAME, "version": _LONG, "lastUpdated": _LONG},
    "domainMetadata": {"domain": _NAME, "configuration": _TEXT, "removed": _BOOL},
    # Not named by the protocol, but Spark cannot read a table whose log has another type here.
    "commitInfo": {
        "timestamp": _LONG,
        "inCommitTimestamp": _LONG,
        "readVersion": _LONG,
        "isBlindAppend": _BOOL,
        "operationParameters": _MAP,
        "operationMetrics": _MAP,
        "job": _MAP,
        "notebook": _MAP,
    },
}
"""The fields that the protocol names, by action. An optional field may also be null."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "add": ("path", "partitionValues", "size", "modificationTime", "dataChange"),
    "remove": ("path", "dataChange"),
    "cdc": ("path", "partitionValues", "size", "dataChange"),
    "metaData": ("id", "format", "schemaString", "partitionColumns", "configuration"),
    "protocol": ("minReaderVersion", "minWriterVersion"),
    "txn": ("appId", "version"),
    "domainMetadata": ("domain", "configuration", "removed"),
    "commitInfo": (),
}


_ALWAYS_REQUIRED = {kind: ("path",) if kind in ("add", "remove", "cdc") else names for kind, names in REQUIRED.items()}


def missing_field(kind: str, action: Mapping[str, Any]) -> BadAction | None:
    """Return what is wrong with an action that lacks a required field, or None.

    Separate from `judge_action` because the reference system commits files by path and size to
    folders whose log has neither protocol nor metadata, which no reader opens; such commits are still accepted.
    """
    for name in REQUIRED[kind]:
        if action.get(name) is None:
            return _missing(name)
    return None


def _missing(name: str) -> BadAction:
    return BadAction(name, None, "is required by the Delta protocol and is missing")


def judge_action(kind: str, action: dict[str, Any]) -> dict[str, Any] | None:
    """Judge the fields of one action, but not its path; return the parsed statistics of a file that has them.

    Raises `BadAction`; for a file that has its path and lacks other required fields, see `missing_field`.
    """
    for name in _ALWAYS_REQUIRED[kind]:
        if action.get(name) is None:
            raise _missing(name)
    fields = FIELDS[kind]
    for name, value in action.items():
        known = fields.get(name)
        if known is None:
            if type(value) is str and len(value) > MAX_TEXT:
                raise BadAction(name, value, f"is longer than {MAX_TEXT} characters")
        elif not known[0](value) and value is not None:
            raise BadAction(name, value, f"is not {known[1]}")
    if kind in ("add", "remove", "cdc"):
        return _judge_file(kind, action)
    if kind == "metaData":
        _judge_metadata(action)
    elif kind == "protocol":
        for name in ("readerFeatures", "writerFeatures"):
            _judge_names(name, action.get(name))
    return None


def judge_texts(place: str, value: Any, longest: int, *, nulls: bool) -> None:
    """Judge a map of texts, already known to be an object or None. Raises `BadAction`."""
    for key, text in (value or {}).items():
        if len(key) > MAX_NAME:
            raise BadAction(place, key, f"has a key of more than {MAX_NAME} characters")
        if type(text) is str:
            if len(text) > longest:
                raise BadAction(f"{place}.{key}", text, f"is longer than {longest} characters")
        elif text is not None or not nulls:
            raise BadAction(f"{place}.{key}", text, "is not a text" + (" or null" if nulls else ""))


def parse_statistics(text: str) -> dict[str, Any]:
    """Return the statistics in a file's `stats` text ("Per-file Statistics" of the protocol). Raises `BadAction`."""
    try:
        stats = strict_json(text.encode())
    except BadJson as error:
        raise BadAction("stats", text, str(error)) from None
    if type(stats) is not dict:
        raise BadAction("stats", text, "is not the JSON of an object")
    for name, value in stats.items():
        known = _STATISTICS.get(name)
        if known is not None and value is not None and not known[0](value):
            raise BadAction(f"stats.{name}", value, f"is not {known[1]}")
    return stats


_STATISTICS: Fields = {
    "numRecords": _COUNT,
    "tightBounds": _BOOL,
    "minValues": (lambda value: type(value) is dict, "an object"),
    "maxValues": (lambda value: type(value) is dict, "an object"),
    "nullCount": (lambda value: type(value) is dict, "an object"),
}


def vector_id(vector: Mapping[str, Any] | None) -> str | None:
    """Return the unique id of a file's deletion vector ("Derived Fields" of the protocol); None for none."""
    if vector is None:
        return None
    name = f"{vector['storageType']}{vector['pathOrInlineDv']}"
    return name if vector.get("offset") is None else f"{name}@{vector['offset']}"


def _judge_file(kind: str, action: dict[str, Any]) -> dict[str, Any] | None:
    values = action.get("partitionValues")
    if values:
        judge_texts("partitionValues", values, MAX_PARTITION_VALUE, nulls=True)
    tags = action.get("tags")
    if tags:
        judge_texts("tags", tags, MAX_TEXT, nulls=True)
    if kind == "cdc":
        if action.get("dataChange"):
            raise BadAction("dataChange", True, "must be false: change files are no data of the table")
        return None
    if kind == "remove" and action.get("extendedFileMetadata"):
        for name in ("partitionValues", "size"):
            if action.get(name) is None:
                raise BadAction(name, None, "is required where extendedFileMetadata is true and is missing")
    text = action.get("stats")
    stats = None if text is None else parse_statistics(text)
    vector = action.get("deletionVector")
    if vector is not None:
        _judge_vector(vector)
        if kind == "add":
            records = (stats or {}).get("numRecords")
            if records is None:
                raise BadAction("stats.numRecords", None, "is required of a file with a deletion vector")
            if vector["cardinality"] > records:
                raise BadAction(
                    "deletionVector.cardinality", vector["cardinality"], f"is more than the file's {records} rows"
                )
    return stats


_VECTOR: Fields = {
    "storageType": (lambda value: value in ("u", "i", "p"), "one of u, i, p"),
    "pathOrInlineDv": _TEXT,
    "offset": (_is_integer, "a whole number of 32 bits"),
    "sizeInBytes": (_is_integer_count, "a whole number of 32 bits from 0 on"),
    "cardinality": _COUNT,
}
_Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")
_UUID_IN_Z85 = 20
_TO_ASCII85 = str.maketrans(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#",
    "".join(chr(33 + number) for number in range(85)),
)
_MAGIC = 1681511377
_BITMAP_HEADER = 12


def _judge_vector(vector: dict[str, Any]) -> None:
    """Judge a deletion vector's description ("Deletion Vector Descriptor Schema" of the protocol)."""
    for name, (check, wanted) in _VECTOR.items():
        value = vector.get(name)
        if value is None:
            if name == "offset":
                continue
            raise BadAction(f"deletionVector.{name}", None, "is required by the Delta protocol and is missing")
        if not check(value):
            raise BadAction(f"deletionVector.{name}", value, f"is not {wanted}")
    kind, text, offset = vector["storageType"], vector["pathOrInlineDv"], vector.get("offset")
    if kind == "p":
        raise BadAction("deletionVector.storageType", kind, "names an absolute path, which lies outside the table")
    if offset is not None and offset < 0:
        raise BadAction("deletionVector.offset", offset, "is below 0")
    if not _Z85.issuperset(text[-_UUID_IN_Z85:] if kind == "u" else text):
        raise BadAction("deletionVector.pathOrInlineDv", text, "is not base 85 as the protocol has it")
    if kind == "u":
        prefix = text[:-_UUID_IN_Z85]
        if len(text) < _UUID_IN_Z85 or not (prefix == "" or (prefix.isascii() and prefix.isalnum())):
            raise BadAction("deletionVector.pathOrInlineDv", text, "is not a prefix of letters and digits and a UUID")
        return
    if offset is not None:
        raise BadAction("deletionVector.offset", offset, "must be left out of an inline vector")


def judge_inline_vector(vector: Mapping[str, Any]) -> None:
    """Judge the bytes of an inline deletion vector ("Deletion Vector Format" of the protocol). Raises `BadAction`."""
    text, size = vector["pathOrInlineDv"], vector["sizeInBytes"]
    place = "deletionVector.pathOrInlineDv"
    try:
        data = base64.a85decode(text.translate(_TO_ASCII85)) if len(text) % 5 == 0 else b""
    except ValueError:
        data = b""
    if not size <= len(data) < size + 4 or size < _BITMAP_HEADER:
        raise BadAction(place, text, f"does not hold {size} bytes in base 85")
    if struct.unpack_from("<i", data)[0] != _MAGIC:
        raise BadAction(place, text, "does not begin with the number that marks a deletion vector")


def _judge_metadata(action: dict[str, Any]) -> None:
    file_format = action["format"]
    if file_format.get("provider") != "parquet":
        raise BadAction("format.provider", file_format.get("provider"), "is not 'parquet'")
    options = file_format.get("options")
    if options is None:
        # delta-kernel opens no table whose metadata lacks it.
        raise _missing("format.options")
    if not _is_map(options):
        raise BadAction("format.options", options, f"is not {_MAP[1]}")
    judge_texts("format.options", options, MAX_PROPERTY, nulls=False)
    judge_texts("configuration", action["configuration"], MAX_PROPERTY, nulls=False)
    _judge_names("partitionColumns", action["partitionColumns"])


def _judge_names(place: str, names: Any) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names or ()):
        if not _is_name(name):
            raise BadAction(f"{place}[{number}]", name, f"is not {_NAME[1]}")
        if name in seen:
            raise BadAction(f"{place}[{number}]", name, "is named twice")
        seen.add(name)
