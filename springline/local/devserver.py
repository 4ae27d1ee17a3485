"""The Temporal development server, tuned for us: its command line and its readiness check.

What is tuned, and why (docs/protocol.md#embedded-server, each found by measurement): the server has one history shard,
and by default a shard hands out 20 task batches a second; a timer that is due within a second, as for each retry,
may fire a second late, to allow for clusters whose clocks differ; SQLite waits for the disk at every step unless
it uses its write-ahead log; ten updates in flight per workflow are too few for a table with many writers; of four
partitions that a task queue has by default, one server hands tasks and pollers on from one to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx

from springline.local.ports import LOOPBACK
from springline.names import SEARCH_ATTRIBUTES

NAMESPACE = "default"

DYNAMIC_CONFIG: dict[str, str] = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxPollRPS": "2000",
    "history.visibilityProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxTimeShift": '"50ms"',
    "history.maxInFlightUpdates": "1000",
    "system.enableActivityEagerExecution": "true",
}
"""Dynamic configuration of the server: key -> JSON value."""

PARTITIONS = 1
"""Partitions of each task queue."""
DEFAULT_PARTITIONS = 4
"""Those that the server takes by itself. A database that has had them keeps them: tasks would wait in them for ever."""

SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL")
"""Safe if a process is killed; the last transactions may be lost if the machine loses power."""


def dev_server_command(
    program: Path,
    *,
    database: Path,
    port: int,
    http_port: int,
    ui_port: int,
    metrics_port: int,
    partitions: int = PARTITIONS,
) -> Sequence[str | Path]:
    """Return the command line that starts the server on the loopback interface."""
    command: list[str | Path] = [
        *(program, "server", "start-dev", "--ip", LOOPBACK, "--namespace", NAMESPACE),
        *("--port", str(port), "--http-port", str(http_port)),
        *("--ui-port", str(ui_port), "--metrics-port", str(metrics_port)),
        *("--db-filename", database, "--log-level", "warn"),
    ]
    for pragma in SQLITE_PRAGMAS:
        command += ["--sqlite-pragma", pragma]
    return [*command, *dev_server_settings(partitions)]


def dev_server_settings(partitions: int = PARTITIONS) -> Sequence[str]:
    """Return the options that tune the server and that tell it of our search attributes."""
    values = DYNAMIC_CONFIG | {f"matching.numTaskqueue{way}Partitions": str(partitions) for way in ("Read", "Write")}
    settings: list[str] = []
    for key, value in values.items():
        settings += ["--dynamic-config-value", f"{key}={value}"]
    for name, kind in SEARCH_ATTRIBUTES.items():
        settings += ["--search-attribute", f"{name}={kind}"]
    return settings


def dev_server_ready(http_port: int) -> str | None:
    """Return None if the server serves our namespace and knows our search attributes, else what is missing."""
    url = f"http://{LOOPBACK}:{http_port}/cluster/namespaces/{NAMESPACE}/search-attributes"
    try:
        answer = httpx.get(url, timeout=2)
    except httpx.HTTPError as error:
        return f"no answer yet ({type(error).__name__})"
    if answer.status_code != httpx.codes.OK:
        return f"answers {answer.status_code} for the namespace {NAMESPACE}"
    missing = sorted(set(SEARCH_ATTRIBUTES) - set(answer.json().get("customAttributes", {})))
    return f"has no search attribute {', '.join(missing)} yet" if missing else None
