"""What a listing's prefix means, the same for every adapter (S 1.1)."""

from __future__ import annotations

from springline.paths import ObjectPath


def below(path: str, prefix: ObjectPath) -> bool:
    """Tell whether `path` is listed under `prefix`.

    A prefix is a folder whether or not it ends in a slash: `a/b` covers `a/b` itself and `a/b/...`, never `a/bc`.
    The empty prefix covers everything.
    """
    if prefix == "" or prefix.endswith("/"):
        return path.startswith(prefix)
    return path == prefix or path.startswith(prefix + "/")
