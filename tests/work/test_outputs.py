"""Outputs that parameters of other assets take: stored as they are, read as they were, or refused."""

from __future__ import annotations

import datetime
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.control.runs.messages import TakenOutput
from springline.paths import ObjectPath
from springline.sdk import outputs as values
from springline.sdk.outputs import NotReadable, NotStorable, decoded, encoded
from springline.storage.damage import DamagedObject
from springline.storage.port import IfVersion, Precondition, PutResult, StoreRetry
from springline.work.frames import ValueForm
from springline.work.outputs import Output, as_object, of_object, read_output, store_output
from tests.work.conftest import Open, order, taken, takes

FLOW = """
from springline.sdk import Context, asset, daily, all_partitions, dep

@asset
def numbers() -> list[int]:
    return [1, 2, 3]

@asset
def arrow():
    import pyarrow as pa
    return pa.table({"a": [1, 2], "b": ["x", None]})

@asset
def polar():
    import polars as pl
    return pl.DataFrame({"a": [[1], [2]], "s": [{"Object": 1}] * 2, "c": pl.Series(["x", "y"], dtype=pl.Categorical)})

@asset
def panda():
    import pandas as pd
    return pd.DataFrame({"a": [1, 2]}, index=pd.Index(["u", "v"], name="i"))

@asset
def strange():
    return {1, 2}

@asset
def huge():
    return "x" * (64 * 1024 * 1024)

@asset(partitions=daily("2024-01-01"))
def days(context: Context) -> str:
    return context.partition_key

@asset
def reader(context: Context, numbers, arrow, polar, panda) -> None:
    import pandas, polars, pyarrow
    assert numbers == [1, 2, 3]
    assert type(arrow) is pyarrow.Table and arrow.to_pydict() == {"a": [1, 2], "b": ["x", None]}
    assert type(polar) is polars.DataFrame and polar.schema["c"] == polars.Categorical, polar
    assert type(panda) is pandas.DataFrame and list(panda.index) == ["u", "v"] and panda.index.name == "i"
    context.add_metadata(read=4)

@asset(deps=[dep(days, all_partitions())])
def collects(context: Context, days) -> None:
    context.add_metadata(days=days)
"""


async def test_outputs_come_back_as_what_they_were(opened: Open) -> None:
    worker = await opened(FLOW)
    made = {name: order(name, keeps_output=True) for name in ("numbers", "arrow", "polar", "panda")}
    for one in made.values():
        end = await worker.make(one)
        assert end.outcome == "succeeded", end
    inputs = [given for name, one in made.items() for given in takes(name, one)]
    end = await worker.make("reader", inputs=inputs)
    assert (end.outcome, end.metadata) == ("succeeded", {"read": 4}), end.stack_trace


async def test_many_outputs_come_as_a_dict_by_partition(opened: Open) -> None:
    worker = await opened(FLOW)
    made = [order("days", partition_key=f"2024-01-0{day}", keeps_output=True) for day in (1, 2)]
    for one in made:
        assert (await worker.make(one)).outcome == "succeeded"
    end = await worker.make("collects", inputs=takes("days", *made, many=True))
    assert end.metadata == {"days": {"2024-01-01": "2024-01-01", "2024-01-02": "2024-01-02"}}
    none = await worker.make("collects", inputs=takes("days", many=True), attempt=2)
    assert none.metadata == {"days": {}}


@pytest.mark.parametrize(("asset", "said"), [("strange", "of type set is no JSON"), ("huge", "takes 67,108,866 bytes")])
async def test_what_cannot_be_stored_fails_for_good(asset: str, said: str, opened: Open) -> None:
    worker = await opened(FLOW)
    end = await worker.make(asset, keeps_output=True)
    assert (end.outcome, end.category, end.retryable) == ("failed", "CONFIGURATION", False)
    assert end.message is not None
    assert f"output of {asset}" in end.message
    assert said in end.message
    assert "write a table" in end.message
    assert (await worker.make(asset, attempt=2)).outcome == "succeeded", "nobody takes the output"


async def test_an_input_that_is_gone_or_altered_is_a_loss(opened: Open) -> None:
    worker = await opened(FLOW)
    made = order("numbers", keeps_output=True)
    missing = await worker.make("reader", inputs=takes("numbers", made))
    assert (missing.outcome, missing.category, missing.reason_code) == ("failed", "CONFIGURATION", "input_missing")
    assert missing.message is not None
    assert "outputs/run_1/a-numbers-1 is missing" in missing.message
    await worker.make(made)
    path = ObjectPath("tenant=acme/workspace=dev/outputs/run_1/a-numbers-1")
    stored = await worker.store.get(path)
    assert stored is not None
    await worker.store.put(path, stored.data.replace(b"[1,2,3]", b"[1,2,4]"), IfVersion(stored.version))
    altered = await worker.make("reader", inputs=takes("numbers", made), attempt=2)
    assert (altered.category, altered.retryable) == ("CONFIGURATION", False)
    assert altered.message is not None
    assert "is not what was written" in altered.message


