"""What the findings about a network mean, in words that a person can act on. Pure: nothing is measured here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from pypatcher.addresses import family, is_literal, parse_address
from pypatcher.netcheck.probe import Findings

__all__ = ["Remark", "judge", "router_kind", "works"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One line: about what, whether it is as it should be (None: neither), what was seen, and what to do."""

    topic: str
    good: bool | None
    text: str
    advice: str = ""


def works(findings: Findings) -> bool:
    """Whether a device here can find others at all."""
    return sum(findings.dht_nodes.values()) > 0


def router_kind(findings: Findings) -> str:
    """``public``, ``easy``, ``hard``, ``none`` (no IPv4) or ``unknown``."""
    outside = _hosts(findings.outside, 4)
    if not outside:
        return "unknown" if findings.dht_nodes.get(4) else "none"
    if outside & _hosts(findings.local, 4):
        return "public"
    if findings.port_varies is None:
        return "unknown"
    return "hard" if findings.port_varies else "easy"


def judge(findings: Findings) -> list[Remark]:
    """Everything there is to say, the most important first."""
    remarks = [_dht(findings)]
    if works(findings):
        remarks += [_router(findings), _ipv6(findings)]
    remarks += [_mapping(findings), _multicast(findings)]
    if findings.heard is not None:
        remarks.append(_fleet(findings))
    return remarks


def _dht(findings: Findings) -> Remark:
    if works(findings):
        counts = ", ".join(f"{count} over IPv{kind}" for kind, count in sorted(findings.dht_nodes.items()))
        return Remark("DHT", True, f"nodes answer: {counts}")
    if not findings.names:
        return Remark(
            "DHT",
            False,
            "not reached: the names of its entry points have no addresses here",
            "Check the cable or Wi-Fi and the name service (DNS). Without DNS, give entry points as addresses in "
            "PYPATCHER_BOOTSTRAP.",
        )
    return Remark(
        "DHT",
        False,
        "not reached: no answer came to any UDP packet",
        "This network seems to block UDP. Allow this device outgoing UDP to all ports above 1023, and the answers to "
        "it. Until then it can update only from devices in its own LAN.",
    )


def _router(findings: Findings) -> Remark:
    where = ", ".join(address for address in findings.outside if not address.startswith("["))
    kind = router_kind(findings)
    if kind == "public":
        return Remark("router", True, f"none between here and the Internet: {where} is our own address")
    if kind == "easy":
        return Remark("router", True, f"easy: everybody sees us at {where}; such devices reach each other")
    if kind == "hard":
        host = ", ".join(sorted(_hosts(findings.outside, 4)))
        if findings.mapped is not None:
            return Remark("router", True, f"hard: {host} with another port for everybody, but it opens a port for us")
        return Remark(
            "router",
            None,
            f"hard: everybody sees us at {host} with another port",
            "Such a device reaches only devices that have a public address, an open port or an easy router. Switch on "
            "UPnP or PCP in the router, or forward a UDP port and set PYPATCHER_BIND=0.0.0.0:PORT; or see to it that "
            "one device of the fleet is reachable: it hands releases on to the others.",
        )
    if kind == "none":
        return Remark("router", None, "no IPv4 Internet here")
    return Remark("router", None, "unknown: too few nodes told where they see us", "Try again in a minute.")


def _ipv6(findings: Findings) -> Remark:
    seen = ", ".join(address for address in findings.outside if address.startswith("["))
    if findings.dht_nodes.get(6):
        works_at = f"works{f', at {seen}' if seen else ''}"
        if findings.opened is not None:
            return Remark("IPv6", True, f"{works_at}; the router lets strangers in to us (PCP), until now")
        asked = f" ({findings.opened_refusal})" if findings.opened_refusal else ""
        return Remark("IPv6", True, f"{works_at}; whether strangers may come in cannot be seen from inside{asked}")
    if _hosts(findings.local, 6):
        return Remark("IPv6", None, "this device has an address, but no DHT node answers over it")
    return Remark("IPv6", None, "none")


def _mapping(findings: Findings) -> Remark:
    if findings.mapped is not None:
        host = parse_address(findings.mapped)[0]
        if not ipaddress.ip_address(host).is_global:
            return Remark(
                "open port",
                None,
                f"{findings.mapped} by {findings.mapped_by}: that router is itself behind another one",
                "Nobody outside can use that port. If both routers are yours, make one of them a bridge.",
            )
        return Remark(
            "open port", True, f"{findings.mapped}, opened by the router ({findings.mapped_by}), given back now"
        )
    if not findings.refusals:
        return Remark("open port", None, "not asked for")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in findings.refusals.items())
    return Remark("open port", None, f"the router {findings.router} opens none ({reasons})")


def _multicast(findings: Findings) -> Remark:
    if findings.multicast is None:
        return Remark("multicast", None, "not used: switched off, or no address here but this machine's own")
    if findings.multicast:
        heard = f"; {findings.neighbours} of this fleet are there" if findings.neighbours else ""
        return Remark("multicast", True, f"works on this device; devices in this LAN can find each other by it{heard}")
    return Remark(
        "multicast",
        None,
        "does not work on this device",
        "Devices in this LAN find each other only through the Internet. Check the firewall of this device.",
    )


def _fleet(findings: Findings) -> Remark:
    heard, reached = findings.heard or 0, findings.reached or 0
    if not heard:
        return Remark(
            "fleet",
            None,
            "nobody was heard of in the last two minutes",
            "Is another device of this owner and target running? Is its key this one?",
        )
    advice = "" if reached else "Devices that ran here before may be gone; those that run now may need a minute."
    return Remark("fleet", reached > 0, f"{reached} of {heard} known addresses answer", advice)


def _hosts(addresses: tuple[str, ...], kind: int) -> set[str]:
    parsed = [parse_address(address) for address in addresses]
    return {address[0] for address in parsed if is_literal(address) and family(address) == kind}
