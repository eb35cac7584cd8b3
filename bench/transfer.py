"""A release over loopback by our transport, compiled and plain, beside bare aioquic at the same datagram size and iroh.

Each transfer runs in two fresh processes: one serves a file from disk, one fetches it to disk, each on a core of its
own where there are two. "Bare" is aioquic's own asyncio layer (serve/connect, a self-signed certificate, chunks of
64 KiB that wait for drain), which also reads from and writes to disk. "Rust" is bench/rust, the same exchange by the
published crate iroh, where there is cargo; it sizes its datagrams itself. Medians over rounds that take turns, because
the machine is shared: read the ratios.

    python -m bench.transfer [--size-mb 100] [--rounds 3] [--datagram 1452]

Over a long line, and beside TCP: ``bench/path.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import ipaddress
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = "127.0.0.1"
ALPN = "/pypatcher/x86_64/bench/v0"
OWNER_SEED, SERVER_SEED = bytes(range(32)), bytes(range(32, 64))


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Most bytes of memory that this program ever held; ``ru_maxrss`` would count its parent's, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def report(**values: object) -> None:
    """One JSON line for the parent."""
    print(json.dumps(values), flush=True)


def info_of(path: Path):
    """A signed PatchInfo for a file of noise: its hash is not looked at here."""
    from pypatcher.artifact.patch import make_info
    from pypatcher.keys import KeyPair
    from pypatcher.version import Version

    return make_info(Version(1, 0, 0), bytes(32), path.stat().st_size - 176, KeyPair.from_seed(OWNER_SEED))


async def ours_serve(path: Path, datagram: int, host: str) -> None:
    """Serve until stdin closes."""
    from pypatcher.budgets import UploadLimiter
    from pypatcher.install import LocalRelease
    from pypatcher.keys import KeyPair
    from pypatcher.transfer import serve_release
    from pypatcher.transfer.shelf import Shelf
    from pypatcher.transport import Endpoint

    owner = KeyPair.from_seed(OWNER_SEED).public
    endpoint = await Endpoint.open(KeyPair.from_seed(SERVER_SEED), [(host, 0)], max_datagram_size=datagram)
    shelf = Shelf(UploadLimiter())
    shelf.put([LocalRelease(path, info_of(path), bytes(64))])

    async def handle(connection):
        await serve_release(connection, shelf, owner=owner)

    endpoint.serve(ALPN, handle)
    before, begun = resident(), time.process_time()
    report(port=endpoint.addresses[0][1])
    await asyncio.to_thread(sys.stdin.read)
    report(growth=peak() - before, cpu=time.process_time() - begun)
    await endpoint.close()


async def ours_fetch(path: Path, datagram: int, host: str, source: tuple[str, int]) -> None:
    """Fetch once, from ``source``."""
    from pypatcher.keys import KeyPair
    from pypatcher.transfer import fetch_release
    from pypatcher.transport import Endpoint

    endpoint = await Endpoint.open(KeyPair.generate(), [(host, 0)], max_datagram_size=datagram)
    server = KeyPair.from_seed(SERVER_SEED).public
    before, begun = resident(), time.process_time()
    connection = await endpoint.connect(source, node_id=server, alpn=ALPN)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        hashed = hashlib.sha512()  # as the Rust peer does: a device hashes all of what it fetched once

        def write(data: bytes) -> None:
            file.write(data)
            hashed.update(data)

        sink = SimpleNamespace(write=write, received=lambda _count, _total: None)
        await fetch_release(connection, sink, owner=KeyPair.from_seed(OWNER_SEED).public, expect=None)
    seconds = time.perf_counter() - started
    connection.close()
    report(seconds=seconds, growth=peak() - before, cpu=time.process_time() - begun)
    await endpoint.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for bare aioquic."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HERE))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "bench.crt", folder / "bench.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def bare_serve(path: Path, datagram: int, host: str) -> None:
    """Serve by ``aioquic.asyncio.serve`` until stdin closes."""
    from aioquic.asyncio import QuicConnectionProtocol, serve
    from aioquic.quic.configuration import QuicConfiguration

    configuration = QuicConfiguration(is_client=False, alpn_protocols=["bench"], max_datagram_size=datagram)
    configuration.load_cert_chain(*certificate(path.parent))
    tasks = set()

    class Drained(QuicConnectionProtocol):
        """``drain`` of aioquic's writer never waits: wait for acknowledgements as a careful user would."""

    async def give(reader, writer) -> None:
        await reader.readexactly(64)
        stream_id = writer.get_extra_info("stream_id")
        quic = writer.transport.protocol._quic
        with path.open("rb") as file:
            while chunk := file.read(65536):
                writer.write(chunk)
                await writer.drain()
                while (  # noqa: ASYNC110 - aioquic gives nothing to wait for
                    (stream := quic._streams.get(stream_id)) and len(stream.sender._buffer) > 1 << 20
                ):
                    await asyncio.sleep(0.001)
        writer.write_eof()

    def on_stream(reader, writer) -> None:
        task = asyncio.get_running_loop().create_task(give(reader, writer))
        tasks.add(task)

    server = await serve(host, 0, configuration=configuration, create_protocol=Drained, stream_handler=on_stream)
    before, begun = resident(), time.process_time()
    report(port=server._transport.get_extra_info("sockname")[1])
    await asyncio.to_thread(sys.stdin.read)
    report(growth=peak() - before, cpu=time.process_time() - begun)
    server.close()


