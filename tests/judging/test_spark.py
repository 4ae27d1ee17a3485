"""Spark as a judge of what is accepted: the cases by hand, and generated payloads (`make test-full`)."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from springline.delta.payload import parse_payload
from springline.delta.request import Mode
from springline.errors import Refused
from tests.judging.beds import BEDS
from tests.judging.committing import COPY, ROWS, payload
from tests.judging.generator import make
from tests.judging.test_cases import CASES, bed_of, lines_of
from tests.judging.test_generated import put_missing, rows_after

pytestmark = [pytest.mark.full, pytest.mark.timeout(3_600)]
pytest.importorskip("pyspark", reason="PySpark is installed by `make test-full` only")

ACCEPTED = [case for case in CASES if case["expect"] == "accepted"]
EACH = 150


@pytest.mark.parametrize("case", ACCEPTED, ids=[case["name"] for case in ACCEPTED])
async def test_spark_opens_an_accepted_case(case: dict[str, object], tmp_path: Path) -> None:
    from tests.support.spark import spark_count

    table, lines = case["table"], case["lines"]
    assert isinstance(table, dict)
    assert isinstance(lines, list)
    bed = await bed_of(table, tmp_path / "store")
    size = (bed.location / COPY).stat().st_size
    assert (await bed.commit(payload(lines_of(case, size)), Mode(str(case["mode"])))).accepted
    assert spark_count(bed.location) == ROWS + ROWS * sum("add" in line for line in lines)


@pytest.mark.parametrize("name", BEDS)
async def test_spark_counts_what_is_accepted(name: str, tmp_path: Path) -> None:
    from tests.support.spark import spark_count

    bed, subject = await BEDS[name](tmp_path / "bed")
    ended: Counter[str] = Counter()
    for seed in range(100_000, 100_000 + EACH):
        made = make(subject, seed)
        try:
            parse_payload(made.data)
        except Refused:
            ended["refused"] += 1
            continue
        # Spark remembers a folder's log, so each trial has one of its own.
        trial_bed = bed.copy(tmp_path / f"trial-{seed}")
        trial = await trial_bed.commit(made.data, made.mode)
        rows = rows_after(subject, made.data) if trial.accepted else None
        if rows is None:
            ended["refused"] += 1
        else:
            put_missing(trial_bed, made.data)
            try:
                told: int | str = spark_count(trial_bed.location)
            except Exception as error:
                told = str(error)[:2_000]
            assert told == rows, (name, seed, made.done, told, made.data[:2_000])
            ended["accepted"] += 1
        shutil.rmtree(trial_bed.folder)
    print(f"{name}: {dict(ended)}")
    assert ended["accepted"] > EACH / 10, ended
    assert ended["refused"] > EACH / 10, ended
