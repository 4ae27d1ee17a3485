"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LOWEST = 15_000
_DEFAULT_EPHEMERAL_START = 32_768
_ATTEMPTS = 200


def free_ports(count: int, *, but: Collection[int] = ()) -> list[int]:
    """Return `count` different ports that nothing listens on now, none of them in `but`.

    They lie below the range that the kernel uses for outgoing connections, and are drawn at random: so a busy
    machine's own connections cannot take them before a server binds, and stacks
    started side by side hardly ever draw the same. Raises `OSError` if no free ports are found.
    """
    highest = _ephemeral_start() - 1
    chosen: list[int] = []
    if count == 0:
        return chosen
    for _ in range(_ATTEMPTS * count):
        port = random.randint(_LOWEST, highest)
        if port not in chosen and port not in but and is_free(port):
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise OSError(f"found no {count} free ports between {_LOWEST} and {highest} on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this, too; without it a port would look taken for a minute after its server ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _ephemeral_start() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii")
        start = int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return _DEFAULT_EPHEMERAL_START
    return start if start > _LOWEST + 1000 else _DEFAULT_EPHEMERAL_START
