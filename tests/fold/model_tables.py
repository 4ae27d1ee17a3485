"""Tables and small functions of the slow fold."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from springline.projection.schema import TABLES

Object = dict[str, Any]

FINISHED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED"}
FINISHED_RUN = {"SUCCEEDED", "FAILED", "CANCELLED"}
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Tables:
    """All tables by key, the graph of dependents, and the event that is being folded."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.event: Object = {}
        self.ts = 0
        self.dependents: dict[tuple[str, str], list[str]] = {}
        self.runs: dict[str, Object] = {}
        self.tasks: dict[tuple[str, str], Object] = {}
        self.catalog_run_index: dict[Any, Object] = {}
        self.dep_satisfaction: dict[Any, Object] = {}
        self.timers: dict[str, Object] = {}
        self.dispatch_outbox: dict[str, Object] = {}
        self.sensor_state: dict[str, Object] = {}
        self.sensor_evals: dict[str, Object] = {}
        self.run_key_index: dict[str, Object] = {}
        self.run_key_conflicts: dict[str, Object] = {}
        self.partition_status: dict[Any, Object] = {}
        self.idempotency_keys: dict[str, Object] = {}
        self.schedule_definitions: dict[str, Object] = {}
        self.schedule_state: dict[str, Object] = {}
        self.schedule_ticks: dict[str, Object] = {}
        self.backfills: dict[str, Object] = {}
        self.backfill_chunks: dict[str, Object] = {}
        self.x_runs: dict[str, Object] = {}
        self.x_attempts: dict[Any, Object] = {}
        self.x_notes: dict[Any, Object] = {}
        self.x_run_keys: dict[str, Object] = {}
        self.x_definitions: dict[Any, Object] = {}
        self.x_sensors: dict[str, Object] = {}
        self.x_messages: dict[Any, Object] = {}
        self.x_chunks: dict[str, Object] = {}
        self.x_holds: dict[str, Object] = {}
        self.x_keys: dict[str, Object] = {}

    def scope(self) -> Object:
        """Return the scope columns."""
        return {"tenant_id": self.event["tenant_id"], "workspace_id": self.event["workspace_id"]}

    def run_id_of(self, run_key: str) -> str:
        """6.2."""
        message = f"{self.event['tenant_id']}:{self.event['workspace_id']}:{run_key}".encode()
        digest = hmac.new(self.secret, message, hashlib.sha256).digest()[:16]
        return "run_" + base64.b32encode(digest).decode()[:26].lower()


def row_of(table: str, **values: Any) -> Object:
    """Return a row with these values, and None in all other columns."""
    row = dict.fromkeys(column.name for column in TABLES[table].columns)
    unknown = values.keys() - row.keys()
    assert not unknown, unknown
    return {**row, **values}


def json_text(value: Any) -> str:
    """Return canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def ulid_ms(text: str) -> int | None:
    """Return the milliseconds in a ULID, however it is written; None if it is none."""
    if len(text) != 26 or any(symbol not in ALPHABET for symbol in text.upper()):
        return None
    value = 0
    for symbol in text.upper()[:10]:
        value = value * 32 + ALPHABET.index(symbol)
    return value % 2**48
