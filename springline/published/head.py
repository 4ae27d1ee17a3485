"""What is published: the pointer, and the manifest that it names.

See docs/formats.md#pointer, docs/formats.md#manifest, docs/protocol.md#reading-published.

A pointer that is gone, or an older one in its place, is recognised from what else there is: the record of a round names
the revision that the round was judged on, so that one must have been published, and so must whatever was published
before it. What cannot be told apart is a pointer that is one revision old and the moment before it was moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from springline import paths
from springline.checked import WrongChecksum, verify
from springline.paths import ObjectPath, orchestration_manifest, orchestration_manifest_id
from springline.published.manifest import (
    Checkpoint,
    DamagedManifest,
    Manifest,
    Pointer,
    decode_manifest,
    decode_pointer,
    encode,
    pointer_hash,
    published,
    with_checkpoint,
)
from springline.storage.damage import DamagedObject
from springline.storage.parallel import each
from springline.storage.port import ObjectStore, StoredObject, StoreRetry
from springline.storage.resolve import Other, put_once

LATER_ROUNDS = 2
"""How many rounds are looked at that must not be there, should one of their records be gone."""
MOVES = 10
"""How often the pointer may move while it is read."""
RESTORE_POINTER = (
    "rebuild in mode `full` with a list of `springline rebuild plan --from-rounds`: it folds all that was accepted"
)


class _JudgedOn(msgspec.Struct):
    """All that is of interest here of a round's record: the manifest (a path) that the round was judged on."""

    number: int
    begun_on: str | None = None


_judged_on = msgspec.json.Decoder(_JudgedOn).decode


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is stored: where, what it says, and the SHA-256 (hex) of its bytes."""

    path: ObjectPath
    manifest: Manifest
    sha256: str


@dataclass(frozen=True, slots=True)
class PublishedHead:
    """The published revision. `pointer`, its raw bytes and its version token are None for a legacy manifest.

    `manifest` has the greater epoch of pointer and manifest; `manifest_sha256` (hex) is over the stored bytes.
    """

    manifest: Manifest
    manifest_path: ObjectPath
    manifest_sha256: str
    pointer: Pointer | None = None
    pointer_raw: bytes | None = None
    pointer_version: str | None = None

    @property
    def pointer_hash(self) -> str | None:
        """What the successor of the pointer writes as `parent_pointer_hash`; None for a legacy manifest."""
        return None if self.pointer_raw is None else pointer_hash(self.pointer_raw)

    @property
    def is_ours(self) -> bool:
        """Whether this revision was published by us: it says what we need to know to go on from it."""
        return self.manifest.springline is not None


async def read_head(store: ObjectStore) -> PublishedHead | None:
    """Return what is published, or None if nothing ever was.

    Pointer, manifest, and the records of two rounds that must not be there, in three turns; without a pointer, the old
    mutable manifest counts. Raises `DamagedObject` if pointer or manifest is missing, unreadable, older than the
    ledger, or they are not of one mind; and what the store does.
    """
    return await read_head_of(store, await store.get(paths.orchestration_pointer()))


async def read_head_of(store: ObjectStore, stored: StoredObject | None) -> PublishedHead | None:
    """Return what a pointer that was just read publishes, or one that has taken its place. As `read_head`."""
    for _ in range(MOVES):
        head = await (_legacy_head(store) if stored is None else _head_of(store, stored))
        shown = await _later_than(store, head)
        if shown is None:
            return head
        # What shows it may have come since the pointer was read.
        before, stored = stored, await store.get(paths.orchestration_pointer())
        if (None if before is None else before.version) == (None if stored is None else stored.version):
            raise DamagedObject(paths.orchestration_pointer(), shown, RESTORE_POINTER)
    raise StoreRetry(f"{paths.orchestration_pointer()} moves faster than it is read")


async def _later_than(store: ObjectStore, head: PublishedHead | None) -> str | None:
    """Return what shows that something was published after `head`, None if nothing does."""
    if head is None or head.pointer is None:
        return await _ever_published(store)
    ours = head.manifest.springline
    if ours is None:
        return None  # The reference's revisions do not say which rounds they hold; whoever folds on them finds out.
    return await later_round(store, ours.rounds_folded, head.manifest.manifest_id)


async def later_round(store: ObjectStore, folded: int, manifest_id: str) -> str | None:
    """Return which round shows that more than manifest `manifest_id`, with the rounds up to `folded`, was published.

    At most one round is pending; those behind it were judged on later revisions. None if there is none.
    """
    for number, begun_on in await _begun_on(store, range(folded + 2, folded + 2 + LATER_ROUNDS)):
        if begun_on > manifest_id:
            return f"names manifest {manifest_id}, and round {number} was judged on the later {begun_on}"
    return None


async def _ever_published(store: ObjectStore) -> str | None:
    """Return what shows that there was a pointer, None if nothing does."""
    if await store.get(paths.orchestration_published()) is not None:
        return f"is missing, and {paths.orchestration_published()} says that it was there"
    for number, begun_on in await _begun_on(store, range(1, 2 + LATER_ROUNDS)):
        return f"is missing, and round {number} was judged on manifest {begun_on}"
    return None


async def _begun_on(store: ObjectStore, numbers: Iterable[int]) -> list[tuple[int, str]]:
    """Return those of some rounds that were judged on a published revision, with its manifest id."""

    async def read(number: int) -> tuple[int, str] | None:
        stored = await store.get(paths.orchestration_round(number))
        if stored is None:
            return None
        try:
            verify(stored.data)
            record = _judged_on(stored.data)
        except (WrongChecksum, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # Whoever needs what it holds names it.
        begun_on = record.begun_on if record.number == number else None
        manifest_id = None if begun_on is None else paths.parse_orchestration_manifest(begun_on)
        return None if manifest_id is None else (number, manifest_id)

    return [one for one in await each(read, numbers) if one is not None]


async def _head_of(store: ObjectStore, stored: StoredObject) -> PublishedHead:
    path = paths.orchestration_pointer()
    try:
        pointer = decode_pointer(stored.data, path)
    except DamagedManifest as error:
        raise DamagedObject(error.path, f"is no pointer: {error.why}") from error
    found = await read_manifest(store, pointer.manifest_path)
    if found is None:
        raise DamagedObject(pointer.manifest_path, "is missing, and the pointer names it")
    if pointer.manifest_sha256 is not None and found.sha256 != pointer.manifest_sha256:
        why = f"has the SHA-256 {found.sha256}, and the pointer names {pointer.manifest_sha256}"
        raise DamagedObject(pointer.manifest_path, why)
    try:
        manifest = published(pointer, found.manifest)
    except DamagedManifest as error:
        raise DamagedObject(error.path, f"contradicts the published revision: {error.why}") from error
    return PublishedHead(manifest, found.path, found.sha256, pointer, stored.data, stored.version)


async def _legacy_head(store: ObjectStore) -> PublishedHead | None:
    found = await read_manifest(store, paths.orchestration_legacy_manifest())
    return None if found is None else PublishedHead(found.manifest, found.path, found.sha256)


async def read_manifest(store: ObjectStore, path: str) -> StoredManifest | None:
    """Return the manifest at `path`, or None if there is none. Raises `DamagedObject`, and what the store does.

    The path is what another object says, and may be anything.
    """
    try:
        checked = paths.relative_path(path)
    except paths.InvalidPath as error:
        raise DamagedObject(path, f"cannot be the path of a manifest: {error}") from error
    stored = await store.get(checked)
    return None if stored is None else parse_manifest(checked, stored.data)


def parse_manifest(path: ObjectPath, data: bytes) -> StoredManifest:
    """Return the manifest that was read from `path`. Raises `DamagedObject`."""
    try:
        manifest = decode_manifest(data, path)
    except DamagedManifest as error:
        raise DamagedObject(path, f"is no manifest that can be read: {error.why}") from error
    named = paths.parse_orchestration_manifest(path)
    if manifest.springline is not None and named is not None and named != manifest.manifest_id:
        raise DamagedObject(path, f"is manifest {manifest.manifest_id}, and not the one of its name")
    return StoredManifest(path, manifest, hashlib.sha256(data).hexdigest())


TRIED_IN_TURN = 16
"""Ids that are tried one after the other: an earlier attempt's manifest is found among them."""
LEAPS = 3


