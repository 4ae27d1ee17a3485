"""`table verify` against foreign readers: what it calls sound, they open; a malformed log file is named."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from springline.commit.audit import audit
from tests.judging.beds import BEDS
from tests.judging.generator import make
from tests.judging.test_generated import NOT_IN_DELTA_RS, put_missing, rows_after
from tests.support.judges import counts

EACH = 120


@pytest.mark.parametrize("name", BEDS)
async def test_what_it_calls_sound_opens(name: str, tmp_path: Path) -> None:
    """Mutated log files are written past the product, as another writer would."""
    bed, subject = await BEDS[name](tmp_path / "bed")
    ended: Counter[str] = Counter()
    for seed in range(50_000, 50_000 + EACH):
        made = make(subject, seed)
        trial = bed.copy(tmp_path / "trial")
        log = trial.location / "_delta_log" / f"{2:020}.json"
        log.write_bytes(made.data)
        found = await audit(trial.table())
        assert found.last == 2
        if not found.ok:
            assert [one.object for one in found.findings] == [trial.table().log_path(2)], found.findings
            assert all(len(one.problem) < 2_000 and one.remedy for one in found.findings)
            ended["malformed"] += 1
        else:
            put_missing(trial, made.data)
            rows = rows_after(subject, made.data)
            told = counts(trial.location)
            if NOT_IN_DELTA_RS in str(told["delta-rs"]):
                told["delta-rs"] = told["duckdb"]
            if rows is not None:
                assert told == {"delta-rs": rows, "duckdb": rows}, (seed, made.done, made.data[:2_000])
            ended["sound"] += 1
        shutil.rmtree(trial.folder)
    print(f"{name}: {dict(ended)}")
    assert ended["sound"] > EACH / 10, ended
    assert ended["malformed"] > EACH / 10, ended


async def test_one_fault_is_named_once_and_what_follows_is_judged_again(tmp_path: Path) -> None:
    bed, _ = await BEDS["plain"](tmp_path / "bed")
    log = bed.location / "_delta_log"
    good = (log / f"{1:020}.json").read_bytes()
    (log / f"{2:020}.json").write_bytes(b'{"metaData":{"id":"x","schemaString":"' + b"[" * 100_000 + b'"}}\n')
    (log / f"{3:020}.json").write_bytes(good.replace(b"first", b"z"))
    (log / f"{4:020}.json").write_bytes(b'{"add":{"path":"z.parquet"}}\n{\n')
    found = await audit(bed.table())
    table = bed.table()
    assert [one.object for one in found.findings] == [table.log_path(2), table.log_path(4)]
    assert "metaData.format" in found.findings[0].problem
    assert "line 2 is not JSON" in found.findings[1].problem
