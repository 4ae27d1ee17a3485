"""Backfills in words: what `springline backfill` shows to a person.

Only what is for people alone imports the library for tables, which quick commands do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from springline.control.backfills.messages import BackfillProgress
from springline.control.backfills.telling import bar, span_text

Json = Mapping[str, Any]

OVER: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_MOST_SHOWN: Final = 15
_SHORT: Final = 20


def progress_in(found: Json) -> BackfillProgress:
    """Return the progress in an answer; that of a backfill of another system is empty."""
    return BackfillProgress.model_validate(found.get("progress") or {})


def backfills_text(backfills: Sequence[Json]) -> str:
    """Return backfills as a table."""
    from springline.cli.present import rows_text  # noqa: PLC0415

    rows = []
    for one in backfills:
        far = progress_in(one)
        rows.append(
            [
                one["backfill_id"],
                one["state"],
                bar(far, _SHORT),
                f"{far.done}/{far.total or one['total_partitions']}",
                far.failed + far.skipped,
                span_text(far.remaining_ms) if one["state"] == "RUNNING" else "",
                " ".join(one.get("asset_selection") or []),
            ]
        )
    text, _ = rows_text(["backfill", "state", "progress", "done", "not done", "left", "assets"], rows)
    return text


def backfill_text(found: Json) -> str:
    """Return a backfill: its bar, its counts, what is left, and the chunks that run or are not done."""
    from springline.cli.present import document_text, rows_text  # noqa: PLC0415

    row, far = found["backfill"], progress_in(found)
    settings = found.get("settings") or {}
    told = {
        "backfill": row["backfill_id"],
        "state": row["state"],
        "assets": " ".join(row.get("asset_selection") or []),
        "partitions": selector_text(row),
        "progress": bar(far),
        "done": f"{far.done} of {far.total}; {far.failed} failed, {far.skipped} skipped, {far.running} running, "
        f"{far.waiting} {'never planned' if row['state'] in OVER else 'waiting'}",
        "chunks": f"{far.chunks_ended} of {far.chunks} ended, {far.chunks_running} running, at most "
        f"{row['max_concurrent_runs']} at once, {row['chunk_size']} partitions each",
        "rate": f"{far.rate_1m / 1_000:g}/s in the last minute, {far.rate_5m / 1_000:g}/s in the last five",
        "left": span_text(far.remaining_ms) if row["state"] not in OVER else None,
        "order": settings.get("order"),
        "priority": settings.get("priority"),
        "parent": row.get("parent_backfill_id"),
        "asked by": settings.get("asked_by"),
        "stale": _judged_text(settings),
    }
    if not found.get("progress"):
        told = {name: told[name] for name in ("backfill", "state", "assets", "partitions")}
    parts = [document_text({name: value for name, value in told.items() if value is not None})]
    shown = [one for one in found["chunks"] if one.get("outcome") != "succeeded"][-_MOST_SHOWN:]
    if shown:
        rows = [
            [
                one["chunk_index"],
                one.get("outcome") or one.get("run_state") or "asked for",
                _keys_text(one.get("partition_keys") or []),
                one.get("run_id"),
                _missed_text(one),
            ]
            for one in shown
        ]
        text, _ = rows_text(["chunk", "state", "partitions", "run", "not done"], rows)
        parts.append(text)
    if row["state"] == "FAILED":
        parts.append(document_text({"next": f"springline backfill retry-failed {row['backfill_id']}"}))
    return "\n".join(parts)


def selector_text(row: Json) -> str:
    """Return which partitions a backfill is over, in words."""
    selector = row.get("partition_selector") or {}
    if selector.get("type") == "range":
        return f"{selector['start']} to {selector['end']}"
    keys = selector.get("partition_keys")
    return f"{row['total_partitions']} keys" if keys is None else _keys_text(keys)


def stale_text(asked: Json) -> str:
    """Return how much of a backfill that was asked for is stale."""
    stale, assets, total = asked["stale"]["partitions"], len(asked["assets"]), asked["total_partitions"]
    said = f"{stale} stale at revision {asked['stale']['revision']}"
    if total * assets <= stale:
        return f"the backfill makes what is stale: {said}"
    more = total * assets - stale
    return f"the backfill makes {total} partitions of {assets} assets for {said}: {more} are current and made with them"


def _judged_text(settings: Json) -> str | None:
    if settings.get("stale_revision") is None:
        return None
    why = f", for {', '.join(settings['stale_reasons'])}" if settings.get("stale_reasons") else ""
    return f"{settings.get('stale_partitions')} at revision {settings['stale_revision']}{why}"


def progress_line(found: Json) -> str:
    """Return how far a backfill is in one line."""
    far = progress_in(found)
    missed = f", {far.failed + far.skipped} not done" if far.failed or far.skipped else ""
    return f"{found['backfill']['state']}: {far.done} of {far.total} partitions done{missed}"


def _missed_text(chunk: Json) -> str:
    missed = [*(chunk.get("failed") or []), *(chunk.get("skipped") or [])]
    said = _keys_text(missed) if missed else ""
    return f"{said} ({chunk['reason_code']})" if chunk.get("reason_code") else said


def _keys_text(keys: Sequence[str]) -> str:
    if len(keys) <= 2:
        return " ".join(keys)
    return f"{keys[0]} .. {keys[-1]} ({len(keys)})"
