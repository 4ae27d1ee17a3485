"""Functions for all workflows: ids and times, sleeping, search attributes, and cancellation."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from springline import names
from springline.ulids import RANDOM_BITS, new_ulid

MARKED = "cancellation-marked"
"""The patch that lets a run that was cancelled by older code, without a marker, replay."""
SHORT = "short-histories"
"""The patch that lets runs replay which went on for longer."""
DRAIN_EVENTS, OLDER_DRAIN_EVENTS = 500, 2_000
DRAIN_BYTES = 4 * 1024 * 1024

R = TypeVar("R")

# Ids and times: unique, ordered by time, and the same on replay.


def now_ms() -> int:
    """Return workflow time in milliseconds since 1970."""
    return int(workflow.now().timestamp() * 1000)


def new_uuid7() -> str:
    """Return a UUIDv7 (RFC 9562) of workflow time and workflow randomness."""
    return uuid7_of(now_ms(), workflow.random().getrandbits(74))


def uuid7_of(unix_ms: int, random_bits: int) -> str:
    """Lay out a UUIDv7: 48 bits of Unix milliseconds, version, 12 random bits, variant, 62 random bits."""
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (random_bits >> 62) << 64
    value |= 0b10 << 62
    value |= random_bits & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))


def fresh_ulid(after: str | None = None) -> str:
    """Return a canonical ULID of workflow time and workflow randomness, above `after`; `ValueError` if none is."""
    return new_ulid(after, now_ms(), workflow.random().getrandbits(RANDOM_BITS))


# Sleeping.


async def sleep_until(woken: Callable[[], bool], pause: timedelta, summary: str) -> None:
    """Sleep so long, or until `woken` says so; `summary` is what the Web UI shows of the timer."""
    try:
        await workflow.wait_condition(woken, timeout=pause, timeout_summary=summary)
    except TimeoutError:
        return


# Long histories.


def history_is_long() -> bool:
    """Return whether a singleton's run should go on as another, because its history has become long.

    Another worker replays the history after a kill, and so does the same one if a signal comes while a run hands over.
    Whoever waits for the singleton waits for that replay.
    """
    info = workflow.info()
    events = info.get_current_history_length()
    if events >= OLDER_DRAIN_EVENTS:
        return True
    return (events >= DRAIN_EVENTS or info.get_current_history_size() >= DRAIN_BYTES) and workflow.patched(SHORT)


# Search attributes.

SEARCH_TENANT_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TENANT)
SEARCH_WORKSPACE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_WORKSPACE)
SEARCH_TABLE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TABLE)
SEARCH_TABLE_NAME_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TABLE_NAME)
SEARCH_RUN_KEY = SearchAttributeKey.for_keyword(names.SEARCH_RUN)
REBUILD_PHASE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_REBUILD_PHASE)
REBUILD_MODE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_REBUILD_MODE)
FAILURE_CLASS_KEY = SearchAttributeKey.for_keyword(names.SEARCH_FAILURE_CLASS)
REBUILD_PERCENT_KEY = SearchAttributeKey.for_float(names.SEARCH_REBUILD_PERCENT)


def workspace_attributes(tenant: str, workspace: str) -> TypedSearchAttributes:
    """Return the search attributes of a workflow that works on a whole workspace."""
    return TypedSearchAttributes(
        [SearchAttributePair(SEARCH_TENANT_KEY, tenant), SearchAttributePair(SEARCH_WORKSPACE_KEY, workspace)]
    )


def run_attributes(tenant: str, workspace: str, run_id: str) -> TypedSearchAttributes:
    """Return the search attributes of a workflow that works on one run."""
    of_workspace = workspace_attributes(tenant, workspace).search_attributes
    return TypedSearchAttributes([*of_workspace, SearchAttributePair(SEARCH_RUN_KEY, run_id)])


def table_attributes(tenant: str, workspace: str, table: str, name: str | None = None) -> TypedSearchAttributes:
    """Return the search attributes of a workflow that works on one table: its id, and its name if that is known."""
    named = [] if name is None else [SearchAttributePair(SEARCH_TABLE_NAME_KEY, name)]
    return TypedSearchAttributes(
        [
            SearchAttributePair(SEARCH_TENANT_KEY, tenant),
            SearchAttributePair(SEARCH_WORKSPACE_KEY, workspace),
            SearchAttributePair(SEARCH_TABLE_KEY, table),
            *named,
        ]
    )


# Cancellation.


async def finish_though_cancelled(work: asyncio.Task[R], drain: Callable[[], None]) -> R:
    """Return the result of `work`; a cancellation of the run calls `drain` and does not cancel the work.

    It also writes a marker to the history. On replay the SDK joins a workflow task without commands with the next one.
    Then one activation has the cancellation and a later update, in the order of
    the SDK: updates first, and a run that should take no more would accept one.
    """
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            drain()
            workflow.patched(MARKED)
    return work.result()
