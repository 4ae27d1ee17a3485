"""What may be asked of a backfill, judged by itself and by a manifest, up to the event that creates it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from springline import bounds
from springline.control.admission.cases import invalid
from springline.control.runs.planning import CannotPlan, plan_tasks
from springline.definitions.backfills import (
    KEYS_FILTER,
    MOST_LISTED,
    MOST_LISTED_BYTES,
    BadChoice,
    Order,
    PartitionsAsked,
    Span,
    backfilled_assets,
    chosen_partitions,
    places_of,
)
from springline.definitions.manifest import DeployedManifest
from springline.definitions.partitions import MAX_PARTITION_KEY
from springline.errors import Code, Refused, refused
from springline.ledger.events import BackfillCreated
from springline.ledger.identifiers import backfill_id_of
from springline.ledger.json_text import canonical_json
from springline.ledger.member import BackfillMember
from springline.ledger.nested import ExplicitSelector, FilterSelector, RangeSelector
from springline.ledger.timestamps import format_ms
from springline.misfits import field_of, misfit
from springline.published.snapshot import StateSnapshot
from springline.runs.requests import MAX_PRIORITY, MAX_TERM, MAX_TERMS, check_made_without
from springline.staleness.choosing import StaleCount, chosen_stale
from springline.staleness.judging import REASONS
from springline.staleness.reading import AssetStands

MAX_ASKED: Final = 100_000
"""Keys that one request may name."""
MAX_CHUNK: Final = 500
MAX_CONCURRENT: Final = 1_000
CHUNK, CONCURRENT, PRIORITY = 10, 2, -10
"""What a backfill has that says nothing else. Its runs wait behind all that are asked for without a priority."""
MAX_REQUEST_ID: Final = 200
_SHOWN: Final = 10

StaleReason = Literal[
    "NEVER_MATERIALIZED", "CODE_CHANGED", "UPSTREAM_NEVER_MATERIALIZED", "UPSTREAM_CHANGED", "FRESHNESS_POLICY"
]
_Key = Annotated[StrictStr, Field(max_length=MAX_PARTITION_KEY)]


class BackfillAsked(BaseModel):
    """A backfill that is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    select: Annotated[list[Annotated[StrictStr, Field(max_length=MAX_TERM)]], Field(max_length=MAX_TERMS)] = Field(
        description="Assets: `raw_flights`; `*delays` with all that it depends on.",
        json_schema_extra=bounds.judged("At least one, of assets that are deployed and have the same partitions."),
    )
    partitions: Annotated[list[_Key], Field(max_length=MAX_ASKED)] | None = Field(
        default=None,
        description="Keys of partitions, in any order.",
        json_schema_extra=bounds.judged(
            "Each is a partition of the assets. Given, or else start, end or match, or all, or stale."
        ),
    )
    start: _Key | None = Field(
        default=None,
        description="The first partition of a range.",
        json_schema_extra=bounds.judged("A partition of the assets."),
    )
    end: _Key | None = Field(
        default=None,
        description="The last partition of a range, included; null: the last one that is complete.",
        json_schema_extra=bounds.judged("A partition of the assets, not before start."),
    )
    match: _Key | None = Field(
        default=None,
        description="Of the range, only partitions whose keys fit this pattern, such as `2024-*-01`.",
        json_schema_extra=bounds.judged("At least one key fits."),
    )
    everything: StrictBool = Field(
        default=False, alias="all", description="Every partition, of those by time all that are complete."
    )
    stale: StrictBool = Field(
        default=False,
        description="Of the partitions that are said, or if none are, of all whose time has begun, those that are "
        "stale of at least one of the assets, and only the assets that are stale or depend on one that is. Found once, "
        "when the request is accepted. Assets that are not stale may be cut into partitions in any way.",
    )
    reasons: Annotated[list[StaleReason], Field(max_length=len(REASONS))] = Field(
        default_factory=list,
        description="Only what is stale for one of these reasons; empty: for any.",
        json_schema_extra=bounds.judged("Only with stale."),
    )
    chunk_size: Annotated[StrictInt, Field(ge=1, le=MAX_CHUNK), BeforeValidator(bounds.whole)] = Field(
        default=CHUNK, description="Partitions of one run."
    )
    max_concurrent_runs: Annotated[StrictInt, Field(ge=1, le=MAX_CONCURRENT), BeforeValidator(bounds.whole)] = Field(
        default=CONCURRENT, description="How many of its runs may be under way at once."
    )
    order: Order = Field(default="oldest_first", description="Which partitions come first.")
    priority: Annotated[StrictInt, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY), BeforeValidator(bounds.whole)] = Field(
        default=PRIORITY, description="Of its runs: of what waits, the greater is first. Others have 0."
    )

    @property
    def chosen(self) -> PartitionsAsked:
        """The partitions that are asked for."""
        keys = None if self.partitions is None else tuple(self.partitions)
        return PartitionsAsked(keys, self.start, self.end, self.match, self.everything)


