"""Tables in a bucket: files are put there by the store, and read back by a foreign reader."""

from __future__ import annotations

from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from springline.client.engine import EMULATOR_VARIABLE, storage_options
from springline.storage.gcs import GcsStore
from tests.client.conftest import serving_folder
from tests.storage.conftest import bucket, fake_gcs  # noqa: F401 - fixtures


def test_rows_are_appended_and_overwritten_in_a_bucket(
    fake_gcs: str,  # noqa: F811
    bucket: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{fake_gcs}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    rows = pa.table({"n": [1, 2, 3, 4], "p": ["a/b c%", "é", None, "a/b c%"]})
    with serving_folder(GcsStore(bucket, "lake"), f"gs://{bucket}/lake", tmp_path) as served, served.connect() as lake:
        table = lake.create_table("rows", rows, partition_by=["p"])
        assert table.append(rows, key="first").version == 1
        assert table.append(rows, key="first").version == 1
        more = pa.table({"n": [5], "p": ["é"]})
        assert table.overwrite(more, where="p = 'é'").version == 2
        location = table.location
    opened = deltalake.DeltaTable(location, storage_options=storage_options(location))
    read = pa.table(opened.to_pyarrow_table()).sort_by("n").to_pylist()
    wanted = [row for row in rows.to_pylist() if row["p"] != "é"] + more.to_pylist()
    assert [(row["n"], row["p"]) for row in read] == [(row["n"], row["p"]) for row in wanted]
    assert not list(tmp_path.glob("springline-write-*"))
