"""What a rebuild has found, in words for a person: differences by table, key and column, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from springline.rebuild.messages import RebuildView

SHOWN = 10
_LONGEST = 100


def told(comparison: dict[str, Any]) -> Iterator[str]:
    """Say line by line how the published state differs from the rebuilt one; nothing if it does not."""
    if comparison["problem"] is not None:
        yield f"the published state cannot be read: {comparison['problem']}"
    counts: dict[str, int] = comparison["counts"]
    if counts:
        yield "differences: " + ", ".join(f"{table} {count:,}" for table, count in counts.items())
    differences = comparison["differences"][:SHOWN]
    for one in differences:
        yield f"{one['table']} {'/'.join(one['key'])}{_differing(one)}"
    more = sum(counts.values()) - len(differences)
    if more > 0:
        yield f"and {more:,} more; the first 100 are printed, and in the report"


def next_step(view: RebuildView) -> str:
    """Return what an operator does next about a rebuild of which no worker tells it."""
    if not view.ended:
        return (
            "No worker answers. Run `springline doctor` to see whether one polls for rebuilds; it goes on by itself "
            "as soon as one does."
        )
    if view.failure is not None:
        return view.failure.remedy or "Start it again with the same manifest: finished parts are not repeated."
    equal = (view.result or {}).get("equal")
    if equal is None:
        return "Run `springline rebuild verify` for the proof that readers see what the events say."
    if equal:
        return "Nothing: the published state is what its events say."
    return "Read the differences, then start a rebuild in mode full to put them right."


def _differing(one: dict[str, Any]) -> str:
    if one["column"] is not None:
        return f" {one['column']}: published {_value(one['published'])}, rebuilt {_value(one['rebuilt'])}"
    is_published = one["published"] is not None
    return ": published, and not rebuilt" if is_published else ": rebuilt, and not published"


def _value(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
