"""Pointer and manifest: the reference's fields as it writes them, ours beside them, and damage named."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from springline.checked import with_checksum
from springline.projection.digest import Digest
from springline.projection.schema import REFERENCE_TABLES
from springline.published.files import Artifact, RowCounts, TableFile, TablePaths, checksum_of
from springline.published.manifest import (
    EPOCH,
    NO_MANIFEST,
    Adopted,
    BaseSnapshot,
    Checkpoint,
    ConfigSection,
    DamagedManifest,
    Delta,
    DigestSection,
    EventRange,
    EventsSection,
    InvalidSuccession,
    L0Limits,
    Manifest,
    Pointer,
    PublicationWitness,
    SpringlineSection,
    Watermarks,
    Witness,
    check_manifest_succession,
    check_pointer_succession,
    decode_manifest,
    decode_pointer,
    encode,
    next_manifest_id,
    pointer_hash,
    published,
)

AT = "2025-01-15T10:00:00.250Z"
HASH = "0" * 64
ARTIFACT = {"path": "a/b", "checksum_sha256": f"sha256:{HASH}", "byte_size": 7}

# A manifest with every field of docs/formats.md#manifest, docs/formats.md#table-files and docs/formats.md#watermarks,
# as the reference writes it.
REFERENCE: dict[str, Any] = {
    "manifest_id": "00000000000000000007",
    "epoch": 3,
    "previous_manifest_path": "state/orchestration/manifests/00000000000000000006.json",
    "schema_version": 2,
    "revision_ulid": "01JHKN3D7P3QPWXM8D5VG33JNG",
    "published_at": "2025-01-15T10:00:00.123456789Z",
    "watermarks": {
        "last_committed_event_id": "01JHKN3D7P3QPWXM8D5VG33JNF",
        "last_visible_event_id": "01JHKN3D7P3QPWXM8D5VG33JNF",
        "events_processed_through": "01JHKN3D7P3QPWXM8D5VG33JNF",
        "last_processed_file": "ledger/orchestration/2025-01-15/01JHKN3D7P3QPWXM8D5VG33JNF.json",
        "last_processed_at": AT,
    },
    "base_snapshot": {
        "snapshot_id": "01JHKN3D7P3QPWXM8D5VG33JNE",
        "published_at": AT,
        "tables": {"runs": ARTIFACT, "catalog_run_index_by_org": {"acme": ARTIFACT}, "timers": ARTIFACT},
        "delete_channel_version": 1,
    },
    "l0_deltas": [
        {
            "delta_id": "01JHKN3D7P3QPWXM8D5VG33JND",
            "created_at": AT,
            "event_range": {"from_event": "a", "to_event": "b", "event_count": 2},
            "tables": {"tasks": ARTIFACT},
            "row_counts": {name: 0 for name in REFERENCE_TABLES} | {"tasks": 5},
            "deletions": ARTIFACT,
            "deletion_count": 1,
        }
    ],
    "l0_count": 1,
    "l0_limits": {"max_count": 10, "max_rows": 100000, "max_age_seconds": 300},
    "publication_witness": {"events": [{"path": "ledger/e", "checksum_sha256": f"sha256:{HASH}"}]},
}


def text_of(value: Any) -> bytes:
    """Return a document as a version that wrote no checksums would have written it."""
    value.pop("checksum", None)
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def changed(path: str, value: Any) -> bytes:
    """Return the reference's manifest with the value at a dotted path replaced, or left out if it is `...`."""
    document = orjson.loads(text_of(REFERENCE))
    *way, last = path.split(".")
    place = document
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return text_of(document)


def delta_of(number: int) -> Delta:
    return Delta(
        delta_id=f"delta {number}",
        created_at=AT,
        event_range=EventRange("a", "b", 2),
        tables=TablePaths.of({"runs": Artifact.of("p", b"x")}, {}),
        row_counts=RowCounts(runs=number),
        deletions=Artifact.of("d", b""),
        buckets=Artifact.of("k", b"{}"),
    )


def ours() -> Manifest:
    digest = Digest()
    return Manifest(
        manifest_id="00000000000000000002",
        epoch=1,
        schema_version=2,
        revision_ulid="r",
        published_at=AT,
        watermarks=Watermarks(last_committed_event_id="e"),
        base_snapshot=BaseSnapshot(),
        l0_deltas=[delta_of(1), delta_of(2)],
        l0_count=2,
        l0_limits=L0Limits(),
        publication_witness=PublicationWitness([Witness("p", "sha256:x")]),
        springline=SpringlineSection(
            config=ConfigSection("f", 30),
            digest=DigestSection.of(digest.tables()),
            events=EventsSection(2, Artifact.of("i", b"{}")),
            rounds_folded=4,
            retention_frontier_ms=5,
            checkpoints=[Checkpoint("m", None, 0)],
            bridge=delta_of(3),
            adopted=Adopted("m", "w"),
        ),
    )


