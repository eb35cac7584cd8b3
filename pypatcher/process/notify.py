"""systemd's notification protocol: speaking it to the manager, and standing between the manager and a program.

Source: sd_notify(3). Lives here: the client (``Notifier``), the rules for what ``pypatcher run`` passes on
(``filter_message``, pure) and the socket that it gives its program (``NotifyProxy``). Not here: what READY=1 means
for a version on trial; that is the callback's.

The proxy's socket lies in a new folder of mode 0700 below ``$TMPDIR`` or ``/tmp``, so that nobody but our own user and
root can send to it. A name in the abstract namespace would leave nothing behind, but every user finds it in
``/proc/net/unix``, fills its queue, and can pass a TCP socket whose close blocks whoever received it for as long as the
sender chose (SO_LINGER): no check of the sender's credentials comes before that. ``/tmp`` rather than the folder beside
the program: it can be written where the program's folder cannot, its path is short (a socket's has 107 bytes at most),
and a unit's ``PrivateTmp`` is removed with the unit. What a killed ``run`` left elsewhere is removed by the next one.

A program that has become another user, or that sees another root folder, is not heard; its trial ends by uptime. Where
no such folder can be made, or only with too long a path, an abstract name is better than nothing to listen to: with
``--ready-within`` a good release that nobody hears would be rolled back.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import itertools
import os
import secrets
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from pypatcher.trusted_path import others_can_rename_in

__all__ = ["Notifier", "NotifyProxy", "filter_message", "is_proxy"]

_FOLDER_PREFIX = "pypatcher-run-"
_NAME = "notify"
_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - in each a folder of our own is made
"""Where it is made, after $TMPDIR, whose path may be too long."""
_LOOKED_AT = 10_000
"""Entries of the folder for temporary files, which anybody may fill, among which leftovers are looked for."""

_MESSAGE_LIMIT = 4096  # NOTIFY_BUFFER_MAX of systemd
_DESCRIPTOR_LIMIT = 16
_BATCH = 64
_CREDENTIALS = struct.Struct("3i")
_ANCILLARY_SIZE = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_DESCRIPTOR_LIMIT * 4)
_MSG_CMSG_CLOEXEC = 0x40000000
_NOT_PASSED_ON = (b"MAINPID=", b"MAINPIDFDID=", b"MAINPIDFD=")


class Notifier:
    """Sends to the service manager that started us, if one did; every method is quiet where there is none.

    Args:
        environment: where ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` are looked up.
        pid: our process id, which ``WATCHDOG_PID`` must name if it is there.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # Other families (vsock) are for virtual machines' managers; a relative path means nothing here.
        self._address = ("\0" + name[1:] if name.startswith("@") else name) if name[:1] in ("@", "/") else ""
        text = environment.get("WATCHDOG_USEC", "")
        usable = text.isascii() and text.isdigit() and environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        self.watchdog = int(text[:18]) / 1e6 if usable and self._address else 0.0
        """Seconds within which the manager wants WATCHDOG=1; 0.0: never."""

    def send(self, message: str | bytes, descriptors: Sequence[int] = ()) -> bool:
        """Send assignments, one per line; returns whether the manager was there to take them."""
        if not self._address:
            return False
        data = message.encode() if isinstance(message, str) else message
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendmsg([data], ancillary, 0, self._address)
            except OSError:
                return False
        return True

    @contextlib.asynccontextmanager
    async def watchdog_kept(self) -> AsyncIterator[None]:
        """Say WATCHDOG=1 during the block: between two programs nobody else does."""
        if not self.watchdog:
            yield
            return
        task = asyncio.create_task(self._keep_watchdog())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_watchdog(self) -> None:
        while True:
            self.send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog / 4)


def filter_message(message: bytes, *, stop_requested: bool) -> tuple[bytes, bool]:
    """What of a program's ``message`` goes on to the manager, and whether it says READY=1.

    MAINPID is dropped: ``run`` stays the main process. STOPPING=1 is dropped unless a stop was asked for: when ``run``
    replaces its program the unit is not stopping, and the manager would wait for ``run`` to end.
    """
    ready = False
    kept = []
    for line in message.split(b"\n"):
        if line == b"READY=1":
            ready = True
        if not line or line.startswith(_NOT_PASSED_ON) or (line == b"STOPPING=1" and not stop_requested):
            continue
        kept.append(line)
    return b"\n".join(kept), ready


def is_proxy(address: str) -> bool:
    """Whether this value of ``NOTIFY_SOCKET`` is one that ``pypatcher run`` gave."""
    path = Path(address.removeprefix("@"))
    return path.name == _NAME and path.parent.name.startswith(_FOLDER_PREFIX)


class NotifyProxy:
    """The socket that a program under ``run`` is given as ``NOTIFY_SOCKET``.

    Args:
        upstream: where its messages go on to.
        on_ready: called for every READY=1.
        stop_requested: is the unit being stopped?

    Raises:
        OSError: there are no descriptors or no memory left.
    """

    def __init__(self, upstream: Notifier, on_ready: Callable[[], None], stop_requested: Callable[[], bool]) -> None:
        self._upstream = upstream
        self._on_ready = on_ready
        self._stop_requested = stop_requested
        self._users = (0, os.geteuid())
        self._folder: Path | None = None
        self._bound: tuple[int, int] | None = None
        self._lock = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.address = self._bind()
            """The value for ``NOTIFY_SOCKET``."""
        except OSError:
            self.close()
            raise

    def _bind(self) -> str:
        for base in _folders():
            with contextlib.suppress(OSError):
                if others_can_rename_in(Path(base)):
                    continue  # they could put a socket of their own where the program looks for ours
                _remove_leftovers(base)
                self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=base))
                self._keep_from_cleaners(self._folder)
                self._socket.bind(str(self._folder / _NAME))
                self._bound = _identity(self._folder / _NAME)
                return str(self._folder / _NAME)
            self._drop_folder()
        name = f"{_FOLDER_PREFIX}{secrets.token_hex(8)}/{_NAME}"
        self._socket.bind(f"\0{name}")
        return f"@{name}"

    def fileno(self) -> int:
        """For a selector: readable when ``receive`` has something to do."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket and remove its folder."""
        self._socket.close()
        self._drop_folder()

    @property
    def is_reachable(self) -> bool:
        """Whether a program finds our socket at its address, and not another one or none."""
        return self._folder is None or _identity(self._folder / _NAME) == self._bound

    def _keep_from_cleaners(self, folder: Path) -> None:
        """systemd-tmpfiles removes what lies in /tmp for days, a live socket too, unless its folder is locked."""
        self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _drop_folder(self) -> None:
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = -1
        if self._folder is not None:
            _remove(self._folder)
            self._folder = None

    def receive(self) -> None:
        """Pass on what has arrived, a bounded number of messages at a time; never raises for what a program sends."""
        for _ in range(_BATCH):
            try:
                message, ancillary, _flags, _source = self._socket.recvmsg(
                    _MESSAGE_LIMIT + 1, _ANCILLARY_SIZE, _MSG_CMSG_CLOEXEC
                )
            except OSError:
                return
            user, descriptors = _unpack_ancillary(ancillary)
            try:
                if user in self._users and len(message) <= _MESSAGE_LIMIT:
                    self._pass_on(message, descriptors)
            finally:
                # Whoever waits for these to be closed (BARRIER=1) waits for us and for the manager.
                for descriptor in descriptors:
                    with contextlib.suppress(OSError):
                        os.close(descriptor)

    def _pass_on(self, message: bytes, descriptors: list[int]) -> None:
        forwarded, ready = filter_message(message, stop_requested=self._stop_requested())
        if forwarded:
            self._upstream.send(forwarded, descriptors)
        if ready:
            self._on_ready()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there, whatever its name; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _folders() -> tuple[str, ...]:
    # tempfile's own choice may be the working folder, which is the application's.
    named = os.environ.get("TMPDIR", "")
    return (named, *_FOLDERS) if named.startswith("/") else _FOLDERS


def _remove_leftovers(base: str) -> None:
    """Remove the folders of our user's in ``base`` whose ``run`` was killed."""
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for entry in itertools.islice(entries, _LOOKED_AT):
            if entry.name.startswith(_FOLDER_PREFIX) and _is_left_over(entry):
                _remove(Path(entry))


def _is_left_over(entry: os.DirEntry[str]) -> bool:
    """Is it a folder of our user's, with a socket that nobody listens on?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            if not entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                return False
            probe.connect(str(Path(entry, _NAME)))
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / _NAME).unlink(missing_ok=True)
        folder.rmdir()


def _unpack_ancillary(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    user, descriptors = -1, array.array("i")
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) == _CREDENTIALS.size:
            user = _CREDENTIALS.unpack(data)[1]
        elif kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return user, descriptors.tolist()
