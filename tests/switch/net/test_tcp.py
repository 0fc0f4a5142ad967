"""Addresses and errors in words."""

from __future__ import annotations

import errno
import os
import socket

from switch.net import tcp


def test_addresses_are_written_as_people_write_them() -> None:
    assert tcp.address(("10.1.2.3", 4567)) == "10.1.2.3:4567"
    assert tcp.address(("::1", 4567, 0, 0)) == "[::1]:4567"
    assert tcp.address("/run/peer") == "/run/peer"
    assert tcp.address(None) == tcp.address("") == "unknown"


def test_errors_are_explained_in_words() -> None:
    assert tcp.explain(ConnectionResetError(errno.ECONNRESET, "x")) == os.strerror(errno.ECONNRESET).lower()
    assert tcp.explain(TimeoutError()) == "no answer in time"
    assert tcp.explain(TimeoutError(errno.ETIMEDOUT, "x")) == "connection timed out"
    assert tcp.explain(socket.gaierror(-2, "Name or service not known")).startswith("name not found")
    assert tcp.explain(ValueError("odd")) == "ValueError: odd"
    assert tcp.advise(OSError(errno.EACCES, "x")) == "not allowed; choose a port of 1024 or more"


def test_tuning_a_socket_that_is_gone_is_no_error() -> None:
    tcp.tune(None)
    near, far = socket.socketpair()
    tcp.tune(near)  # not TCP: nothing to set
    near.close()
    far.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
    sock.close()
    tcp.tune(sock)
