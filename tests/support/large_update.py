"""One update of a large program, as its owner and its device do it: ``seed`` gives it, ``run`` takes it beside an app.

    with LargeUpdate(folder, megabytes=512, new=32) as update:
        update.run(Cage.of(512), beside=350)

Both are real processes, and the device has no more memory than a cgroup (version 1 or 2) gives all of it together, its
page cache included; where there is none that can be made, the node has what a limit of its own data leaves beside the
app. Told is the memory that is resident and no file's.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pypatcher.artifact import sign_file
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.artifact.tree import stated_root
from pypatcher.keys import KeyPair, encode_key
from tests.support.devices import here
from tests.support.transport import loopback

__all__ = ["Cage", "LargeUpdate", "Used"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_SOURCE = Path(__file__).with_name("large_app.c")
_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
_MIB = 1 << 20
_PATIENCE = 3600.0


class Cage:
    """What a device has of memory, in MiB.

    Attributes:
        kind: by what it is bounded: ``cgroup v1``, ``cgroup v2`` or ``limit of data``.
    """

    def __init__(self, megabytes: int) -> None:
        self._bytes = megabytes * _MIB
        self.kind, self._group = "limit of data", Path()

    @classmethod
    @contextlib.contextmanager
    def of(cls, megabytes: int) -> Iterator[Cage]:
        """For the block."""
        cage = cls(megabytes)
        for kind, root, limit in (
            ("cgroup v1", _V1, "memory.limit_in_bytes"),
            ("cgroup v2", _V2, "memory.max"),
        ):
            group = root / f"pypatcher-{os.getpid()}"
            try:
                if kind == "cgroup v2":
                    (root / "cgroup.subtree_control").write_text("+memory")
                group.mkdir()
                (group / limit).write_text(str(cage._bytes))
            except OSError:
                with contextlib.suppress(OSError):
                    group.rmdir()
                continue
            cage.kind, cage._group = kind, group
            break
        try:
            yield cage
        finally:
            if cage.kind != "limit of data":
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        cage._group.rmdir()
                        break
                    time.sleep(0.05)  # what was in it is about to end

    def command(self, *words: str) -> list[str]:
        """A command that runs in it."""
        if self.kind == "limit of data":
            return list(words)
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self._group), *words]

    def bound(self, node: int, beside: int) -> None:
        """Where it bounds no group, bound the node: what ``beside`` MiB leave of it."""
        if self.kind == "limit of data":
            _, hard = resource.prlimit(node, resource.RLIMIT_DATA)
            resource.prlimit(node, resource.RLIMIT_DATA, (self._bytes - beside * _MIB, hard))

    @property
    def killed(self) -> int:
        """How many processes the kernel killed in it for want of memory."""
        name = {"cgroup v1": "memory.oom_control", "cgroup v2": "memory.events"}.get(self.kind)
        lines = [] if name is None else (self._group / name).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@dataclass
class Used:
    """
    Attributes:
        idle, peak: MiB of one node, by who it is.
        seconds: from the device's start until the new version ran.
    """

    idle: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def above_idle(self, who: str) -> float:
        return self.peak[who] - self.idle[who]


class LargeUpdate:
    """A program and a release of it, which have ``megabytes`` each; all but ``new`` are the same.

    Attributes:
        log: the versions that the app said at its starts.
    """

    def __init__(self, folder: Path, megabytes: int, new: int) -> None:
        self._folder, self._stack = folder, contextlib.ExitStack()
        self._key = KeyPair.generate()
        self._paths = {version: folder / version for version in ("1.0.0", "2.0.0")}
        self._megabytes, self._new = megabytes, new

    def __enter__(self) -> Self:
        for version, path in self._paths.items():
            include = _REPOSITORY / "pypatcher" / "include"
            command = ["cc", "-O1", f"-I{include}", f'-DVERSION="{version}"', "-o", str(path), str(_SOURCE)]
            subprocess.run(command, check=True)
        with self._paths["1.0.0"].open("ab") as old, self._paths["2.0.0"].open("ab") as new:
            every = max(1, self._megabytes // max(1, self._new))
            for number in range(self._megabytes):
                block = os.urandom(_MIB)
                old.write(block)
                new.write(os.urandom(_MIB) if number % every == 0 and self._new else block)
        infos = [sign_file(path, self._key, None, here()) for path in self._paths.values()]
        with self._paths["2.0.0"].open("rb") as file:
            said = first_word(self._key, infos[1], [here().name], Change(tree=stated_root(file.fileno())))
        write_manifest(manifest_path(self._paths["2.0.0"]), said, replace=True)
        with contextlib.ExitStack() as stack:
            words = [sys.executable, "-m", "pypatcher", "testnet", "--nodes", "8", "--json"]
            net = stack.enter_context(_process(words, stdout=subprocess.PIPE))
            assert net.stdout is not None
            self._bootstrap = ",".join(json.loads(net.stdout.readline())["bootstrap"])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def log(self) -> list[str]:
        path = self._folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def run(self, cage: Cage, beside: int) -> Used:
        """Update once; the app uses ``beside`` MiB.

        Raises:
            AssertionError: it did not come to that, or somebody was killed for want of memory.
        """
        used, device = Used(), self._folder / "device"
        device.mkdir()
        program = self._paths["1.0.0"].rename(device / "app")
        took = ["run", "--public-key", encode_key(self._key.public), "--", "./app", str(beside)]
        gave = ["seed", str(self._paths["2.0.0"]), "--public-key", encode_key(self._key.public)]
        with contextlib.ExitStack() as stack:
            began = time.monotonic()
            taker = stack.enter_context(self._node("taker", cage.command(*_quick(*took)), device))
            stack.callback(_kill_children, taker.pid)
            self._wait(lambda: bool(self.log), taker)
            cage.bound(taker.pid, beside)
            used.idle["taker"] = _resident(taker.pid)
            giver = stack.enter_context(self._node("giver", _quick(*gave), self._folder))
            used.idle["giver"] = used.idle["taker"]
            stack.enter_context(_watching({"taker": taker.pid, "giver": giver.pid}, used))
            self._wait(lambda: len(self.log) > 1, taker, giver)
            used.seconds = time.monotonic() - began
            assert self.log == ["1.0.0 runs", "2.0.0 runs"], self.log
            assert not cage.killed
            assert filecmp.cmp(program, self._paths["2.0.0"], shallow=False)
        return used

    def _wait(self, is_so: object, *nodes: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _PATIENCE
        while not is_so():  # type: ignore[operator]
            ended = [node.args for node in nodes if node.poll() is not None]
            assert not ended, f"{ended}: {self._said()}"
            assert time.monotonic() < until, self._said()
            time.sleep(0.1)

    def _said(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self._folder.glob("*er.log")))

    @contextlib.contextmanager
    def _node(self, who: str, words: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
        variables = {
            **os.environ,
            "APP_LOG": str(self._folder / "log"),
            "PYTHONPATH": str(_REPOSITORY),
            "PYPATCHER_ALLOW_VOLATILE": "1",
            "PYPATCHER_BOOTSTRAP": self._bootstrap,
            "PYPATCHER_BIND": f"{loopback()}:0",
            "PYPATCHER_LOOK_INTERVAL": "2",
            "PYPATCHER_PUBLISH_INTERVAL": "5",
            "PYPATCHER_STATE": str(self._folder / f"state-{who}"),
        }
        with (
            (self._folder / f"{who}.log").open("wb") as log,
            _process(words, cwd=folder, env=variables, stdout=log, stderr=log) as process,
        ):
            yield process


def _quick(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.quick_run", *words]


@contextlib.contextmanager
def _process(words: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(words, **options) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def _kill_children(pid: int) -> None:
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)


def _resident(pid: int) -> float:
    """MiB of a process that are resident and no file's."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


@contextlib.contextmanager
def _watching(pids: dict[str, int], used: Used) -> Iterator[None]:
    ends = threading.Event()

    def watch() -> None:
        while not ends.wait(0.1):
            for who, pid in pids.items():
                used.peak[who] = max(used.peak.get(who, 0.0), _resident(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