def test_a_manifest_of_the_reference_is_written_again_byte_for_byte() -> None:
    data = text_of(REFERENCE)
    manifest = decode_manifest(data, "m")
    assert encode(manifest) == data
    assert manifest.springline is None
    assert manifest.l0_deltas[0].rows == 6


def test_our_manifest_is_the_references_with_more_and_comes_back() -> None:
    manifest = ours()
    data = encode(manifest)
    assert decode_manifest(data, "m") == manifest
    assert encode(decode_manifest(data, "m")) == data
    members = [*REFERENCE, "springline", "checksum"]
    assert list(orjson.loads(data)) == [name for name in members if name != "previous_manifest_path"]
    assert data == with_checksum(text_of(orjson.loads(data)))


def test_a_fresh_manifest_has_no_base_and_the_epoch_as_its_time() -> None:
    fresh = orjson.loads(encode(msgspec.structs.replace(ours(), l0_deltas=[], l0_count=0)))
    assert fresh["base_snapshot"] == {"published_at": EPOCH, "tables": {}, "delete_channel_version": 0}
    assert fresh["watermarks"]["last_processed_at"] == EPOCH
    assert (fresh["l0_deltas"], fresh["l0_count"]) == ([], 0)


def test_unknown_fields_are_passed_over() -> None:
    document = orjson.loads(text_of(REFERENCE)) | {"colour": "red"}
    document["l0_deltas"][0]["tables"]["walks"] = ARTIFACT
    assert decode_manifest(text_of(document), "m") == decode_manifest(text_of(REFERENCE), "m")


def test_what_the_oldest_manifests_leave_out_has_a_default() -> None:
    document = orjson.loads(text_of(REFERENCE)) | {"schema_version": 1}
    for name in ("manifest_id", "epoch", "previous_manifest_path", "publication_witness"):
        del document[name]
    del document["base_snapshot"]["delete_channel_version"]
    del document["l0_deltas"][0]["deletions"]
    del document["l0_deltas"][0]["deletion_count"]
    manifest = decode_manifest(text_of(document), "m")
    assert (manifest.manifest_id, manifest.epoch, manifest.previous_manifest_path) == (NO_MANIFEST, 0, None)
    assert manifest.l0_deltas[0].rows == 5


def test_files_are_listed_by_table_and_organisation() -> None:
    tables = msgspec.json.decode(
        orjson.dumps({"tasks": ARTIFACT, "runs": "old/runs", "catalog_run_index_by_org": {"b": "q", "a": ARTIFACT}}),
        type=TablePaths,
    )
    assert list(tables.files()) == [
        TableFile("runs", "old/runs", None, None),
        TableFile("tasks", "a/b", HASH, 7),
        TableFile("catalog_run_index", "a/b", HASH, 7, "a"),
        TableFile("catalog_run_index", "q", None, None, "b"),
    ]


def test_every_table_has_its_place_among_the_files() -> None:
    artifact = Artifact.of("p", b"bytes")
    assert (artifact.checksum_sha256, artifact.byte_size) == (checksum_of(b"bytes"), 5)
    paths = TablePaths.of(
        {name: artifact for name in REFERENCE_TABLES if name != "catalog_run_index"}, {"acme": artifact}
    )
    assert [file.table for file in paths.files()] == list(REFERENCE_TABLES)
    counts = RowCounts(**{name: number for number, name in enumerate(REFERENCE_TABLES)})
    assert counts.total == sum(range(17))
    assert list(orjson.loads(msgspec.json.encode(RowCounts()))) == list(REFERENCE_TABLES)
    for name in ("catalog_run_index", "walks"):
        with pytest.raises(ValueError, match=name):
            TablePaths.of({name: artifact}, {})


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("l0_count", 2, "`l0_count` is 2, but `l0_deltas` has 1"),
        ("schema_version", 3, "`schema_version` is 3; known are 1 and 2"),
        ("schema_version", 0, "`schema_version` is 0; known are 1 and 2"),
        ("l0_deltas.0.deletions", ..., "delta 01JHKN3D7P3QPWXM8D5VG33JND has no `deletions`"),
        ("base_snapshot.delete_channel_version", 0, "base 01JHKN3D7P3QPWXM8D5VG33JNE has no delete channel"),
        ("l0_deltas.0.event_range.to_event", 5, "$.l0_deltas[0].event_range.to_event"),
        ("l0_deltas.0.tables.tasks.byte_size", -1, "$.l0_deltas[0].tables.tasks.byte_size"),
        ("l0_deltas.0.tables.tasks.checksum_sha256", "sha256:x", "$.l0_deltas[0].tables.tasks.checksum_sha256"),
        ("watermarks", ..., "`watermarks`"),
        ("published_at", "yesterday", "$.published_at"),
        ("manifest_id", "7", "$.manifest_id"),
        ("epoch", -1, "$.epoch"),
        ("springline", {"format": 2}, "`springline.format` is 2, we read 1: upgrade"),
        ("springline", {"format": 1}, "$.springline"),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_path_and_the_field(path: str, value: Any, why: str) -> None:
    with pytest.raises(DamagedManifest) as caught:
        decode_manifest(changed(path, value), "state/m.json")
    assert str(caught.value).startswith("state/m.json: ")
    assert why in str(caught.value)


