"""A real miniupnpd (UPnP IGD, NAT-PMP, PCP) in a router's namespace."""

from __future__ import annotations

import shutil
import subprocess

from tests.nat.world import LackingError, World

__all__ = ["mappings", "start_miniupnpd"]

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


def start_miniupnpd(world: World, router: str, address: str, *, pcp: bool = True, upnp: bool = True) -> None:
    """Start it on ``lan0`` for ``wan0``; it ends with the namespace.

    Raises:
        LackingError: it is not installed.
    """
    program = shutil.which("miniupnpd")
    if program is None:
        raise LackingError("the UPnP router needs the Debian package miniupnpd-nftables")
    world.nft(router, _TABLES)
    config = world.folder / f"{router}.conf"
    config.write_text(
        "\n".join(
            (
                "ext_ifname=wan0",
                f"ext_ip={address}",
                "listening_ip=lan0",
                "http_port=5000",
                f"enable_natpmp={'yes' if pcp else 'no'}",
                f"enable_upnp={'yes' if upnp else 'no'}",
                "min_lifetime=120",
                "max_lifetime=86400",
                "secure_mode=yes",
                "system_uptime=yes",
                "notify_interval=60",
                "uuid=00000000-0000-0000-0000-000000000001",
                "upnp_table_name=upnp",
                "upnp_nat_table_name=upnp",
                "upnp_forward_chain=forward",
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


def mappings(world: World, router: str) -> list[str]:
    """The port mappings of that router, as nftables shows them."""
    shown = world.run(router, ["nft", "list", "chain", "inet", "upnp", "mapped"])
    return [line.strip() for line in shown.splitlines() if "dnat" in line]
