"""Table properties: the known ones, the values that engines can read, and those that we do not support.

A property outside `delta.` is up to its user. An unknown one inside is accepted in a commit: engines add properties,
and ignore unknown ones. A property of a table that we create must be supported here, or is refused.

Sources: "Table Properties" of the protocol, Delta's table properties reference and, for codecs, the names that Spark's
Parquet writer takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from springline.delta.limits import MAX_INTEGER

CODEC = "delta.parquet.compression.codec"
TARGET_FILE_SIZE = "delta.targetFileSize"
INDEXED_COLUMNS = "delta.dataSkippingNumIndexedCols"
STATISTICS_COLUMNS = "delta.dataSkippingStatsColumns"
CHECKPOINT_INTERVAL = "delta.checkpointInterval"

Codec = Literal["UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW"]
CODECS: dict[str, Codec] = {
    "snappy": "SNAPPY",
    "zstd": "ZSTD",
    "gzip": "GZIP",
    "brotli": "BROTLI",
    "lz4": "LZ4_RAW",
    "lz4_raw": "LZ4_RAW",
    "none": "UNCOMPRESSED",
    "uncompressed": "UNCOMPRESSED",
}
"""Codecs by the names that a property may have, in lower case, and Parquet's own names."""

PLAIN_PROPERTIES = frozenset(
    {
        "delta.appendOnly",
        "delta.autoOptimize",
        "delta.autoOptimize.autoCompact",
        "delta.autoOptimize.optimizeWrite",
        "delta.checkpoint.writeStatsAsJson",
        "delta.checkpoint.writeStatsAsStruct",
        "delta.checkpointInterval",
        "delta.checkpointRetentionDuration",
        "delta.dataSkippingNumIndexedCols",
        "delta.dataSkippingStatsColumns",
        "delta.deletedFileRetentionDuration",
        "delta.enableExpiredLogCleanup",
        "delta.isolationLevel",
        "delta.logRetentionDuration",
        "delta.parquet.compression.codec",
        "delta.randomizeFilePrefixes",
        "delta.randomPrefixLength",
        "delta.sampling.enabled",
        "delta.setTransactionRetentionDuration",
        "delta.targetFileSize",
        "delta.tuneFileSizesForRewrites",
    }
)
"""Properties that need no table feature."""
FEATURE_OF_PROPERTY = {
    "delta.enableChangeDataFeed": "changeDataFeed",
    "delta.enableDeletionVectors": "deletionVectors",
    "delta.enableTypeWidening": "typeWidening",
}
"""Properties that need their table feature if they are true."""

_INTERVAL = re.compile(
    r"(?:interval)?(?: *[0-9]{1,9} +(?:week|day|hour|minute|second|millisecond|microsecond)s?)+", re.IGNORECASE
)
_READ_CODECS = (*CODECS, "lzo")