def test_a_digest_without_a_table_is_refused() -> None:
    document = orjson.loads(encode(ours()))
    del document["springline"]["digest"]["tables"]["timers"]
    with pytest.raises(DamagedManifest, match="17 tables"):
        decode_manifest(text_of(document), "m")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff\xfe", b'{"manifest_path": "\xff"}', b"{"])
def test_bytes_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedManifest, match=r"^p: "):
        decode_pointer(data, "p")
    with pytest.raises(DamagedManifest, match=r"^p: "):
        decode_manifest(data, "p")


# Succession.


def pointer_of(number: int, epoch: int = 0, parent: str | None = None) -> Pointer:
    manifest_id = f"{number:020}"
    path = f"state/orchestration/manifests/{manifest_id}.json"
    return Pointer(manifest_id=manifest_id, manifest_path=path, epoch=epoch, parent_pointer_hash=parent, updated_at=AT)


def test_a_pointer_is_written_as_the_reference_does() -> None:
    pointer = pointer_of(1, 2, "sha256:x")
    the_references = {
        "manifest_id": "00000000000000000001",
        "manifest_path": "state/orchestration/manifests/00000000000000000001.json",
        "epoch": 2,
        "parent_pointer_hash": "sha256:x",
        "updated_at": AT,
    }
    assert encode(pointer) == with_checksum(text_of(the_references))
    assert encode(msgspec.structs.replace(pointer, manifest_sha256="00")) == with_checksum(
        text_of({**the_references, "manifest_sha256": "00"})
    )
    assert decode_pointer(text_of(the_references), "p") == pointer
    assert decode_pointer(encode(pointer), "p") == pointer
    assert "parent_pointer_hash" not in orjson.loads(encode(pointer_of(1)))
    assert decode_pointer(b'{"manifest_path": "m", "updated_at": "%s"}' % AT.encode(), "p").manifest_id == NO_MANIFEST


def test_a_pointer_follows_only_the_one_it_names() -> None:
    previous = pointer_of(4, 2)
    raw = encode(previous)
    check_pointer_succession(pointer_of(5, 2, pointer_hash(raw)), previous, raw)
    for wrong, why in (
        (pointer_of(4, 2, pointer_hash(raw)), "does not lie above"),
        (pointer_of(3, 2, pointer_hash(raw)), "does not lie above"),
        (pointer_of(5, 1, pointer_hash(raw)), "epoch 1 lies below 2"),
        (pointer_of(5, 2, pointer_hash(raw + b" ")), "parent is sha256:"),
        (pointer_of(5, 2), "parent is None"),
    ):
        with pytest.raises(InvalidSuccession, match=why):
            check_pointer_succession(wrong, previous, raw)


def test_a_manifest_follows_only_a_lower_one() -> None:
    previous = ours()
    following = msgspec.structs.replace(previous, manifest_id=next_manifest_id(previous.manifest_id))
    check_manifest_succession(following, previous)
    with pytest.raises(InvalidSuccession, match="manifest's id"):
        check_manifest_succession(previous, previous)
    with pytest.raises(InvalidSuccession, match="manifest's epoch 0 lies below 1"):
        check_manifest_succession(msgspec.structs.replace(following, epoch=0), previous)


def test_ids_of_manifests_count_up() -> None:
    assert next_manifest_id(NO_MANIFEST) == "00000000000000000001"
    assert next_manifest_id("00000000000000000099") == "00000000000000000100"
    with pytest.raises(ValueError, match="manifest number"):
        next_manifest_id(str(2**64 - 1))


def test_pointer_and_manifest_must_name_one_revision() -> None:
    manifest = ours()
    assert published(pointer_of(2, 0), manifest).epoch == 1
    assert published(pointer_of(2, 9), manifest) == msgspec.structs.replace(manifest, epoch=9)
    with pytest.raises(DamagedManifest, match="but the pointer has 00000000000000000003"):
        published(pointer_of(3), manifest)
    elsewhere = msgspec.structs.replace(pointer_of(2), manifest_path="state/orchestration/manifests/2.json")
    with pytest.raises(DamagedManifest, match="`manifest_path` is"):
        published(elsewhere, manifest)
