"""The fold against the reference's own: golden ledgers, scenarios and the check value of
docs/formats.md#golden-form.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from springline.ledger.json_text import canonical_json
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import fold_all
from springline.projection.golden import golden_row
from springline.projection.schema import REFERENCE_TABLES
from springline.projection.state import State
from tests.fold.support import events_of
from tests.support.event_samples import APPENDIX_A, GOLDEN_DIR, LEDGERS, bodies_of, text_of

SCENARIOS = sorted((GOLDEN_DIR / "scenarios").glob("*.json"))
APPENDIX_SHA256 = "ca96dcc4c8144d11ee0565c318c602a45b203a9883b462b55f8425cd113a72c1"


def golden_tables(bodies: list[bytes], secret: bytes = b"") -> dict[str, list[dict[str, Any]]]:
    state = State(FoldConfig("acme", "prod", secret))
    fold_all(state, events_of(bodies))
    return {
        name: [golden_row(table, row) for row in sorted(state.rows(name), key=table.key_of)]
        for name, table in REFERENCE_TABLES.items()
    }


def sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_golden_ledger_gives_the_references_state(ledger: str) -> None:
    with gzip.open(GOLDEN_DIR / "ledgers" / ledger / "state.json.gz") as text:
        expected = json.load(text)
    tables = golden_tables(bodies_of(ledger))
    for name in REFERENCE_TABLES:
        assert tables[name] == expected["tables"][name], name
    assert {name: len(rows) for name, rows in tables.items()} == expected["row_counts"]
    assert {name: sha256(rows) for name, rows in tables.items()} == expected["table_sha256"]
    assert sha256(tables) == expected["tables_sha256"]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_gives_the_references_in_order_state(path: Path) -> None:
    scenario = json.loads(path.read_bytes())
    tables = golden_tables([text_of(event["body"]) for event in scenario["events"]])
    assert {name: rows for name, rows in tables.items() if rows} == scenario["states"]["one"]


def test_the_specifications_ledger_gives_its_check_value() -> None:
    tables = golden_tables(APPENDIX_A, secret=b"test-secret")
    assert len(tables["idempotency_keys"]) == len(APPENDIX_A) - 1
    assert sha256(tables) == APPENDIX_SHA256


def test_the_run_id_secret_is_part_of_the_state() -> None:
    assert sha256(golden_tables(APPENDIX_A, secret=b"other")) != APPENDIX_SHA256
