"""Port mapping: what is said to a router, what is made of its answers, and what is refused."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.errors import PortMapError
from pypatcher.nat.portmap import PortMapper, PortMapping, natpmp, pcp, upnp, upnp_messages
from pypatcher.nat.portmap.gateway import parse_routes, parse_routes6
from pypatcher.nat.portmap.http import encode_http_request, exchange, parse_answer
from pypatcher.nat.portmap.mapper import Client
from pypatcher.nat.portmap.pcp import Granted
from pypatcher.node.network import Network

NONCE = bytes(range(12))
URL = "http://192.168.1.1:5000/rootDesc.xml"
WAN = "urn:schemas-upnp-org:service:WANIPConnection:1"


def pcp_answer(
    *, nonce: bytes = NONCE, result: int = 0, seconds: int = 7200, port: int = 40000, inside: int = 6881
) -> bytes:
    head = bytes([2, 0x81, 0, result]) + seconds.to_bytes(4, "big") + bytes(16)
    host = bytes(10) + b"\xff\xff" + ipaddress.IPv4Address("20.0.1.1").packed
    return head + nonce + bytes([17, 0, 0, 0]) + inside.to_bytes(2, "big") + port.to_bytes(2, "big") + host


def description(kind: str = WAN, control: str = "/ctl/IPConn", doctype: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?>{doctype}<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList><service>'
        f"<serviceType>{kind}</serviceType><controlURL>{control}</controlURL></service></serviceList></device></root>"
    ).encode()


def test_a_pcp_request_has_sixty_bytes_and_our_address() -> None:
    request = pcp.encode_request(NONCE, "192.168.1.2", 6881, 6881, 7200)
    assert len(request) == 60
    assert request[:2] == b"\x02\x01"
    assert request[8:24] == bytes(10) + b"\xff\xff\xc0\xa8\x01\x02"


def test_a_pcp_answer_tells_address_port_and_time() -> None:
    assert pcp.decode_answer(pcp_answer(), NONCE, 6881) == Granted("20.0.1.1", 40000, 7200)


@pytest.mark.parametrize("answer", [pcp_answer(nonce=bytes(12)), pcp_answer(inside=1), b"", bytes([2, 1]) + bytes(58)])
def test_a_pcp_answer_to_another_request_is_ignored(answer: bytes) -> None:
    assert pcp.decode_answer(answer, NONCE, 6881) is None


def test_a_pcp_request_for_ipv6_has_our_address_as_it_is() -> None:
    request = pcp.encode_request(NONCE, "2a01::7", 6881, 6881, 7200)
    assert len(request) == 60
    assert request[8:24] == ipaddress.IPv6Address("2a01::7").packed
    assert request[44:] == bytes(16)
    answer = pcp_answer()[:44] + ipaddress.IPv6Address("2a01::7").packed
    assert pcp.decode_answer(answer, NONCE, 6881) == Granted("2a01::7", 40000, 7200)


@pytest.mark.parametrize(("told", "host"), [("::1", "::1"), ("2a01::7", None), ("::ffff:20.0.1.1", None), ("::", None)])
async def test_a_firewall_can_open_our_own_ipv6_address_and_no_other(told: str, host: str | None) -> None:
    loop = asyncio.get_running_loop()
    asked: list[bytes] = []

    class Gateway(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
            asked.append(data)
            answer = bytes([2, 0x81, 0, 0]) + data[4:8] + bytes(16) + data[24:44] + ipaddress.IPv6Address(told).packed
            self.transport.sendto(answer, source)

    transport, _ = await loop.create_datagram_endpoint(Gateway, local_addr=("::1", 0), family=socket.AF_INET6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pcp, "local_address", lambda _: "::1")
        client = pcp.PcpClient("::1", server_port=transport.get_extra_info("sockname")[1])
        assert await client.open(6881, 7200) == Granted(host, 6881, 7200)
        await client.close(6881)
    transport.close()
    assert [int.from_bytes(data[4:8], "big") for data in asked] == [7200, 0]
    assert all(data[8:24] == ipaddress.IPv6Address("::1").packed for data in asked)


def test_a_pcp_refusal_says_why() -> None:
    with pytest.raises(PortMapError, match="does not allow"):
        pcp.decode_answer(pcp_answer(result=2), NONCE, 6881)


def test_a_natpmp_router_is_recognised_by_its_refusal_of_pcp() -> None:
    with pytest.raises(PortMapError, match="NAT-PMP"):
        pcp.decode_answer(bytes([0, 0x81, 0, 1]) + bytes(8), NONCE, 6881)


def test_natpmp_answers_tell_address_and_port() -> None:
    assert natpmp.decode_address(bytes([0, 128, 0, 0]) + bytes(4) + bytes([20, 0, 1, 1])) == "20.0.1.1"
    answer = (
        bytes([0, 129, 0, 0])
        + bytes(4)
        + (6881).to_bytes(2, "big")
        + (40000).to_bytes(2, "big")
        + bytes([0, 0, 28, 32])
    )
    assert natpmp.decode_port(answer, 6881) == Granted(None, 40000, 7200)
    assert natpmp.decode_port(answer, 6882) is None
    with pytest.raises(PortMapError, match="no room"):
        natpmp.decode_port(bytes([0, 129, 0, 4]) + bytes(12), 6881)


@given(st.binary(max_size=100))
def test_noise_is_ignored_or_refused(data: bytes) -> None:
    for read in (
        lambda: pcp.decode_answer(data, NONCE, 6881),
        lambda: natpmp.decode_port(data, 6881),
        lambda: natpmp.decode_address(data),
        lambda: parse_answer(data),
        lambda: upnp_messages.parse_description(data, URL),
        lambda: upnp_messages.parse_location(data, "192.168.1.1"),
    ):
        try:
            read()
        except PortMapError:
            continue


def test_the_location_must_be_on_the_host_that_answered() -> None:
    def answer(url: str) -> bytes:
        return f"HTTP/1.1 200 OK\r\nST: x\r\nLocation: {url}\r\n\r\n".encode()

    assert upnp_messages.parse_location(answer(URL), "192.168.1.1") == URL
    for url in (
        "http://192.168.1.7/x",
        "http://example.com/",
        "file:///etc/passwd",
        "https://192.168.1.1/",
        "http://[::1",
        "http://192.168.1.1/\xe9.xml",
        "http://192.168.1.1/\x01.xml",
        "http://192.168.1.1/a b.xml",
    ):
        assert upnp_messages.parse_location(answer(url), "192.168.1.1") is None


def test_the_description_leads_to_the_service() -> None:
    service = upnp_messages.Service(("192.168.1.1", 5000), "/ctl/IPConn", WAN)
    assert upnp_messages.parse_description(description(), URL) == [service]


@pytest.mark.parametrize(
    "data",
    [
        description(kind="urn:schemas-upnp-org:service:Layer3Forwarding:1"),
        description(control="http://127.0.0.1:22/"),
        description(control="//["),
        description(doctype='<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'),
        description(doctype='<!DOCTYPE r SYSTEM "http://192.168.1.7/x.dtd">'),
        b"<a>" * 50,
        b"<r>" + b"<a/>" * 5000 + b"</r>",
        b"<r>" + b"a" * 2000 + b"</r>",
        b" " * 200_000,
        b"not XML",
        description().replace(b"?>", b' encoding="nosuch"?>'),
        description().replace(b"?>", b' encoding="base64"?>'),
        description().replace(b"?>", b' encoding="idna"?>'),
    ],
    ids=[
        "other service",
        "other host",
        "malformed host",
        "entities",
        "outside type",
        "deep",
        "wide",
        "long text",
        "large",
        "noise",
        "unknown encoding",
        "encoding of bytes",
        "encoding of names",
    ],
)
def test_a_description_that_leads_astray_is_refused(data: bytes) -> None:
    with pytest.raises(PortMapError):
        upnp_messages.parse_description(data, URL)


def test_a_call_carries_its_arguments_escaped() -> None:
    headers, body = upnp_messages.encode_call(
        upnp_messages.Service(("192.168.1.1", 5000), "/c", WAN), "Add", {"Name": "a<b&c"}
    )
    assert headers["SOAPAction"] == f'"{WAN}#Add"'
    assert b"<Name>a&lt;b&amp;c</Name>" in body


def test_a_soap_fault_shows_its_code() -> None:
    body = b"<s:E xmlns:s='x'><s:Fault><UPnPError><errorCode>718</errorCode></UPnPError></s:Fault></s:E>"
    assert upnp_messages.parse_result(500, body)["errorCode"] == "718"
    with pytest.raises(PortMapError, match="404"):
        upnp_messages.parse_result(404, body)


def test_http_answers_are_read_by_length_by_chunks_or_to_the_end() -> None:
    assert parse_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc") == (200, b"ab")
    assert parse_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n") == (
        200,
        b"abc",
    )
    many = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 20_000
    assert parse_answer(many + b"0\r\n\r\n") == (200, b"a" * 20_000)
    assert parse_answer(b"HTTP/1.0 500 No\r\n\r\nabc") == (500, b"abc")
    for broken in (many, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 x\r\n\r\n"):
        with pytest.raises(PortMapError):
            parse_answer(broken)
    assert encode_http_request("GET", "/x", ("192.168.1.1", 80), {}).startswith(
        b"GET /x HTTP/1.1\r\nHost: 192.168.1.1:80\r\n"
    )


def test_the_gateway_is_the_default_route_with_the_lowest_metric() -> None:
    table = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\n"
        "broken\n"
    )
    assert parse_routes(table) == "192.168.1.1"
    assert parse_routes("Iface\n") is None


def test_a_link_local_ipv6_gateway_is_told_with_its_interface() -> None:
    nowhere, router, other = "0" * 32, "fe80" + "0" * 27 + "1", "2a01" + "0" * 27 + "1"

    counts = "00000001 00000000"
    table = (
        f"{other} 40 {nowhere} 00 {nowhere} 00000100 {counts} 00000001     eth0\n"
        f"{nowhere} 00 {nowhere} 00 {router} 00000400 {counts} 00000003     eth0\n"
        f"{nowhere} 00 {nowhere} 00 {nowhere} ffffffff {counts} 00200200       lo\n"
        "broken\n"
    )
    assert parse_routes6(table) == "fe80::1%eth0"
    better = f"{nowhere} 00 {nowhere} 00 {other} 00000064 {counts} 00000003     eth1\n"
    assert parse_routes6(table + better) == "2a01::1"
    assert parse_routes6("") is None


class ScriptedRouter:
    """A client whose router does as it is told here."""

    def __init__(self, name: str, *grants: Granted | None) -> None:
        self.name = name
        self.grants = list(grants)
        self.closed = 0

    async def open(self, port: int, seconds: int) -> Granted:
        granted = self.grants.pop(0) if self.grants else None
        if granted is None:
            raise PortMapError(f"{self.name} refused")
        return granted

    async def close(self, port: int) -> None:
        self.closed += 1


def mapper(*clients: Client) -> PortMapper:
    return PortMapper(6881, gateway=lambda: "127.0.0.1", clients=lambda _: clients)


@pytest.mark.parametrize(("address", "asks"), [("2a01::7", True), ("fd00::7", False), ("192.168.1.7", True)])
async def test_no_port_is_asked_for_where_none_is_of_use(
    address: str, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pypatcher.nat.portmap.mapper.local_address", lambda _: address)
    ports = mapper(ScriptedRouter("PCP", Granted("2a01::7", 6881, 7200)))
    assert (await ports.once() is not None) == asks


async def test_the_first_protocol_that_works_is_used_and_renewed() -> None:
    ports = mapper(ScriptedRouter("PCP"), ScriptedRouter("UPnP", *[Granted("20.0.1.1", 6881, 7200)] * 2))
    for _ in range(2):
        assert await ports.once() == 900
        assert ports.mapping == PortMapping("UPnP", ("20.0.1.1", 6881))
        assert not ports.refusals.keys() & {"UPnP"}


async def test_a_short_lease_is_renewed_in_time_and_never_in_a_rush() -> None:
    assert await mapper(ScriptedRouter("PCP", Granted("20.0.1.1", 1, 300))).once() == 150
    assert await mapper(ScriptedRouter("PCP", Granted("20.0.1.1", 1, 1))).once() == 30


async def test_a_mapping_that_is_lost_is_not_shown_any_more() -> None:
    ports = mapper(ScriptedRouter("PCP", Granted("20.0.1.1", 6881, 7200)))
    await ports.once()
    assert await ports.once() is None
    assert ports.mapping is None
    assert ports.refusals == {"PCP": "PCP refused"}


async def test_the_port_is_given_back_at_the_end() -> None:
    router = ScriptedRouter("PCP", Granted("20.0.1.1", 6881, 7200))
    ports = mapper(router)
    opened = ports.news.next
    task = asyncio.create_task(ports.run())
    await asyncio.wait_for(opened.wait(), 10)
    assert ports.mapping == PortMapping("PCP", ("20.0.1.1", 6881))
    closed = ports.news.next
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert router.closed == 1
    assert ports.mapping is None
    assert closed.is_set()


async def test_an_outside_address_that_is_private_is_known_as_such() -> None:
    assert PortMapping("PCP", ("20.0.1.1", 6881)).is_public
    assert not PortMapping("PCP", ("100.64.3.4", 6881)).is_public


async def test_another_address_of_ours_is_another_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ScriptedRouter] = []

    def clients(_: str) -> list[ScriptedRouter]:
        made.append(ScriptedRouter("PCP", Granted("20.0.1.1", 6881, 7200)))
        return made[-1:]

    ports = PortMapper(6881, gateway=lambda: "127.0.0.1", clients=clients)
    await ports.once()
    monkeypatch.setattr("pypatcher.nat.portmap.mapper.local_address", lambda _: "127.0.0.99")
    assert await ports.once() == 900
    assert len(made) == 2


async def test_without_a_router_nobody_is_asked() -> None:
    router = ScriptedRouter("PCP", Granted("20.0.1.1", 6881, 7200))
    ports = PortMapper(6881, gateway=lambda: None, clients=lambda _: [router])
    assert await ports.once() is None
    assert router.grants


async def test_a_router_that_takes_a_question_and_never_answers_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypatcher.nat.portmap.http._TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(PortMapError, match="timeout"):
        await exchange(server.getsockname(), b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("refusal", ["402", "501", "725"])
async def test_upnp_asks_every_way_out_and_takes_a_lease_without_end(refusal: str) -> None:
    asked: list[tuple[str, str]] = []

    class Router(upnp.UpnpClient):
        async def _find(self) -> list[upnp_messages.Service]:
            return upnp_messages.parse_description(two_ways_out(), URL)

        async def _call(self, action: str, arguments: dict[str, str]) -> dict[str, str]:
            assert self._service is not None
            asked.append((self._service.path, arguments.get("NewLeaseDuration", action)))
            if self._service.path == "/first":
                return {"errorCode": "606"}
            if action == "GetExternalIPAddress":
                raise PortMapError("it does not say")
            return {} if arguments["NewLeaseDuration"] == "0" else {"errorCode": refusal}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnp, "local_address", lambda _: "192.168.1.2")
        assert await Router("192.168.1.1").open(6881, 7200) == Granted(None, 6881, 3600)
    assert asked == [("/first", "7200"), ("/second", "7200"), ("/second", "0"), ("/second", "GetExternalIPAddress")]


def two_ways_out() -> bytes:
    services = "".join(
        f"<service><serviceType>{WAN}</serviceType><controlURL>{path}</controlURL></service>"
        for path in ("/first", "/second")
    )
    head = '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>'
    return f"{head}{services}</serviceList></device></root>".encode()


async def test_a_mapping_without_address_is_open_where_others_see_us() -> None:
    class Silent:
        name = "UPnP"

        async def open(self, port: int, seconds: int) -> Granted:
            return Granted(None, port, seconds)

        async def close(self, port: int) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pypatcher.nat.portmap.mapper.local_address", lambda _: "192.168.1.2")
        opened = PortMapper(6881, gateway=lambda: "192.168.1.1", clients=lambda _: (Silent(),))
        await opened.once()
    assert opened.mapping is not None
    assert opened.mapping.is_somewhere
    network = SimpleNamespace(port_mapper=opened, dht=SimpleNamespace(external_addresses=(("20.0.1.1", 40000),)))
    assert Network.mapped_address(network) == ("20.0.1.1", 6881)  # type: ignore[arg-type]
