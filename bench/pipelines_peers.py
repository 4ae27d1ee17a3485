"""The pipeline of `bench.pipelines` in Dagster and in Prefect: the same ten functions, over the same hours.

Each hour is a run, of which as many are under way at once as ours has tasks. Dagster makes a run's assets in one
process, which suits a chain best; so does Prefect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import deltalake
import pyarrow as pa

from bench.runs_peers import DAGSTER, IN_PROCESS, PREFECT, DagsterSide, PrefectSide, dagster, environment_of, prefect
from bench.runs_side import POLL_S, Meter, Wrong
from springline.local.cache import Cache

FLOW: Final = "hours"
TABLES: Final = (f"deltalake=={deltalake.__version__}", f"pyarrow=={pa.__version__}")
"""What the functions themselves need."""

_FUNCTION: Final = """\
import time

import pyarrow as pa
from deltalake import write_deltalake


def append(number, hour):
    time.sleep({seconds})
    rows = pa.table({{"hour": [hour] * {rows}, "n": list(range({rows}))}})
    write_deltalake(f"{folder}/a{{number}}", rows, mode="append")
"""
_DAGSTER_FLOW: Final = (
    _FUNCTION
    + """
from dagster import Definitions, HourlyPartitionsDefinition, asset, define_asset_job, in_process_executor

# In the format of the other pipelines' keys.
hours = HourlyPartitionsDefinition(start_date="2026-01-01T00", fmt="%Y-%m-%dT%H")


def made(number):
    @asset(name=f"a{{number}}", partitions_def=hours, deps=[f"a{{number - 1}}"] if number else [])
    def one(context):
        append(number, context.partition_key)

    return one


defs = Definitions(
    assets=[made(number) for number in range({assets})],
    jobs=[define_asset_job("hours_in_process", executor_def=in_process_executor)],
)
"""
)
_PREFECT_FLOW: Final = (
    _FUNCTION
    + """
from prefect import flow, task


@task
def one(number, hour):
    append(number, hour)


@flow
def hours(hour: str):
    for number in range({assets}):
        one.with_options(task_run_name=f"a{{number}}")(number, hour)
"""
)


@dataclass(frozen=True, slots=True)
class Made:
    """What making the pipeline took, of all processes together; `complete` says whether every row is there once."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    complete: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline in another orchestrator. `tables` holds its empty tables, `end_most_s` is how long it may take."""

    folder: Path
    tables: Path
    keys: Sequence[str]
    assets: int
    rows: int
    seconds: float
    at_once: int
    end_most_s: float

    def in_dagster(self, cache: Cache) -> Made:
        """Make it with Dagster. Raises `Wrong` if it does not end, `ToolFailed` if Dagster does not start."""
        python = environment_of((*DAGSTER, *TABLES), cache)
        with dagster(self.folder, self._text(_DAGSTER_FLOW), python, IN_PROCESS, self.at_once) as side:
            return self._made(side, lambda key: side.start(FLOW, partition=key))

    def in_prefect(self, cache: Cache) -> Made:
        """Make it with Prefect. Raises `Wrong` if it does not end, `ToolFailed` if Prefect does not start."""
        python = environment_of((*PREFECT, *TABLES), cache)
        with prefect(self.folder, self._text(_PREFECT_FLOW), python, [FLOW], self.at_once) as side:
            return self._made(side, lambda key: side.start(FLOW, hour=key))

    def _text(self, flow: str) -> str:
        return flow.format(seconds=self.seconds, rows=self.rows, folder=self.tables, assets=self.assets)

    def _made(self, side: DagsterSide | PrefectSide, start: Callable[[str], str]) -> Made:
        began_s = time.time()
        with Meter() as meter:
            run_ids = [start(key) for key in self.keys]
            deadline = time.monotonic() + self.end_most_s
            while not side.over(run_ids):
                if time.monotonic() > deadline:
                    raise Wrong(f"not all of {len(run_ids)} runs have ended after {self.end_most_s:.0f} s")
                time.sleep(POLL_S)
        ended = [side.read(run_id) for run_id in run_ids]
        # By its own record: when we next ask is not its matter.
        wall_s = max(one.ended_s for one in ended) - began_s
        return Made(wall_s, meter.cpu_s, meter.peak_mib, all(one.succeeded for one in ended))
