"""Limits of memory: what counts against them, and the ends of attempts beyond them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from springline.work import process
from springline.work.attempts import _problem_of
from springline.work.frames import Made
from springline.work.memory import MemoryOverrun, overrun, processes_of, resident_bytes, resident_bytes_once
from springline.work.process import JobEnd, ProcessEnded, StopReason
from tests.work.conftest import Open, gone, order

MIB = 1024 * 1024
ALLOCATE = "data = bytearray(b'x') * ({} << 20)"

FLOW = """
import os, signal, subprocess, sys, time
from pathlib import Path
from springline.sdk import Context, asset, task

HERE = Path(__file__).parent

@asset
def takes(context: Context) -> None:
    data = bytearray(b"x") * (context.config["mib"] << 20)
    (HERE / "began").write_text(str(os.getpid()))
    if context.config.get("waits"):
        time.sleep(60)

@asset
def starts(context: Context) -> None:
    code = f"import time; data = bytearray(b'x') * ({context.config['mib']} << 20); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    (HERE / "began").write_text(str(child.pid))
    child.wait()

@asset
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

KEPT = []

@asset
def keeps(context: Context) -> None:
    KEPT.append(bytearray(b"x") * (context.config["mib"] << 20))
    context.add_metadata(pid=os.getpid())
"""


@contextmanager
def program(code: str) -> Iterator[int]:
    """Run a program until the end of the block; it is in the block when it has printed a line."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running.pid
        running.stdin.close()


def test_memory_of_its_own_counts() -> None:
    with program(f"{ALLOCATE.format(100)}; print('ready', flush=True); input()") as pid:
        assert processes_of(pid) == [pid]
        used = resident_bytes([pid])
        assert 100 * MIB < used < 130 * MIB
        assert resident_bytes_once([pid]) == pytest.approx(used, rel=0.05)


def test_shared_memory_counts_and_a_mapped_file_does_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 50 * MIB)
    code = f"""
import mmap
file = open({str(file)!r}, "rb")
mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(mapped[place] for place in range(0, len(mapped), 4096))
shared = mmap.mmap(-1, 30 << 20)
shared.write(b"x" * (30 << 20))
print("ready", flush=True)
input()
"""
    with program(code) as pid:
        assert 30 * MIB < resident_bytes([pid]) < 70 * MIB
        assert 30 * MIB < resident_bytes_once([pid]) < 70 * MIB


def test_what_processes_share_after_a_fork_counts_once() -> None:
    code = f"""
import os, sys
{ALLOCATE.format(60)}
inner, outer = os.pipe()
for _ in range(2):
    if not os.fork():
        os.close(outer)
        os.read(inner, 1)
        os._exit(0)
print("ready", flush=True)
input()
"""
    with program(code) as pid:
        pids = processes_of(pid)
        assert len(pids) == 3
        assert resident_bytes(pids) > 180 * MIB
        assert 60 * MIB < resident_bytes_once(pids) < 100 * MIB


def test_a_process_that_is_gone_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert processes_of(ended.pid) == [ended.pid]
    assert (resident_bytes([ended.pid]), resident_bytes_once([ended.pid])) == (0, 0)


async def test_it_looks_until_the_limit_is_passed() -> None:
    sizes = iter([10, 99, 100, 101])
    with program("print('ready', flush=True); input()") as pid:
        beyond = await overrun(pid, 100, rough=lambda _: next(sizes), exact=_unasked, look_s=0)
    assert (beyond.limit_bytes, beyond.used_bytes, beyond.before_bytes, beyond.processes) == (100, 101, 10, 1)


async def test_pages_of_several_processes_are_told_apart_before_a_limit_counts_as_passed() -> None:
    code = "import os\ninner, outer = os.pipe()\nif not os.fork():\n os.close(outer); os.read(inner, 1); os._exit(0)\n"
    exact = iter([90, 100, 120])
    with program(f"{code}print('ready', flush=True); input()") as pid:
        beyond = await overrun(pid, 100, rough=lambda _: 150, exact=lambda _: next(exact), look_s=0)
    assert (beyond.used_bytes, beyond.processes) == (120, 2)


