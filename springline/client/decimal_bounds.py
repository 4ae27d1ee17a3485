"""The least and greatest values of decimals in a file's statistics, which delta-rs rounds to DOUBLE.

Readers leave out files by them: a file that holds 1234567890123456.78 is told to hold 1234567890123456.8 alone, so that
nobody finds the row by its value. Up to 15 digits a DOUBLE tells the decimal exactly.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

EXACT_DIGITS = 15
_EXACT_SCALE = 22
"""Greater powers of ten are no DOUBLE themselves, so that dividing by one may round even a small number."""
_EXACT = 10**EXACT_DIGITS
_SLACK = Decimal(2) ** -50
"""More than what two roundings to DOUBLE change, as a share of the value."""
_SATURATED = 2**63 - 2**12
"""From here on a whole number in the statistics may stand for any greater one."""
_CONTEXT = decimal.Context(prec=100)


def is_wide(kind: pa.DataType) -> bool:
    """Say whether a type is a decimal of more digits than a DOUBLE tells exactly."""
    return bool(pa.types.is_decimal(kind)) and kind.precision > EXACT_DIGITS


def wide_decimals(fields: pa.Schema | pa.DataType, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield path and type of the wide decimals among columns and fields of structs: those that have statistics."""
    for field in fields:
        inner = (*path, field.name)
        if pa.types.is_struct(field.type):
            yield from wide_decimals(field.type, inner)
        elif is_wide(field.type):
            yield inner, field.type


def rounded_outwards(stats: str, path: tuple[str, ...], kind: pa.DataType) -> str:
    """Return a file's statistics with bounds of a column that hold its values, whatever delta-rs has rounded."""
    told = orjson.loads(stats)
    changed = False
    for member, upwards in (("minValues", False), ("maxValues", True)):
        held = told.get(member)
        for name in path[:-1]:
            held = held.get(name) if isinstance(held, Mapping) else None
        value = held.get(path[-1]) if isinstance(held, Mapping) else None
        bound = None if value is None else _bound(value, kind, upwards=upwards)
        if isinstance(held, dict) and bound is not None:
            held[path[-1]] = orjson.Fragment(bound)
            changed = True
    if not changed:
        return stats
    told["tightBounds"] = False
    return orjson.dumps(told).decode()


def _bound(value: float, kind: pa.DataType, *, upwards: bool) -> str | None:
    """Return a bound beyond a rounded one as a number's text; None if it is exact."""
    unscaled = _CONTEXT.scaleb(Decimal(value), kind.scale)
    if abs(unscaled) < _EXACT and abs(value) < _SATURATED and kind.scale <= _EXACT_SCALE:
        return None
    most = 10**kind.precision - 1
    if abs(value) >= _SATURATED and (value > 0) is upwards:
        number = most if upwards else -most
    else:
        slack = _CONTEXT.multiply(abs(unscaled), _SLACK)
        moved = _CONTEXT.add(unscaled, slack if upwards else -slack)
        rounding = decimal.ROUND_CEILING if upwards else decimal.ROUND_FLOOR
        number = int(moved.to_integral_value(rounding, _CONTEXT))
        number = max(-most, min(most, number))
    return f"{_CONTEXT.scaleb(Decimal(number), -kind.scale):f}"


def may_be_rounded(files: pa.Table, name: str, kind: pa.DataType) -> bool:
    """Say whether a file holds a decimal that a DOUBLE does not tell exactly, or may do so because it has no bounds.

    `files`: the flattened actions of a table's files.
    """
    if f"null_count.{name}" in files.column_names:
        files = files.filter(pc.fill_null(pc.less(files[f"null_count.{name}"], files["num_records"]), True))
    for member in (f"min.{name}", f"max.{name}"):
        if files.num_rows == 0:
            return False
        if member not in files.column_names or files[member].null_count or not fits_exactly(files[member], kind):
            return True
    return False


def fits_exactly(values: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Say whether all values have so few digits that a DOUBLE tells each of them exactly."""
    if kind.scale > _EXACT_SCALE:
        return bool(values.null_count == len(values))
    ends = pc.min_max(values).as_py()
    known = [Decimal(value) for value in ends.values() if value is not None]
    return all(abs(_CONTEXT.scaleb(value, kind.scale)) < _EXACT for value in known)
