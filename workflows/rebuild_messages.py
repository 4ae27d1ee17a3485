"""The models of RebuildWorkflow's messages. Operators write them by hand in the Temporal CLI.

Fields are only ever added, with defaults: running histories hold these.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from activities.messages import Message
from springline.rebuild.messages import BadEvent

CONCURRENCY = 8
MAX_CONCURRENCY = 64


class RebuildStart(Message):
    """Input of RebuildWorkflow; its id is `rebuild/{tenant}/{workspace}`.

    `mode`: `catch-up`, `full` or `verify`. `allow_missing`: go on although listed events are missing or damaged, or
    accepted ones are not listed; the report names them. `concurrency`: parts that are worked on at the same time.
    """

    tenant: str
    workspace: str
    rebuild_manifest_path: str
    mode: str = "catch-up"
    allow_missing: bool = False
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = CONCURRENCY


class RebuildResult(Message):
    """Result of RebuildWorkflow, with the fields that operators of the reference know first.

    See docs/formats.md#rebuild-result.

    `events_processed` counts the distinct events that were folded, `events_skipped` those listed at or below the
    floor of a catch-up. `gap_count`: accepted events that the manifest does not list. `visibility_status` is
    `visible`, or `not_published` for a verification. `equal` is what a verification found. `timings`: seconds by phase.
    """

    events_processed: int
    manifest_id: str | None = None
    manifest_revision: str | None = None
    visibility_status: str
    mode: str
    events_skipped: int = 0
    duplicates: int = 0
    gap_count: int = 0
    missing: int = 0
    damaged: int = 0
    later_events: int = 0
    last_event_id: str | None = None
    digest_before: str | None = None
    digest_after: str | None = None
    equal: bool | None = None
    differences: int = 0
    report_path: str | None = None
    reused_parts: int = 0
    seconds: float = 0.0
    timings: dict[str, float] = {}


class RebuildProgress(Message):
    """Answer of the query `progress`: where a rebuild stands. Times in seconds, rate in events per second.

    `timings`: seconds of the phases that are over. `stopped_in`: the phase that failed or was cancelled;
    `failure_class` is what the search attribute says of it, `failure` what people read.
    """

    phase: str
    mode: str
    done: int = 0
    total: int = 0
    percent: float = 0.0
    parts_done: int = 0
    parts_total: int = 0
    reused_parts: int = 0
    events: int = 0
    events_listed: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    skipped: int = 0
    duplicates: int = 0
    gaps: int = 0
    missing: int = 0
    damaged: int = 0
    bad: list[BadEvent] = []
    last_event_id: str | None = None
    repeated_steps: int = 0
    work_id: str | None = None
    timings: dict[str, float] = {}
    stopped_in: str | None = None
    failure_class: str | None = None
    failure: str | None = None
    next_step: str = ""
    result: RebuildResult | None = None
