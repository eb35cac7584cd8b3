"""Packet protection against the vector of RFC 9001, and key updates that an attacker cannot bring about."""

from __future__ import annotations

import pytest

from pypatcher.established.protection import AES_128_GCM, CHACHA20_POLY1305, Opener, Sealer

# RFC 9001 appendix A.5; the packet number there takes 3 bytes, so its header is made by hand.
SECRET = bytes.fromhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")
NUMBER = 654360564
PACKET = bytes.fromhex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb")


def test_the_short_header_packet_of_the_rfc_is_opened() -> None:
    opener = Opener(CHACHA20_POLY1305, SECRET)
    mask = opener.masks(PACKET, len(PACKET), 1, 1)
    first = PACKET[0] ^ (mask[0] & 0x1F)
    number = bytes(a ^ b for a, b in zip(PACKET[1:4], mask[1:4], strict=True))
    assert (first, number) == (0x42, bytes.fromhex("00bff4"))
    assert opener.open(bytes((first,)) + number, NUMBER, PACKET[4:], 0) == (b"\x01", False)


@pytest.mark.parametrize("suite", [AES_128_GCM, CHACHA20_POLY1305])
def test_a_batch_is_what_each_packet_would_be_alone(suite: int) -> None:
    sealer, opener = Sealer(suite, SECRET), Opener(suite, SECRET)
    prefix = b"\x43" + b"name8byt"
    packets = [sealer.seal(prefix, number, bytes((number,)) * 40) for number in range(5)]
    ((train, size),) = sealer.finish([header for header, _ in packets], [sealed for _, sealed in packets])
    alone = [sealer.finish([header], [sealed])[0] for header, sealed in packets]
    assert alone == [(train[at : at + size], size) for at in range(0, len(train), size)]
    masks = opener.masks(train, size, 9, len(packets))
    for number, (packet, _) in enumerate(alone):
        mask = masks[16 * number : 16 * number + 16]
        hidden = bytes(a ^ b for a, b in zip(packet[9:13], mask[1:5], strict=True))
        header = bytes((packet[0] ^ (mask[0] & 0x1F),)) + packet[1:9] + hidden
        assert int.from_bytes(hidden, "big") == number
        assert opener.open(header, number, packet[13:], 0) == (bytes((number,)) * 40, False)


@pytest.mark.parametrize(
    ("sizes", "trains"),
    [
        ([40, 40, 40], [3]),
        ([40, 40, 30, 40], [3, 1]),
        ([30, 40, 40], [1, 2]),
        ([40], [1]),
        ([40] * 61, [60, 1]),
        ([1400] * 50, [45, 5]),
    ],
)
def test_a_train_is_equal_packets_and_a_shorter_one_at_most(sizes: list[int], trains: list[int]) -> None:
    sealer = Sealer(AES_128_GCM, SECRET)
    packets = [sealer.seal(b"\x43name8byt", number, bytes(size)) for number, size in enumerate(sizes)]
    made = sealer.finish([header for header, _ in packets], [sealed for _, sealed in packets])
    assert [-(-len(data) // size) for data, size in made] == trains
    assert sum(len(data) for data, _ in made) == sum(size + 29 for size in sizes)


def sealed_by(sealer: Sealer, number: int) -> tuple[bytes, int, bytes, int]:
    prefix = bytes((0x43 | sealer.phase << 2,)) + b"name8byt"
    header, sealed = sealer.seal(prefix, number, b"frames")
    return header, number, sealed, sealer.phase


def test_a_flipped_phase_that_is_not_genuine_changes_no_key() -> None:
    sealer, opener = Sealer(AES_128_GCM, SECRET), Opener(AES_128_GCM, SECRET)
    header, number, sealed, phase = sealed_by(sealer, 7)
    assert opener.open(header, number, sealed, 1 - phase) == (None, False)
    assert opener.failed == 1
    assert opener.open(header, number, sealed, phase) == (b"frames", False)


def test_late_packets_of_the_last_phase_are_opened_for_a_while() -> None:
    sealer, opener = Sealer(AES_128_GCM, SECRET), Opener(AES_128_GCM, SECRET)
    late = [sealed_by(sealer, number) for number in (3, 4)]
    sealer.update()
    new = sealed_by(sealer, 5)
    assert opener.open(*new) == (b"frames", True)
    opener.update(5)
    assert opener.open(*late[0]) == (b"frames", False)
    assert opener.open(*sealed_by(sealer, 6)) == (b"frames", False)
    opener.forget_old()
    assert opener.open(*late[1]) == (None, False)
