"""A published pipeline to read from: events composed and folded here, without anybody's judgement."""

from __future__ import annotations

from springline.ledger.compose import compose_event, payload_from
from springline.ledger.event_ids import nth_event_id
from springline.paths import Scope
from springline.projection.config import FoldConfig
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from tests.support.pipeline import Json
from tests.support.publishing import Publisher

FIRST = "01JHMPFP780000000000000000"
START_MS = 1_736_935_200_000


class Pipeline:
    """Publishes payloads of one workspace, each a second after the one before."""

    def __init__(self, store: ObjectStore, scope: Scope) -> None:
        self.publisher = Publisher(ScopedStore(store, scope), FoldConfig(scope.tenant, scope.workspace))
        self._scope = scope
        self._events = 0

    async def publish(self, *payloads: Json) -> str:
        """Publish one revision with these events; return its manifest id."""
        return await self.publisher.publish([self._composed(payload) for payload in payloads])

    def _composed(self, payload: Json) -> bytes:
        number = self._events
        self._events += 1
        return compose_event(
            payload_from(payload),
            event_id=nth_event_id(FIRST, number),
            timestamp_ms=START_MS + 1000 * number,
            tenant=self._scope.tenant,
            workspace=self._scope.workspace,
        )
