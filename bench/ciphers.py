"""What a packet of 1,400 bytes costs with either cipher, sealed and masked as QUIC does it, in microseconds.

    python bench/ciphers.py
    OPENSSL_ia32cap="~0x200000200000000" python bench/ciphers.py     an x86 processor without AES instructions

The second line masks AES-NI and PCLMULQDQ, as ``OPENSSL_armcap=0`` does on ARM for what it has. Medians of rounds that
take turns, because the machine is shared: read the ratio.
"""

from __future__ import annotations

import os
import statistics
import time

from aioquic._crypto import AEAD, HeaderProtection

CIPHERS = {
    "AES-128-GCM": (b"aes-128-gcm", b"aes-128-ecb", 16),
    "ChaCha20-Poly1305": (b"chacha20-poly1305", b"chacha20", 32),
}
ROUNDS, PACKETS = 9, 4000


def seal(name: str, packets: int) -> float:
    """Seconds of processor time for so many packets."""
    cipher, mask, size = CIPHERS[name]
    aead, protection = AEAD(cipher, os.urandom(size), os.urandom(12)), HeaderProtection(mask, os.urandom(size))
    payload, header = os.urandom(1400), b"\x41" + os.urandom(10)
    began = time.process_time()
    for number in range(packets):
        protection.apply(header, aead.encrypt(payload, header, number))
    return time.process_time() - began


def main() -> None:
    """Print a row for each."""
    spent: dict[str, list[float]] = {name: [] for name in CIPHERS}
    for _ in range(ROUNDS):
        for name, seconds in spent.items():
            seconds.append(seal(name, PACKETS) / PACKETS * 1e6)
    least = min(statistics.median(seconds) for seconds in spent.values())
    for name, seconds in spent.items():
        print(f"{name:<20}{statistics.median(seconds):6.2f} us{statistics.median(seconds) / least:6.2f} of the cheaper")


if __name__ == "__main__":
    main()
