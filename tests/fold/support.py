"""Folding ledgers in tests, and looking at the result."""

from __future__ import annotations

from collections.abc import Iterable

from springline.ledger.envelope import Event, parse_event
from springline.projection.config import FoldConfig
from springline.projection.schema import TABLES, Key, Row
from springline.projection.state import State
from tests.fold.model import FoldModel
from tests.support.ledgers import SECRET, TENANT, WORKSPACE

Tables = dict[str, dict[Key, Row]]


def events_of(bodies: Iterable[bytes]) -> list[Event]:
    """Return the events of a ledger, distinct and ascending by id."""
    events = {event.event_id: event for event in map(parse_event, bodies)}
    return [events[event_id] for event_id in sorted(events)]


def empty_state(retention_days: int | None = None) -> State:
    """Return the state of no events, for ledgers of `tests.support.ledgers`."""
    return State(FoldConfig(TENANT, WORKSPACE, SECRET, retention_days))


def tables_of(state: State) -> Tables:
    """Return all rows of a state by table and key; no key stands twice."""
    tables = {}
    for name, table in TABLES.items():
        rows = list(state.rows(name))
        tables[name] = {table.key_of(row): row for row in rows}
        assert len(tables[name]) == len(rows) == state.count(name)
    return tables


def model_tables(bodies: list[bytes], retention_days: int | None = None) -> Tables:
    """Return what the slow fold makes of a ledger."""
    model = FoldModel(SECRET, retention_days)
    model.fold_all(bodies)
    return tables_of_model(model)


def tables_of_model(model: FoldModel) -> Tables:
    """Return all rows of the slow fold by table and key."""
    return {name: {table.key_of(row): row for row in model.rows(name)} for name, table in TABLES.items()}


def differences(one: Tables, other: Tables) -> list[tuple[str, Key, Row | None, Row | None]]:
    """Return the rows that differ, for messages."""
    return [
        (name, key, one[name].get(key), other[name].get(key))
        for name in TABLES
        for key in sorted(one[name].keys() | other[name].keys(), key=str)
        if one[name].get(key) != other[name].get(key)
    ]
