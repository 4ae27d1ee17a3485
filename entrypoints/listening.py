"""Listening on a port, with one-line errors."""

from __future__ import annotations

import errno
import socket

from springline.config import ConfigurationError, Problem

BACKLOG = 1024
_WRONG = frozenset({errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT})


class PortTaken(OSError):
    """Another program listens on the port; that may change."""


def listen(host: str, port: int, *, host_variable: str, port_variable: str) -> socket.socket:
    """Return a socket that listens on `host` and `port`, 0 for any free one.

    Raises `PortTaken` if the port is in use, and `ConfigurationError` for an address that cannot be this machine's.
    The variables are those by which an operator sets the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol spelled out, asyncio switches Nagle's algorithm off; else small answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        what = f"cannot listen on {host}:{port}: {error.strerror or error}"
        if isinstance(error, socket.gaierror) or error.errno in _WRONG:
            remedy = f"Set {host_variable} to an address of this machine and {port_variable} to a port it may use."
            raise ConfigurationError([Problem(host_variable, what, remedy)]) from error
        raise PortTaken(f"{what}. Set {port_variable} (0: any free port) or {host_variable}.") from error
    return listener
