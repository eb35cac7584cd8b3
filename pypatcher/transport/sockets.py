"""One socket per address family, all on one port where none was said. Not here: what a socket does (``udp``)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from pypatcher.addresses import Address, format_address, is_ipv6
from pypatcher.errors import SettingError
from pypatcher.udp import DatagramSocket

__all__ = ["open_sockets"]

_PORT_TRIES = 16
_NO_FAMILY = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES))


def open_sockets(
    bind: Sequence[Address], preferred_port: int, make: Callable[[Address], DatagramSocket]
) -> dict[bool, DatagramSocket]:
    """One socket per address; where several have port 0, all get the same port.

    Args:
        bind: at most one address per family.
        preferred_port: tried first where ``bind`` says 0.
        make: opens one socket.

    Returns:
        The sockets by whether they are IPv6. A family that this machine does not have is left out.

    Raises:
        SettingError: an address cannot be bound, or none of them exists here.
    """
    fixed = [port for _, port in bind if port]
    sockets: dict[bool, DatagramSocket] = {}
    for attempt in range(_PORT_TRIES):
        port = 0 if attempt else (fixed or [preferred_port])[0]
        try:
            for host, own_port in bind:
                udp = _open_if_possible((host, own_port or port), make, optional=len(bind) > 1)
                if udp is not None:
                    sockets[is_ipv6(host)] = udp
                    port = port or udp.address[1]
            break
        except OSError as error:
            for udp in sockets.values():
                udp.close()
            sockets.clear()
            taken = error.errno in (errno.EADDRINUSE, errno.EACCES) and not fixed
            if not taken or attempt == _PORT_TRIES - 1:
                wanted = ", ".join(format_address(address) for address in bind)
                raise SettingError(f"cannot bind {wanted}: {error.strerror}; see PYPATCHER_BIND") from None
    if not sockets:
        raise SettingError("none of the addresses in PYPATCHER_BIND exists on this machine")
    return sockets


def _open_if_possible(
    address: Address, make: Callable[[Address], DatagramSocket], optional: bool
) -> DatagramSocket | None:
    try:
        return make(address)
    except OSError as error:
        # A machine without IPv6 is an ordinary machine.
        if optional and error.errno in _NO_FAMILY:
            return None
        raise
