from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from springline.local import binaries, testserver
from springline.local.cache import Cache
from springline.local.jars import Jar, check_jars
from springline.local.run import ToolFailed, output_of
from springline.local.testserver import pinned_jars, write_script
from tests.unit.local.conftest import Script

JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(b"good").hexdigest())


def test_every_jar_is_pinned_once_and_the_server_is_among_them() -> None:
    jars = pinned_jars()
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)
    (server,) = [jar for jar in jars if jar.artifact == "temporal-test-server"]
    assert server.version == testserver.TEST_SERVER_VERSION
    assert server.location == (
        f"io/temporal/temporal-test-server/{server.version}/temporal-test-server-{server.version}.jar"
    )


def test_jars_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=r"thing-1\.0\.jar of the test server was not fetched"):
        check_jars([JAR], tmp_path, what="the test server")
    (tmp_path / "thing-1.0.jar").write_bytes(b"bad")
    with pytest.raises(ToolFailed, match=r"thing-1\.0\.jar of the test server has SHA-256"):
        check_jars([JAR], tmp_path, what="the test server")
    (tmp_path / "thing-1.0.jar").write_bytes(b"good")
    (tmp_path / "stranger.jar").write_bytes(b"?")
    check_jars([JAR], tmp_path, what="the test server")
    assert [file.name for file in tmp_path.iterdir()] == ["thing-1.0.jar"]


def test_maven_is_used_where_it_is_and_its_jars_are_checked(
    script: Script, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testserver, "pinned_jars", lambda: [JAR])
    script("java", "echo 'version \"17.0.1\"' >&2")
    script(
        "mvn",
        'for a in "$@"; do case "$a" in -DoutputDirectory=*) out=${a#*=} ;; esac; done; '
        'printf good > "$out/thing-1.0.jar"',
    )
    path = binaries.test_server(cache)
    assert sorted(file.name for file in path.parent.iterdir()) == ["java-path", "lib", "temporal-test-server"]


def test_the_script_runs_the_server_with_its_arguments(
    script: Script, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    java = script("java of mine", 'printf "%s\\n" "$@"')
    write_script(folder, java)
    said = output_of([folder / "temporal-test-server", "7233", "--enable-time-skipping"])
    assert said is not None
    assert said.splitlines()[-5:] == [
        "-cp",
        f"{folder}/lib/*",
        "io.temporal.testserver.TestServer",
        "7233",
        "--enable-time-skipping",
    ]


def test_a_server_whose_java_was_removed_is_prepared_anew(
    script: Script, cache: Cache, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[Path] = []

    def build(folder: Path, _cache: Cache) -> None:
        builds.append(folder)
        write_script(folder, script("java", "exit 0"))

    monkeypatch.setattr(binaries, "build_test_server", build)
    first = binaries.test_server(cache)
    assert binaries.test_server(cache) == first
    assert len(builds) == 1
    script("java", "").unlink()
    assert binaries.test_server(cache) == first
    assert len(builds) == 2
    assert any("Java" in line and "gone" in line for line in said)
