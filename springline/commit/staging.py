"""Removing staged payloads that nobody can need any more (docs/protocol.md#rule-8). Inventory: this may list."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from springline import paths
from springline.delta.coordinator import Coordinator, decode_coordinator
from springline.delta.staging_cleanup import MIN_AGE_MS, Verdict, judge_staged
from springline.storage.port import ObjectStore
from springline.storage.together import in_batches, together

_BATCH = 200


class StagingReport(BaseModel):
    """What a clean-up of one table's staged payloads found and did; sizes in bytes."""

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
    counts = dict.fromkeys(Verdict, 0)
    removed_bytes = 0
    async for batch in in_batches(store.list(paths.delta_staging_prefix(table_id)), _BATCH):
        coordinator = await _coordinator(store, table_id)
        payloads = [(info.path, _name(table_id, info.path)) for info in batch]
        verdicts = judge_staged(payloads, coordinator, now_ms, min_age_ms=min_age_ms)
        old = [info for info in batch if verdicts[info.path] is Verdict.REMOVE]
        gone = [True] * len(old)
        if not dry_run:
            gone = await together(*(store.delete(info.path, if_version=info.version) for info in old))
        removed_bytes += sum(info.size for info, done in zip(old, gone, strict=True) if done)
        for verdict in verdicts.values():
            counts[verdict] += 1
        counts[Verdict.REMOVE] -= gone.count(False)
        counts[Verdict.YOUNG] += gone.count(False)
    return StagingReport(
        table_id=table_id,
        dry_run=dry_run,
        examined=sum(counts.values()),
        removed=counts[Verdict.REMOVE],
        removed_bytes=removed_bytes,
        kept_named=counts[Verdict.NAMED],
        kept_young=counts[Verdict.YOUNG],
        kept_ageless=counts[Verdict.AGELESS],
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
