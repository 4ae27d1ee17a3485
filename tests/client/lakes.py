"""A lake in this process: client, HTTP surface and commit protocol over a local folder, without Temporal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from springline.api.app import create_app
from springline.api.auth import SharedSecret, TokenVerifier
from springline.api.ports import Deps
from springline.api.tokens import make_token
from springline.client import Springline
from springline.client.http import ApiClient
from springline.commit.coalescer import Coalescer
from springline.paths import Scope
from springline.storage.local import LocalStore
from tests.api.ledger import LocalLedger
from tests.api.rebuilds import LocalRebuilds
from tests.api.sequencer import LocalSequencer, LocalTables, new_name

SECRET = "a secret of the tests, 32 bytes or more"
SCOPE = Scope("acme", "prod")


class Wire(httpx.BaseTransport):
    """The way to the application in this process; `calls` is what went over it."""

    def __init__(self, server: TestClient) -> None:
        self._server = server
        self.calls: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((request.method, request.url.path))
        answer = self._server.request(
            request.method, str(request.url.raw_path, "ascii"), headers=dict(request.headers), content=request.read()
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@contextmanager
def local_lake(folder: Path) -> Iterator[tuple[Springline, Wire]]:
    """Give a client of an API over `folder`, and the wire between them."""
    store = LocalStore(folder, fsync=False)
    sequencer = LocalSequencer(store)
    deps = Deps(
        store=store,
        tables=LocalTables(store),
        commits=Coalescer(sequencer, deadline_s=5.0),
        sequencers=sequencer,
        ledger=LocalLedger(store),
        rebuilds=LocalRebuilds(store),
        verifier=TokenVerifier(SharedSecret(SECRET)),
        location=lambda scope, root: f"{folder.as_uri()}/{scope.prefix}/{root}",
        new_name=new_name,
        metrics=CollectorRegistry(),
    )
    token = make_token(SECRET, SCOPE, subject="tester")
    with TestClient(create_app(deps), base_url="http://api.test", raise_server_exceptions=False) as server:
        lake = Springline("http://api.test", token)
        wire = Wire(server)
        lake._api.close()
        lake._api = ApiClient("http://api.test", token, transport=wire, deadline_s=5.0)
        try:
            yield lake, wire
        finally:
            lake.close()


def rows_of(table: Any) -> list[dict[str, Any]]:
    """Return a table's rows as another reader sees them, in a stable order."""
    found: list[dict[str, Any]] = table.to_deltalake().to_pyarrow_table().to_pylist()
    return sorted(found, key=repr)
