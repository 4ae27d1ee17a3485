"""Partition values as texts: which texts are values of a column's type.

Source: the Delta protocol, "Partition Value Serialization". Engines accept more spellings than the protocol names; we
accept only those that delta-rs, DuckDB and Spark read as the same value, because some of them read others as null, or
fail. For decimals, delta-kernel requires exactly the scale's digits. The empty text is null, by the
protocol; for a column of texts delta-rs's engine reads it as a text, so it is refused there.
"""

from __future__ import annotations

import datetime
import math
import re
import struct
from collections.abc import Callable

_WHOLE = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"-?([0-9]{1,39})(?:\.([0-9]{1,38}))?")
_FLOAT = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LOCAL = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,6})?")
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,6})?Z")
_DECIMAL_TYPE = re.compile(r"decimal\(([0-9]{1,2}),([0-9]{1,2})\)")

Fits = Callable[[str], bool]


def _whole(bits: int) -> Fits:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return lambda text: _WHOLE.fullmatch(text) is not None and low <= int(text) <= high


def _floating(text: str) -> bool:
    if text in ("NaN", "Infinity", "-Infinity", "inf", "-inf"):
        return True
    return _FLOAT.fullmatch(text) is not None and math.isfinite(float(text))


def _single(text: str) -> bool:
    if not _floating(text):
        return False
    try:
        struct.pack("<f", float(text))
    except OverflowError:
        return False
    return True


def _decimal(precision: int, scale: int) -> Fits:
    def fits(text: str) -> bool:
        match = _DECIMAL.fullmatch(text)
        return match is not None and len(match[1].lstrip("0")) <= precision - scale and len(match[2] or "") == scale

    return fits


def _date(text: str) -> bool:
    if _DATE.fullmatch(text) is None:
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _local(text: str) -> bool:
    match = _LOCAL.fullmatch(text)
    return match is not None and _is_moment(match[1], match[2])


def _instant(text: str) -> bool:
    match = _INSTANT.fullmatch(text)
    return _local(text) if match is None else _is_moment(match[1], match[2])


def _is_moment(date: str, time: str) -> bool:
    try:
        datetime.datetime.fromisoformat(f"{date} {time}")
    except ValueError:
        return False
    return True


_FITS: dict[str, tuple[Fits, str]] = {
    "string": (lambda text: text != "", "a text; the empty one stands for null, so write null"),
    "binary": (lambda text: text != "", "a text; the empty one stands for null, so write null"),
    "byte": (_whole(8), "a whole number from -128 to 127"),
    "short": (_whole(16), "a whole number from -32768 to 32767"),
    "integer": (_whole(32), "a whole number of 32 bits"),
    "long": (_whole(64), "a whole number of 64 bits"),
    "boolean": (lambda text: text in ("true", "false"), "true or false"),
    "float": (_single, "a number of single precision, NaN, Infinity or -Infinity"),
    "double": (_floating, "a number, NaN, Infinity or -Infinity"),
    "date": (_date, "a date such as 2024-12-31"),
    "timestamp": (_instant, "a time such as 2024-12-31T23:59:59.123456Z or 2024-12-31 23:59:59.123456"),
    "timestamp_ntz": (_local, "a time such as 2024-12-31 23:59:59.123456"),
}


def partition_type(data_type: str) -> tuple[Fits, str]:
    """Return the test for texts of a primitive type, and the form of such a text in words.

    The caller treats the empty text as null, except for texts and bytes, which refuse it.

    Raises `KeyError` for an unknown type, or one that cannot partition a table.
    """
    match = _DECIMAL_TYPE.fullmatch(data_type)
    if match is not None:
        precision, scale = int(match[1]), int(match[2])
        return _decimal(
            precision, scale
        ), f"a number of {precision} digits at most and exactly {scale} of them after the point"
    return _FITS[data_type]
