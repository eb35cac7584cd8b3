"""A real miniupnpd (UPnP IGD, NAT-PMP, PCP) in a router's namespace."""

from __future__ import annotations

import shutil
import subprocess

from tests.nat.lab import Lab, LackingError

__all__ = ["log_of", "mappings", "pinholes", "start_miniupnpd"]

_TABLES = """
table inet upnp {
  chain forward {
  }
  chain prerouting {
    type nat hook prerouting priority -100
    jump mapped
  }
  chain postrouting {
    type nat hook postrouting priority 90
    jump mapped-out
  }
  chain mapped {
  }
  chain mapped-out {
  }
}
"""


_PINHOLES = """
table inet lab {
  chain pinholes {
  }
}
insert rule inet lab forward jump pinholes
"""


def start_miniupnpd(world: Lab, router: str, address: str, *, firewall: bool = False) -> None:
    """Start it on ``lan0`` for ``wan0``; it ends with the namespace.

    Args:
        firewall: open the router's IPv6 firewall for who asks, rather than map IPv4 ports.

    Raises:
        LackingError: it is not installed.
    """
    program = shutil.which("miniupnpd")
    if program is None:
        raise LackingError("the UPnP router needs the Debian package miniupnpd-nftables")
    world.nft(router, _TABLES + (_PINHOLES if firewall else ""))
    config = world.folder / f"{router}.conf"
    config.write_text(
        "\n".join(
            (
                "ext_ifname=wan0",
                f"ext_ip={address}",
                "listening_ip=lan0",
                "http_port=5000",
                "enable_natpmp=yes",
                "enable_upnp=yes",
                "min_lifetime=120",
                "max_lifetime=86400",
                "secure_mode=yes",
                "system_uptime=yes",
                "notify_interval=60",
                "uuid=00000000-0000-0000-0000-000000000001",
                f"upnp_table_name={'lab' if firewall else 'upnp'}",
                "upnp_nat_table_name=upnp",
                f"upnp_forward_chain={'pinholes' if firewall else 'forward'}",
                "ext_ifname6=wan0",
                "upnp_nat_chain=mapped",
                "upnp_nat_postrouting_chain=mapped-out",
                "allow 1024-65535 192.168.0.0/16 1024-65535",
                "deny 0-65535 0.0.0.0/0 0-65535",
                "",
            )
        )
    )
    log = config.with_suffix(".log").open("wb")
    subprocess.Popen(
        [*world.enter(router), program, "-d", "-f", config, "-P", config.with_suffix(".pid")],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def log_of(world: Lab, router: str) -> str:
    """What that router's miniupnpd said so far."""
    return (world.folder / f"{router}.log").read_text(errors="replace")


def pinholes(world: Lab, router: str) -> list[str]:
    """What its IPv6 firewall lets in, as nftables shows it."""
    shown = world.run(router, ["nft", "list", "chain", "inet", "lab", "pinholes"])
    return [line.strip() for line in shown.splitlines() if "accept" in line]


def mappings(world: Lab, router: str) -> list[str]:
    """The port mappings of that router, as nftables shows them."""
    shown = world.run(router, ["nft", "list", "chain", "inet", "upnp", "mapped"])
    return [line.strip() for line in shown.splitlines() if "dnat" in line]
