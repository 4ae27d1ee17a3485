"""Sensors: what is watched, as values and rules (docs/formats.md#deployed-manifest)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, Protocol

from springline.definitions.partitions import FieldProblem

SensorKind = Literal["poll", "push", "table", "asset", "objects", "run"]
RunEnd = Literal["succeeded", "failed", "cancelled"]
SENSOR_KINDS: Final[tuple[SensorKind, ...]] = ("poll", "push", "table", "asset", "objects", "run")
RUN_ENDS: Final[tuple[RunEnd, ...]] = ("succeeded", "failed", "cancelled")
OF_CODE: Final = ("poll", "push")
"""Kinds whose evaluation is a function of users."""
_NEEDS: Final[dict[str, str]] = {"table": "table", "asset": "asset", "objects": "prefix", "run": "ends"}
"""The field that a ready-made sensor of a kind needs."""


class DeclaredSensor(Protocol):
    """What says what a sensor watches."""

    @property
    def kind(self) -> str:
        """One of `SENSOR_KINDS`."""

    @property
    def select(self) -> Sequence[str]:
        """Terms of what it asks for."""

    @property
    def table(self) -> str | None:
        """The table that it watches."""

    @property
    def asset(self) -> str | None:
        """The asset that it watches."""

    @property
    def prefix(self) -> str | None:
        """Where the objects lie that it watches."""

    @property
    def ends(self) -> Sequence[str]:
        """The ends of runs that it watches."""


def problems_of_sensor(declared: DeclaredSensor) -> Iterator[FieldProblem]:
    """Yield what is wrong with what a sensor watches."""
    given = {
        "table": declared.table is not None,
        "asset": declared.asset is not None,
        "prefix": declared.prefix is not None,
        "ends": bool(declared.ends),
    }
    needed = _NEEDS.get(declared.kind)
    if needed is not None and not given[needed]:
        yield FieldProblem(needed, f"a sensor of the kind {declared.kind} needs {needed}", f"Give {needed}.")
    for name, is_given in given.items():
        if is_given and name != needed:
            message = f"{name} has no meaning for a sensor of the kind {declared.kind}"
            yield FieldProblem(name, message, "Leave it out.")
    if needed is not None and not declared.select:
        yield FieldProblem("select", "it asks for nothing", "Select what it asks to be made, such as '*delays'.")
    problem = None if declared.prefix is None else problem_of_prefix(declared.prefix)
    if problem is not None:
        yield problem


def problem_of_prefix(prefix: str) -> FieldProblem | None:
    """Return what is wrong with a prefix of objects; None if nothing is."""
    parts = prefix.split("/")
    if prefix.startswith("/") or any(one in (".", "..") for one in parts) or "" in parts[:-1]:
        return FieldProblem("prefix", f"the prefix {prefix!r} is no place", "Give names joined by slashes: 'flights/'.")
    if any(ord(one) < 32 or ord(one) == 127 for one in prefix):
        return FieldProblem("prefix", f"the prefix {prefix!r} cannot be printed", "Use characters that can be printed.")
    return None
