"""Spark with delta-spark as a foreign judge, for `make test-full` only: one session a test run, small and local."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from springline.local.binaries import delta_spark
from springline.local.cache import Cache, cache_root, say_to_stderr
from springline.local.toolchains import java
from tests.support.judges import Row, Where

JAVA_OF_SPARK = 17


def spark_delta(folder: Path, where: Where | None = None) -> list[Row]:
    """Read with Spark. A `Where` is written in Spark's quoting."""
    frame = session().read.format("delta").load(str(folder))
    if where is not None:
        frame = frame.where(where.sql.replace('"', "`"))
    rows: list[Row] = frame.toArrow().to_pylist()
    return rows


def spark_table(folder: Path) -> pa.Table:
    """Return all rows as Spark reads them; timestamps are instants, shown in the session's time zone."""
    return session().read.format("delta").load(str(folder)).toArrow()


def spark_count(folder: Path) -> int:
    """Return the number of rows that Spark finds."""
    return int(session().read.format("delta").load(str(folder)).count())


@cache
def session() -> Any:
    """Return the one Spark session, started when first asked for: a single core, no web page, 1 GB of heap."""
    cache_ = Cache(cache_root(), say_to_stderr)
    os.environ.setdefault("JAVA_HOME", str(java(cache_, JAVA_OF_SPARK).resolve().parents[1]))
    from pyspark.sql import SparkSession

    jars = ",".join(str(jar) for jar in sorted(delta_spark(cache_).glob("*.jar")))
    settings = {
        "spark.jars": jars,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.ui.enabled": "false",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.log.level": "OFF",
    }
    builder = SparkSession.builder.master("local[1]").appName("springline-judge")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
