"""Is anything noticed? Rules are broken on purpose, one at a time, and the ways to a state must then disagree."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from springline.ledger.envelope import parse_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold import loop, tasks
from springline.projection.fold.loop import fold_all
from springline.projection.golden import golden_row
from springline.projection.schema import REFERENCE_TABLES
from springline.projection.state import State
from springline.published import folding, revision
from springline.published import folding as refold
from springline.published.deltas import DeltaRows, rows_of_changes
from springline.sequencer import admitting_foreign, workspace
from tests.sets.test_any_way import ADVERSARIAL, any_way, forward

SEEDS = 40
GOLDEN = Path(__file__).parents[1] / "golden" / "ledgers" / "plain"

Break = Callable[[pytest.MonkeyPatch], None]


def never_late(patch: pytest.MonkeyPatch) -> None:
    """Fold late events on top, as the reference does."""
    patch.setattr(workspace, "is_late", lambda record, warm: False)
    patch.setattr(folding, "is_late", lambda record, warm: False)

    def out_of_order(state: State, event: Any) -> Any:
        state.last_event_id = ""
        return _FOLD(state, event)

    patch.setattr(loop, "fold_event", out_of_order)


_FOLD = loop.fold_event


def any_checkpoint(patch: pytest.MonkeyPatch) -> None:
    """Refold from the newest checkpoint, whether it lies below the late event or not."""
    patch.setattr(refold, "valid_below", lambda checkpoints, event_id: list(checkpoints))


def no_deletions(patch: pytest.MonkeyPatch) -> None:
    """Leave deletions out of deltas, as the reference does by default."""
    patch.setattr(revision, "rows_of_changes", lambda changes: DeltaRows(rows_of_changes(changes).rows, {}))


def forgotten_duplicates(patch: pytest.MonkeyPatch) -> None:
    """Take known events in again."""

    async def nothing(*_: Any, **__: Any) -> dict[str, str]:
        return {}

    patch.setattr(admitting_foreign, "contains", nothing)


def merged_away(patch: pytest.MonkeyPatch) -> None:
    """Drop what the older deltas of a merge said."""

    async def newest_only(store: Any, state: Any, deltas: Any, changes: Any, known: Any = None) -> DeltaRows:
        return rows_of_changes(changes)

    patch.setattr(revision, "merged_rows", newest_only)


def digest_keeps_old_rows(patch: pytest.MonkeyPatch) -> None:
    """Forget to count out the rows that changed."""

    def apply(self: Digest, changes: Any) -> None:
        for table, its_changes in changes.items():
            self.add(table, (change.after for change in its_changes if change.after is not None))

    patch.setattr(Digest, "apply", apply)


def refold_without_late(patch: pytest.MonkeyPatch) -> None:
    """Refold what was accepted before, without the late events."""

    async def only_accepted(accepted: Any, late: Any) -> Any:
        async for batch in accepted:
            yield batch

    patch.setattr(folding, "_merged", only_accepted)


@pytest.mark.proof
@pytest.mark.parametrize(
    "broken",
    [
        never_late,
        any_checkpoint,
        no_deletions,
        forgotten_duplicates,
        merged_away,
        digest_keeps_old_rows,
        refold_without_late,
    ],
)
@pytest.mark.usefixtures("small_merges")
def test_a_broken_rule_of_the_sequencer_is_noticed(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    for seed in range(SEEDS):
        try:
            asyncio.run(forward(seed))
            asyncio.run(any_way(ADVERSARIAL, seed, 100, 0))
        except Exception:
            return
    pytest.fail(f"{broken.__name__} went unnoticed in {SEEDS} histories")


def start_anything(patch: pytest.MonkeyPatch) -> None:
    """Let a start revive a task that has ended."""
    patch.setitem(loop._FOLDS, _class("TaskStarted"), lambda *_: True)


def keep_outbox(patch: pytest.MonkeyPatch) -> None:
    """Leave a started attempt's row in the outbox."""
    patch.setattr(tasks, "remove_dispatch", lambda *_: None, raising=False)
    patch.setitem(loop._FOLDS, _class("DispatchEnqueued"), lambda *_: False)


def never_ready(patch: pytest.MonkeyPatch) -> None:
    """Satisfy no dependency."""
    patch.setattr(tasks, "satisfy", lambda *_, **__: None)


def no_retry(patch: pytest.MonkeyPatch) -> None:
    """Take every timer for granted."""
    patch.setitem(loop._FOLDS, _class("TimerRequested"), lambda *_: False)


def _class(name: str) -> type:
    return next(kind for kind in loop._FOLDS if kind.__name__ == name)


@pytest.mark.proof
@pytest.mark.parametrize("broken", [start_anything, keep_outbox, never_ready, no_retry])
def test_a_broken_rule_of_the_fold_is_noticed(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _golden_differences() == {}
    broken(monkeypatch)
    assert _golden_differences()


def _golden_differences() -> Counter[str]:
    """Fold a golden ledger and count the tables that are not as given."""
    with gzip.open(GOLDEN / "ledger.jsonl.gz") as lines:
        events = {
            event.event_id: event for event in (parse_event(orjson.loads(line)["body"].encode()) for line in lines)
        }
    expected = orjson.loads(gzip.decompress((GOLDEN / "state.json.gz").read_bytes()))["tables"]
    state = State(FoldConfig("acme", "prod"))
    fold_all(state, (events[event_id] for event_id in sorted(events)))
    found: Counter[str] = Counter()
    for name, table in REFERENCE_TABLES.items():
        rows = [golden_row(table, row) for row in sorted(state.rows(name), key=table.key_of)]
        if rows != expected.get(name, []):
            found[name] += 1
    return found
