"""The library with which data engineers write pipelines.

from springline.sdk import Context, asset, daily, materialize

@asset(partitions=daily(start="2024-01-01"), retries=3, timeout="10m")
def raw_flights(context: Context) -> list[dict]:
    return read(context.partition_key)

@asset(partitions=daily(start="2024-01-01"))
def delay(raw_flights: list[dict]) -> float: ...

result = materialize([raw_flights, delay], partition_key="2024-01-31")

Decorators only declare: importing a pipeline runs nothing and needs no server. `springline validate FILE` says
everything that is wrong with a file at once, `springline deploy FILE` makes a workspace know it.
"""

from springline.definitions.partitions import Partitions
from springline.sdk import checks
from springline.sdk.assets import Asset, asset, http_asset
from springline.sdk.checking import CheckFailed
from springline.sdk.checks import Check, CheckOutcome
from springline.sdk.context import Context
from springline.sdk.declaring import External, dep, external
from springline.sdk.errors import (
    Cancelled,
    ConfigRefused,
    InvalidConfig,
    InvalidDefinitions,
    InvalidRequest,
    NonRetryable,
    SdkError,
    SourceProblem,
)
from springline.sdk.evaluating import evaluate_sensor
from springline.sdk.partitions import (
    all_partitions,
    daily,
    hourly,
    identity,
    latest,
    monthly,
    multi_partitions,
    static,
    weekly,
    window,
)
from springline.sdk.pools import Pool, pool
from springline.sdk.running import AssetResult, AssetStatus, MaterializeFailed, MaterializeResult, materialize
from springline.sdk.schedules import Schedule, schedule
from springline.sdk.sensors import (
    PushedMessage,
    RunRequest,
    Sensor,
    SensorContext,
    SensorResult,
    asset_sensor,
    objects_sensor,
    run_sensor,
    sensor,
    table_sensor,
)
from springline.sdk.tables import TaskMerge, TaskTable, WriteHandle
from springline.sdk.tasks import Task, task

__all__ = [
    "Asset",
    "AssetResult",
    "AssetStatus",
    "Cancelled",
    "Check",
    "CheckFailed",
    "CheckOutcome",
    "ConfigRefused",
    "Context",
    "External",
    "InvalidConfig",
    "InvalidDefinitions",
    "InvalidRequest",
    "MaterializeFailed",
    "MaterializeResult",
    "NonRetryable",
    "Partitions",
    "Pool",
    "PushedMessage",
    "RunRequest",
    "Schedule",
    "SdkError",
    "Sensor",
    "SensorContext",
    "SensorResult",
    "SourceProblem",
    "Task",
    "TaskMerge",
    "TaskTable",
    "WriteHandle",
    "all_partitions",
    "asset",
    "asset_sensor",
    "checks",
    "daily",
    "dep",
    "evaluate_sensor",
    "external",
    "hourly",
    "http_asset",
    "identity",
    "latest",
    "materialize",
    "monthly",
    "multi_partitions",
    "objects_sensor",
    "pool",
    "run_sensor",
    "schedule",
    "sensor",
    "static",
    "table_sensor",
    "task",
    "weekly",
    "window",
]
