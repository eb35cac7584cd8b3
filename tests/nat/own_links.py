"""Links and addresses of the network namespace that a test runs in, by ip(8)."""

from __future__ import annotations

import subprocess

__all__ = ["add_link", "run_ip"]


def run_ip(*lines: str) -> None:
    """Commands of ip(8), all or none."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


def add_link(name: str, *addresses: str) -> None:
    """A link to nowhere, up; its other end is ``name`` and a p."""
    run_ip(f"link add {name} type veth peer name {name}p", f"link set {name}p up", f"link set {name} up")
    run_ip(*(f"address add {address} dev {name}" for address in addresses))
