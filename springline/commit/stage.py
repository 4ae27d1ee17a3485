"""Staging: putting a commit's payload where its request can name it.

See docs/formats.md#staged-payload, docs/formats.md#commit-request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from springline import paths
from springline.delta.keys import BODY_FIELD
from springline.errors import Code, refused
from springline.storage.port import ObjectStore, StoreRetry, StoreUnknown
from springline.storage.resolve import Other, put_once

PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)
"""Between tries while the store throttles or gives no clear answer; about 3 s in all."""


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
