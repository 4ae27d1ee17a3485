"""The activity of a probe, which returns the worker's identity, its store's id, and how it folds."""

from __future__ import annotations

import uuid

from activities.interceptor import step
from activities.messages import Probed
from springline import names
from springline.projection.config import FoldConfig
from springline.storage.identity import store_id
from springline.storage.port import ObjectStore


class ProbeActivities:
    """Answers probes for a worker of `build_id` over `store`, the whole one.

    `identity` is the worker's in Temporal; of `folding`, its configuration of the fold, the scope is of no interest.
    """

    def __init__(self, store: ObjectStore, build_id: str, identity: str, folding: FoldConfig) -> None:
        self._store = store
        self._build_id = build_id
        self._identity = identity
        self._folding = folding

    @step(names.PROBE, None)
    async def probe(self) -> Probed:
        """Return this worker's store id, read from the store each time, its build, and how it folds."""
        found = await store_id(self._store, str(uuid.uuid4()))
        return Probed(
            store_id=found,
            build_id=self._build_id,
            identity=self._identity,
            fold_fingerprint=self._folding.fingerprint,
            retention_days=self._folding.retention_days,
        )
