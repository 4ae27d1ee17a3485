from __future__ import annotations

import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from springline.local import binaries
from springline.local.binaries import fake_gcs_server, main, temporal_cli
from springline.local.cache import Cache
from springline.local.run import ToolFailed
from tests.unit.local.conftest import Script

FITTING = 'echo "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"'
TOO_OLD = 'echo "temporal version 1.1.0 (Server 1.25.2, UI 2.31.2)"'
# A `go` that knows its version and "builds" by writing what GO_BUILDS names.
GO = """
case "$1" in
  version) echo "go version go1.26.6 linux/amd64" ;;
  install) printf '#!/bin/sh\\n%s\\n' "$BUILT" > "$GOBIN/$PROGRAM"; chmod 755 "$GOBIN/$PROGRAM" ;;
esac
"""


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_DOWNLOAD_HOST", "http://127.0.0.1:1")


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A download site on the loopback interface: path -> archive."""
    served: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.get(urlsplit(self.path).path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_arguments: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(binaries, "_DOWNLOAD_HOST", f"http://127.0.0.1:{server.server_port}")
        yield served
        server.shutdown()


def archive_of(program: str) -> bytes:
    content = f"#!/bin/sh\n{program}\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, body in (("LICENSE", b"text"), ("temporal", content)):
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return packed.getvalue()


def test_the_explicit_path_wins(script: Script, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    script("temporal", FITTING)
    mine = script("my-temporal", TOO_OLD)
    monkeypatch.setenv("SPRINGLINE_TEMPORAL_CLI", str(mine))
    assert temporal_cli(cache) == mine


@pytest.mark.parametrize("kind", ["missing", "folder", "not executable"])
def test_a_wrong_explicit_path_is_an_error(
    kind: str, script: Script, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("temporal", FITTING)
    path = tmp_path / "wrong"
    if kind == "folder":
        path.mkdir()
    elif kind == "not executable":
        path.touch(0o644)
    monkeypatch.setenv("SPRINGLINE_TEMPORAL_CLI", str(path))
    with pytest.raises(ToolFailed, match=r"SPRINGLINE_TEMPORAL_CLI.*is not an executable file"):
        temporal_cli(cache)


def test_a_program_on_path_is_used_if_its_version_fits(script: Script, cache: Cache) -> None:
    on_path = script("temporal", FITTING)
    assert temporal_cli(cache) == on_path


def test_a_program_on_path_that_does_not_fit_is_passed_over_and_one_is_built(
    script: Script, cache: Cache, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script("temporal", TOO_OLD)
    script("go", GO)
    monkeypatch.setenv("BUILT", FITTING)
    monkeypatch.setenv("PROGRAM", "temporal")
    path = temporal_cli(cache)
    assert path.parent.parent == cache.root
    assert binaries.temporal_server_version(path) == (1, 29, 1)
    assert any("passed over" in line for line in said)
    assert any("no download" in line for line in said)
    # Once in the cache, neither a download nor a build is tried.
    said.clear()
    assert temporal_cli(cache) == path
    assert not any("building" in line or "download" in line for line in said)


def test_a_download_is_preferred_to_a_build(cache: Cache, bin_folder: Path, download: dict[str, bytes]) -> None:
    download["/cli/archive/v1.5.1"] = archive_of(FITTING)
    path = temporal_cli(cache)
    assert binaries.temporal_server_version(path) == (1, 29, 1)
    assert [file.name for file in path.parent.iterdir()] == ["temporal"]


def test_a_download_of_another_version_is_not_used(
    cache: Cache, script: Script, said: list[str], download: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    download["/cli/archive/v1.5.1"] = archive_of(TOO_OLD)
    script("go", GO)
    monkeypatch.setenv("BUILT", FITTING)
    monkeypatch.setenv("PROGRAM", "temporal")
    assert binaries.temporal_server_version(temporal_cli(cache)) == (1, 29, 1)
    assert any("got server 1.25.2" in line for line in said)


def test_a_build_of_another_version_is_an_error(cache: Cache, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script("go", GO)
    monkeypatch.setenv("BUILT", TOO_OLD)
    monkeypatch.setenv("PROGRAM", "temporal")
    with pytest.raises(ToolFailed, match=r"expected .* server 1\.29\.1, got server 1\.25\.2"):
        temporal_cli(cache)
    assert not list(cache.root.glob("temporal-*"))


def test_a_failing_build_says_what_the_tool_said(cache: Cache, script: Script) -> None:
    script("go", 'if [ "$1" = version ]; then echo go version go1.26.6; else echo module not found >&2; exit 3; fi')
    with pytest.raises(ToolFailed, match="ended with code 3:\nmodule not found"):
        fake_gcs_server(cache)


def test_the_emulator_is_known_by_its_build_information(
    cache: Cache, script: Script, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = "# mod\tgithub.com/fsouza/fake-gcs-server\tv1.56.1"
    on_path = script("fake-gcs-server", fits)
    assert fake_gcs_server(cache) == on_path
    script("fake-gcs-server", "# mod\tgithub.com/fsouza/fake-gcs-server\tv1.40.0")
    script("go", GO)
    monkeypatch.setenv("BUILT", fits)
    monkeypatch.setenv("PROGRAM", "fake-gcs-server")
    assert fake_gcs_server(cache).parent.parent == cache.root
    assert any("passed over" in line for line in said)


def test_the_command_prints_paths_only_on_request(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPRINGLINE_CACHE_DIR", str(tmp_path / "cache"))
    temporal = script("temporal", FITTING)
    assert main(["temporal", "--print-path"]) == 0
    assert capsys.readouterr().out == f"{temporal}\n"
    assert main(["temporal"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_fails_with_a_reason(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPRINGLINE_CACHE_DIR", str(tmp_path / "cache"))
    script("go", 'if [ "$1" = version ]; then echo go version go1.26.6; else exit 1; fi')
    assert main(["temporal"]) == 4
    assert "temporal: building github.com/temporalio/cli" in capsys.readouterr().err
