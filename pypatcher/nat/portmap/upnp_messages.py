"""What is said to a UPnP Internet Gateway Device: search, description and SOAP calls, as text.

Pure. UPnP Device Architecture 1.1, WANIPConnection 1 and 2, WANPPPConnection 1. Everything that comes from the router
is hostile: its XML is bounded in size and depth and may declare nothing, and it may send us nowhere but to itself.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import escape

from pypatcher.addresses import Address
from pypatcher.errors import PortMapError

__all__ = [
    "SEARCH_ADDRESS",
    "Service",
    "encode_call",
    "encode_ssdp_search",
    "parse_description",
    "parse_location",
    "parse_result",
]

SEARCH_ADDRESS: Address = ("239.255.255.250", 1900)
_TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
_SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
_MOST_SERVICES = 8
_LARGEST, _DEEPEST, _MOST_ELEMENTS, _LONGEST_TEXT = 128 * 1024, 40, 4000, 1024


@dataclass(frozen=True, slots=True)
class Service:
    """Where to send calls: the router's address, the path there, and the type of the service."""

    server: Address
    path: str
    kind: str


def encode_ssdp_search() -> list[bytes]:
    """The datagrams that ask who routes here."""
    lines = ("M-SEARCH * HTTP/1.1", "HOST: 239.255.255.250:1900", 'MAN: "ssdp:discover"', "MX: 1")
    return ["\r\n".join([*lines, f"ST: {target}", "", ""]).encode() for target in _TARGETS]


def parse_location(datagram: bytes, source: str) -> str | None:
    """The description's URL in an answer to a search, if it is on the host that answered; else None."""
    lines = datagram[:4096].decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1.") or " 200" not in lines[0]:
        return None
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            url = value.strip()
            # Else it could not stand in a request.
            plain = url.isascii() and url.isprintable() and " " not in url
            return url if plain and len(url) < 512 and _server(url, source) is not None else None
    return None


def parse_description(data: bytes, url: str) -> list[Service]:
    """The services that map ports, of a device description from ``url``; a router with two ways out has one for each.

    Raises:
        PortMapError: there is none, or it would lead elsewhere.
    """
    host = urlsplit(url).hostname or ""
    services: list[tuple[str, str]] = []
    kind = ""
    for name, text in _elements(data):
        # In a <service>, serviceType comes before controlURL.
        if name == "serviceType":
            kind = text
        elif name == "controlURL" and kind in _SERVICES:
            services.append((kind, text))
    found = []
    for kind, path in sorted(services, key=lambda each: _SERVICES.index(each[0])):
        try:
            control = urljoin(url, path)
        except ValueError:
            continue
        server = _server(control, host)
        target = control.split("/", 3)
        if server is not None and len(target) == 4 and target[3].isascii() and target[3].isprintable():
            found.append(Service(server, "/" + target[3].replace(" ", "%20"), kind))
    if not found:
        raise PortMapError("the router's UPnP description names no service that maps ports")
    return found[:_MOST_SERVICES]


def encode_call(service: Service, action: str, arguments: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a SOAP call."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.kind}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{service.kind}#{action}"'}
    return headers, body.encode()


def parse_result(status: int, body: bytes) -> dict[str, str]:
    """What a call returned, by element name; a refusal has ``errorCode``.

    Raises:
        PortMapError: it makes no sense.
    """
    if status not in (200, 500):
        raise PortMapError(f"the router answers with HTTP status {status}")
    return dict(_elements(body))


def _server(url: str, host: str) -> Address | None:
    """The URL's address if it is plain HTTP on that host."""
    try:
        parts = urlsplit(url)
        same = ipaddress.IPv4Address(parts.hostname or "") == ipaddress.IPv4Address(host)
        port = 80 if parts.port is None else parts.port
    except ValueError:
        return None
    return (host, port) if same and parts.scheme == "http" and not parts.username and port else None


def _elements(data: bytes) -> list[tuple[str, str]]:
    """Every element that holds text alone, without its namespace's prefix, in the order of their ends."""
    found: list[tuple[str, str]] = []
    depth = count = 0
    text: list[str] = []
    length = 0

    def start(_name: str, _attributes: object) -> None:
        nonlocal depth, count, length
        depth, count, length = depth + 1, count + 1, 0
        text.clear()
        if depth > _DEEPEST or count > _MOST_ELEMENTS:
            raise PortMapError("the router's XML is too large")

    def end(name: str) -> None:
        nonlocal depth, length
        depth -= 1
        content = "".join(text).strip()
        if content:
            found.append((name.rpartition(":")[2], content))
        text.clear()
        length = 0

    def characters(some: str) -> None:
        nonlocal length
        length += len(some)
        if length > _LONGEST_TEXT:
            raise PortMapError("the router's XML is too large")
        text.append(some)

    def refuse(*_declaration: object) -> None:
        raise PortMapError("the router's XML declares types or entities")

    if len(data) > _LARGEST:
        raise PortMapError("the router's XML is too large")
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        # The last is an encoding that Python does not have, or that is none of text.
        raise PortMapError(f"the router's XML cannot be read: {error}") from None
    return found
