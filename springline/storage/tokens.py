"""Version tokens that are hashes of the content."""

from __future__ import annotations

import hashlib

CONTENT_TOKEN_PREFIX = "sha256:"


def content_token(data: bytes) -> str:
    """Return the version token of an object in a local store: `sha256:` and the hex digest of its content.

    See docs/formats.md#local-store.
    """
    return CONTENT_TOKEN_PREFIX + hashlib.sha256(data).hexdigest()
