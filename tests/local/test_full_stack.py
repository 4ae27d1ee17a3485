"""The embedded stack with its worker and API, as the demo and chaos tests use it."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from springline.local.stack import API, TEMPORAL, EmbeddedStack, worker_name
from springline.paths import Scope

WORKER = worker_name(1)


def silent(_line: str) -> None:
    return


def test_everything_comes_up_survives_kills_and_ends_in_order(tmp_path: Path) -> None:
    with EmbeddedStack(tmp_path, scope=Scope("acme", "dev"), say=silent) as stack:
        client = httpx.Client(base_url=stack.api_url, headers={"Authorization": f"Bearer {stack.token()}"}, timeout=10)
        with client:
            assert client.get("/ready").json()["ready"] is True
            unknown = "/api/v1/delta/tables/no-such-table"
            assert client.get(unknown).status_code == 404
            assert client.get(unknown, headers={"Authorization": ""}).status_code == 401

            for name in (WORKER, API):
                before = stack.child(name).pid
                stack.kill(name)
                assert stack.dead_children() == {name: -signal.SIGKILL}
                stack.start_child(name)
                assert stack.child(name).pid != before
            assert client.get(unknown).status_code == 404

            stack.restart(WORKER)
            assert stack.dead_children() == {}
        codes = stack.stop()
    assert codes == {API: 0, WORKER: 0, TEMPORAL: 0}


def test_two_workers_get_ports_of_their_own(tmp_path: Path) -> None:
    with EmbeddedStack(tmp_path, scope=Scope("acme", "dev"), workers=2, api=False, say=silent) as stack:
        assert stack.worker_names == [worker_name(1), worker_name(2)]
        with pytest.raises(KeyError):
            stack.child(API)
        for name in stack.worker_names:
            assert stack.child(name).running
