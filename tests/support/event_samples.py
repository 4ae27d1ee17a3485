"""Events to vary: the golden ledgers, the specification's 25, and payloads of a task's start and end."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

GOLDEN_DIR = Path(__file__).parents[1] / "golden"
APPENDIX_A = (GOLDEN_DIR / "appendix_a.jsonl").read_bytes().splitlines()
LEDGERS = sorted(path.name for path in (GOLDEN_DIR / "ledgers").iterdir())


def bodies_of(ledger: str) -> list[bytes]:
    """Return the event bodies of a golden ledger, in its order."""
    with gzip.open(GOLDEN_DIR / "ledgers" / ledger / "ledger.jsonl.gz") as lines:
        return [json.loads(line)["body"].encode() for line in lines]


def event_of(data: Any, **fields: Any) -> dict[str, Any]:
    """Return an event with `data`; `fields` replace those of the envelope, and a None leaves one out."""
    event = {
        "data": data,
        "event_id": "01JHMPFQ6G000AQKFF00000004",
        "event_type": "Whatever",
        "event_version": 1,
        "idempotency_key": "key",
        "source": "arco-flow/acme/prod",
        "tenant_id": "acme",
        "timestamp": "2025-01-15T10:00:02Z",
        "workspace_id": "prod",
    } | fields
    return {name: value for name, value in event.items() if value is not None}


def text_of(value: Any) -> bytes:
    """Return canonical JSON, made without the code under test."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


STARTED = {
    "type": "task_started",
    "run_id": "r",
    "task_key": "t",
    "attempt": 1,
    "attempt_id": "a",
    "worker_id": "w",
}
FINISHED = STARTED | {
    "type": "task_completion_recorded",
    "outcome": "succeeded",
    "output": {"rowCount": 1, "byteSize": 2, "deltaVersion": -3, "publishedAt": "2025-01-15T10:00:00Z"},
    "error": {"category": "TIMEOUT", "message": "m"},
    "metrics": {"cpuTimeMs": 1, "peakMemoryBytes": 2, "ioReadBytes": 3, "ioWriteBytes": 4},
    "output_visibility": {"visibility_state": "visible", "published_at": "2025-01-15T10:00:00Z"},
}
