"""A state that lies over files: whatever was written as base and deltas, folding on is the same as without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from springline.projection import layers as layers_module
from springline.projection import parquet
from springline.projection.layers import AnyLayer, Deletions, Layer
from springline.projection.parquet import encode_pieces, encode_table
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.projection.stored import StoredRows
from tests.fold.support import differences, empty_state, events_of, tables_of
from tests.fold.test_changes import changes_of
from tests.support.ledgers import adversarial_ledger, bodies_of

MODES = [(None, 0.02), (0, 200.0), (5, 200.0)]


@pytest.fixture(params=[3], autouse=True)
def group_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Have files with row groups of three rows, so that runs and keys lie across them."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", request.param)
    monkeypatch.setattr(layers_module, "FEW_ROWS", request.param)
    yield request.param


class Files:
    """What a publisher has written of a state: a base, and deltas since."""

    def __init__(self) -> None:
        self.layers: dict[str, list[AnyLayer]] = {name: [] for name in TABLES}

    def write_base(self, state: State) -> None:
        for name, table in TABLES.items():
            self.layers[name] = [Layer(table, encode_pieces(table, state.pieces(name)), f"base of {name}")]

    def write_delta(self, state: State) -> None:
        for name, changes in state.changes().items():
            rows = [change.after for change in changes if change.after is not None]
            gone = sorted(change.key for change in changes if change.after is None)
            self.layers[name].append(Layer(TABLES[name], encode_table(TABLES[name], rows)))
            self.layers[name].append(Deletions(TABLES[name], gone))

    def over(self, state: State) -> State:
        """Return a state that lies over the files and stands where `state` does."""
        copy = empty_state(state.config.retention_days)
        copy.attach({name: StoredRows(table, self.layers[name]) for name, table in TABLES.items()})
        copy.last_event_id, copy.frontier_ms = state.last_event_id, state.frontier_ms
        copy.accept()
        return copy


@pytest.mark.parametrize(("retention_days", "days"), MODES)
def test_folding_on_is_the_same_over_files(
    retention_days: int | None, days: float, record_property: Callable[[str, object], None]
) -> None:
    states = 0
    for seed in range(2):
        rnd = Random(seed)
        events = events_of(bodies_of(adversarial_ledger(rnd, 110, days)))
        leader, files = empty_state(retention_days), Files()
        leader.tracking = True
        at = 0
        while at < len(events):
            size = rnd.randrange(1, 40)
            leader.fold_all(events[at : at + size])
            at += size
            if at == size or rnd.random() < 0.2:
                files.write_base(leader)
            else:
                files.write_delta(leader)
            leader.accept()
            follower, plain = files.over(leader), empty_state(retention_days)
            assert {name: follower.count(name) for name in TABLES} == {name: leader.count(name) for name in TABLES}
            assert differences(tables_of(follower), tables_of(leader)) == [], (seed, at)
            plain.fold_all(events[:at])
            follower.tracking = plain.tracking = True
            rest = events[at : at + 40]
            assert [follower.fold(event) for event in rest] == [plain.fold(event) for event in rest], (seed, at)
            assert changes_of(follower) == changes_of(plain), (seed, at)
            assert differences(tables_of(follower), tables_of(plain)) == [], (seed, at)
            for name, table in TABLES.items():
                written = encode_pieces(table, follower.pieces(name))
                assert written == encode_table(table, plain.rows(name)), (seed, at, name)
                assert all(follower.row(name, table.key_of(row)) == row for row in plain.rows(name))
            follower.rollback()
            assert differences(tables_of(follower), tables_of(leader)) == [], (seed, at)
            assert [follower.fold(event) for event in rest] == [empty_outcome(leader, event) for event in rest]
            leader.rollback()
            states += 1
    record_property("explored", f"folded on over files: {states} states")


def empty_outcome(state: State, event: object) -> object:
    return state.fold(event)  # type: ignore[arg-type]


@pytest.mark.parametrize(("retention_days", "days"), MODES)
def test_rows_are_laid_over_files_and_taken_away_again(retention_days: int | None, days: float) -> None:
    """Bringing a loaded state forward by another publisher's changes, which come in any order of tables."""
    for seed in range(2):
        rnd = Random(seed)
        events = events_of(bodies_of(adversarial_ledger(rnd, 110, days)))
        leader, files = empty_state(retention_days), Files()
        leader.tracking = True
        half = len(events) // 2
        leader.fold_all(events[:half])
        files.write_base(leader)
        leader.accept()
        follower = files.over(leader)
        for at in range(half, len(events), 7):
            leader.fold_all(events[at : at + 7])
            tables = list(leader.changes().items())
            rnd.shuffle(tables)
            for name, changes in tables:
                follower.load_rows(name, [change.after for change in changes if change.after is not None])
                for change in changes:
                    if change.after is None:
                        follower.unload(name, change.key)
            leader.accept()
            follower.last_event_id, follower.frontier_ms = leader.last_event_id, leader.frontier_ms
            assert differences(tables_of(follower), tables_of(leader)) == [], (seed, at)


def test_what_is_not_touched_is_not_read() -> None:
    events = events_of(bodies_of(adversarial_ledger(Random(5), 200)))
    leader, files = empty_state(), Files()
    leader.fold_all(events[:-1])
    files.write_base(leader)
    follower = files.over(leader)
    assert follower.rows_read == 0
    assert follower.event_with_key("nobody used this") is None
    follower.fold(events[-1])
    assert follower.rows_read < 60, "the rows of one run, or of less"
