"""Whatever lies under a name that somebody else controls, opening it neither waits nor does anything to it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pypatcher.budgets import UploadLimiter
from pypatcher.errors import CannotReplaceError, KeyFileError
from pypatcher.keys import OwnerKey, encode_key, read_secret_file
from pypatcher.node.device import own_target
from pypatcher.node.publish import Steps
from pypatcher.regular_file import open_regular, read_regular
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.v1.held_trees import HeldTrees
from pypatcher.update.outfile import Download, OutFile
from tests.support.manifests import OWNER, file_word
from tests.support.transport import local_release, make_release

PUBLIC = encode_key(OWNER.public)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Nobody ever writes to it."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("what", ["pipe", "link", "folder", "socket", "device"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, pipe: Path, what: str) -> None:
    path = {"pipe": pipe, "folder": tmp_path, "device": Path("/dev/null")}.get(what, tmp_path / what)
    if what == "link":
        path.symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as listening:
        if what == "socket":
            listening.bind(str(path))
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)


def test_a_pipe_is_not_even_opened_for_a_moment(pipe: Path) -> None:
    """As with a watchdog's device: who opens it has started it."""
    is_opened = threading.Event()

    def write() -> None:
        os.close(os.open(pipe, os.O_WRONLY))
        is_opened.set()

    writing = threading.Thread(target=write)
    writing.start()
    for _ in range(20):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(pipe)
    was_opened = is_opened.is_set()
    os.close(os.open(pipe, os.O_RDONLY))
    writing.join()
    assert not was_opened


def test_a_link_is_followed_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert read_regular(tmp_path / "link", 3) == b"tex"
        assert read_regular("file", 10, folder=folder, follow=False) == b"text"
        with pytest.raises(OSError, match="not a regular file"):
            read_regular("link", 10, folder=folder, follow=False)
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    "words",
    [
        ["sign", "app", "--key-file", "pipe"],
        ["sign", "app", "--key-file", "key"],
        ["rollout", "pipe", "--hold", "--key-file", "key"],
        ["publish", "pipe"],
        ["publish", "pipe.steps", "--each", "1h"],
        ["inspect", "pipe"],
        ["verify", "app", "--public-key", "pipe.pub"],
        ["embed", "pipe", "--version", "1.0.0"],
        ["adopt", "pipe", "program"],
        ["status", "pipe"],
        ["unit", "pipe"],
        ["seed", "pipe", "--public-key", PUBLIC, "--bootstrap", ""],
        ["fetch", "--out", "pipe", "--public-key", PUBLIC, "--bootstrap", ""],
        ["fetch", "--out", "new", "--public-key", PUBLIC, "--bootstrap", ""],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_no_command_waits_for_a_pipe(tmp_path: Path, pipe: Path, words: list[str]) -> None:
    (tmp_path / "key").write_text(encode_key(OWNER.seed))
    (tmp_path / "app").write_bytes(b"\x7fELF")
    for name in ("key.pub", "pipe.steps", "pipe.pub", "pipe.manifest", "app.manifest", "new.manifest"):
        os.mkfifo(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "pypatcher", *words], cwd=tmp_path, capture_output=True, check=False, timeout=100
    )
    assert done.returncode in (1, 2)
    assert b"Traceback" not in done.stderr


def test_the_target_of_a_program_that_became_a_pipe_is_not_waited_for(pipe: Path) -> None:
    looking = threading.Thread(target=own_target, args=(pipe, Path(sys.executable)), daemon=True)
    looking.start()
    looking.join(100)
    assert not looking.is_alive()


def test_a_key_that_a_shell_pipes_in_is_read(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"not a key\n")
    os.close(writer)
    try:
        with pytest.raises(KeyFileError, match="a key has 52"):
            read_secret_file(Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)


async def test_no_tree_is_built_of_a_release_that_became_a_pipe(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, 1 << 18)
    held = local_release(info, tmp_path / "release")
    held.path.unlink()
    os.mkfifo(held.path)
    shelf = Shelf(UploadLimiter())
    shelf.put([held])
    with pytest.raises(OSError, match="not a regular file"):
        await asyncio.wait_for(HeldTrees(shelf, lambda _: None).plain(held), 100)


@pytest.mark.parametrize("by", ["pipe", "file", "link"])
def test_a_download_that_somebody_replaced_is_given_to_nobody(tmp_path: Path, by: str) -> None:
    """The attack: put a file of root's at the name of root's own download, which gives parts of it to others."""
    (tmp_path / "secret").write_text("secret")
    folder = os.open(tmp_path, os.O_RDONLY)
    download = Download(tmp_path / "out", folder)
    try:
        (tmp_path / download.name).unlink()
        if by == "pipe":
            os.mkfifo(tmp_path / download.name)
        elif by == "file":
            os.link(tmp_path / "secret", tmp_path / download.name)
        else:
            (tmp_path / download.name).symlink_to("secret")
        with pytest.raises(OSError, match=r"moved away|not a regular file"):
            download.open_again()
    finally:
        download.discard()
        os.close(folder)


async def test_what_was_opened_when_is_noted_in_no_file_of_another_kind(tmp_path: Path) -> None:
    """The attack: a link at that name, which root wrote through."""
    (tmp_path / "precious").write_text("precious\n")
    note = tmp_path / "app.steps.opened"
    note.symlink_to("precious")
    steps = Steps([file_word("2.0.0")], note, 60.0, lambda: 1e9, lambda *_: None)
    with pytest.raises(CannotReplaceError):
        steps._left(0)
    assert (tmp_path / "precious").read_text() == "precious\n"
    note.unlink()
    os.mkfifo(note)
    assert steps._read() == (-1, 0.0)
    note.unlink()
    for _ in range(2):
        assert steps._left(0) == 60.0
    assert steps._read() == (steps._steps[0].seq, 1e9)


def test_what_is_at_the_name_of_a_fetch_is_read_where_it_is(tmp_path: Path) -> None:
    """A link that is put there after the place was looked at is not followed, whatever it leads to."""
    (tmp_path / "here").mkdir()
    out = OutFile(tmp_path / "here" / "app", OwnerKey(OWNER.public), None, None)
    with out:
        (tmp_path / "here" / "app").symlink_to("/dev/null")
        assert out._release_there() is None