def parsed_backfill(asked: Mapping[str, Any]) -> BackfillAsked:
    """Return a request from its plain form; raises `Refused`, naming the first field that does not fit."""
    try:
        return BackfillAsked.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        described = "GET /docs of the API, at POST /api/v1/backfills, describes a request"
        raise Refused(misfit(first, field_of(first["loc"]) or "request", described)) from None


def fingerprint_of(asked: BackfillAsked) -> str:
    """Return what tells requests under one id from each other: nothing of the definitions is part of it."""
    plain = asked.model_dump(mode="json", by_alias=True)
    plain["select"] = sorted({term for text in asked.select for term in text.replace(",", " ").split()})
    if asked.partitions is not None:
        plain["partitions"] = sorted(set(asked.partitions))
    # Requests that say nothing of it have the fingerprints that they had before there was a way to say it.
    reasons = plain.pop("reasons")
    if not plain.pop("stale"):
        return hashlib.sha256(canonical_json(plain)).hexdigest()
    plain |= {"stale": True, "reasons": sorted(set(reasons))}
    return hashlib.sha256(canonical_json(plain)).hexdigest()


def retry_fingerprint(parent_backfill_id: str) -> str:
    """Return likewise that of a request to make again what failed in a backfill."""
    return hashlib.sha256(canonical_json({"retry": parent_backfill_id})).hexdigest()


def checked_request_id(request_id: str) -> str:
    """Return an id of a request; raises `Refused` unless it is one line that an event's key can hold."""
    try:
        bounds.check_line(request_id)
    except ValueError as error:
        raise invalid("request_id", request_id, f"cannot be: {error}", "Use one line that can be printed.") from None
    if not 0 < len(request_id) <= MAX_REQUEST_ID:
        raise invalid(
            "request_id", request_id, f"has {len(request_id)} characters", f"Give one with 1 to {MAX_REQUEST_ID}."
        )
    return request_id


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    """How a backfill goes about its partitions, whichever they are."""

    chunk_size: int
    max_concurrent_runs: int
    order: Order
    priority: int


