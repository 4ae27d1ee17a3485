"""Each type of event has its row in every table: whoever forgets one cannot import the table."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from msgspec import Struct, inspect

from springline.control.admission.round import RULES
from springline.ledger import events as e
from springline.ledger import nested
from springline.ledger.envelope import payload_from
from springline.projection.fold.loop import HANDLERS
from tests.ledger.strategies import DATA

ROOT = Path(__file__).parents[2]
SHAPES = [
    *e.EVENT_TYPES,
    *(one for one in vars(nested).values() if isinstance(one, type) and issubclass(one, Struct) and one is not Struct),
]


@dataclass
class Row:
    payload: type[Any]


ROWS = [Row(kind) for kind in e.EVENT_TYPES]


def test_every_table_has_every_type() -> None:
    assert list(e.EVENT_TYPES) == list(get_args(e.Payload))
    assert set(HANDLERS) == set(RULES) == set(e.EVENT_TYPES) == set(e.PAYLOAD_TYPES.values())
    assert all(row.payload is kind for table in (e.EVENT_TYPES, HANDLERS, RULES) for kind, row in table.items())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[1:], "RunTriggered has no row: add one"),
        ([*ROWS, Row(e.TaskStarted)], "TaskStarted has two rows"),
        ([*ROWS, Row(e.TaskEnd)], "TaskEnd is no type of `Payload`"),
    ],
)
def test_a_table_with_another_set_of_types_is_refused(rows: list[Row], message: str) -> None:
    assert list(e.by_payload(ROWS)) == list(e.EVENT_TYPES)
    with pytest.raises(TypeError, match=message):
        e.by_payload(rows)


@pytest.mark.parametrize(
    ("rows", "table"),
    [
        ("springline.projection.fold.tasks.HANDLERS", "springline.projection.fold.loop"),
        ("springline.control.admission.tasks.RULES", "springline.control.admission.round"),
    ],
)
def test_a_table_that_lacks_a_type_cannot_be_imported(rows: str, table: str) -> None:
    module, name = rows.rsplit(".", 1)
    code = f"import {module} as one; one.{name} = one.{name}[1:]; import {table}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("TypeError: TaskStarted has no row: add one")


def test_the_documentation_lists_the_types() -> None:
    page = (ROOT / "docs/events.md").read_text()
    table = page[page.index("## Event types") : page.index('<a id="nested-shapes">')]
    assert sorted(re.findall(r"`([a-z_]+)`", table)) == sorted(e.PAYLOAD_TYPES)


@given(DATA)
def test_what_a_row_says_is_true_of_its_payloads(data: dict[str, Any]) -> None:
    payload = payload_from(data)
    row = e.EVENT_TYPES[type(payload)]
    named = {e.Owner.RUN: "run_id", e.Owner.DISPATCH: "dispatch_id", e.Owner.TIMER: "timer_id"}
    assert row.owner is e.Owner.NOBODY or isinstance(getattr(payload, named[row.owner]), str)
    prefix, _, rest = e.derived_key(payload).partition(":")
    assert prefix == row.prefix
    assert row.key_names is e.Owner.NOBODY or rest.startswith(getattr(payload, named[row.key_names]))
    required = {field.name for field in _fields(type(payload)) if field.required}
    assert (row.owner is e.Owner.RUN) == ("run_id" in required), "whatever must name a run is that run's"


def test_a_prefix_of_keys_belongs_to_one_kind_of_event() -> None:
    assert all(":" not in prefix and prefix for prefix in e.KEY_PREFIXES)
    several = {row.payload for row in e.EVENT_TYPES.values() if _rows_with(row.prefix) > 1}
    assert several == {e.TaskFinished, e.TaskCompletionRecorded}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_ids_and_keys_are_typed_as_such(shape: type[Struct]) -> None:
    """Admission takes no empty id, and none that is too long: it knows them by their types."""
    free = {field.name for field in _fields(shape) if "StrType" in repr(field.type) and "extra" not in repr(field.type)}
    assert {name for name in free if name.endswith(("_id", "_key", "key"))} == set()


def _rows_with(prefix: str) -> int:
    return sum(row.prefix == prefix for row in e.EVENT_TYPES.values())


def _fields(shape: type[Struct]) -> tuple[inspect.Field, ...]:
    kind = inspect.type_info(shape)
    assert isinstance(kind, inspect.StructType)
    return kind.fields
