"""Client histories of the real HTTP surface, under concurrency and SIGKILLs, are linearizable per table.

Twelve clients, three tables, one API process, two workers, a Temporal server and local files. Workers and API are
killed at random points and started again. The history is judged by our checker and by Porcupine; then the tables
are compared with it: what was acknowledged is there once, at its version, and what was refused is not.

`SPRINGLINE_TEST_SEED` repeats the clients' choices and the times of the kills (not the threads' interleaving).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import httpx
import orjson
import pytest
from deltalake import DeltaTable

from springline import paths
from springline.local.stack import API, EmbeddedStack, worker_name
from springline.paths import Scope
from tests.linearizability.checker import Violation, check
from tests.linearizability.clients import TABLES, Client, Shared
from tests.linearizability.history import Operation, to_json
from tests.linearizability.porcupine import porcupine, verdicts
from tests.linearizability.resolve import resolved
from tests.support.forked_stack import ForkedStack

CLIENTS = 12
VICTIMS = (worker_name(1), worker_name(2), API)
CHANGES = 30
TABLE_NAMES = ("one", "two", "quiet")
LEFT_OPEN = 3
"""Requests without an answer that stay so, if there are as many: nobody asks for them again."""
OUTCOMES = ("append committed", "strict committed", "append answered again", "explain: committed")
"""Answers without which a history would show little. Which come first is chance: clients wait for all of them."""
EACH_ANSWER_WITHIN_S = 240.0


@dataclass(frozen=True)
class Log:
    """A table's log as it lies in its folder."""

    uri: str
    latest: int
    files: dict[str, list[int]]
    """Where each data file was added."""
    keys: dict[str, list[int]]
    """Where each key was committed."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    environment = {"SPRINGLINE_COMMIT_DEADLINE": "8", "SPRINGLINE_CHECKPOINT_INTERVAL": "20"}
    with ForkedStack(tmp_path, scope=Scope("acme", "dev"), workers=2, environment=environment) as running:
        yield running


def create(stack: EmbeddedStack, name: str) -> str:
    headers = {"Authorization": f"Bearer {stack.token()}"}
    body = {"name": name, "columns": [{"name": "x", "type": "long"}]}
    answer = httpx.post(f"{stack.api_url}{TABLES}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    table_id: str = answer.json()["table"]["table_id"]
    return table_id


def kill_again_and_again(stack: EmbeddedStack, random: Random, kills: int) -> Counter[str]:
    """Kill workers and API `kills` times each at random points; return the victims when all of them are back."""
    victims = list(VICTIMS) * kills
    random.shuffle(victims)
    for victim in victims:
        time.sleep(random.uniform(0.1, 1.5))
        stack.kill(victim)
        # Not always waited for: another may be killed meanwhile, or this one while it starts.
        stack.start_child(victim, wait=random.random() < 0.6)
    for name in VICTIMS:
        stack.wait_ready(name)
    return Counter(victims)


def read_log(stack: EmbeddedStack, table_id: str) -> Log:
    store, root = Path(httpx.URL(stack.store_url).path), paths.new_table_root(table_id, stack.scope)
    folder = store / stack.scope.full(paths.delta_log_dir(root))
    versions = sorted(int(file.stem) for file in folder.glob("*.json"))
    assert versions == list(range(len(versions))), "versions are missing from the log"
    files: dict[str, list[int]] = {}
    keys: dict[str, list[int]] = {}
    for version in versions[1:]:
        lines = (store / stack.scope.full(paths.delta_log(root, version))).read_bytes().splitlines()
        actions = [orjson.loads(line) for line in lines]
        info = actions[0]["commitInfo"]
        members = info.get("springline", {}).get("members")
        for key in [member["key"] for member in members] if members else [info["txnId"]]:
            keys.setdefault(key, []).append(version)
        for action in actions:
            if "add" in action:
                files.setdefault(action["add"]["path"], []).append(version)
    return Log(str(folder.parent), versions[-1], files, keys)


def check_log(log: Log, shared: Shared, table_id: str) -> None:
    """Check that the log holds what was acknowledged, exactly once and where it was said, and nothing refused."""
    sent = [(request, op) for request, op in shared.requests if request.table == table_id]
    assert all(len(versions) == 1 for versions in log.keys.values()), "a key was committed twice"
    assert all(len(versions) == 1 for versions in log.files.values()), "a file was added twice"
    for request, op in sent:
        if op.version is not None:
            assert log.keys.get(request.key) == [op.version], (request, op)
            assert log.files.get(request.file) == [op.version], (request, op)
    possible = [request for request, op in sent if op.version is not None or op.unknown]
    assert log.keys.keys() <= {request.key for request in possible}, "a refused key is in the log"
    assert log.files.keys() <= {request.file for request in possible}, "a refused payload is in the log"
    table = DeltaTable(log.uri)
    assert table.version() == log.latest
    assert {Path(uri).name for uri in table.file_uris()} == log.files.keys()


def share_rejected(history: Sequence[Operation], random: Random) -> float:
    """Change the version told of one key at a time; return which share of the changes the checker finds impossible."""
    answered = [number for number, op in enumerate(history) if op.version is not None and op.key]
    rejected = 0
    for number in random.sample(answered, CHANGES):
        changed = list(history)
        version = changed[number].version
        assert version is not None
        changed[number] = replace(changed[number], version=version + random.choice((-1, 1)))
        rejected += bool(check(resolved(changed)))
    return rejected / CHANGES


def explained(violation: Violation) -> str:
    """Return a violation in words: the end of the longest order found, and what could not follow."""
    placed = "\n".join(f"    {op}" for op in violation.longest[-8:])
    stuck = "\n".join(f"    {op}" for op in violation.stuck[:8])
    return f"table {violation.table}: after\n{placed}\n  none of these can come next:\n{stuck}"


def settle_unknown(shared: Shared, asker: Client) -> int:
    """Ask again for what has no answer, but for a few; return how many of them stay open."""
    open_requests = shared.unknown()
    for request in open_requests[LEFT_OPEN:]:
        if not any(asker.send(request) for _ in range(5)):
            shared.fail(f"no answer with everything up: {request}")
    return len(open_requests[:LEFT_OPEN])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.full)])
def test_client_histories_are_linearizable(
    kills: int, stack: EmbeddedStack, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("SPRINGLINE_TEST_SEED", time.time_ns() % 1_000_000))
    random = Random(seed)
    began = time.monotonic()
    tables = [create(stack, name) for name in TABLE_NAMES]
    shared = Shared(tables)
    clients = [Client(shared, stack.api_url, stack.token(), random.randrange(2**32)) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.send_all, name=f"client-{n}") for n, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    try:
        killed = kill_again_and_again(stack, random, kills)
        # With everything up again, the clients go on until the system has answered each of them, and given each answer.
        enough, deadline = len(shared.history) + 4 * CLIENTS, time.monotonic() + EACH_ANSWER_WITHIN_S
        while not shared.failures and time.monotonic() < deadline:
            if len(shared.history) >= enough and all(shared.outcomes[outcome] for outcome in OUTCOMES):
                break
            time.sleep(0.05)
    finally:
        shared.stop.set()
        for thread in threads:
            thread.join(60)
    ran = time.monotonic() - began
    left_open = settle_unknown(shared, Client(shared, stack.api_url, stack.token(), seed))
    logs = {table: read_log(stack, table) for table in tables}

    (tmp_path / "history.json").write_text(to_json(shared.history))
    began = time.monotonic()
    violations = check(shared.history)
    ours = time.monotonic() - began
    sharpness = share_rejected(shared.history, random)
    program = porcupine(tmp_path)
    began = time.monotonic()
    (theirs,) = verdicts(program, [resolved(shared.history)])
    print(f"seed {seed}; {len(shared.history)} operations in {ran:.1f} s, killed: {dict(killed)}")
    print(f"versions: {[log.latest for log in logs.values()]}; without an answer for ever: {left_open}")
    print("\n".join(f"  {count:5} {outcome}" for outcome, count in sorted(shared.outcomes.items())))
    print(f"our checker: {not violations} after {ours:.1f} s; of changed answers it rejects {sharpness:.0%}")
    print(f"Porcupine: {theirs} after {time.monotonic() - began:.1f} s")
    record_property(
        "explored", f"HTTP histories: {len(shared.history)} operations, {killed.total()} kills, 1 linearizable history"
    )
    assert not shared.failures, shared.failures[:3]
    assert not violations, "\n".join(explained(violation) for violation in violations)
    assert theirs is not False, f"Porcupine finds no order of {tmp_path / 'history.json'}"
    assert sharpness > 0.5, "a history that allows anything shows nothing"
    for table, log in logs.items():
        check_log(log, shared, table)
    for outcome in OUTCOMES:
        assert shared.outcomes[outcome], f"nobody saw: {outcome}"
