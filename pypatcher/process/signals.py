"""What the kernel says of a thread's signals, which is free, and who sent SIGTERM. Not here: what follows (ending)."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["OwnStops", "signals_in", "take_free_signal"]

_SENDERS = ((os, "kill"), (os, "killpg"), (signal, "pthread_kill"), (signal, "raise_signal"))


class OwnStops:
    """Whether this process sent a SIGTERM to itself, which Python tells no handler."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._originals: list[Callable[..., Any]] = []
        self._was_sent = False

    def watch(self) -> None:
        """See from now on what is sent; what the application put in the place of these functions is still called."""
        for module, name in _SENDERS:
            send = getattr(module, name)
            self._originals.append(send)
            setattr(module, name, functools.partial(self._see, send, name))

    def forget(self) -> None:
        """One came, whoever sent it."""
        self._was_sent = False

    def is_sender(self, frame: FrameType | None) -> bool:
        """Whether the one is our own that came while ``frame`` ran.

        That one may have called what it imported by name before we watched. What is only called alike, as ``kill`` of a
        child process is, counts for nothing: a stop that comes at that moment is one.
        """
        was_sent, self._was_sent = self._was_sent, False
        if was_sent or frame is None:
            return was_sent
        known = {**frame.f_globals, **frame.f_locals}
        named = (known.get(name) for name in (*frame.f_code.co_names, *frame.f_code.co_freevars))
        return any(value is original for value in named for original in self._originals)

    def _see(self, send: Callable[..., Any], name: str, *arguments: int) -> Any:
        """Instead of ``send``: a frame of compiled code (Nuitka, Cython) does not name what it calls."""
        if arguments[-1:] == (signal.SIGTERM,) and os.getpid() == self._pid and _reaches_us(name, arguments[0]):
            self._was_sent = signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
        try:
            return send(*arguments)
        except OSError:
            self._was_sent = False
            raise


def signals_in(thread: int, *fields: str) -> int:
    """The signals in these fields of a thread's ``status`` (proc_pid_status(5)), as bits; none if it has ended."""
    found = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/self/task/{thread}/status").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name in fields:
                found |= int(value, 16)
    return found


def take_free_signal(handler: Callable[..., object]) -> int | None:
    """Put ``handler`` on a real-time signal that the application does not use; None if there is none."""
    # Not from the very top: emulators of another processor have fewer than the processor they emulate.
    for number in range(signal.SIGRTMAX - 8, signal.SIGRTMIN, -1):
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, handler)
                return number
    return None


def _reaches_us(name: str, receiver: int) -> bool:
    group = os.getpgrp()
    if name == "kill":
        return receiver in (0, os.getpid(), -group)
    return name != "killpg" or receiver in (0, group)
