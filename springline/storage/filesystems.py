"""Which file systems a local store may live on."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
        "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    }
)  # fmt: skip
_ESCAPE = re.compile(r"\\([0-7]{3})")


def unsupported_filesystem(path: Path) -> str | None:
    """Return the type of the file system that holds `path` (or will hold it) if a local store must not use it.

    Network and user-space file systems are refused: locks and create-only links on them do not bind other
    machines, or not always. Returns None if the file system is supported or unknown (no `/proc`).
    """
    try:
        kind = filesystem_type(path, _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return None
    if kind is not None and (kind in _NETWORK or kind == "fuse" or kind.startswith("fuse.")):
        return kind
    return None


def filesystem_type(path: Path, mountinfo: str) -> str | None:
    """Return the type of the file system at `path` by the text of `/proc/self/mountinfo` (proc(5))."""
    real = path.resolve()
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5:
            continue
        mount = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # Of two mounts on one folder the later one is visible.
        if real.is_relative_to(mount) and (best is None or len(mount.parts) >= best[0]):
            best = (len(mount.parts), kinds[0])
    return None if best is None else best[1]
