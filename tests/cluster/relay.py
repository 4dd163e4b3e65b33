"""`relay.py LISTEN_NETNS HOST:PORT CONNECT_NETNS HOST:PORT [READY]`: a TCP port of one network namespace, served from
another; the file READY is made when it can be connected to.

Run as a program, with the standard library alone. A network namespace is named by a file such as /proc/1/ns/net.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_PIECE = 1 << 18


def main() -> None:
    """Serves until killed."""
    listen_netns, listen_at, connect_netns, connect_to, *ready = sys.argv[1:]
    listening, connecting = (os.open(Path(netns), os.O_RDONLY) for netns in (listen_netns, connect_netns))
    _enter(listening)
    listener = socket.create_server(_address(listen_at), backlog=128)
    for file in ready:
        Path(file).touch()
    _enter(connecting)  # a socket stays where it was made; threads start where this one is
    serve(listener, _address(connect_to))


def serve(listener: socket.socket, address: tuple[str, int]) -> None:
    """Connects everybody who comes with `address`, for ever."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_serve, args=(client, address), daemon=True).start()


def _enter(netns: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(netns, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _serve(client: socket.socket, address: tuple[str, int]) -> None:
    with client:
        try:
            server = socket.create_connection(address, timeout=5)
        except OSError:
            return
        with server:
            server.settimeout(None)
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until the source says no more, which is told to the target; a broken connection ends both ways."""
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
        return
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
