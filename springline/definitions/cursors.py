"""What may be the cursor of a sensor, whoever gives it: a function, a ready-made sensor or an operator."""

from __future__ import annotations

from dataclasses import dataclass

from springline import bounds
from springline.definitions.limits import MAX_SENSOR_CURSOR


@dataclass(frozen=True, slots=True)
class CursorProblem:
    """What is wrong with a cursor, to go on from its name, and the remedy. `reason_code` is for programs."""

    reason_code: str
    message: str
    remedy: str


def problem_of_cursor(cursor: str) -> CursorProblem | None:
    """Return what is wrong with a cursor; None if nothing is."""
    problem = bounds.problem_of_text(cursor)
    if problem is not None:
        return CursorProblem("BAD_CURSOR", *problem)
    size = len(cursor.encode())
    if size <= MAX_SENSOR_CURSOR:
        return None
    said = f"has {size:,} bytes, and {MAX_SENSOR_CURSOR:,} is the most"
    return CursorProblem("CURSOR_TOO_LARGE", said, "Keep how far the sensor has read, and not what.")
