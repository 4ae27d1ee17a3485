"""The OpenAPI document against the answers: Schemathesis makes requests from it, in all its phases, and compares."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from entrypoints.listening import listen
from entrypoints.serving import Server, server_of
from springline.api.app import create_app
from springline.api.tokens import make_token
from springline.commit.coalescer import CommitCoalescer
from springline.ledger.identifiers import callback_task_id
from springline.local.ports import LOOPBACK
from springline.runs.task_tokens import TaskClaims
from springline.storage.memory import MemoryStore
from tests.api import document_checks
from tests.api.conftest import EVENTS, TABLES, new_key
from tests.support.local_api import ACME, SECRET, TASK_TOKENS, local_deps
from tests.support.local_sequencer import LocalSequencer

RUN = "run_j6jvo6bdv773wa242jsrxjtwti"
CONFIGURATION = f"""
hooks = "{document_checks.__file__}"

[generation]
database = "none"

# What of a form that fits is refused is judged by `refused_for_a_documented_rule`.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "429", "5xx"]

# What is too long for its field may be too large for us before it is that.
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]

# A run that is asked for has an id, and is there when it has begun: a hold, which is among the requests, keeps it back.
[[operations]]
include-path-regex = "^/api/v1/runs/.+"
checks.ensure_resource_availability.enabled = false
"""
OF_WORKERS = """
[[operations]]
include-path-regex = "^/api/v1/tasks/.+"
headers = {{ Authorization = "Bearer {token}" }}
"""
"""Workers call back with the token of an attempt: that of the document's examples."""
FINITE = 300
"""Seconds for phases that end by themselves: as long as a slow machine may need."""
PHASES = (("Examples", "Coverage"), ("Fuzzing",), ("Stateful",))
"""The phases that a run has. Of several with one time limit, the first ones could leave none to the last."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Served:
    url: str
    token: str
    task_token: str


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The application over a store in memory, on a socket, with the objects that the document's examples name."""
    started: list[tuple[str, Server, asyncio.AbstractEventLoop]] = []
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(started, ready)), daemon=True)
    thread.start()
    assert ready.wait(120)
    url, server, loop = started[0]
    token = make_token(SECRET, ACME, subject="tester")
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        _fill(client)
    now_s = int(time.time())
    claims = TaskClaims(ACME, callback_task_id(RUN, "raw.a"), RUN, 1, "att_c41ebb8f97fc52406977fe2c")
    yield Served(url, token, TASK_TOKENS.make(claims, now_s=now_s, expires_s=now_s + 7_200))
    loop.call_soon_threadsafe(setattr, server, "should_exit", True)
    thread.join(30)
    assert not thread.is_alive()


async def _serve(started: list[tuple[str, Server, asyncio.AbstractEventLoop]], ready: threading.Event) -> None:
    async def good() -> None:
        return None

    store = MemoryStore(name="lake")
    sequencer = LocalSequencer(store)
    coalescer = CommitCoalescer(sequencer, deadline_s=5.0)
    app = create_app(
        replace(local_deps(store, sequencer, coalescer), probes={"store": good}, metrics=CollectorRegistry())
    )
    with listen(LOOPBACK, 0, host_variable="HOST", port_variable="PORT") as listener:
        server = server_of(app, most=100, grace_s=1)
        started.append((f"http://{LOOPBACK}:{listener.getsockname()[1]}", server, asyncio.get_running_loop()))
        ready.set()
        await server.serve(sockets=[listener])
    await coalescer.aclose()


def _fill(client: httpx.Client) -> None:
    """Make what the examples of parameters name."""
    table = {"name": "flights", "columns": [{"name": "x", "type": "long"}]}
    assert client.post(TABLES, json=table).status_code == 201
    document = client.get("/openapi.json").json()
    content = document["paths"][EVENTS]["post"]["requestBody"]["content"]["application/json"]
    run: dict[str, object] = content["examples"]["run"]["value"]
    assert client.post(EVENTS, json=run).status_code == 200
    schedule = {
        "type": "schedule_definition_upserted",
        "schedule_id": "daily-etl",
        "cron_expression": "0 4 * * *",
        "timezone": "UTC",
        "catchup_window_minutes": 60,
        "max_catchup_ticks": 1,
        "asset_selection": ["a"],
        "enabled": True,
    }
    backfill = {
        "type": "backfill_created",
        "backfill_id": "bf_1",
        "client_request_id": "one",
        "asset_selection": ["a"],
        "partition_selector": {"type": "explicit", "partition_keys": ["2025-01-01"]},
        "total_partitions": 1,
        "chunk_size": 1,
        "max_concurrent_runs": 1,
    }
    events = {"request_id": new_key(), "events": [{"data": schedule}, {"data": backfill}]}
    answer = client.post(EVENTS, json=events)
    assert answer.status_code == 200, answer.text


def _explored(url: str, phases: Sequence[str], limit: int, configuration: Path, options: Sequence[str]) -> str:
    """Let Schemathesis make requests for so many seconds, and return what it said: nothing was wrong."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(configuration), "run"),
        *(f"{url}/openapi.json", "--phases", ",".join(phases).lower(), "--max-time", str(limit)),
        *("--no-color", "--output-truncate", "true", "--warnings", "off", *options),
    ]
    done = subprocess.run(
        command, cwd=configuration.parent, capture_output=True, text=True, timeout=limit + 300, check=False
    )
    said = ESCAPES.sub("", done.stdout)
    # A request's body may be long: what was wrong with the answer must not be cut off for it.
    told = "\n".join(line[:500] for line in said.splitlines())
    assert done.returncode == 0, told[-20_000:] + done.stderr[-2_000:]
    return said


def _ran(phase: str, said: str) -> bool:
    return re.search(rf"✅\s+{phase}", said) is not None


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("with_token", "seconds", "seed"),
    [
        pytest.param(True, 5, 1, id="with a token"),
        pytest.param(False, 3, 1, id="without"),
        pytest.param(True, 200, None, id="with a token, long", marks=pytest.mark.full),
        pytest.param(False, 60, None, id="without, long", marks=pytest.mark.full),
    ],
)
def test_answers_are_as_the_document_says(
    served: Served,
    with_token: bool,
    seconds: int,
    seed: int | None,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION + (OF_WORKERS.format(token=served.task_token) if with_token else ""))
    options = [
        *(() if seed is None else ("--seed", str(seed))),
        *(("--header", f"Authorization: Bearer {served.token}") if with_token else ()),
    ]
    requests = 0
    for phases in PHASES:
        # A busy machine may take all of the time before the first request.
        limits = [FINITE] if "Coverage" in phases else [seconds, 20 * seconds]
        for limit in limits:
            said = _explored(served.url, phases, limit, configuration, options)
            if all(_ran(phase, said) for phase in phases):
                break
        for phase in phases:
            assert _ran(phase, said), f"phase {phase} did not run: {said[-3_000:]}"
        cases = re.search(r"([0-9,]+) generated", said)
        assert cases is not None, said[-3_000:]
        requests += int(cases[1].replace(",", ""))
    assert requests > 100  # How many fit into the time is the machine's affair.
    how = "with a token" if with_token else "without"
    record_property("explored", f"requests made from the OpenAPI document {how}: {requests} requests")
