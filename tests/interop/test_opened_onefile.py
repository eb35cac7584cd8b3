"""A line of a real PyInstaller onefile, built as people build it: what of that crosses the network, in UDP bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pypatcher.artifact.opened import stated_opened_root
from pypatcher.bencode import Value
from pypatcher.udp import DatagramSocket
from tests.support.manifests import word_of
from tests.support.v1_nodes import open_speaker
from tests.unit.transfer.v1.test_changed import Scene


def build(folder: Path, line: str, seed: str) -> bytes:
    """Each build of an ordinary one has another hash seed, and so the standard library in another order."""
    folder.mkdir()
    (folder / "app.py").write_text(f"import json\nprint(json.dumps({line!r}))\n")
    command = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level", "ERROR", "--distpath", ".", "app.py"]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600, env=environment)
    return (folder / "app").read_bytes()


async def test_a_line_of_an_ordinary_build_moves_half_of_its_plain_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = build(tmp_path / "1", "before", "1"), build(tmp_path / "2", "after", "2")
    scene, sent = Scene(tmp_path, new, old), 0
    now, train = DatagramSocket._send_now, DatagramSocket._send_train

    def send_now(udp: DatagramSocket, data: bytes, *rest: object) -> bool:
        nonlocal sent
        sent += len(data)
        return now(udp, data, *rest)  # type: ignore[arg-type]

    def send_train(udp: DatagramSocket, data: bytes, *rest: object) -> bool:
        nonlocal sent
        sent += len(data)
        return train(udp, data, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(DatagramSocket, "_send_now", send_now)
    monkeypatch.setattr(DatagramSocket, "_send_train", send_train)
    with (tmp_path / "new").open("rb") as file:
        stated = stated_opened_root(file.fileno())
    assert stated is not None
    plain: dict[bytes, Value] = {b"i": scene.info.to_postcard(), b"tree": b"\1" + scene.tree.root}
    moved = list[int]()
    for keys in (plain, plain | {b"otree": stated}):
        word, before = word_of(keys, "2.0.0"), sent
        async with open_speaker(word) as holder, open_speaker(word) as taker:
            scene.hold(holder)
            assert await scene.fetch(taker, holder) == new
        moved.append(sent - before)
    assert moved[1] < moved[0] / 2
