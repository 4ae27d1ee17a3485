"""Table properties that say how files are written: what their values may be, and which ones nobody here honours.

Sources: Delta's table properties (delta.io, "Delta table properties reference") and, for codecs, the names that
Spark's Parquet writer takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

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
"""Properties that ask for something nobody here does, with the values that ask for nothing."""

_OF_FILES = frozenset({"delta.randomizeFilePrefixes", "delta.randomPrefixLength"})


def problem_with(name: str, value: str) -> tuple[str, str] | None:
    """Return what is wrong with a property's value, and a remedy; None if it is honoured, or says nothing of files."""
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

    For tables that other engines made: what speaks of those engines' own services is theirs to honour.
    """
    for name in (CODEC, TARGET_FILE_SIZE, INDEXED_COLUMNS, STATISTICS_COLUMNS, *sorted(_OF_FILES)):
        if name in properties:
            found = problem_with(name, properties[name])
            if found is not None:
                return name, *found
    return None


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size such as `104857600`, `100mb` or `1g`; None if it is none."""
    match = _SIZE.fullmatch(text)
    return None if match is None else int(match[1]) * _UNITS[match[2].lower()]


def interval_of(metadata: Mapping[str, Any] | None) -> int | None:
    """Return how many versions lie between checkpoints as a stored `metaData` action wants it, whoever wrote it."""
    configuration = (metadata or {}).get("configuration")
    if not isinstance(configuration, Mapping) or not isinstance(configuration.get(CHECKPOINT_INTERVAL), str):
        return None
    return checkpoint_interval(configuration)


def checkpoint_interval(properties: Mapping[str, str]) -> int | None:
    """Return how many versions a table wants between checkpoints; None if it does not say so in a way we take."""
    value = properties.get(CHECKPOINT_INTERVAL, "")
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) and int(value) > 0 else None
