"""TCP options, and addresses and errors in words."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any, Final

from switch import limits

# A peer that acknowledges nothing for as long as a frame may take is gone, whether we send or wait: with these the
# kernel notices a pulled cable, a dead modem and a fire wall that forgot the connection.
USER_TIMEOUT_MS: Final = int(limits.KIOSK_PARTIAL_FRAME_S * 1000)
KEEPALIVE_IDLE_S: Final = int(limits.KIOSK_PARTIAL_FRAME_S)
KEEPALIVE_INTERVAL_S: Final = int(limits.CONNECT_TIMEOUT_S)
KEEPALIVE_PROBES: Final = KEEPALIVE_IDLE_S // KEEPALIVE_INTERVAL_S

OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
)

ADVICE: Final = {
    errno.EADDRINUSE: "another program has this port; stop it or choose another port",
    errno.EADDRNOTAVAIL: "no interface of this machine has this address; choose another host",
    errno.EACCES: "not allowed; choose a port of 1024 or more",
}


def tune(sock: Any) -> None:
    """Set the options on a connected socket (or the likeness of one that a transport gives). Never fails."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        for level, name, value in OPTIONS:
            sock.setsockopt(level, name, value)
    except OSError:
        return  # the peer was quicker to leave; connection_lost follows


def address(name: object) -> str:
    """``10.1.2.3:4567`` or ``[::1]:4567``; for Unix sockets their path."""
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(name) if name else "unknown"


def source(peer: str) -> str:
    """Who a caller's limits are kept for: ``address`` without the port; of IPv6 the network that one customer gets.

    >>> source("10.1.2.3:4567"), source("[::ffff:10.1.2.3]:4567"), source("[2001:db8:1:2:3:4:5:6]:4567")
    ('10.1.2.3', '10.1.2.3', '2001:db8:1:2::/64')
    """
    host = peer.rpartition(":")[0]
    if not host.startswith("["):
        return host or peer
    address = ipaddress.IPv6Address(host[1:-1].partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def explain(error: BaseException) -> str:
    """A socket's error in words, without Python's class names where the system has its own."""
    if isinstance(error, TimeoutError) and not error.errno:
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"name not found ({error.strerror})"
    if isinstance(error, ConnectionError) and not error.errno:
        return str(error)  # our own words
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def advise(error: OSError) -> str:
    """What to do about an address that cannot be listened on."""
    return ADVICE.get(error.errno or 0, explain(error))


def bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A bound socket, not listening yet. Raises OSError."""
    family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock
