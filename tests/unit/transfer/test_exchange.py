"""The v0 exchange between two endpoints: design.md "Transport and transfer"."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.intake import Intake
from pypatcher.errors import ContentMismatchError, PeerBusyError, PeerError, SignatureMismatchError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.transfer import StallRule, fetch_from, fetch_release, serve_release, wire
from pypatcher.transport import CloseCode, Connection, Endpoint
from tests.support.transport import (
    ALPN,
    OWNER_KEY,
    RUST_ALPN,
    Kept,
    OneRelease,
    Server,
    local_release,
    make_release,
    open_endpoint,
    open_server,
)

MINUTE = 29_000_000


async def fetch(server: Server, client: Endpoint, *, alpn: str = ALPN, at: int = MINUTE, **options: object) -> bytes:
    """Fetch from ``server`` with a clock that shows the minute ``at``."""
    sink = options.pop("sink", Kept())
    await fetch_from(
        client,
        server.address,
        sink,
        node_id=server.endpoint.node_id,
        alpn=alpn,
        **{"owner": OWNER_KEY, "expect": None, "now": lambda: at * 60.0, **options},
    )
    return bytes(sink)


@pytest.mark.parametrize("size", [176, 177, 50_000, 1 << 18, (1 << 18) + 1, 3_000_000])
async def test_a_release_arrives_as_it_is_on_disk(tmp_path: Path, size: int) -> None:
    info, body = make_release(tmp_path, size)
    progress: list[tuple[int, int]] = []
    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        got = await fetch(server, client, expect=info, sink=Kept(received=lambda *step: progress.append(step)))
        assert got == body
        assert progress[-1] == (size, size)
        async with asyncio.timeout(5):
            while not server.outcomes:
                await asyncio.sleep(0.01)
        assert server.outcomes == [size]


@pytest.mark.parametrize("off", [-1, 0, 1, -2, 2, 500_000])
async def test_a_clock_wrong_by_any_amount_blocks_nobody_in_our_namespace(tmp_path: Path, off: int) -> None:
    info, body = make_release(tmp_path)
    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        assert await fetch(server, client, at=MINUTE + off) == body
        assert len(server.outcomes) <= 1


@pytest.mark.parametrize(("off", "ahead"), [(0, 0), (1, 0), (-7, 7), (500, -500)])
async def test_a_clock_that_differs_from_a_peers_is_told(tmp_path: Path, off: int, ahead: int) -> None:
    info, body = make_release(tmp_path)
    got = Kept()
    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        fetched = await fetch_from(
            client,
            server.address,
            got,
            node_id=server.endpoint.node_id,
            alpn=ALPN,
            owner=OWNER_KEY,
            expect=None,
            now=lambda: (MINUTE + off) * 60.0,
        )
    assert fetched == (info, ahead)
    assert bytes(got) == body


async def test_the_rust_namespace_refuses_a_wrong_minute_without_a_word(tmp_path: Path) -> None:
    info, body = make_release(tmp_path)
    async with (
        open_server(local_release(info, tmp_path / "release"), alpn=RUST_ALPN) as server,
        open_endpoint() as client,
    ):
        assert await fetch(server, client, alpn=RUST_ALPN) == body
        with pytest.raises(PeerError, match="refused"):
            await fetch(server, client, alpn=RUST_ALPN, at=MINUTE + 2)


async def test_a_peer_that_names_its_minute_and_hangs_up_is_dialed_again(tmp_path: Path) -> None:
    info, body = make_release(tmp_path)
    dials = []

    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:

        async def hang_up_first(connection: Connection) -> None:
            dials.append(connection)
            if len(dials) > 1:
                return await server.handle(connection)
            stream = await connection.accept_stream()
            await stream.read_exactly(64)
            await stream.write(wire.encode_refusal(MINUTE))
            await stream.finish()
            await stream.delivered()
            return None

        server.endpoint.serve(ALPN, hang_up_first)
        assert await fetch(server, client, at=5) == body
        assert len(dials) == 2


async def test_a_peer_that_refuses_its_own_minute_is_given_up(tmp_path: Path) -> None:
    asked = []

    async def refuse(connection: Connection) -> None:
        while True:
            stream = await connection.accept_stream()
            asked.append(await stream.read_exactly(64))
            await stream.write(wire.encode_refusal(len(asked)))
            await stream.finish()

    async with open_server(None) as server, open_endpoint() as client:
        server.endpoint.serve(ALPN, refuse)
        with pytest.raises(PeerError, match="twice"):
            await fetch(server, client, at=5)
        assert len(asked) == 2


async def test_a_peer_that_refuses_and_hangs_up_is_asked_twice(tmp_path: Path) -> None:
    asked = []

    async def refuse_and_go(connection: Connection) -> None:
        stream = await connection.accept_stream()
        asked.append(await stream.read_exactly(64))
        await stream.write(wire.encode_refusal(len(asked)))
        await stream.finish()
        await stream.delivered()

    async with open_server(None) as server, open_endpoint() as client:
        server.endpoint.serve(ALPN, refuse_and_go)
        with pytest.raises(PeerError):
            await fetch(server, client, at=5)
        assert len(asked) == 2
        assert asked[1] == wire.auth_value(OWNER_KEY, 1)


async def test_another_owners_key_is_refused(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        with pytest.raises(PeerError):
            await fetch(server, client, owner=OwnerKey(KeyPair.generate().public))


async def test_the_side_that_dialed_can_be_the_one_that_gives(tmp_path: Path) -> None:
    info, body = make_release(tmp_path)
    offer = ALPN.replace("/v0", "/offer/v0")
    async with open_endpoint() as holder, open_endpoint() as seeker:
        got = Kept()
        fetched = asyncio.get_running_loop().create_future()

        async def take(connection: Connection) -> None:
            fetched.set_result(await fetch_release(connection, got, owner=OWNER_KEY, expect=info))

        seeker.serve(offer, take)
        connection = await holder.connect(seeker.addresses[0], node_id=seeker.node_id, alpn=offer)
        shelf = OneRelease(local_release(info, tmp_path / "release"))
        served = await serve_release(connection, shelf, owner=OWNER_KEY)  # type: ignore[arg-type]
        assert served is not None
        assert (await fetched).info == served.info == info
        assert bytes(got) == body


async def test_several_peers_are_served_at_once(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, 2_000_000)
    async with open_server(local_release(info, tmp_path / "release")) as server:
        clients = [open_endpoint() for _ in range(6)]
        endpoints = [await client.__aenter__() for client in clients]
        try:
            copies = await asyncio.gather(*(fetch(server, endpoint, expect=info) for endpoint in endpoints))
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)
        assert copies == [body] * 6


async def test_a_busy_server_says_so_at_once_and_has_a_place_later(tmp_path: Path) -> None:
    info, body = make_release(tmp_path)
    limiter = UploadLimiter(lan_uploads=1)
    place = limiter.admit(("127.0.0.1", 1), 1)
    assert place is not None
    async with (
        open_server(local_release(info, tmp_path / "release"), limiter=limiter) as server,
        open_endpoint() as client,
    ):
        with pytest.raises(PeerBusyError):
            await fetch(server, client)
        place.end()
        assert await fetch(server, client) == body
        assert await fetch(server, client) == body


async def test_a_peer_that_is_busy_in_mid_transfer_had_a_place(
    tmp_path: Path,
) -> None:
    info, body = make_release(tmp_path)

    async def give_up(connection: Connection) -> None:
        stream = await connection.accept_stream()
        await stream.read_exactly(wire.REQUEST_SIZE)
        await stream.write(wire.encode_acceptance(info, len(body)) + body[:-1])
        while stream.unacknowledged:
            await asyncio.sleep(0.01)
        connection.close(CloseCode.BUSY)

    async with open_endpoint() as hostile, open_endpoint() as client:
        hostile.serve(ALPN, give_up)
        with pytest.raises(PeerError, match="gave up") as raised:
            await fetch_from(
                client,
                hostile.addresses[0],
                Kept(),
                node_id=None,
                alpn=ALPN,
                owner=OWNER_KEY,
                expect=info,
            )
        assert not isinstance(raised.value, PeerBusyError)


async def test_who_takes_nothing_loses_its_place_to_the_next_who_asks(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, 9_000_000)
    late, began, go_on = 0.0, threading.Event(), threading.Event()
    limiter = UploadLimiter(lan_uploads=1, clock=lambda: time.monotonic() + late)

    def hold(_data: bytes) -> None:
        began.set()
        go_on.wait()

    async with (
        open_server(local_release(info, tmp_path / "release"), limiter=limiter) as server,
        open_endpoint() as client,
    ):
        slow = asyncio.ensure_future(fetch(server, client, sink=Kept(hold)))
        try:
            await asyncio.to_thread(began.wait)
            with pytest.raises(PeerBusyError):
                await fetch(server, client)
            late = 300.0
            assert await fetch(server, client) == body
        finally:
            go_on.set()
        with pytest.raises(PeerError, match="stalled"):
            await slow


async def test_outside_the_lan_an_upload_keeps_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypatcher.budgets.upload_limits.is_lan", lambda _address: False)
    info, body = make_release(tmp_path, 1_000_000)
    limiter = UploadLimiter(2_000_000)
    async with (
        open_server(local_release(info, tmp_path / "release"), limiter=limiter) as server,
        open_endpoint() as client,
    ):
        started = asyncio.get_running_loop().time()
        assert await fetch(server, client) == body
        assert 0.2 < asyncio.get_running_loop().time() - started < 2


async def test_what_comes_from_outside_the_lan_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, body = make_release(tmp_path, 1_000_000)
    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        for day in (900_000, 1_000_001):
            intake = Intake(day=day)
            assert await fetch(server, client, stall=StallRule(intake=intake)) == body
            assert intake.wait(("20.0.0.1", 1)) == 0.0
            with monkeypatch.context() as patch:
                patch.setattr("pypatcher.budgets.intake.is_lan", lambda _address: False)
                assert await fetch(server, client, stall=StallRule(intake=intake)) == body
            assert (intake.wait(("20.0.0.1", 1)) > 0.0) is (day < len(body))


async def test_a_server_without_a_release_or_whose_file_changed_says_so(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    async with open_server(None) as server, open_endpoint() as client:
        with pytest.raises(PeerError, match="unavailable"):
            await fetch(server, client)
        server.release = local_release(info, tmp_path / "nowhere")
        with pytest.raises(PeerError, match="unavailable"):
            await fetch(server, client)
        (tmp_path / "release").write_bytes(b"short")
        server.release = local_release(info, tmp_path / "release")
        with pytest.raises(PeerError, match="unavailable"):
            await fetch(server, client)
        os.mkfifo(tmp_path / "pipe")
        server.release = local_release(info, tmp_path / "pipe")
        with pytest.raises(PeerError, match="unavailable"):
            await fetch(server, client)


async def test_a_file_replaced_while_it_is_served_still_arrives_as_it_was(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, 4_000_000)

    def replace(done: int, _total: int) -> None:
        if done <= 1 << 18:
            (tmp_path / "next").write_bytes(bytes(4_000_000))
            (tmp_path / "next").replace(tmp_path / "release")

    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        assert await fetch(server, client, sink=Kept(received=replace)) == body


async def test_a_file_written_into_while_it_is_served_is_not_sent_whole(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, 3_000_000)

    def spoil(_got: bytes) -> None:
        with (tmp_path / "release").open("r+b") as file:
            file.seek(2_900_000)
            file.write(b"changed")

    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        with pytest.raises(PeerError):
            await fetch(server, client, sink=Kept(spoil))


async def test_another_release_than_announced_is_refused_unwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, _ = make_release(tmp_path)
    other, _ = make_release(tmp_path, version="2.0.1")
    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        with pytest.raises(ContentMismatchError):
            await fetch(server, client, expect=other, sink=Kept(pytest.fail))
        with monkeypatch.context() as patched, pytest.raises(ContentMismatchError):
            patched.setattr("pypatcher.transfer.client.MAX_FILE_SIZE", 49_999)
            await fetch(server, client, sink=Kept(pytest.fail))
        forged = type(info)(info.version, info.size, info.hash, bytes(64))
        server.release = local_release(forged, tmp_path / "release")
        with pytest.raises(SignatureMismatchError):
            await fetch(server, client, sink=Kept(pytest.fail))


async def test_a_full_disk_ends_the_fetch_with_its_own_error(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, 3_000_000)

    def full(_data: bytes) -> None:
        raise OSError(28, "No space left on device")

    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        with pytest.raises(OSError, match="No space"):
            await fetch(server, client, sink=Kept(full))


async def test_after_a_fetch_was_cancelled_nothing_is_written_any_more(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, 6_000_000)
    started, go_on = threading.Event(), threading.Event()
    over = False

    def slow(_data: bytes) -> None:
        started.set()
        go_on.wait(5)
        assert not over

    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        task = asyncio.ensure_future(fetch(server, client, sink=Kept(slow)))
        await asyncio.to_thread(started.wait, 5)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        over = True
        assert go_on.is_set()