def _count(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 10 and 0 < int(value) <= MAX_INTEGER


def _indexed(value: str) -> bool:
    return value in ("-1", "0") or _count(value)


def _one_of(*names: str) -> tuple[Callable[[str], bool], str]:
    return lambda value: value in names, f"one of {', '.join(names)}"


_BOOLEAN = (lambda value: value in ("true", "false"), "true or false")
_COUNT = (_count, "a whole number above 0")
_SPAN = (lambda value: _INTERVAL.fullmatch(value.strip()) is not None, "a span of time such as 'interval 30 days'")

_VALUES: dict[str, tuple[Callable[[str], bool], str]] = {
    **dict.fromkeys(FEATURE_OF_PROPERTY, _BOOLEAN),
    "delta.appendOnly": _BOOLEAN,
    "delta.enableExpiredLogCleanup": _BOOLEAN,
    "delta.checkpoint.writeStatsAsJson": _BOOLEAN,
    "delta.checkpoint.writeStatsAsStruct": _BOOLEAN,
    "delta.randomizeFilePrefixes": _BOOLEAN,
    "delta.checkpointInterval": _COUNT,
    "delta.randomPrefixLength": _COUNT,
    "delta.dataSkippingNumIndexedCols": (_indexed, "a whole number from -1 on"),
    "delta.logRetentionDuration": _SPAN,
    "delta.deletedFileRetentionDuration": _SPAN,
    "delta.setTransactionRetentionDuration": _SPAN,
    "delta.isolationLevel": _one_of("Serializable", "WriteSerializable", "SnapshotIsolation"),
    "delta.checkpointPolicy": _one_of("classic", "v2"),
    "delta.columnMapping.mode": _one_of("none", "name", "id"),
    "delta.columnMapping.maxColumnId": (lambda value: value == "0" or _count(value), "a whole number from 0 on"),
    "delta.parquet.compression.codec": (
        lambda value: value.lower() in _READ_CODECS,
        f"one of {', '.join(_READ_CODECS)}",
    ),
    TARGET_FILE_SIZE: (lambda value: bytes_of(value) is not None, "a number of bytes such as 128mb"),
}


def property_problem(key: str, value: str) -> str | None:
    """Return the form that `value` must have for the property `key`, or None if it is valid."""
    known = _VALUES.get(key)
    return None if known is None or known[0](value) else known[1]


LEAST_FILE_BYTES = 1024 * 1024
MOST_FILE_BYTES = 2 * 1024**3

_SIZE = re.compile(r"\s*([0-9]{1,19})\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_NOT_HONOURED: dict[str, frozenset[str]] = {
    "delta.autoOptimize": frozenset({"false"}),
    "delta.autoOptimize.autoCompact": frozenset({"false"}),
    "delta.autoOptimize.optimizeWrite": frozenset({"false"}),
    "delta.checkpoint.writeStatsAsJson": frozenset({"true"}),
    "delta.checkpoint.writeStatsAsStruct": frozenset({"false"}),
    "delta.enableExpiredLogCleanup": frozenset({"false"}),
    "delta.randomizeFilePrefixes": frozenset({"false"}),
    "delta.randomPrefixLength": frozenset(),
    "delta.sampling.enabled": frozenset({"false"}),
    "delta.tuneFileSizesForRewrites": frozenset({"false"}),
}
"""Properties that we do not support, with the values that request nothing."""

_OF_FILES = frozenset({"delta.randomizeFilePrefixes", "delta.randomPrefixLength"})


def problem_with(name: str, value: str) -> tuple[str, str] | None:
    """Return what is wrong with a property's value, and a remedy; None if it is supported, or not about files."""
    if name in _NOT_HONOURED:
        harmless = sorted(_NOT_HONOURED[name])
        if value in harmless:
            return None
        return "asks for what nobody here does", f"leave it out, or write {harmless[0]}" if harmless else "leave it out"
    if name == CODEC and value.lower() not in CODECS:
        return "is not a codec", f"use one of {', '.join(sorted(CODECS))}"
    if name == TARGET_FILE_SIZE:
        size = bytes_of(value)
        if size is None or not LEAST_FILE_BYTES <= size <= MOST_FILE_BYTES:
            return "is not a size from 1 MB to 2 GB", "write a number of bytes, or such as 64mb"
    if name == INDEXED_COLUMNS and not re.fullmatch(r"-1|[0-9]{1,9}", value):
        return "is not a number of columns", "write a whole number, or -1 for all columns"
    if name == STATISTICS_COLUMNS and not all(part.strip() for part in value.split(",")):
        return "is not a list of columns", "write column names with commas between them"
    if name == CHECKPOINT_INTERVAL and checkpoint_interval({name: value}) is None:
        return "is not a whole number above 0", "write one"
    return None


def problem_for_writer(properties: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return name, problem and remedy of the first property that a writer of data files would have to ignore.

    For tables of other engines: properties of those engines' own services are left to them.
    """
    for name in (CODEC, TARGET_FILE_SIZE, INDEXED_COLUMNS, STATISTICS_COLUMNS, *sorted(_OF_FILES)):
        if name in properties:
            found = problem_with(name, properties[name])
            if found is not None:
                return name, *found
    return None


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size such as `104857600`, `100mb` or `1g`; None for any other text."""
    match = _SIZE.fullmatch(text)
    return None if match is None else int(match[1]) * _UNITS[match[2].lower()]


def interval_of(metadata: Mapping[str, Any] | None) -> int | None:
    """Return the versions between checkpoints in a stored `metaData` action, of any writer."""
    configuration = (metadata or {}).get("configuration")
    if not isinstance(configuration, Mapping) or not isinstance(configuration.get(CHECKPOINT_INTERVAL), str):
        return None
    return checkpoint_interval(configuration)


def checkpoint_interval(properties: Mapping[str, str]) -> int | None:
    """Return a table's versions between checkpoints; None if it has no valid setting."""
    value = properties.get(CHECKPOINT_INTERVAL, "")
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) and int(value) > 0 else None
