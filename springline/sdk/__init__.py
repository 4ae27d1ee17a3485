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
from springline.sdk.assets import Asset, External, asset, dep, external
from springline.sdk.context import Context
from springline.sdk.errors import (
    Cancelled,
    InvalidDefinitions,
    InvalidRequest,
    NonRetryable,
    SdkError,
    SourceProblem,
)
from springline.sdk.partitions import (
    all_partitions,
    daily,
    hourly,
    identity,
    latest,
    monthly,
    static,
    weekly,
    window,
)
from springline.sdk.running import AssetResult, AssetStatus, MaterializeFailed, MaterializeResult, materialize

__all__ = [
    "Asset",
    "AssetResult",
    "AssetStatus",
    "Cancelled",
    "Context",
    "External",
    "InvalidDefinitions",
    "InvalidRequest",
    "MaterializeFailed",
    "MaterializeResult",
    "NonRetryable",
    "Partitions",
    "SdkError",
    "SourceProblem",
    "all_partitions",
    "asset",
    "daily",
    "dep",
    "external",
    "hourly",
    "identity",
    "latest",
    "materialize",
    "monthly",
    "static",
    "weekly",
    "window",
]
