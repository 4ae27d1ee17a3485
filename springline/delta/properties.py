"""Table properties: which there are, and which values engines can read ("Table Properties" of the protocol).

A property outside `delta.` is its user's affair. One inside that we do not know is let through in a commit: engines
add properties, and none stops at one it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from springline.delta.bounds import MAX_INTEGER

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
"""Properties that ask nothing of a protocol."""
FEATURE_OF_PROPERTY = {
    "delta.enableChangeDataFeed": "changeDataFeed",
    "delta.enableDeletionVectors": "deletionVectors",
    "delta.enableTypeWidening": "typeWidening",
}
"""Properties that need their table feature once they are true."""

_INTERVAL = re.compile(
    r"(?:interval)?(?: *[0-9]{1,9} +(?:week|day|hour|minute|second|millisecond|microsecond)s?)+", re.IGNORECASE
)
_SIZE = re.compile(r"[0-9]{1,18} *(?:b|[kmgtp]i?b?)?", re.IGNORECASE)
_CODECS = ("uncompressed", "none", "snappy", "gzip", "lz4", "lz4_raw", "zstd", "brotli", "lzo")


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
    "delta.parquet.compression.codec": (lambda value: value.lower() in _CODECS, f"one of {', '.join(_CODECS)}"),
    "delta.targetFileSize": (lambda value: _SIZE.fullmatch(value) is not None, "a number of bytes such as 128mb"),
}


def property_problem(key: str, value: str) -> str | None:
    """Return what `value` would have to be for the property `key`, or None if it is fine."""
    known = _VALUES.get(key)
    return None if known is None or known[0](value) else known[1]
