"""Generated payloads against foreign judges: each is refused, or other readers then open the table and count right."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from springline.delta.messages import CommitMode
from springline.delta.payload import parse_payload
from springline.errors import Code, Refused
from tests.judging.beds import BEDS, ROWS
from tests.judging.committing import Bed
from tests.judging.generator import VECTOR_ROWS, Made, Subject, make
from tests.support.judges import Where, counts, delta_rs, duckdb_kernel

EACH = 500
EACH_IN_FULL = 10_000
CODES = {Code.INVALID_PAYLOAD, Code.UNSUPPORTED_FEATURE, Code.NOT_AN_APPEND}
NOT_IN_DELTA_RS = "Unsupported table features required"
"""What delta-rs says of features that it does not read yet, whatever the commit: DuckDB judges those alone."""


def rows_after(subject: Subject, data: bytes) -> int | None:
    """Return how many rows the table must have, None where the payload lies about the files that it adds.

    Whoever names a wrong size, row count or type of what is in a file has readers believe it; a log cannot tell.
    """
    live: dict[str, int] = {file.path: file.rows for file in subject.live}
    size = subject.live[0].size
    adds: list[dict[str, Any]] = []
    wrong = False
    for line in data.decode().split("\n"):
        action = json.loads(line) if line.strip() else {}
        if "remove" in action:
            live.pop(unquote(action["remove"]["path"]), None)
        if "add" in action:
            adds.append(action["add"])
        if "metaData" in action:
            wrong = _columns_of(action["metaData"]) != _columns_of(subject.metadata)
    if wrong and adds:
        return None
    for add in adds:
        stats = json.loads(add.get("stats") or "{}")
        if add["size"] != size or stats.get("numRecords", ROWS) not in (ROWS, None):
            return None
        live[unquote(add["path"])] = ROWS - (VECTOR_ROWS if add.get("deletionVector") else 0)
    return sum(live.values())


def _columns_of(metadata: dict[str, Any]) -> list[Any]:
    """Return what data files must hold by the schema; a new column that may be null need not be in them."""
    fields = json.loads(metadata["schemaString"])["fields"]
    return [
        (field["name"], field["type"], field["nullable"])
        for field in fields
        if field["name"] != "new" or not field["nullable"]
    ]


def put_missing(bed: Bed, data: bytes) -> None:
    """Put a data file wherever an accepted payload names one: what is judged is the log."""
    source = bed.location / "first.parquet"
    for line in data.decode().split("\n"):
        add = (json.loads(line) if line.strip() else {}).get("add")
        if add and not (file := bed.location / unquote(add["path"])).exists():
            assert file.resolve().is_relative_to(bed.location.resolve()), add["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, file)


async def judge(bed: Bed, subject: Subject, made: Made, folder: Path) -> str:
    """Try one payload; return how it ended. Raises `AssertionError` if foreign readers contradict."""
    try:
        parse_payload(made.data)
    except Refused as error:
        assert error.refusal.code in CODES, error.refusal
        assert error.refusal.field and error.refusal.remedy, error.refusal
        assert len(error.refusal.model_dump_json()) < 4_000
        return "refused at stage"
    trial_bed = bed.copy(folder)
    try:
        trial = await trial_bed.commit(made.data, made.mode)
        if not trial.accepted:
            assert trial.refusal.code in CODES, trial.refusal
            assert trial.refusal.field and trial.refusal.remedy, trial.refusal
            assert not (trial_bed.location / "_delta_log" / f"{2:020}.json").exists()
            return "refused at commit"
        put_missing(trial_bed, made.data)
        expected = rows_after(subject, made.data)
        if expected is None:
            return "lies"
        told = counts(trial_bed.location)
        in_delta_rs = NOT_IN_DELTA_RS not in str(told["delta-rs"])
        assert told == {"delta-rs": expected if in_delta_rs else told["delta-rs"], "duckdb": expected}
        if subject.name == "partitioned" and in_delta_rs:
            _judge_filters(trial_bed)
        return "accepted"
    finally:
        shutil.rmtree(folder)


def _judge_filters(bed: Bed) -> None:
    for where in (
        Where("p_long", "=", 1, "bigint"),
        Where("p_string", "is null"),
        Where("p_date", ">", "2021-01-01", "date"),
        Where("p_decimal", "=", "1.50", "decimal(10,2)"),
        Where("p_bool", "is null"),
    ):
        assert len(delta_rs(bed.location, where)) == len(duckdb_kernel(bed.location, where)), where


async def judge_many(name: str, seeds: range, tmp_path: Path) -> Counter[str]:
    """Judge the payloads of these seeds against one table; return how many ended in which way."""
    bed, subject = await BEDS[name](tmp_path / "bed")
    ended: Counter[str] = Counter()
    for seed in seeds:
        made = make(subject, seed)
        try:
            ended[await judge(bed, subject, made, tmp_path / "trial")] += 1
        except Exception as error:
            shown = made.data[:3_000].decode(errors="replace")
            raise AssertionError(f"{name}, seed {seed}, {made.mode}, {made.done}: {error}\n{shown}") from error
    return ended


@pytest.mark.parametrize("name", BEDS)
async def test_what_is_accepted_is_readable(name: str, tmp_path: Path) -> None:
    ended = await judge_many(name, range(EACH), tmp_path)
    print(f"{name}: {dict(ended)}")
    # A test that refuses everything, or accepts everything, would be none.
    assert ended["accepted"] > EACH / 10, ended
    assert ended["refused at stage"] > EACH / 10, ended
    assert ended["refused at commit"] > EACH / 50, ended


@pytest.mark.parametrize("name", BEDS)
async def test_what_is_valid_is_accepted(name: str, tmp_path: Path) -> None:
    bed, subject = await BEDS[name](tmp_path / "bed")
    tried = 0
    for seed in range(10_000, 10_000 + EACH):
        made = make(subject, seed)
        if made.done or made.mode is not CommitMode.APPEND:
            continue
        tried += 1
        assert await judge(bed, subject, made, tmp_path / "trial") == "accepted", made
    assert tried > EACH / 50, tried


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", BEDS)
async def test_what_is_accepted_is_readable_in_full(name: str, tmp_path: Path) -> None:
    ended = await judge_many(name, range(EACH, EACH + EACH_IN_FULL), tmp_path)
    print(f"{name}: {dict(ended)}")
    assert ended["accepted"] > EACH_IN_FULL / 10, ended
