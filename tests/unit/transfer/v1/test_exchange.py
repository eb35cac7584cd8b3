"""The v1 exchange between nodes: the owner's word and releases pass whoever dialed, and who breaks it is left alone."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from pypatcher.artifact import chunks
from pypatcher.artifact.chunks import PARAMETERS
from pypatcher.artifact.postcard import encode_unsigned
from pypatcher.artifact.tree import TreeNode, build_tree
from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.intake import Intake
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.events import ReleaseServed
from pypatcher.keys import encode_key
from pypatcher.transfer import StallRule
from pypatcher.transfer.v1.answers import decode_nodes, encode_piece
from pypatcher.transfer.v1.messages import Flags, Hello, Kind, RangesRequest, TreeRequest, encode_message
from pypatcher.transport import CloseCode, Connection
from pypatcher.transport.stream import Stream
from tests.support.manifests import OWNER_KEY, release, word
from tests.support.siege import until
from tests.support.transport import Kept, local_release, make_release, open_endpoint
from tests.support.v1_nodes import NAMESPACE, Speaker, open_liar, open_speaker

NEW, OLD = word("2.0.0"), word("1.0.0")
SIZE = 9_000_000
"""More than two requests."""


def candidate(member: Speaker, version: str = "2.0.0") -> Candidate:
    info = member.shelf.held[0] if member.shelf.held else release(version)
    return Candidate(info, member.endpoint.node_id, member.address, "a test", speaks_v1=True)


async def request(connection: Connection, message: bytes) -> Stream:
    stream = await connection.open_stream()
    await stream.write(message)
    await stream.finish()
    return stream


async def all_of(stream: Stream) -> bytes:
    data = b""
    while part := await stream.read(1 << 20):
        data += part
    return data


def test_the_alpn_does_not_show_the_owners_key() -> None:
    alpn = NAMESPACE.alpn_v1
    assert alpn is not None
    assert encode_key(OWNER_KEY) not in alpn
    assert len(alpn) == len("/pypatcher/1/") + 32


@pytest.mark.parametrize("dialer", ["who knows it", "who does not"])
async def test_the_owners_word_passes_whoever_dialed(dialer: str) -> None:
    async with open_speaker(NEW) as knows, open_speaker(OLD) as does_not, open_speaker() as never_did:
        for other in (does_not, never_did):
            first, second = (knows, other) if dialer == "who knows it" else (other, knows)
            await first.meet(second.address)
            assert other.word.current == NEW
        assert knows.word.current == NEW


async def test_signatures_that_are_lacking_are_merged_both_ways() -> None:
    from dataclasses import replace

    first = replace(NEW, signatures=(NEW.signatures[0], b"", b"", b""))
    rest = replace(NEW, signatures=(b"", *NEW.signatures[1:]))
    async with open_speaker(first) as one, open_speaker(rest) as other:
        await one.meet(other.address)
        await until(lambda: one.word.current == NEW == other.word.current)


async def test_a_release_is_fetched_whole_and_its_giver_says_so(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)
    async with open_speaker(limiter=UploadLimiter(1 << 30)) as holder, open_speaker() as taker:
        holder.hold(local_release(info, tmp_path / "release"))
        counts: list[tuple[int, int]] = []
        sink = Kept(received=lambda count, total: counts.append((count, total)))
        assert await taker.exchange.fetch(candidate(holder), sink) == info
        assert bytes(sink) == body
        assert counts[-1] == (SIZE, SIZE)
        await until(lambda: len(holder.events) == 1)
        (said,) = holder.events
        assert isinstance(said, ReleaseServed)
        assert (said.version, said.bytes) == ("2.0.0", SIZE)


async def test_what_comes_from_outside_the_lan_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypatcher.budgets.intake.is_lan", lambda _address: False)
    info, body = make_release(tmp_path, SIZE)
    for day in (SIZE // 2, SIZE + 1000):
        intake = Intake(day=day)
        async with open_speaker() as holder, open_speaker(stall=StallRule(intake=intake)) as taker:
            holder.hold(local_release(info, tmp_path / "release"))
            sink = Kept()
            await taker.exchange.fetch(candidate(holder), sink)
            assert bytes(sink) == body
        assert (intake.wait(("20.0.0.1", 1)) > 0.0) is (day < SIZE)


async def test_what_is_not_held_is_not_given(tmp_path: Path) -> None:
    async with open_speaker() as holder, open_speaker() as taker:
        with pytest.raises(PeerError, match="unavailable"):
            await taker.exchange.fetch(candidate(holder), Kept())


async def test_the_upload_limits_are_those_of_every_exchange(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    async with open_speaker(limiter=UploadLimiter(0)) as holder, open_speaker() as taker:
        holder.hold(local_release(info, tmp_path / "release"))
        with pytest.raises(PeerBusyError):
            await taker.exchange.fetch(candidate(holder), Kept())
        assert holder.shelf.limiter.rate == 0


async def fetch_once_free(taker: Speaker, holder: Speaker, sink: Kept) -> None:
    """The holder may not have heard yet that the last one left."""
    async with asyncio.timeout(10):
        while True:
            try:
                await taker.exchange.fetch(candidate(holder), sink)
                return
            except PeerBusyError:
                await asyncio.sleep(0.05)


async def test_an_upload_gives_its_place_back_at_the_end(tmp_path: Path) -> None:
    info, body = make_release(tmp_path)
    async with open_speaker(limiter=UploadLimiter(lan_uploads=1)) as holder:
        holder.hold(local_release(info, tmp_path / "release"))
        for _ in range(3):
            async with open_speaker() as taker:
                sink = Kept()
                await fetch_once_free(taker, holder, sink)
                assert bytes(sink) == body


async def test_parts_of_a_release_and_its_tree_are_given(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, 300_000)
    async with open_speaker() as holder, open_endpoint() as client:
        holder.hold(local_release(info, tmp_path / "release"))
        connection = await client.connect(holder.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        descriptor = os.open(tmp_path / "release", os.O_RDONLY)
        tree = build_tree(descriptor, 300_000, PARAMETERS[1])
        os.close(descriptor)
        root = await all_of(
            await request(connection, encode_message(Kind.TREE, TreeRequest(info.release_id, 1).encode()))
        )
        assert root[:1] == b"\0"
        (node,) = decode_nodes(root[1:], 1)
        assert node == tree.nodes[tree.root]
        ids = TreeNode.decode(node).ids[:2] if TreeNode.decode(node).level else ()
        below = TreeRequest(info.release_id, 1, (*ids, bytes(16)))
        answer = await all_of(await request(connection, encode_message(Kind.TREE, below.encode())))
        assert decode_nodes(answer[1:], len(ids) + 1) == [*(tree.nodes[each] for each in ids), b""]
        asked = RangesRequest(info.release_id, Flags.ZLIB, ((5, 10), (100_000, 4)))
        answer = await all_of(await request(connection, encode_message(Kind.RANGES, asked.encode())))
        assert answer == b"\0" + b"".join(
            encode_piece(body[at : at + size], zlib_welcome=True) for at, size in asked.ranges
        )


async def test_a_tree_that_would_take_minutes_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "COMPILED", False)
    info, _ = make_release(tmp_path, 17 << 20)
    async with open_speaker() as holder, open_endpoint() as client:
        holder.hold(local_release(info, tmp_path / "release"))
        connection = await client.connect(holder.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        asked = TreeRequest(info.release_id, 1)
        assert await all_of(await request(connection, encode_message(Kind.TREE, asked.encode()))) == b"\0\0"


async def test_a_request_that_nobody_knows_is_answered_so() -> None:
    async with open_speaker(NEW) as member, open_endpoint() as client:
        connection = await client.connect(member.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        assert await all_of(await request(connection, encode_message(77, b"x"))) == encode_unsigned(CloseCode.UNKNOWN)
        answer = await all_of(await request(connection, encode_message(Kind.MANIFEST)))
        assert answer == b"\0" + NEW.encode()


async def test_a_request_given_up_without_a_place_ends_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer "busy" could not be written then: the connection ended, and 3 kB of a failure of ours were logged."""
    goes_on = asyncio.Event()
    async with open_speaker(NEW) as member, open_endpoint() as client:

        async def is_busy(*_: object) -> None:
            await goes_on.wait()
            raise PeerBusyError("nothing is here of it yet")

        monkeypatch.setattr(member.exchange._giver, "answer_ranges", is_busy)
        connection = await client.connect(member.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        await (await connection.open_uni()).write(encode_message(Kind.HELLO, Hello().encode()))
        asked = RangesRequest(bytes(32), Flags(0), ((0, 1),)).encode()
        given_up, waits = [await request(connection, encode_message(Kind.RANGES, asked)) for _ in range(2)]
        # That it was heard of is known by what is answered behind it.
        assert await all_of(await request(connection, encode_message(77, b""))) == bytes((CloseCode.UNKNOWN,))
        given_up.reset(CloseCode.DONE)
        assert await all_of(await request(connection, encode_message(77, b""))) == bytes((CloseCode.UNKNOWN,))
        goes_on.set()
        assert await all_of(waits) == bytes((CloseCode.BUSY,))
        assert await all_of(await request(connection, encode_message(77, b""))) == bytes((CloseCode.UNKNOWN,))
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "said",
    [
        [encode_message(2, b"x")],
        [encode_message(Kind.HELLO, b"no dictionary")],
        [encode_message(Kind.HELLO, Hello().encode())] * 11,
        [encode_message(Kind.HELLO, Hello().encode()), encode_message(5) * 100],
        [b"\xff" * 30],
    ],
    ids=["another message first", "no HELLO", "too many", "too many that nobody knows", "no message"],
)
async def test_who_breaks_the_control_stream_is_ended(said: list[bytes]) -> None:
    async with open_speaker() as member, open_endpoint() as client:
        connection = await client.connect(member.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        stream = await connection.open_uni()
        await stream.write(b"".join(said))
        await ended_for_protocol(connection)


async def test_what_a_peer_says_over_and_over_is_attended_to_once_a_second() -> None:
    """The attack: ten HELLOs a second over many connections, each with four signatures that we check."""
    attended = 0

    async def count(_session: object) -> None:
        nonlocal attended
        attended += 1

    async with open_speaker() as member, open_endpoint() as client:
        member.exchange.met = count
        connection = await client.connect(member.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        stream = await connection.open_uni()
        for number in range(9):
            await stream.write(encode_message(Kind.HELLO, Hello(software=str(number)).encode()))
            await asyncio.sleep(0.05)
        assert attended == 1
        await until(lambda: attended == 2)


async def test_a_second_control_stream_and_the_end_of_the_first_are_faults() -> None:
    async with open_speaker() as member, open_endpoint() as client:
        for is_second in (True, False):
            connection = await client.connect(member.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
            stream = await connection.open_uni()
            await stream.write(encode_message(Kind.HELLO, Hello().encode()))
            if is_second:
                await (await connection.open_uni()).write(b"x")
            else:
                await stream.finish()
            await ended_for_protocol(connection)


async def ended_for_protocol(connection: Connection) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(PeerError, match="protocol"):
            await connection.accept_stream()


@pytest.mark.parametrize("given", [OLD.encode(), b"junk", NEW.encode() + b"x"], ids=["older", "no manifest", "more"])
async def test_who_gives_less_than_it_said_is_left_alone(given: bytes) -> None:
    far = word("9.0.0")
    hello = Hello(seq=far.seq, digest=far.digest, mask=far.mask)
    async with open_liar(hello) as liar, open_speaker(OLD) as member:
        liar.answers[Kind.MANIFEST] = b"\0" + given
        for _ in range(3):
            try:
                await member.meet(liar.address)
            except PeerError:
                continue
        assert liar.asked == [Kind.MANIFEST]
        assert member.word.current == OLD


async def test_of_two_connections_between_two_nodes_one_stays() -> None:
    async with open_speaker() as one, open_speaker() as other:
        there, back = await asyncio.gather(one.exchange.dial(other.address), other.exchange.dial(one.address))
        sessions = one.exchange.enter(there), other.exchange.enter(back)
        talks = [
            asyncio.create_task(member.exchange.run(session))
            for member, session in zip((one, other), sessions, strict=True)
        ]
        lower, higher = (there, back) if one.endpoint.node_id < other.endpoint.node_id else (back, there)
        async with asyncio.timeout(10):
            await higher.wait_closed()
        assert not lower.is_closed
        lower.close()
        await asyncio.gather(*talks)


async def test_a_connection_without_a_request_ends() -> None:
    async with open_speaker(NEW) as one, open_speaker() as other:
        async with asyncio.timeout(10):
            await one.meet(other.address, patience=0.2)
        await until(lambda: other.word.current == NEW)


async def test_that_a_connection_ended_is_nobodys_fault() -> None:
    far = word("9.0.0")
    async with open_liar(Hello(seq=far.seq, digest=far.digest, mask=far.mask)) as liar, open_speaker(OLD) as speaker:
        liar.hangs_up = True
        await speaker.meet(liar.address)
        liar.hangs_up = False
        liar.answers[Kind.MANIFEST] = b"\0" + far.encode()
        await speaker.meet(liar.address)
        assert speaker.word.current == far


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x02\x00",
        b"\x00\x00\x05hello",
        b"\x00" + b"\x00\xd0\x86\x03" + bytes(50_000) + b"x",
        b"\x00" + b"\x00\xd0\x86\x03" + bytes(49_999),
        b"\x00" + b"\x01\x05" + bytes(5),
        b"\x00",
        b"\x05",
        b"\x63",
        b"",
    ],
    ids=["absent", "another length", "more", "less", "zlib unasked", "nothing", "refused", "no status", "silence"],
)
async def test_who_gives_something_else_gives_nothing(answer: bytes, tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    async with open_liar(Hello(held=(info,))) as liar, open_speaker() as taker:
        liar.answers[Kind.RANGES] = answer
        sink = Kept()
        told = Candidate(info, liar.endpoint.node_id, liar.address, "a test", speaks_v1=True)
        async with asyncio.timeout(20):
            with pytest.raises(PeerError):
                await taker.exchange.fetch(told, sink)
        assert len(sink) <= info.file_size


async def test_who_drips_a_release_is_given_up(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    async with open_liar(Hello(held=(info,))) as liar, open_speaker(stall=StallRule(1000.0, 0.5)) as taker:
        liar.drips = True
        told = Candidate(info, liar.endpoint.node_id, liar.address, "a test", speaks_v1=True)
        async with asyncio.timeout(20):
            with pytest.raises(PeerError, match="stalled"):
                await taker.exchange.fetch(told, Kept())


async def test_an_upload_holds_one_place_for_all_that_it_asks(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, SIZE)
    async with open_speaker(limiter=UploadLimiter(lan_uploads=1)) as holder, open_endpoint() as client:
        holder.hold(local_release(info, tmp_path / "release"))
        connection = await client.connect(holder.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        asked = RangesRequest(info.release_id, Flags(0), ((0, SIZE),))
        stream = await request(connection, encode_message(Kind.RANGES, asked.encode()))
        assert await stream.read_exactly(1) == b"\0"
        again = RangesRequest(info.release_id, Flags(0), ((0, 10),))
        async with open_speaker() as other:
            with pytest.raises(PeerBusyError):
                await other.exchange.fetch(candidate(holder), Kept())
        assert (await all_of(await request(connection, encode_message(Kind.RANGES, again.encode()))))[:1] == b"\0"
        connection.close()
        async with open_speaker() as other:
            await fetch_once_free(other, holder, Kept())
