"""The specification's own ledger gives the specification's own check value (docs/formats.md#golden-form)."""

from __future__ import annotations

import pytest

from springline.ledger.envelope import parse_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_event
from springline.projection.parquet import decode_table, encode_table
from springline.projection.schema import REFERENCE_TABLES, TABLES
from springline.projection.state import State
from springline.published.golden_state import decode_golden, encode_golden, golden_state, stored_rows
from tests.support.event_samples import APPENDIX_A

CHECK_VALUE = "ca96dcc4c8144d11ee0565c318c602a45b203a9883b462b55f8425cd113a72c1"


@pytest.fixture
def state() -> State:
    state = State(FoldConfig("acme", "prod", b"test-secret"))
    for event in sorted(map(parse_event, APPENDIX_A), key=lambda event: event.event_id):
        fold_event(state, event)
    return state


def test_the_golden_state_has_the_check_value(state: State) -> None:
    assert golden_state(state.rows, {})["tables_sha256"] == CHECK_VALUE


def test_files_keep_everything_that_the_check_value_sees(state: State) -> None:
    kept = {name: decode_table(table, encode_table(table, state.rows(name))) for name, table in TABLES.items()}
    assert golden_state(kept.__getitem__, {})["tables_sha256"] == CHECK_VALUE
    assert Digest.of(kept).state() == Digest.of({name: state.rows(name) for name in TABLES}).state()


def test_a_golden_file_leads_to_the_same_digest(state: State) -> None:
    document = decode_golden(encode_golden(golden_state(state.rows, {}), compressed=True))
    expected = Digest.of({name: state.rows(name) for name in REFERENCE_TABLES})
    assert Digest.of(stored_rows(document)) == expected