async def test_a_passing_fault_of_the_store_is_tried_again() -> None:
    from springline.storage.memory import MemoryStore

    class Throttled(MemoryStore):
        faults = 2

        async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
            if self.faults:
                self.faults -= 1
                raise StoreRetry("slow down")
            return await super().put(path, data, precondition)

    store, made, waited = Throttled(), order("a"), []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    output = Output(ValueForm("json"), b"1")
    await store_output(store, made, output, pause)
    assert waited == [0.25, 0.5]
    await store_output(store, made, Output(ValueForm("json"), b"2"), pause)
    assert await read_output(store, taken(made), pause) == output, "the first one counts"


def test_the_object_is_what_the_formats_say() -> None:
    made = order("days", partition_key="2024-01-01")
    data = as_object(Output(ValueForm("json"), b"[1]"), made)
    first, head, value = data.split(b"\n")
    assert first == b"springline-output 1 " + hashlib.sha256(head + b"\n" + value).hexdigest().encode()
    assert value == b"[1]"
    other = TakenOutput(task_key="days", attempt_id=made.attempt_id, scope="run_1")
    with pytest.raises(DamagedObject, match=r"is the output of days\[2024-01-01\]"):
        of_object(data, other)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_any_altered_byte_is_noticed(place: int, to: int) -> None:
    made = order("numbers")
    data = bytearray(as_object(Output(ValueForm("json"), b"[1,2,3]\n\n"), made))
    place %= len(data)
    was, data[place] = data[place], to
    if was == to:
        assert of_object(bytes(data), taken(made)).data == b"[1,2,3]\n\n"
    else:
        with pytest.raises(DamagedObject):
            of_object(bytes(data), taken(made))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_comes_back_equal(value: Any) -> None:
    assert decoded(*encoded(value)) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("\ud800", "surrogates not allowed"),
        (float("nan"), "of type float is no JSON"),
        ({1: 2}, "has a dict with the key 1"),
        ([{"a": {None: 1}}], "has a dict with the key None"),
        (datetime.date(2024, 1, 1), "of type datetime.date is no JSON"),
        (b"x", "of type bytes is no JSON"),
        (pl.Series([1]), "of type polars.series.series.Series is no JSON"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame is no JSON"),
        (pd.Series([1]), "of type pandas.Series is no JSON"),
        (pl.DataFrame({"a": [object()]}), "frame.DataFrame holds Python objects in its column a"),
        (pd.DataFrame({"a": [1, "x"]}), "of type pandas.DataFrame cannot be written"),
    ],
)
def test_a_value_that_would_come_back_as_another_is_refused(value: Any, said: str) -> None:
    with pytest.raises(NotStorable, match=said.replace("(", r"\(")):
        encoded(value)


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(NotStorable, match="Circular"):
        encoded(circle)


def test_the_size_is_that_of_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"a": list(range(1_000))})
    size = len(encoded(table)[2])
    monkeypatch.setattr(values, "MOST_BYTES", size)
    assert decoded(*encoded(table)) == table
    monkeypatch.setattr(values, "MOST_BYTES", size - 1)
    with pytest.raises(NotStorable, match=f"takes {size:,} bytes, more than {size - 1:,}"):
        encoded(table)


def test_a_form_that_this_build_does_not_know_is_told() -> None:
    with pytest.raises(NotReadable, match="which this build does not know"):
        decoded("arrow", "spark", b"")
    with pytest.raises(NotReadable, match="pyarrow refuses it: Arrow"):
        decoded("arrow", "pyarrow", b"x")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
@pytest.mark.parametrize("body", ["time.sleep(60)", "sum(range(10**12))"])
def test_processes_end_with_their_worker(body: str, tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom springline.sdk import asset\n"
        f"@asset\ndef long() -> None:\n    Path(__file__).with_name('pid').write_text(str(os.getpid()))\n    {body}\n"
    )
    script = (
        "import asyncio, sys\nfrom springline.work.frames import Job\nfrom springline.work.pool import ProcessPool\n"
        "async def main():\n"
        "    async with ProcessPool(sys.argv[1], 1, print).process() as one:\n"
        "        job = Job(1, 'long', None, 'r', 1, {}, False)\n"
        "        await one.make(job, [], stop=asyncio.Event(), timeout_s=None, grace_s=1, told=print, printed=print)\n"
        "asyncio.run(main())\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "flow.py")])
    file = tmp_path / "pid"
    try:
        while not (file.exists() and file.read_text()):
            assert worker.poll() is None
            time.sleep(0.02)
    finally:
        worker.kill()
        worker.wait()
    pid = int(file.read_text())
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes():
        assert time.monotonic() < deadline, "the process outlives its worker"
        time.sleep(0.02)
    assert os.getpid() != pid
