"""An Internet on one machine: network namespaces, the links between them, and the certainty that they go away.

Nothing is done to the network of the machine itself: every interface lives in a namespace whose name begins with this
run's prefix. Needs root, ``ip`` and ``nft``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Lab", "LackingError", "open_lab"]

_TOOLS = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "gcc": "gcc"}
_HERE = Path(__file__).parent


class LackingError(RuntimeError):
    """This machine cannot run the lab; the message says what is missing."""


class Lab:
    """The namespaces of one run; made by ``open_lab``.

    Attributes:
        internet: routes between all sites.
        folder: for files; removed at the end.
    """

    def __init__(self, prefix: str, folder: Path) -> None:
        self.prefix = prefix
        self.folder = folder
        self._sites = 0
        self.internet = self.namespace("internet", forwards=True)

    def namespace(self, name: str, *, forwards: bool = False) -> str:
        """A new namespace; returns its full name."""
        full = f"{self.prefix}-{name}"
        _run(["ip", "netns", "add", full])
        settings = {"net/ipv6/conf/all/accept_dad": 0, "net/ipv6/conf/default/accept_dad": 0}
        if forwards:
            settings |= {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1}
        lines = "".join(f"echo {value} > /proc/sys/{path}; " for path, value in settings.items())
        self.run(full, ["sh", "-ec", lines])
        self.ip(full, "link set lo up")
        return full

    def remove(self, namespaces: Sequence[str]) -> None:
        """Remove namespaces in which nothing runs any more."""
        for name in namespaces:
            _run(["ip", "netns", "delete", name])

    def ip(self, namespace: str, *lines: str) -> None:
        """Run lines of ``ip -batch`` in a namespace."""
        _run(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")

    def nft(self, namespace: str, rules: str) -> None:
        """Load an nftables ruleset in a namespace."""
        self.run(namespace, ["nft", "-f", "-"], rules)

    def run(self, namespace: str, command: Sequence[str], text: str = "") -> str:
        """Run a command in a namespace to its end; returns what it printed."""
        return _run([*self.enter(namespace), *command], text)

    def enter(self, namespace: str) -> list[str]:
        """What to put before a command so that it runs in a namespace, as the very process that is started."""
        return ["nsenter", f"--net=/run/netns/{namespace}", "--"]

    def link(self, one: str, one_name: str, other: str, other_name: str) -> None:
        """A cable between two namespaces, both ends up."""
        _run(["ip", "link", "add", one_name, "netns", one, "type", "veth", "peer", "name", other_name, "netns", other])
        self.ip(one, f"link set {one_name} up")
        self.ip(other, f"link set {other_name} up")

    def new_site(self) -> int:
        """The number of the next site."""
        self._sites += 1
        return self._sites

    def connect(self, namespace: str, site: int) -> tuple[str, str]:
        """Give a namespace its line to the Internet, ``wan0``; returns its public IPv4 and IPv6 address.

        Each site has networks of its own: 20.x.y.0/24 and 2a01:20:0:s::/64 on the line, 2a01:20:1:s::/64 behind it.
        """
        net4, net6 = f"20.{site >> 8}.{site & 255}", f"2a01:20:0:{site:x}:"
        self.link(self.internet, f"site{site}", namespace, "wan0")
        self.ip(
            self.internet,
            f"addr add {net4}.254/24 dev site{site}",
            f"addr add {net6}:1/64 dev site{site}",
            f"route add 2a01:20:1:{site:x}::/64 via {net6}:2",
        )
        self.ip(
            namespace,
            f"addr add {net4}.1/24 dev wan0",
            f"addr add {net6}:2/64 dev wan0",
            f"route add default via {net4}.254",
            f"route add ::/0 via {net6}:1",
        )
        return f"{net4}.1", f"{net6}:2"


@contextmanager
def open_lab() -> Iterator[Lab]:
    """A world that is gone afterwards, with every process in it.

    Raises:
        LackingError: no root, or no tools.
    """
    _check()
    prefix = f"pypatcher-{os.getpid():x}-{secrets.token_hex(2)}"
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    janitor = subprocess.Popen(
        [sys.executable, _HERE / "janitor.py", prefix, folder], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield Lab(prefix, folder)
    finally:
        assert janitor.stdin is not None
        janitor.stdin.close()
        janitor.wait()


def _check() -> None:
    if os.geteuid() != 0:
        raise LackingError("the NAT lab makes network namespaces: run it as root")
    if missing := [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]:
        raise LackingError(f"the NAT lab needs these Debian packages: {' '.join(missing)}")
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise LackingError(f"this kernel or container gives no network namespaces: {probe.stderr.strip()}")


def _run(command: Sequence[str | Path], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}: {said}\n{text}")
    return done.stdout
