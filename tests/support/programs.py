"""Small program files of every kind, made byte by byte: what the artifact room reads, without a compiler."""

from __future__ import annotations

import io
import json
import marshal
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pypatcher.artifact.region import REGION_SIZE, template
from pypatcher.version import Version

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "rustpatcher.json").read_text())

X86_64, AARCH64, ARM = 62, 183, 40
PROGBITS, STRTAB, NOBITS = 1, 3, 8
PT_LOAD, EXECUTABLE, READABLE = 1, 1, 4


def make_elf(
    *,
    bits: int = 64,
    order: str = "<",
    machine: int = X86_64,
    flags: int = 0,
    kind: int = 3,
    sections: tuple[tuple[str, int, bytes], ...] = ((".text", PROGBITS, b"\xc3" * 40),),
) -> bytes:
    """An ELF file: header, the sections' bytes, their names, a program header, the section table. It does not run."""
    header_size, entry_size, word = (64, 64, "Q") if bits == 64 else (52, 40, "I")
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _, _ in sections) + b".shstrtab\0"
    blob, entries, name_at = b"", [bytes(entry_size)], 1
    for name, section_kind, data in sections:
        at = header_size + len(blob)
        entries.append(
            struct.pack(f"{order}II4{word}II2{word}", name_at, section_kind, 0, 0, at, len(data), 0, 0, 1, 0)
        )
        blob += b"" if section_kind == NOBITS else data
        name_at += len(name) + 1
    at = header_size + len(blob)
    entries.append(struct.pack(f"{order}II4{word}II2{word}", name_at, STRTAB, 0, 0, at, len(names), 0, 0, 1, 0))
    blob += names
    blob += bytes(-(header_size + len(blob)) % 8)
    at, executable = header_size + len(blob), READABLE | EXECUTABLE
    loaded = at + (56 if bits == 64 else 32)
    if bits == 64:
        segment = struct.pack(f"{order}IIQQQQQQ", PT_LOAD, executable, 0, 0, 0, loaded, loaded, 4096)
    else:
        segment = struct.pack(f"{order}IIIIIIII", PT_LOAD, 0, 0, 0, loaded, loaded, executable, 4096)
    blob += segment
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    table = header_size + len(blob)
    counts = (header_size, len(segment), 1, entry_size, len(entries), len(entries) - 1)
    header = ident + struct.pack(f"{order}HHI3{word}I6H", kind, machine, 1, header_size, at, table, flags, *counts)
    return header + blob + b"".join(entries)


def with_section(version: str = "1.2.3", name: str = ".embedded_signature", **options: Any) -> bytes:
    """An ELF file that carries an unsigned region in a section between two others."""
    region = template(Version.parse(version))
    sections = ((".text", PROGBITS, b"\xc3" * 40), (name, PROGBITS, region), (".data", PROGBITS, bytes(range(64))))
    return make_elf(sections=sections, **options)


def with_tail(version: str = "1.2.3", **options: Any) -> bytes:
    """An ELF file that carries an unsigned region at its end."""
    return make_elf(**options) + template(Version.parse(version))


def make_zipapp(
    members: dict[str, bytes] | None = None, *, comment: bytes = b"", shebang: bytes = b"#!/usr/bin/env python3\n"
) -> bytes:
    """A zipapp of those members."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in (members or {"__main__.py": b"print('hello')\n"}).items():
            file.writestr(name, data)
        file.comment = comment
    return shebang + archive.getvalue()


def with_comment(version: str = "1.2.3", members: dict[str, bytes] | None = None) -> bytes:
    """A zipapp that carries an unsigned region as its comment."""
    return make_zipapp(members, comment=template(Version.parse(version)))


def vector_file(vector: dict[str, Any]) -> bytes:
    """A file that the Rust program signed, rebuilt from its vector."""
    body = bytes((index * 7 + index // 256) % 251 for index in range(vector["body_length"]))
    offset = vector["region_offset"]
    return body[:offset] + bytes.fromhex(vector["region"]) + body[offset:]


def move_region(data: bytes, old: int, new: int) -> bytes:
    """``data`` with its region taken from offset ``old`` and put in at ``new`` of what is left."""
    region, rest = data[old : old + REGION_SIZE], data[:old] + data[old + REGION_SIZE :]
    return rest[:new] + region + rest[new:]


def bundle(members: dict[str, bytes], *, length: int | None = None) -> bytes:
    """A stand-in for a PyInstaller onefile: a loader, members, their table, the cookie, and 176 bytes behind it."""
    body, toc = b"", b""
    for name, data in members.items():
        label = name.encode() + b"\0"
        toc += struct.pack("!IIIIBc", 18 + len(label), len(body), len(data), len(data), 0, b"b") + label
        body += data
    size = len(body) + len(toc) + 88
    word = bytes((77, 69, 73, 12, 11, 10, 11, 14))
    cookie = struct.pack("!8sIIII64s", word, length or size, len(body), len(toc), 311, b"libpython3.11.so")
    return make_elf() + body + toc + cookie + bytes(176)


def modules(code: dict[str, bytes], *, table: object = None, pack: Callable[[bytes], bytes] = zlib.compress) -> bytes:
    """A stand-in for PyInstaller's archive of modules: a header, packed modules, their table as marshal writes it."""
    body, entries = bytes(17), []
    for name, data in code.items():
        packed = pack(data)
        entries.append((name, (0, len(body), len(packed))))
        body += packed
    header = struct.pack("!4s4sI", b"PYZ\0", b"\xa7\r\r\n", len(body))
    return header + body[len(header) :] + marshal.dumps(entries if table is None else table)
