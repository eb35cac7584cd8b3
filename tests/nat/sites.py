"""The kinds of places that a device may be in: each a router's rules, and the devices behind it.

Every router drops new packets that arrive on its outside, on its input chain as well as on its forward chain, as home
routers do. (A lab router that lets them in is no test: the early packet from the other side then takes the
connection-tracking tuple, our own first packet leaves by another port, and no way opens.) None of them hairpins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.nat.lab import Lab
from tests.nat.upnp import start_miniupnpd

__all__ = ["KINDS", "Host", "Kind", "Site", "build_site"]

PORT = 6881


@dataclass(frozen=True)
class Kind:
    """What a place lets through.

    Attributes:
        nat: how the router translates IPv4: "" (devices have no IPv4), "keeps" ports or makes up "random" ones.
        forwards: one port to the first device.
        upnp: a real miniupnpd opens ports for who asks.
        doubled: behind a second router of the easy kind, as behind a provider's.
        ipv6: devices have public IPv6 addresses behind a firewall that lets only answers in.
        udp: whether UDP other than to port 53 gets out.
    """

    about: str
    nat: str = "keeps"
    routed: bool = True
    forwards: bool = False
    upnp: bool = False
    doubled: bool = False
    ipv6: bool = False
    udp: bool = True


KINDS = {
    "public": Kind("a public address", routed=False),
    "forward": Kind("easy NAT, port forwarded by hand", forwards=True),
    "upnp": Kind("hard NAT, router opens ports when asked", nat="random", upnp=True),
    "easy": Kind("NAT, one port for all destinations"),
    "double": Kind("two easy NATs in a row", doubled=True),
    "hard": Kind("NAT, another port for every destination", nat="random"),
    "ipv6": Kind("IPv6, firewall lets only answers in; IPv4 by the provider's hard NAT", nat="random", ipv6=True),
    "ipv6 alone": Kind("IPv6, firewall lets only answers in; no IPv4", nat="", ipv6=True),
    "blocked": Kind("easy NAT, UDP blocked except DNS", udp=False),
}


@dataclass(frozen=True)
class Host:
    """Where a device runs."""

    namespace: str
    bind: str
    address: str


@dataclass
class Site:
    """A place that was built: its devices' hosts, its routers' namespaces (outermost first), its public address."""

    kind: str
    number: int
    address: str
    hosts: list[Host]
    routers: list[str] = field(default_factory=list)

    @property
    def namespaces(self) -> list[str]:
        """All of it."""
        return [*(host.namespace for host in self.hosts), *self.routers]


def build_site(world: Lab, kind_name: str, devices: int = 1) -> Site:
    """A new place of that kind with so many devices in its LAN."""
    kind, number = KINDS[kind_name], world.new_site()
    if not kind.routed:
        host = world.namespace(f"s{number}-device1")
        address, _ = world.connect(host, number)
        return Site(kind_name, number, address, [Host(host, "0.0.0.0:0,[::]:0", address)])
    router = world.namespace(f"s{number}-router", forwards=True)
    address, _ = world.connect(router, number)
    routers = [router]
    world.nft(router, _rules(kind, "192.168.1.2"))
    if kind.doubled:
        inner = world.namespace(f"s{number}-inner", forwards=True)
        world.link(router, "lan0", inner, "wan0")
        world.ip(router, "addr add 192.168.1.1/24 dev lan0")
        world.ip(inner, "addr add 192.168.1.2/24 dev wan0", "route add default via 192.168.1.1")
        world.nft(inner, _rules(kind, "192.168.2.2"))
        routers.append(inner)
    lan = 2 if kind.doubled else 1
    lan4 = f"192.168.{lan}" if kind.nat else ""
    lan6 = f"2a01:20:1:{number:x}:" if kind.ipv6 else ""
    _build_lan(world, routers[-1], lan4, lan6)
    if kind.upnp:
        start_miniupnpd(world, router, address)
    hosts = []
    for index in range(1, devices + 1):
        host = world.namespace(f"s{number}-device{index}")
        _plug_in(world, routers[-1], host, index, lan4=lan4, lan6=lan6)
        port = PORT if kind.forwards and index == 1 else 0
        bind = [f"0.0.0.0:{port}"] * bool(lan4) + [f"[::]:{port}"] * bool(lan6)
        hosts.append(Host(host, ",".join(bind), f"192.168.{lan}.{index + 1}"))
    return Site(kind_name, number, address, hosts, routers)


def _build_lan(world: Lab, router: str, lan4: str, lan6: str) -> None:
    """The router's switch; ``lan4`` and ``lan6`` are what addresses begin with, empty for none of the family."""
    lines = ["link add lan0 type bridge mcast_snooping 0", "link set lan0 up"]
    lines += [f"addr add {lan4}.1/24 dev lan0"] * bool(lan4)
    lines += [f"addr add {lan6}:1/64 dev lan0"] * bool(lan6)
    world.ip(router, *lines)


def _plug_in(world: Lab, router: str, host: str, index: int, *, lan4: str, lan6: str) -> None:
    world.link(router, f"port{index}", host, "eth0")
    world.ip(router, f"link set port{index} master lan0")
    if lan4:
        world.ip(host, f"addr add {lan4}.{index + 1}/24 dev eth0", f"route add default via {lan4}.1")
    if lan6:
        world.ip(host, f"addr add {lan6}:{index + 1:x}/64 dev eth0", f"route add ::/0 via {lan6}:1")


def _rules(kind: Kind, first_device: str) -> str:
    block = "" if kind.udp else "meta l4proto udp udp dport != 53 drop"
    random = " random,fully-random" if kind.nat == "random" else ""
    masquerade = f'oifname "wan0" masquerade{random}' if kind.nat else ""
    forward = f'iifname "wan0" udp dport {PORT} dnat to {first_device}:{PORT}' if kind.forwards else ""
    return f"""
table inet lab {{
  chain input {{
    type filter hook input priority 0
    iifname "wan0" ct state new drop
  }}
  chain forward {{
    type filter hook forward priority 0
    {block}
    ct status dnat accept
    iifname "wan0" ct state new drop
  }}
}}
table ip lab-nat {{
  chain out {{
    type nat hook postrouting priority 100
    {masquerade}
  }}
  chain in {{
    type nat hook prerouting priority -100
    {forward}
  }}
}}
"""
