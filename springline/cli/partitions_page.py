"""How the partitions of assets stand, in words and as a strip: what `springline asset` shows to a person.

Only what is for people alone imports the library for tables, which quick commands do without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from springline.bounds import on_one_line
from springline.definitions.partitions import split_key

Json = Mapping[str, Any]

FAILED: Final = "FAILED"
"""Shown of a partition that is stale, and whose last attempt came to nothing."""
MARKS: Final[Mapping[str, tuple[str, str, str]]] = {
    "CURRENT": ("■", "green", "current"),
    "OPEN": ("·", "dim", "its time has not ended"),
    "NEVER_MATERIALIZED": ("○", "bold yellow", "never made"),
    "CODE_CHANGED": ("◆", "magenta", "its code has changed"),
    "UPSTREAM_NEVER_MATERIALIZED": ("◌", "yellow", "a part of what it depends on was never made"),
    "UPSTREAM_CHANGED": ("▲", "cyan", "what it depends on was made again"),
    "FRESHNESS_POLICY": ("◷", "yellow", "too old"),
    FAILED: ("✗", "bold red", "stale, and the last attempt failed"),
}
"""By state: its sign, which differs without colours, its style, and what it means."""
_MOST_REASONS: Final = 5
_PER_LINE: Final = 60
_MOST_ROWS: Final = 30
"""Of a strip in two dimensions: of more, the partitions stand one behind the other."""
_WIDEST_LABEL: Final = 16


def stale_text(counts: Json | None) -> str | None:
    """Return how many partitions of an asset are stale, in a word; None if that is not known."""
    if counts is None:
        return None
    if not counts["stale"]:
        return "no"
    if counts["partitions"] == 1 and counts["counted"] == 1:
        (state,) = (one for one in counts["states"] if one not in ("CURRENT", "OPEN"))
        return MARKS[state][2] if state in MARKS else str(state).lower()
    of = "" if counts["counted"] == counts["partitions"] else "the last "
    return f"{counts['stale']} of {of}{counts['counted']}"


def asset_text(told: Json, partitions: Json | None) -> str:
    """Return an asset as names and values, and below it how its latest partitions stand."""
    from springline.cli.present import document_text  # noqa: PLC0415

    page = document_text(told)
    return page if partitions is None else f"{page}\n{strip_text(partitions)}"


def strip_text(partitions: Json) -> str:
    """Return the latest partitions of an asset as a strip with its legend, and a line for each that is stale.

    `partitions`: the answer of the API, the last one first.
    """
    from rich.text import Text  # noqa: PLC0415

    from springline.cli.present import console, trimmed  # noqa: PLC0415

    shown, collected = console()
    items = list(reversed(partitions["items"]))
    if not items:
        shown.print(Text("No partition has begun yet.", style="dim"))
        return trimmed(collected.getvalue())
    if items[-1]["partition_key"] is None:
        shown.print(_told(items[-1]))
        return trimmed(collected.getvalue())
    total, stale = partitions["partitions"], sum(bool(one["stale"]) for one in items)
    head = f"{total:,} partitions" if len(items) == total else f"the last {len(items)} of {total:,} partitions"
    shown.print(Text(f"{head}, {stale} stale", style="bold"))
    for label, some in _lines(items, min(_PER_LINE, max(10, shown.width))):
        shown.print(Text.assemble((label, "dim"), *(MARKS[_mark(one)][:2] for one in some)))
    first, last = (on_one_line(str(one["partition_key"]), 40) for one in (items[0], items[-1]))
    shown.print(Text(first if len(items) == 1 else f"{first} to {last}", style="dim"))
    for mark in dict.fromkeys(_mark(one) for one in items):
        sign, style, meaning = MARKS[mark]
        count = sum(_mark(one) == mark for one in items)
        shown.print(Text.assemble((sign, style), f" {count:>3} {meaning}"))
    late = [one for one in reversed(items) if one["stale"]]
    if late:
        shown.print()
    for one in late[:_MOST_REASONS]:
        shown.print(_told(one))
    if len(late) > _MOST_REASONS:
        shown.print(Text(f"... and {len(late) - _MOST_REASONS} more; -o json shows all", style="dim"))
    return trimmed(collected.getvalue())


def _lines(items: list[Json], width: int) -> Iterator[tuple[str, list[Json]]]:
    """Yield the partitions of each line of a strip, with what stands before them: in two dimensions a line for each key
    of the second, as far back as they are all there."""
    keys = [split_key(str(one["partition_key"])) for one in items]
    rows: dict[str, list[Json]] = {}
    for two, one in zip(keys, items, strict=True):
        if two is not None:
            rows.setdefault(two[1], []).append(one)
    if None in keys or not 1 < len(rows) <= _MOST_ROWS:
        yield from (("", items[start : start + width]) for start in range(0, len(items), width))
        return
    wide = min(_WIDEST_LABEL, max(map(len, rows)))
    for name, some in rows.items():
        yield f"{on_one_line(name, wide):<{wide}}  ", some[-width:]


def _mark(one: Json) -> str:
    attempt = one.get("last_attempt")
    return FAILED if one["stale"] and attempt is not None and attempt["outcome"] == "failed" else str(one["state"])


def _told(one: Json) -> Any:
    from rich.text import Text  # noqa: PLC0415

    sign, style, meaning = MARKS[_mark(one)]
    key = "" if one["partition_key"] is None else f" {on_one_line(str(one['partition_key']), 60)}"
    parts = [f"{key}: {meaning}"]
    if one["upstream"] is not None:
        parts.append(f" ({on_one_line(str(one['upstream']), 60)})")
    if one["stale_since"] is not None and one["state"] != "CODE_CHANGED":
        parts.append(f", since {one['stale_since']}")
    if one["materialized_at"] is not None:
        parts.append(f"; made {one['materialized_at']} by run {on_one_line(str(one['run_id']), 60)}")
    attempt = one.get("last_attempt")
    if _mark(one) == FAILED and attempt is not None:
        parts.append(f"; failed {attempt['at']} in run {on_one_line(str(attempt['run_id']), 60)}")
    return Text.assemble((sign, style), "".join(parts))
