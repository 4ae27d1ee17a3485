"""Version tokens made from content."""

from __future__ import annotations

import hashlib

CONTENT_TOKEN_PREFIX = "sha256:"


def content_token(data: bytes) -> str:
    """Return the token of stores whose version is the content: `sha256:` and its hex digest.

    See docs/formats.md#local-store.
    """
    return CONTENT_TOKEN_PREFIX + hashlib.sha256(data).hexdigest()
