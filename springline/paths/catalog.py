"""Paths of the catalog's own domains: ledger, state, snapshots, manifests, locks.

See docs/formats.md#locks, docs/formats.md#reserved-names.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from springline.paths.components import MAX_U64, canonical_ulid, made_by
from springline.paths.scope import InvalidPath, ObjectPath, count, segment


class CatalogDomain(StrEnum):
    """The catalog's domains, by the names they have today."""

    CATALOG = "catalog"
    LINEAGE = "lineage"
    EXECUTIONS = "executions"
    SEARCH = "search"


_LEGACY: Final = {
    "core": CatalogDomain.CATALOG,
    "execution": CatalogDomain.EXECUTIONS,
    "governance": CatalogDomain.SEARCH,
}
_EVENT = re.compile(r"ledger/(catalog|lineage|executions|search)/([^/]+)\.json")
_STATE = re.compile(r"state/(catalog|lineage|executions|search)/snapshot_v(0|[1-9][0-9]{0,19})_([^/]+)\.parquet")


def catalog_domain(name: str) -> CatalogDomain:
    """Return the domain of a name, which may be a legacy one; raises `InvalidPath` for any other.

    See docs/formats.md#reserved-names.
    """
    try:
        return _LEGACY.get(name) or CatalogDomain(name)
    except ValueError:
        known = ", ".join(domain.value for domain in CatalogDomain)
        raise InvalidPath("domain", name, f"give one of {known}") from None


def catalog_event(domain: CatalogDomain, event_id: str) -> ObjectPath:
    """Return the name of a catalog event, which lies in no folder of a day."""
    return ObjectPath(f"ledger/{domain.value}/{segment('event_id', event_id)}.json")


def parse_catalog_event(path: str) -> tuple[CatalogDomain, str] | None:
    """Return domain and event id in a catalog event's path, or None for another path."""
    match = _EVENT.fullmatch(path)
    if match is None:
        return None
    domain = CatalogDomain(match[1])
    return (domain, match[2]) if made_by(path, catalog_event, domain, match[2]) else None


def catalog_sequence(domain: CatalogDomain) -> ObjectPath:
    """Return the name of a domain's sequence counter."""
    return ObjectPath(f"sequence/{domain.value}.sequence.json")


def catalog_quarantine(domain: CatalogDomain, event_id: str) -> ObjectPath:
    """Return the name of the record of an event in quarantine."""
    return ObjectPath(f"quarantine/{domain.value}/{segment('event_id', event_id)}.json")


def catalog_state(domain: CatalogDomain, version: int, ulid: str) -> ObjectPath:
    """Return the name of a domain's state file; `version` from 0."""
    number = count("version", version, most=MAX_U64)
    return ObjectPath(f"state/{domain.value}/snapshot_v{number}_{canonical_ulid('ulid', ulid)}.parquet")


def parse_catalog_state(path: str) -> tuple[CatalogDomain, int, str] | None:
    """Return domain, version and ULID in a state file's path, or None for another path."""
    match = _STATE.fullmatch(path)
    if match is None:
        return None
    domain, version = CatalogDomain(match[1]), int(match[2])
    return (domain, version, match[3]) if made_by(path, catalog_state, domain, version, match[3]) else None


def catalog_snapshot_prefix(domain: CatalogDomain, version: int) -> ObjectPath:
    """Return the prefix, with its trailing slash, of a published snapshot's files; `version` from 0."""
    return ObjectPath(f"snapshots/{domain.value}/v{count('version', version, most=MAX_U64)}/")


def catalog_anti_entropy_cursor(domain: CatalogDomain) -> ObjectPath:
    """Return the name of the cursor of a domain's anti-entropy scan."""
    return ObjectPath(f"state/anti_entropy/{domain.value}/cursor.json")


def catalog_root_manifest() -> ObjectPath:
    """Return the name of the catalog's root manifest."""
    return ObjectPath("manifests/root.manifest.json")


def catalog_pointer(domain: CatalogDomain) -> ObjectPath:
    """Return the name of a domain's manifest pointer."""
    return ObjectPath(f"manifests/{domain.value}.pointer.json")


def catalog_manifest(domain: CatalogDomain, manifest_id: str) -> ObjectPath:
    """Return the name of a domain's manifest snapshot."""
    return ObjectPath(f"manifests/{domain.value}/{segment('manifest_id', manifest_id)}.json")


def catalog_lock(domain: CatalogDomain) -> ObjectPath:
    """Return the name of a domain's lock, which the reference takes inside the scope, unlike its others.

    See docs/formats.md#locks.
    """
    return ObjectPath(f"locks/{domain.value}.lock.json")
