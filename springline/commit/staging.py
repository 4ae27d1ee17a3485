"""Staged payloads: puts them where a commit can name them, and removes those that no commit can need.

See docs/formats.md#staged-payload, docs/formats.md#commit-request, docs/protocol.md#rule-8. The removal may list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from springline import paths
from springline.delta.coordinator import Coordinator, decode_coordinator
from springline.delta.staging_cleanup import MIN_AGE_MS, StagedVerdict, judge_staged
from springline.errors import Code, refused
from springline.keys import BODY_FIELD
from springline.storage.port import ObjectStore, StoreRetry, StoreUnknown
from springline.storage.resolve import Other, put_once
from springline.storage.together import in_batches, together

_BATCH = 200


class StagingReport(BaseModel):
    """The report of a clean-up of one table's staged payloads; sizes in bytes."""

    model_config = ConfigDict(frozen=True)

    table_id: str
    dry_run: bool
    examined: int = 0
    removed: int = 0
    removed_bytes: int = 0
    kept_named: int = 0
    kept_young: int = 0
    kept_ageless: int = 0


async def clean_staging(
    store: ObjectStore, table_id: str, now_ms: int, *, min_age_ms: int = MIN_AGE_MS, dry_run: bool = False
) -> StagingReport:
    """Remove the staged payloads of a table that are old and that its coordinator does not name.

    `now_ms` in milliseconds since 1970. With `dry_run` nothing is removed and `removed` counts what would be.
    The coordinator is read after each batch of names was listed, right before its removals. A reservation made
    in that instant of a payload that is over a week old finds it gone and is abandoned (docs/protocol.md#rule-4): its
    request is refused, the table goes on. Raises `InvariantViolated` if the coordinator is damaged; nothing is removed
    then.
    """
    counts = dict.fromkeys(StagedVerdict, 0)
    removed_bytes = 0
    async for batch in in_batches(store.list(paths.delta_staging_prefix(table_id)), _BATCH):
        coordinator = await _coordinator(store, table_id)
        payloads = [(info.path, _name(table_id, info.path)) for info in batch]
        verdicts = judge_staged(payloads, coordinator, now_ms, min_age_ms=min_age_ms)
        old = [info for info in batch if verdicts[info.path] is StagedVerdict.REMOVE]
        gone = [True] * len(old)
        if not dry_run:
            gone = await together(*(store.delete(info.path, if_version=info.version) for info in old))
        removed_bytes += sum(info.size for info, done in zip(old, gone, strict=True) if done)
        for verdict in verdicts.values():
            counts[verdict] += 1
        counts[StagedVerdict.REMOVE] -= gone.count(False)
        counts[StagedVerdict.YOUNG] += gone.count(False)
    return StagingReport(
        table_id=table_id,
        dry_run=dry_run,
        examined=sum(counts.values()),
        removed=counts[StagedVerdict.REMOVE],
        removed_bytes=removed_bytes,
        kept_named=counts[StagedVerdict.NAMED],
        kept_young=counts[StagedVerdict.YOUNG],
        kept_ageless=counts[StagedVerdict.AGELESS],
    )


async def _coordinator(store: ObjectStore, table_id: str) -> Coordinator | None:
    path = paths.delta_coordinator(table_id)
    stored = await store.get(path)
    return None if stored is None else decode_coordinator(stored.data, path)


def _name(table_id: str, path: str) -> str:
    """Return the staged name in `path`; empty, hence ageless, for an object that no staging call made."""
    try:
        return paths.parse_delta_staged(table_id, path)
    except paths.InvalidPath:
        return ""


PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)
"""Pauses between tries while the store throttles or gives no clear answer; about 3 s in all."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged payload: its scope-relative path and the store's version token."""

    path: paths.ObjectPath
    version: str


async def stage(
    store: ObjectStore,
    table_id: str,
    name: str,
    data: bytes,
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Staged:
    """Write `data` as the table's staged payload `name`, create-only; the same bytes again give the same answer.

    Raises `Refused` (KEY_REUSED) if other bytes are staged under that name, which can only be so for names
    made from a caller's key; `StoreRetry` or `StoreUnknown` if the store gives no answer.
    """
    path = paths.delta_staged(table_id, name)
    for wait in (*PAUSES_S, None):
        try:
            result = await put_once(store, path, data)
        except (StoreRetry, StoreUnknown):
            if wait is None:
                raise
            await pause(wait)
            continue
        if isinstance(result, Other):
            raise refused(
                Code.KEY_REUSED,
                f"another payload of {len(result.data)} bytes is already staged under {name}",
                field=BODY_FIELD,
                value=name,
                remedy="Stage another payload under a new key; a key stands for one payload only.",
            )
        return Staged(path, result.version)
    raise AssertionError("unreachable: the last pass returns or raises")
