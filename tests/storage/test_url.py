"""Stores by URL, and the file systems a local one may live on."""

from __future__ import annotations

from pathlib import Path

import pytest

from springline.paths import ObjectPath
from springline.storage.filesystems import filesystem_type, unsupported_filesystem
from springline.storage.gcs import EMULATOR_VARIABLE, GcsStore
from springline.storage.local import LocalStore
from springline.storage.port import IfAbsent, StoreMisconfigured
from springline.storage.url import open_store


async def test_file(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/with%20space")
    assert isinstance(store, LocalStore)
    await store.put(ObjectPath("a/b"), b"x", IfAbsent())
    assert (tmp_path / "with space/a/b").read_bytes() == b"x"
    local = open_store(f"file://localhost{tmp_path}")
    assert isinstance(local, LocalStore)
    assert local.root == tmp_path


async def test_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, "http://127.0.0.1:1")
    for url, bucket, prefix in [
        ("gs://lake", "lake", ""),
        ("gs://lake/", "lake", ""),
        ("gs://lake/a/b/", "lake", "a/b"),
        ("gs://my_bucket.example.com/a", "my_bucket.example.com", "a"),
    ]:
        store = open_store(url)
        assert isinstance(store, GcsStore)
        assert (store.bucket, store.prefix) == (bucket, prefix)
        await store.aclose()


def test_memory() -> None:
    assert open_store("memory://one") is open_store("memory://one")
    assert open_store("memory://one") is not open_store("memory://two")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "scheme"),
        ("/folder", "scheme"),
        ("s3://bucket", "scheme"),
        ("file:relative/folder", "absolute path"),
        ("file://folder/x", "three slashes"),
        ("file:///", "below the root"),
        ("file:///a?x=1", "no user, query or fragment"),
        ("file:///dev/null", "no folder"),
        ("file:///a%00b", "absolute path"),
        ("gs://", "name a bucket"),
        ("gs:///prefix", "name a bucket"),
        ("gs://bucket:80/prefix", "name a bucket"),
        ("gs://user@bucket/prefix", "no user"),
        ("gs://bucket/a/../b", "segments . and .."),
        ("memory://one/two", "no path"),
        ("http://[bad", "Invalid IPv6"),
    ],
)
def test_wrong_urls_are_explained(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, "http://127.0.0.1:1")
    with pytest.raises(StoreMisconfigured) as caught:
        open_store(url)
    message = str(caught.value)
    assert message.startswith(repr(url))
    assert words in message
    assert "file:///absolute/folder" in message


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /proc rw shared:5 - proc proc rw
40 22 0:40 / /mnt rw - xfs /dev/sdb rw
41 22 0:41 / /mnt/nfs rw master:2 - nfs4 server:/export rw
42 22 0:42 / /mnt/with\040space rw - cifs //server/share rw
43 22 0:43 / /mnt/twice rw - ext4 /dev/sdc rw
44 22 0:44 / /mnt/twice rw - fuse.sshfs host: rw
a line that means nothing
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/mnt", "xfs"),
        ("/mnt/nfsx", "xfs"),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/not/yet/there", "nfs4"),
        ("/mnt/with space/x", "cifs"),
        ("/mnt/twice/x", "fuse.sshfs"),
    ],
)
def test_filesystem_type(path: str, kind: str) -> None:
    assert filesystem_type(Path(path), MOUNTS) == kind


def test_network_file_systems_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr("springline.storage.filesystems._MOUNTS", mounts)
    assert unsupported_filesystem(Path("/mnt/nfs")) is None, "not known where there is no /proc"
    mounts.write_text(MOUNTS)
    for path, kind in [("/mnt/nfs/x", "nfs4"), ("/mnt/with space", "cifs"), ("/mnt/twice", "fuse.sshfs")]:
        assert unsupported_filesystem(Path(path)) == kind
    assert unsupported_filesystem(Path("/mnt/disk")) is None
