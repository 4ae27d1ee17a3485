from __future__ import annotations

import socket

from springline.local import ports


def test_ports_differ_and_are_free_and_out_of_reach_of_outgoing_connections() -> None:
    chosen = ports.free_ports(20)
    assert len(set(chosen)) == 20
    assert all(ports.is_free(port) for port in chosen)
    with socket.socket() as ephemeral:
        ephemeral.bind((ports.LOOPBACK, 0))
        assert max(chosen) < ephemeral.getsockname()[1]


def test_a_port_with_a_listener_is_not_free() -> None:
    (port,) = ports.free_ports(1)
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, port))
        server.listen()
        assert not ports.is_free(port)
    assert ports.is_free(port)
