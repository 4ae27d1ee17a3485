from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from springline.local.cache import Cache, cache_root


def _build_slowly(root: str, log: str) -> None:
    def build(folder: Path) -> None:
        with Path(log).open("a") as handle:
            handle.write("built\n")
        time.sleep(0.3)
        (folder / "thing").write_text("whole")

    found = Cache(Path(root), lambda _line: None).obtain("thing-1", build)
    assert (found / "thing").read_text() == "whole"


def test_processes_that_want_the_same_thing_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    several = [context.Process(target=_build_slowly, args=(str(tmp_path / "cache"), str(log))) for _ in range(3)]
    for process in several:
        process.start()
    for process in several:
        process.join(60)
    assert [process.exitcode for process in several] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_a_failed_build_leaves_nothing_and_can_be_tried_again(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.obtain("thing-1", fail)
    assert not cache.path("thing-1").exists()
    assert not any((cache.root / "unfinished").iterdir())
    assert cache.obtain("thing-1", lambda folder: (folder / "thing").touch()) == cache.path("thing-1")


def test_what_a_killed_build_left_is_removed_by_the_next(cache: Cache) -> None:
    left_over = cache.root / "unfinished" / "thing-1.abc"
    left_over.mkdir(parents=True)
    cache.obtain("thing-1", lambda folder: (folder / "thing").touch())
    assert not left_over.exists()


def test_what_is_there_is_not_built_again(cache: Cache) -> None:
    cache.obtain("thing-1", lambda folder: (folder / "thing").touch())

    def never(_folder: Path) -> None:
        raise AssertionError("built again")

    cache.obtain("thing-1", never)
    cache.discard("thing-1")
    with pytest.raises(AssertionError):
        cache.obtain("thing-1", never)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SPRINGLINE_CACHE_DIR": "/explicit", "XDG_CACHE_HOME": "/xdg"}, "/explicit"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/springline"),
        ({"XDG_CACHE_HOME": "relative/is/invalid"}, "/home/somebody/.cache/springline"),
        ({}, "/home/somebody/.cache/springline"),
    ],
)
def test_the_cache_is_where_the_user_wants_it(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPRINGLINE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)
