"""Inputs that pass the first checks of each parser, from builders and test vectors: where the fuzzer begins."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

from pypatcher.artifact import Patch
from pypatcher.artifact.region import pack_region
from pypatcher.artifact.tree import TreeNode
from pypatcher.dht import krpc
from pypatcher.discovery.announcement import encode_content
from pypatcher.discovery.records import Record, encrypt_record
from pypatcher.discovery.sources import lan
from pypatcher.install.trial import ProgramId, Start, Trial, TrialState, encode_state
from pypatcher.node.report import Report, encode_report
from pypatcher.transfer.v1.answers import encode_nodes, encode_piece
from pypatcher.transfer.v1.messages import Flags, Hello, Kind, RangesRequest, TreeRequest, encode_message
from pypatcher.transfer.wire import auth_value, encode_acceptance
from pypatcher.version import Version
from tests.fuzz.files import NEEDLE, OPENED_LIMIT, OWNER, zip_start
from tests.fuzz.network import COOKIE, INFO, INFO_HASH, KEY, NONCE, PORT, ROUTER, SLOT
from tests.support.manifests import file_word, release, word
from tests.support.programs import bundle, make_elf, modules, with_comment, with_section, with_tail

__all__ = ["SEEDS"]


def _state() -> bytes:
    start = Start("boot", "start", 7, 8, "run", True)
    program = ProgramId(bytes(64), Version(1, 2, 3))
    state = TrialState(program, Version(1, 2, 3), trial=Trial(program, 1, 2, start)).refusing(bytes(64), "it crashed")
    return encode_state(state)


def _vectors(name: str) -> list[bytes]:
    """Every hexadecimal text of a record's or header's length in a file of test vectors, each once."""
    found: dict[bytes, None] = {}

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, str) and len(value) > 160:
            try:
                found[bytes.fromhex(value)] = None
            except ValueError:
                return

    walk(json.loads((Path(__file__).parents[1] / "vectors" / name).read_text(encoding="utf-8")))
    return [data for data in found if len(data) < 2000][:12]


def _description(control: str) -> bytes:
    kind = "urn:schemas-upnp-org:service:WANIPConnection:1"
    return (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList><service>'
        f"<serviceType>{kind}</serviceType><controlURL>{control}</controlURL></service></serviceList></device></root>"
    ).encode()


def _http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


def _first_packet(version: int, token: bytes = b"") -> bytes:
    ids = bytes([8]) + b"destinat" + bytes([8]) + b"source-x"
    packet = struct.pack(">BI", 0xC3, version) + ids + bytes([len(token)]) + token + struct.pack(">H", 0x4000 | 1170)
    return packet.ljust(1200, b"\x5a")


_RECORD = Record.make(SLOT, KEY, encode_content(INFO, [("192.0.2.1", 4000), ("2001:db8::1", 4000)]))
_PROGRAMS = [with_section("1.2.3"), with_tail("1.2.3"), with_comment("1.2.3")]
_ID, _TID = b"i" * 20, b"abcd"
_PING = b"d1:ad2:id20:" + _ID + b"e1:q4:ping1:t4:abcd1:y1:qe"
_ITEM = b"1:k32:" + bytes(32) + b"3:seqi7e3:sig64:" + bytes(64) + b"5:token5:token1:v5:3:abc"
_SOAP = b"<s:Envelope><s:Body><u:R><NewExternalIPAddress>192.0.2.9</NewExternalIPAddress></u:R></s:Body></s:Envelope>"
_FAULT = b"<Envelope><Body><Fault><errorCode>718</errorCode></Fault></Body></Envelope>"

_WORDS = (word(share=2500), word(hold=2, note=b"a note", must=[b"new"], stable=release("1.1.0").to_postcard()))
_MANIFESTS = (file_word(targets=["armv7", "x86_64"]).encode(), *(each.encode_kept() for each in _WORDS))

SEEDS: dict[str, list[bytes]] = {
    "cuts": [bytes(range(256)) * 8, bytes(3000)],
    "manifest": [*_MANIFESTS, *(each.value for each in _WORDS)],
    "tree": [
        TreeNode(1, 0, (5000, 3000), (bytes(16), bytes(range(16)))).encode(),
        TreeNode(2, 3, (1 << 31,) * 5, (bytes(16),) * 5).encode(),
    ],
    "v1_messages": [
        encode_message(Kind.HELLO, Hello((INFO,), seq=5, digest=bytes(8), fetching=INFO, software="a 1").encode()),
        Hello((INFO,), (bytes(31) + b"\x01",), seq=5, digest=bytes(8), fetching=INFO).encode(),
        TreeRequest(bytes(32), 1, (bytes(16),)).encode(),
        RangesRequest(bytes(32), Flags.ZLIB, ((0, 5), (9, 1000))).encode(),
        encode_piece(bytes(400), zlib_welcome=True) + encode_piece(bytes(100), zlib_welcome=False),
        encode_nodes([TreeNode(1, 0, (5000,), (bytes(16),)).encode(), b"", b"x"]),
    ],
    "elf": [
        *_PROGRAMS[:2],
        _PROGRAMS[0][:64],
        make_elf(bits=32, order=">"),
        with_section("1.2.3", bits=32, machine=40),
    ],
    "location": [*_PROGRAMS, NEEDLE * 3, with_comment("1.2.3", {"a.so": _PROGRAMS[0], "__main__.py": b"print(1)\n"})],
    "zip_comment": [_PROGRAMS[2][len(zip_start()) :]],
    "opened": [
        b"before" + zlib.compress(bytes(range(256)) * 8) + zlib.compress(bytes(range(255, -1, -1)) * 5, 1) + b"behind",
        zlib.compress(bytes(OPENED_LIMIT), 9),
        zlib.compress(zlib.compress(bytes(range(256)) * 6, 0), 0) + b"\x78\x9c\x78",
    ],
    "stream_table": [
        (1000).to_bytes(4, "big") + b"\1\0\xf4\3\x80\x20" + (6).to_bytes(4, "little"),
        (1000).to_bytes(4, "big") + b"\2\5\xf4\3\x83\x20\0\x0a\x80\x30" + (10).to_bytes(4, "little"),
        bytes(9),
    ],
    "members": [
        modules({"json": b"code" * 9, "json.decoder": b"more code" * 9}),
        bundle({"app": b"the app", "PYZ.pyz": modules({"json": b"code" * 9})})[-600:],
    ],
    "postcard": [INFO.to_postcard(), Patch(INFO, bytes(1176)).to_postcard(), *_vectors("rustpatcher.json")],
    "bencoded": [_PING, b"li1eli2eee", b"i-7e"],
    "krpc_message": [
        _PING,
        b"d1:rd2:id20:" + _ID + b"5:nodes26:" + _ID + b"\x01\x02\x03\x04\x05\x065:token5:tokene1:t4:abcd1:y1:re",
        b"d1:rd2:id20:" + _ID + b"6:nodes638:" + _ID + bytes(17) + b"\x01\x05\x06e1:t4:abcd1:y1:re",
        b"d2:ip6:\x01\x02\x03\x04\x05\x061:rd2:id20:" + _ID + b"e1:t4:abcd1:y1:re",
        b"d1:eli201e5:wronge1:t4:abcd1:y1:ee",
        b"d1:rd2:id20:" + _ID + b"6:valuesl6:\x01\x02\x03\x04\x05\x06ee1:t4:abcd1:y1:re",
        b"d1:rd2:id20:" + _ID + _ITEM + b"e1:t4:abcd1:y1:re",
        krpc.encode_failure(_TID, 203, "no"),
    ],
    "record": [_RECORD.pack(), encrypt_record(SLOT, _RECORD), _RECORD.content, *_vectors("topic-tracker-0.3.json")],
    "framing": [
        INFO.to_postcard(),
        auth_value(OWNER, 29_000_000),
        encode_acceptance(INFO, 1176)[9:],
        INFO.to_postcard() + b"\x08" + (len(INFO.to_postcard()) + 9).to_bytes(8, "big"),
    ],
    "frames": [
        b"\x0f\x00\x00\x05hello",
        b"\x0e\x00\x40\x80\x03abc\x0e\x00\x00\x03abc",
        b"\x02\x00\x00\x00\x00\x01",
        b"\x04\x00\x01\x05\x05\x00\x02",
        b"\x10\x80\x10\x00\x00\x11\x00\x50\x00\x12\x08\x13\x08",
        b"\x18\x01\x00\x08namename" + bytes(range(16)) + b"\x19\x01",
        b"\x1a12345678\x1b12345678",
        b"\x1d\x03\x04busy",
    ],
    "packets": [bytes(range(60)), b"\x43" + bytes(1200)],
    "first_packet": [_first_packet(1), _first_packet(1, bytes(40)), _first_packet(0x6B3343CF), _first_packet(0)],
    "lan_answers": [
        lan.encode_search(INFO_HASH, PORT, "ffff", 4),
        lan.encode_search(INFO_HASH, PORT, COOKIE, 6),
        struct.pack(">BBxBII12x12sB3xHH16s", 2, 129, 0, 3600, 1, NONCE, 17, PORT, 7000, bytes(10) + b"\xff\xff" + _TID),
        struct.pack(">BBHIHHI", 0, 129, 0, 1, PORT, 7000, 3600),
        struct.pack(">BBHI4s", 0, 128, 0, 1, _TID),
        f"HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: http://{ROUTER}:5000/root.xml\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nLOCATION: http://{ROUTER}:5000/\xe9.xml\r\n\r\n".encode("latin-1"),
        b'<?xml version="1.0" encoding="nosuch"?><a>b</a>',
        b'<?xml version="1.0" encoding="base64"?><a>b</a>',
        _http(_description("/control")),
        _http(_description(f"http://{ROUTER}:5000/control?a=b")),
        _chunked(_description("control")),
        _http(_SOAP),
        _http(_FAULT, "500 Internal Server Error"),
        _description("//["),
    ],
    "state_files": [
        _state(),
        encode_report(Report(1.0, 2.0, 3.0, 4, "error", 5.0, "blocked")),
        b'{"port": 1, "dht_nodes": ["192.0.2.1:1", "[2001:db8::1]:1"], "good_peers": [], "staged": {"aa": "bb"}}',
    ],
    "fields": [pack_region(INFO), b"xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y", b"1.2.3", b"1.2.3\n"],
}