@dataclass(frozen=True, slots=True)
class StaleJudged:
    """What was stale of a selection: by which published revision and at which instant, and how much, by asset.

    `reasons`: those that counted, empty for all. `counts`: the assets that are stale, none for a backfill that was
    created before.
    """

    revision: str
    as_of: str
    partitions: int
    reasons: tuple[str, ...] = ()
    counts: tuple[StaleCount, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backfill that can be: over these assets and partitions. `keys`: a span, or a list in order.

    `stale`: what it was chosen by, None for other backfills. Of nothing stale it is over nothing, and cannot be.
    """

    assets: tuple[str, ...]
    keys: Span | list[str]
    manifest_id: str
    settings: BackfillSettings
    stale: StaleJudged | None = None

    @property
    def total(self) -> int:
        """How many partitions it is over."""
        return len(self.keys)

    @property
    def chunks(self) -> int:
        """How many runs it takes."""
        return -(-self.total // self.settings.chunk_size)

    def chunk(self, index: int) -> list[str]:
        """Return the keys of a chunk's partitions."""
        places = places_of(index, self.settings.chunk_size, self.total, self.settings.order)
        return self.keys.keys(places) if isinstance(self.keys, Span) else [self.keys[place] for place in places]

    @property
    def examples(self) -> list[str]:
        """The partitions that come first."""
        return self.chunk(0)[:_SHOWN]


def settings_of(asked: BackfillAsked) -> BackfillSettings:
    """Return the settings that are asked for."""
    return BackfillSettings(asked.chunk_size, asked.max_concurrent_runs, asked.order, asked.priority)


def wanted_backfill(
    terms: Sequence[str], chosen: PartitionsAsked, settings: BackfillSettings, manifest: DeployedManifest, now: datetime
) -> Wanted:
    """Return a backfill of what `terms` select, over `chosen`; its first run is planned on trial. Raises `Refused`."""
    try:
        assets, cut = backfilled_assets(manifest.nodes, terms)
        keys = chosen_partitions(cut, chosen, now)
    except BadChoice as error:
        raise _bad_choice(error) from error
    return _on_trial(Wanted(assets, keys, manifest.manifest_id, settings), manifest)


def wanted_stale(asked: BackfillAsked, manifest: DeployedManifest, snapshot: StateSnapshot, now_ms: int) -> Wanted:
    """Return a backfill of what is stale of the selection that is asked for, over nothing if nothing is.

    `snapshot` has the tables of `springline.staleness.reading`. Raises `Refused`.
    """
    try:
        stands = AssetStands(snapshot, manifest, now_ms)
        found = chosen_stale(stands, manifest, asked.select, asked.chosen, asked.reasons)
    except BadChoice as error:
        raise _bad_choice(error) from error
    reasons = tuple(sorted(set(asked.reasons)))
    judged = StaleJudged(snapshot.revision.manifest_id, format_ms(now_ms), found.stale, reasons, found.counts)
    wanted = Wanted(found.assets, found.keys, manifest.manifest_id, settings_of(asked), judged)
    return _on_trial(wanted, manifest) if wanted.total else wanted


def _bad_choice(error: BadChoice) -> Refused:
    return refused(Code.INVALID_REQUEST, error.message, field=error.field, value=error.value, remedy=error.remedy)


def _on_trial(wanted: Wanted, manifest: DeployedManifest) -> Wanted:
    """Return a backfill whose first run can be planned, and made without a config; raises `Refused` if it cannot."""
    try:
        tasks = plan_tasks(manifest, list(wanted.assets), wanted.chunk(0))
    except CannotPlan as error:
        field = {"assets": "select", "partitions": "chunk_size"}.get(error.field, error.field)
        raise refused(
            Code.INVALID_REQUEST,
            f"no run of a chunk can be planned: {error.message}",
            field=field,
            value=error.value,
            remedy=error.remedy,
        ) from error
    check_made_without(tasks)
    return wanted


def created_event(
    wanted: Wanted,
    client_request_id: str,
    fingerprint: str,
    *,
    keys_name: str | None,
    keys_path: str | None,
    parent_backfill_id: str | None = None,
    asked_by: str | None = None,
) -> BackfillCreated:
    """Return the event that creates a backfill.

    `keys_name`, `keys_path`: the list of its partitions, if it is long. `asked_by`: the user who asked for it.
    """
    selector: ExplicitSelector | FilterSelector | RangeSelector
    if isinstance(wanted.keys, Span):
        first, last = wanted.keys.keys(range(1))[0], wanted.keys.keys(range(wanted.total - 1, wanted.total))[0]
        selector = RangeSelector(start=first, end=last)
    elif keys_name is not None:
        selector = FilterSelector(filters={KEYS_FILTER: keys_name})
    else:
        selector = ExplicitSelector(partition_keys=list(wanted.keys))
    member = BackfillMember(
        order=wanted.settings.order,
        priority=wanted.settings.priority,
        request_fingerprint=fingerprint,
        mode="task_for_each",
        keys_path=keys_path,
        keys_sha256=keys_name,
        asked_by=asked_by,
    )
    if wanted.stale is not None:
        member.stale_revision = wanted.stale.revision
        member.stale_as_of = wanted.stale.as_of
        member.stale_partitions = wanted.stale.partitions
        member.stale_reasons = list(wanted.stale.reasons) or None
    return BackfillCreated(
        backfill_id=backfill_id_of(client_request_id),
        client_request_id=client_request_id,
        asset_selection=list(wanted.assets),
        partition_selector=selector,
        total_partitions=wanted.total,
        chunk_size=wanted.settings.chunk_size,
        max_concurrent_runs=wanted.settings.max_concurrent_runs,
        code_version=wanted.manifest_id,
        parent_backfill_id=parent_backfill_id,
        springline=msgspec.to_builtins(member),
    )


def is_long(keys: Span | Sequence[str]) -> bool:
    """Say whether partitions are a list of their own in the store."""
    if isinstance(keys, Span):
        return False
    return len(keys) > MOST_LISTED or sum(len(key.encode()) + 3 for key in keys) > MOST_LISTED_BYTES
