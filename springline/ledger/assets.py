"""Asset keys in their one spelling, `namespace.name` (docs/formats.md#asset-keys)."""

from __future__ import annotations

import re

_SEGMENT = r"[a-z][a-z0-9_]*"
_NAMESPACE = re.compile(_SEGMENT)
_NAME = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")


def canonical_asset_key(text: str) -> str:
    """Return `namespace.name` of an asset key written like that or as `namespace/name`; raises `ValueError`.

    Namespace and the dot-separated parts of the name are lower-case letters, digits and `_`, and begin with a letter.
    """
    if not text.strip():
        raise ValueError("the asset key is empty: give namespace.name")
    if re.search(r"\s", text):
        raise ValueError(f"asset key {text!r} holds white space: remove it")
    namespace, separator, name = text.partition("/" if "/" in text else ".")
    if not separator:
        raise ValueError(f"asset key {text!r} has no namespace: give namespace.name")
    if not namespace or not name:
        raise ValueError(f"asset key {text!r} has an empty namespace or name: give namespace.name")
    for part, value, pattern in (("namespace", namespace, _NAMESPACE), ("name", name, _NAME)):
        if not pattern.fullmatch(value):
            raise ValueError(f"asset key {text!r} has the {part} {value!r}: begin with a-z, go on with a-z, 0-9 and _")
    return f"{namespace}.{name}"