async def bare_fetch(path: Path, datagram: int, _host: str, source: tuple[str, int]) -> None:
    """Fetch by ``aioquic.asyncio.connect``."""
    from aioquic.asyncio import connect
    from aioquic.quic.configuration import QuicConfiguration

    configuration = QuicConfiguration(alpn_protocols=["bench"], max_datagram_size=datagram, verify_mode=0)
    before, begun = resident(), time.process_time()
    async with connect(*source, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        started = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            writer.write(bytes(64))
            writer.write_eof()
            while chunk := await reader.read(1 << 18):
                file.write(chunk)
        seconds = time.perf_counter() - started
    report(seconds=seconds, growth=peak() - before, cpu=time.process_time() - begun)


SIDES = {"ours": (ours_serve, ours_fetch), "bare": (bare_serve, bare_fetch)}
KINDS = {"bare": "bare", "plain": "ours", "compiled": "ours"}
CRATE = Path(__file__).with_name("rust")


def rust_peer() -> Path | None:
    """The program of bench/rust, built if there is cargo."""
    if shutil.which("cargo") is None:
        return None
    built = CRATE.parents[1] / ".cache" / "bench-rust"
    subprocess.run(["cargo", "build", "-q", "--release", "--locked", "--target-dir", built], cwd=CRATE, check=True)
    return built / "release" / "bench-rust"


def rust_commands(
    program: Path, source: Path, copy: Path, hosts: tuple[str, str] = (HERE, HERE)
) -> tuple[list[str], list[str]]:
    """How the two sides are started; the fetching one lacks its port, which goes where there is ``PORT``.

    ``hosts`` are the addresses of both.
    """
    from pypatcher.artifact.postcard import encode_unsigned
    from pypatcher.keys import KeyPair
    from pypatcher.transfer.wire import auth_value

    size, owner = source.stat().st_size, KeyPair.from_seed(OWNER_SEED).public
    patch = info_of(source).to_postcard() + encode_unsigned(size)
    prefix = b"\x01" + (len(patch) + size).to_bytes(8, "big") + patch
    auth = auth_value(owner, int(time.time() // 60))
    server = KeyPair.from_seed(SERVER_SEED).public
    return (
        [str(program), "serve", str(source), ALPN, SERVER_SEED.hex(), hosts[0], prefix.hex()],
        [str(program), "fetch", str(copy), ALPN, server.hex(), *hosts[::-1], "PORT", auth.hex(), str(len(prefix))],
    )


def python_commands(
    kind: str, source: Path, copy: Path, datagram: int, hosts: tuple[str, str] = (HERE, HERE)
) -> tuple[list[str], list[str]]:
    """The same for sides of this file."""
    command = [sys.executable, "-m", "bench.transfer", "--side", KINDS[kind], "--datagram", str(datagram)]
    serving, fetching = ([*command, "--host", host, "--file"] for host in hosts)
    return [*serving, str(source)], [*fetching, str(copy), "--source", hosts[0], "--port", "PORT"]


def on_cores(serving: list[str], fetching: list[str]) -> tuple[list[str], list[str]]:
    """Each side on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or shutil.which("taskset") is None:
        return serving, fetching
    return ["taskset", "-c", str(cores[0]), *serving], ["taskset", "-c", str(cores[1]), *fetching]


def digest(path: Path) -> bytes:
    """Of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def noise(path: Path, megabytes: int) -> None:
    """A file that nothing makes smaller."""
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1_000_000))


def transfer(kind: str, commands: tuple[list[str], list[str]], source: Path, copy: Path) -> dict[str, float]:
    """One transfer in two processes."""
    serving, fetching = on_cores(*commands)
    environment = os.environ | {"PYPATCHER_NO_EXTENSIONS": "1" if kind == "plain" else "0"}
    options: dict[str, Any] = {"env": environment, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(serving, stdin=subprocess.PIPE, **options) as server:
        port = str(json.loads(server.stdout.readline())["port"])
        fetching = [port if word == "PORT" else word for word in fetching]
        done = subprocess.run(fetching, check=True, **options)
        out, _ = server.communicate()
    client, server_side = json.loads(done.stdout), json.loads(out)
    if digest(copy) != digest(source):
        raise SystemExit(f"{kind}: the copy differs")
    return {
        "rate": source.stat().st_size / client["seconds"] / 1e6,
        "client_growth": client["growth"] / 1e6,
        "server_growth": server_side["growth"] / 1e6,
        "client_cpu": client["cpu"],
        "server_cpu": server_side["cpu"],
    }


def main() -> None:
    """Parse arguments; without ``--side`` run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--datagram", type=int, default=1452)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve, fetch = SIDES[options.side]
        if options.port:
            asyncio.run(fetch(options.file, options.datagram, options.host, (options.source, options.port)))
        else:
            asyncio.run(serve(options.file, options.datagram, options.host))
        return
    with tempfile.TemporaryDirectory() as folder:
        source, copy = Path(folder, "release"), Path(folder, "copy")
        noise(source, options.size_mb)
        commands = {kind: python_commands(kind, source, copy, options.datagram) for kind in KINDS}
        if (program := rust_peer()) is not None:
            commands["rust"] = rust_commands(program, source, copy)
        else:
            print("without the Rust peer: there is no cargo here")
        results: dict[str, list[dict[str, float]]] = {kind: [] for kind in commands}
        for _ in range(options.rounds):
            for kind, rows in results.items():
                rows.append(transfer(kind, commands[kind], source, copy))
                print(kind, {name: round(value, 2) for name, value in rows[-1].items()}, flush=True)
    print(f"\n{options.size_mb} MB over loopback, datagrams of {options.datagram} bytes, medians of {options.rounds}:")
    for kind, rows in results.items():
        rate, serving, fetching = (
            statistics.median(row[name] for row in rows) for name in ("rate", "server_cpu", "client_cpu")
        )
        ratio = statistics.median(row["rate"] / bare["rate"] for row, bare in zip(rows, results["bare"], strict=True))
        growth = max(max(row["client_growth"], row["server_growth"]) for row in rows)
        print(
            f"  {kind:<9}{rate:6.1f} MB/s, {ratio:5.1f} times bare; processor {serving:.2f} s serving, "
            f"{fetching:.2f} s fetching; memory grew by at most {growth:.0f} MB"
        )


if __name__ == "__main__":
    main()
