"""Making the checks of an attempt whose function has returned: over what it returned, or over the rows that it writes.

`springline.client.row_checks` looks at rows with DuckDB; only an asset with checks waits for its import.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from springline.sdk.checks import Check, CheckKind, CheckOutcome
from springline.sdk.context import Context
from springline.sdk.errors import InvalidRequest, NonRetryable

_MOST_TOLD = 5
_MOST_MESSAGE = 2_000


class CheckFailed(NonRetryable):
    """A check of severity `error` did not hold: what the attempt has made counts for nothing. `outcomes`: of all."""

    def __init__(self, asset: str, outcomes: Sequence[CheckOutcome]) -> None:
        super().__init__(asset, outcomes)
        self.asset = asset
        self.outcomes = list(outcomes)

    def __str__(self) -> str:
        failed = [one for one in self.outcomes if not one.passed and one.severity == "error"]
        told = "; ".join(f"{one.name}: {one.message}" for one in failed[:_MOST_TOLD])
        more = f"; and {len(failed) - _MOST_TOLD} more" if len(failed) > _MOST_TOLD else ""
        which = "a check does" if len(failed) == 1 else f"{len(failed)} checks do"
        return f"{which} not hold of {self.asset}, and nothing of it was written: {told}{more}"


def checked(asset: str, checks: Sequence[Check], value: Any, context: Context) -> list[CheckOutcome]:
    """Make the checks of an attempt, in order, and return what they have found.

    `value`: what the function returned. Raises `CheckFailed` if one of severity `error` does not hold, and what the
    functions of custom checks raise.
    """
    from springline.client.row_checks import CheckedRows, NoRows  # noqa: PLC0415 - see above

    outcomes: list[CheckOutcome] = []
    opened: dict[str | None, CheckedRows] = {}
    try:
        for one in checks:
            try:
                if value is None and not context.rows_written():
                    passed, message = _of_nothing(one)
                elif one.kind is CheckKind.CUSTOM and one.table is None and value is not None:
                    passed, message = _called(one, value, context)
                else:
                    rows = opened.get(one.table)
                    if rows is None:
                        rows = opened[one.table] = CheckedRows(*_source(one, value, context))
                    if one.kind is CheckKind.CUSTOM:
                        passed, message = _called(one, rows.table(), context)
                    else:
                        passed, message = _look(one, rows)
            except (NoRows, InvalidRequest) as error:
                passed, message = False, str(error)
            outcomes.append(CheckOutcome(one.name, one.severity, passed, _shortened(message)))
    finally:
        for rows in opened.values():
            rows.close()
    if any(not one.passed and one.severity == "error" for one in outcomes):
        raise CheckFailed(asset, outcomes)
    for told in outcomes:
        if not told.passed:
            context.log.warning("check %s does not hold: %s", told.name, told.message)
    return outcomes


def _shortened(message: str) -> str:
    """Return what a check says as a text that UTF-8 has and that an attempt's end can carry."""
    message = message.encode("utf-8", "replace").decode()
    return message if len(message) <= _MOST_MESSAGE else f"{message[: _MOST_MESSAGE - 3]}..."


def _source(one: Check, value: Any, context: Context) -> tuple[Any, str]:
    """Return the rows that a check looks at, and what they are called."""
    if one.table is None and value is not None:
        return value, "what the function returned"
    written = context.rows_written()
    if one.table is None and len(written) == 1:
        ((name, rows),) = written.items()
        return rows, f"the rows for table {name}"
    if one.table is not None and one.table in written:
        return written[one.table], f"the rows for table {one.table}"
    raise InvalidRequest(_unclear(one, written))


def _of_nothing(one: Check) -> tuple[bool, str]:
    """Return what a check finds if there are no rows, and no columns either: a day may bring nothing."""
    if one.kind is CheckKind.ROW_COUNT:
        return one.least == 0, "0 rows" if one.least == 0 else f"0 rows, and not at least {one.least:,}"
    if one.kind is CheckKind.FRESHNESS:
        return False, "there are no rows: the function returned nothing and writes rows to no table"
    return True, "no rows"


def _unclear(one: Check, written: Mapping[str, Any]) -> str:
    there = ", ".join(written)
    if one.table is not None:
        return f"the function writes no rows to table {one.table}: it writes rows to {there or 'no table'}"
    return f"the function writes rows to several tables, {there}: say which, by table="


def _look(one: Check, rows: Any) -> tuple[bool, str]:
    found: tuple[bool, str]
    if one.kind is CheckKind.ROW_COUNT:
        found = rows.row_count(one.least, one.most)
    elif one.kind is CheckKind.NOT_NULL:
        found = rows.not_null(one.columns)
    elif one.kind is CheckKind.UNIQUE:
        found = rows.unique(one.columns)
    elif one.kind is CheckKind.FRESHNESS:
        found = rows.freshness(one.columns[0], one.within_ms)
    else:
        found = rows.sql(one.query)
    return found


def _called(one: Check, value: Any, context: Context) -> tuple[bool, str]:
    assert one.function is not None
    more = {"context": context} if _takes_context(one.function) else {}
    try:
        said = one.function(value, **more)
    except AssertionError as error:
        return False, str(error) or "AssertionError"
    if isinstance(said, str) and said:
        return False, said
    if said is None or said is True:
        return True, "holds"
    if said is False:
        return False, f"{one.name} returned False"
    # Such as a frame of booleans, or numpy's bool: taken for true it might hide what it says.
    plain = getattr(said, "item", None)
    if type(said).__name__ in ("bool", "bool_") and callable(plain):
        return bool(plain()), "holds" if plain() else f"{one.name} returned False"
    return False, f"{one.name} returned a {type(said).__name__}: return True, False, None or a text that says why not"


def _takes_context(function: Any) -> bool:
    try:
        return "context" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
