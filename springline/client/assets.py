"""Assets as they are deployed, thin over HTTP: `lake.assets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from springline.client.http import ApiClient, segment

_ROOT = "/api/v1/assets"

Json = dict[str, Any]


class AssetsOfWorkspace:
    """The assets that are deployed in the workspace that the token is for."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def get(self, key: str) -> Json:
        """Return an asset by key: its `asset` as it is deployed, `mappings`, `dependents` and `manifest_id`.

        `["asset"]["config"]` is what its config takes: the `fields` of its model, each with `name`, `type`, `required`
        and `default` as a text of JSON, and whether it `forbids_others`; None if it declares no model.

        Raises `Refused` (NOT_FOUND if there is none).
        """
        return self._api.call("GET", f"{_ROOT}/{segment(key, 'key')}")

    def list(self, location: str | None = None) -> Iterator[Json]:
        """Yield the assets of the workspace, or of one code location, by key: `asset` as in `get`, and `dependents`."""
        return self._api.items(_ROOT, location=location)