def _unasked(pids: Sequence[int]) -> int:
    raise AssertionError(pids)


@pytest.mark.parametrize("whose", ["asset", "worker"])
async def test_an_attempt_beyond_its_limit_fails_and_the_worker_goes_on(
    whose: str, opened: Open, tmp_path: Path
) -> None:
    worker = await opened(FLOW, memory_bytes=64 * MIB if whose == "asset" else 128 * MIB)
    own = 128 * MIB if whose == "asset" else None
    end = await worker.make("takes", config={"mib": 200, "waits": True}, memory_bytes=own)
    assert (end.outcome, end.category, end.reason_code, end.retryable) == ("failed", "USER_CODE", "memory_limit", None)
    message = end.message or ""
    assert message.startswith("takes used ")
    assert " MiB were used before its function was called" in message
    limit, remedy = {
        "asset": ("more than its limit, 128MiB", "Let it work on less at once, or raise its memory=..."),
        "worker": ("more than the limit of its worker, 128MiB", "or raise the worker's --memory-limit"),
    }[whose]
    assert limit in message
    assert message.endswith(remedy)
    assert end.peak_memory_bytes is not None
    assert end.peak_memory_bytes > 128 * MIB
    again = await worker.make("takes", config={"mib": 20}, memory_bytes=own or 128 * MIB, attempt=2)
    assert again.outcome == "succeeded", again.message


async def test_memory_of_what_a_function_starts_counts_and_is_given_back(opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW)
    end = await worker.make("starts", config={"mib": 150}, memory_bytes=128 * MIB)
    assert (end.category, end.reason_code) == ("USER_CODE", "memory_limit")
    assert " of memory with the process that it has started, more than its limit, 128MiB" in (end.message or "")
    assert await gone(int((tmp_path / "began").read_text()))


async def test_what_an_attempt_before_has_left_does_not_count(opened: Open) -> None:
    worker = await opened(FLOW)
    first = await worker.make("keeps", config={"mib": 100})
    same = await worker.make("keeps", config={"mib": 0}, attempt=2)
    with_room = await worker.make("keeps", config={"mib": 0}, attempt=3, memory_bytes=2_048 * MIB)
    other = await worker.make("keeps", config={"mib": 0}, attempt=4, memory_bytes=100 * MIB)
    assert [one.outcome for one in (first, same, with_room, other)] == ["succeeded"] * 4
    assert first.metadata == same.metadata == with_room.metadata != other.metadata


async def test_whom_somebody_else_kills_was_not_beyond_a_limit(opened: Open) -> None:
    worker = await opened(FLOW)
    end = await worker.make("killed", memory_bytes=512 * MIB)
    assert (end.category, end.reason_code) == ("INFRASTRUCTURE", "process_killed")


def test_what_has_returned_or_was_stopped_before_ends_as_it_would_without_a_limit() -> None:
    beyond = MemoryOverrun(limit_bytes=100, used_bytes=120, before_bytes=10, processes=1)
    asked = order("takes", memory_bytes=100, timeout_ms=5_000)

    def reason(made: Made | None, stopped: StopReason) -> tuple[str, str] | None:
        ended = ProcessEnded(-9) if made is None else None
        problem = _problem_of(asked, JobEnd(made, None, ended, stopped, killed=True, overrun=beyond), 10)
        return None if problem is None else (problem.reason_code, str(problem))

    assert reason(Made(1), StopReason.MEMORY) is None
    assert reason(None, StopReason.CANCELLED) is None
    assert reason(None, StopReason.TIMEOUT) == ("timeout", "takes took longer than its timeout, 5s")
    assert (reason(None, StopReason.MEMORY) or ("",))[0] == "memory_limit"


async def test_where_memory_cannot_be_watched_there_is_no_limit(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CAN_BE_WATCHED", False)
    worker = await opened(FLOW)
    assert (await worker.make("takes", config={"mib": 0}, memory_bytes=1)).outcome == "succeeded"
