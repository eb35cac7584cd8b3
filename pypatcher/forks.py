"""Closes our sockets in a child that is forked without exec: one that lives on would hold the port of the next start.

Each becomes ``/dev/null`` there, so that the socket objects keep valid numbers. Not covered: forks that C code makes by
itself, since they run no hook of Python's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref

__all__ = ["keep_from_forks"]

_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def keep_from_forks(own: socket.socket) -> socket.socket:
    """Let no child have this socket, which is returned."""
    _sockets.add(own)
    return own


def _let_go() -> None:
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for own in list(_sockets):
            if own.fileno() >= 0:
                os.dup2(null, own.fileno(), inheritable=False)
        os.close(null)


os.register_at_fork(after_in_child=_let_go)