async def write_manifest(store: ObjectStore, template: Manifest, *, is_base: bool) -> StoredManifest:
    """Write `template`, whose id is that of the head it follows, under a later id, and return it as it stands.

    `is_base`: its base alone is the state, so it is a checkpoint, and names itself as one. Safe to repeat: a manifest
    that an earlier attempt wrote is found, if it does not lie behind many orphans; then a second one is written, and
    whichever is published counts. Raises what the store does, `StoreRetry` if others keep taking the ids.
    """
    number = int(template.manifest_id) + 1
    for _ in range(LEAPS):
        for tried in range(number, number + TRIED_IN_TURN):
            path, manifest = _named(template, tried, is_base)
            data = encode(manifest)
            if not isinstance(await put_once(store, path, data), Other):
                return StoredManifest(path, manifest, hashlib.sha256(data).hexdigest())
        # The last that is taken may be what an earlier attempt of this wrote.
        number = await free_number(store, number + TRIED_IN_TURN) - 1
    raise StoreRetry(f"manifest ids from {orchestration_manifest_id(number)} on are taken faster than they are found")


async def free_number(store: ObjectStore, first: int) -> int:
    """Return a number from `first` on that no manifest has, and that follows on one that is taken, if any is.

    Takes about twice the logarithm of how many are taken in requests; nothing is listed.
    """
    taken, step = first - 1, 1
    while await _is_taken(store, taken + step):
        taken, step = taken + step, step * 2
    free = taken + step
    while free - taken > 1:
        middle = (taken + free) // 2
        if await _is_taken(store, middle):
            taken = middle
        else:
            free = middle
    return free


async def _is_taken(store: ObjectStore, number: int) -> bool:
    return await store.head(orchestration_manifest(orchestration_manifest_id(number))) is not None


def _named(template: Manifest, number: int, is_base: bool) -> tuple[ObjectPath, Manifest]:
    manifest_id = orchestration_manifest_id(number)
    path, ours = orchestration_manifest(manifest_id), template.springline
    manifest = replace(template, manifest_id=manifest_id)
    if is_base and ours is not None:
        new = Checkpoint(path, manifest.watermarks.last_committed_event_id, ours.events.count)
        manifest = replace(manifest, springline=replace(ours, checkpoints=with_checkpoint(ours.checkpoints, new)))
    return path, manifest
