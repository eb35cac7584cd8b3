"""The public API as an application meets it: what misuse says, and that nothing else is ever raised or changed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pypatcher
from pypatcher.keys import KeyPair, encode_key

KEY = encode_key(KeyPair.from_seed(bytes(range(32))).public)
PREFACE = f"import asyncio, sys, pypatcher\nKEY = {KEY!r}\n"


def run(code: str, *, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in an interpreter of its own, as ``python script.py``; its network is loopback and empty."""
    settings = {"PYPATCHER_BIND": "127.0.0.1:0", "PYPATCHER_BOOTSTRAP": "", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-W", "error", "-c", PREFACE + textwrap.dedent(code)]
    if folder is not None:
        script = folder / "script.py"
        script.write_text(PREFACE + textwrap.dedent(code), encoding="utf-8")
        command = [sys.executable, "-W", "error", str(script), "an argument"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**settings, **environment, "PYTHONPATH": str(Path(pypatcher.__file__).parents[1])},
    )


def error_of(code: str, **environment: str) -> str:
    """The name and message of what a script raises."""
    done = run(
        "try:\n" + textwrap.indent(textwrap.dedent(code), "    ") + "\nexcept Exception as error:\n"
        "    print(type(error).__name__, error)\nelse:\n    print('nothing')\n",
        **environment,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_everything_that_is_exported_is_there() -> None:
    assert all(getattr(pypatcher, name) is not None for name in pypatcher.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pypatcher.nonsense  # type: ignore[attr-defined]


def test_importing_it_loads_no_network_stack() -> None:
    done = run(
        """
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(loaded & {"aioquic", "cryptography", "elftools"}))
        """
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_plain_script_is_told_so_once_and_runs_as_it_would_without(tmp_path: Path) -> None:
    done = run(
        """
        events = []
        pypatcher.on_event(events.append)

        @pypatcher.public_key(KEY)
        async def main(word):
            await pypatcher.spawn(pypatcher.UpdaterMode.Now)
            await asyncio.sleep(0.2)
            return word

        @pypatcher.public_key(KEY)
        def again(word):
            pypatcher.start()
            return word

        print(asyncio.run(main("async")), again("sync"), sys.argv[1:], events, pypatcher.confirm())
        pypatcher.stop()
        """,
        folder=tmp_path,
    )
    assert done.returncode == 0
    assert done.stdout == "async sync ['an argument'] [] False\n"
    assert done.stderr.count("no updates") == 1
    assert "no single-file program" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_a_decorated_main_keeps_its_name_arguments_and_result() -> None:
    done = run(
        """
        @pypatcher.public_key(KEY)
        def main(a, *rest, b=1):
            "What it does."
            if b == 2:
                raise KeyError("mine")
            return a, rest, b

        print(main.__name__, main.__doc__, main(1, 2, b=3))
        try:
            main(1, b=2)
        except KeyError as error:
            print("raised", error)

        @pypatcher.public_key(KEY)
        async def later():
            raise KeyError("mine too")

        print(asyncio.iscoroutinefunction(later))
        try:
            asyncio.run(later())
        except KeyError as error:
            print("raised", error)
        """
    )
    assert done.stdout.splitlines() == [
        "main What it does. (1, (2,), 3)",
        "raised 'mine'",
        "True",
        "raised 'mine too'",
    ]


def test_a_plain_call_trusts_a_key_too() -> None:
    done = run("pypatcher.public_key(KEY); pypatcher.start(); print('runs')")
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert done.stderr.count("no updates") == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("pypatcher.public_key()", "SettingError give one key"),
        ("pypatcher.public_key(KEY, armv7=KEY)", "SettingError give one key"),
        ("pypatcher.public_key('short')", "KeyFileError public key 'short' is not a key"),
        ("pypatcher.public_key(armv6=KEY)", "SettingError unknown target 'armv6': choose one of aarch64, armv7"),
        ("pypatcher.public_key(armv7='short')", "KeyFileError public key 'short' is not a key"),
        ("pypatcher.public_key(KEY, namespace='other')", "SettingError namespace 'other' is unknown"),
        ("pypatcher.start()", "SettingError call pypatcher.public_key"),
        ("asyncio.run(pypatcher.spawn())", "SettingError call pypatcher.public_key"),
        ("pypatcher.public_key(KEY); pypatcher.start('now')", "SettingError 'now' is no mode: choose UpdaterMode.Now"),
        ("pypatcher.public_key(KEY); pypatcher.start(pypatcher.UpdaterMode.At)", "SettingError <class"),
        ("pypatcher.UpdaterMode.At(25, 0)", "SettingError 25:00 is no time of day"),
        ("pypatcher.public_key(KEY); pypatcher.start(confirm='never')", "SettingError confirm='never'"),
        ("pypatcher.public_key(KEY); pypatcher.start(upload=-1)", "SettingError upload=-1"),
        ("pypatcher.public_key(KEY); pypatcher.start(bind=())", "SettingError bind"),
        ("pypatcher.Version.current()", "NotSingleFileError this is no single-file program"),
        ("pypatcher.Patch.from_self()", "NotSingleFileError this is no single-file program"),
    ],
)
def test_misuse_is_one_clear_error(code: str, message: str) -> None:
    assert error_of(code).startswith(message)


def test_a_wrong_environment_is_logged_and_the_application_runs() -> None:
    done = run(
        """
        pypatcher.public_key(KEY)
        pypatcher.start()
        print("runs")
        """,
        PYPATCHER_UPLOAD="a lot",
    )
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert "no updates until the environment is mended: PYPATCHER_UPLOAD='a lot'" in done.stderr


def signed_zipapp(folder: Path, code: str) -> Path:
    """A zipapp of that code, signed as 1.2.3."""
    import zipapp

    from pypatcher.artifact import embed_region, sign_file
    from pypatcher.version import Version

    source = folder / "source"
    source.mkdir()
    (source / "__main__.py").write_text(PREFACE + textwrap.dedent(code), encoding="utf-8")
    (folder / "app").mkdir()
    path = folder / "app" / "app.pyz"
    zipapp.create_archive(source, path)
    embed_region(path, Version(1, 2, 3))
    sign_file(path, KeyPair.from_seed(bytes(range(32))), None, None)
    return path


def run_zipapp(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"PYPATCHER_BIND": "127.0.0.1:0", "PYPATCHER_BOOTSTRAP": "", "PYPATCHER_ALLOW_VOLATILE": "1"}
    return subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            **settings,
            "PATH": "/usr/bin:/bin",
            "PYPATCHER_STATE": str(path.parent.parent / "cache"),
            "PYTHONPATH": str(Path(pypatcher.__file__).parents[1]),
            **environment,
        },
    )


def test_a_program_without_a_network_says_so_and_ends_as_it_wants(tmp_path: Path) -> None:
    path = signed_zipapp(
        tmp_path,
        """
        import threading, time
        up = threading.Event()
        names = []

        def heard(event):
            names.append(event.name)
            if event.name == "node.started":
                up.set()

        pypatcher.on_event(heard)

        @pypatcher.public_key(KEY)
        async def main():
            started = time.monotonic()
            await pypatcher.spawn(pypatcher.UpdaterMode.At(3, 30), upload=0)
            print("spawned", time.monotonic() - started < 1)
            try:
                pypatcher.start()
            except pypatcher.PatcherError as error:
                print(error)
            await asyncio.to_thread(up.wait, 40)
            print(pypatcher.Version.current(), len(pypatcher.Patch.from_self().data), pypatcher.confirm())
            pypatcher.stop()
            print(names)

        asyncio.run(main())
        sys.exit(5)
        """,
    )
    done = run_zipapp(path)
    assert done.returncode == 5, done.stderr
    assert done.stdout.splitlines() == [
        "spawned True",
        "the updater runs already: call spawn() or start() once",
        f"1.2.3 {path.stat().st_size} False",
        "['node.started', 'node.stopped']",
    ]
    assert done.stderr == ""


def test_what_a_callback_starts_hears_a_stop(tmp_path: Path) -> None:
    path = signed_zipapp(
        tmp_path,
        """
        import signal, subprocess, threading
        look = "print(open('/proc/self/status').read().split('SigBlk:')[1].split()[0])"
        up = threading.Event()

        def heard(event):
            if event.name == "node.started":
                subprocess.run([sys.executable, "-c", look])
                up.set()

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        pypatcher.on_event(heard)

        @pypatcher.public_key(KEY)
        def main():
            pypatcher.start()
            up.wait(40)
            pypatcher.stop()

        main()
        """,
    )
    assert run_zipapp(path).stdout == "0000000000000200\n"  # SIGUSR1, as main says, and not all


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PYPATCHER_BIND": "203.0.113.7:0"}, "203.0.113.7 is no address of this machine now"),
        ({"PYPATCHER_STATE": "/proc/nowhere"}, "updates still work"),
        ({"PYPATCHER_BOOTSTRAP": "nowhere.invalid:1"}, ""),
    ],
)
def test_no_failure_of_network_or_disk_reaches_the_application(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    path = signed_zipapp(
        tmp_path,
        """
        import logging, os, threading
        said, heard = os.environ["SAID"], threading.Event()

        class Stderr(type(logging.lastResort)):
            def emit(self, record):
                super().emit(record)
                if said and said in record.getMessage():
                    heard.set()

        logging.lastResort = Stderr(logging.WARNING)

        @pypatcher.public_key(KEY)
        def main():
            pypatcher.start()
            heard.wait(40 if said else 2)
            pypatcher.stop()
            print("ran to its end")

        main()
        """,
    )
    done = run_zipapp(path, SAID=said, **environment)
    assert (done.returncode, done.stdout) == (0, "ran to its end\n")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_json_lines_go_to_stderr_when_the_environment_says_so(tmp_path: Path) -> None:
    path = signed_zipapp(
        tmp_path,
        """
        import threading
        up = threading.Event()
        pypatcher.on_event(lambda event: event.name == "node.started" and up.set())
        pypatcher.public_key(KEY)
        pypatcher.start()
        up.wait(20)
        pypatcher.stop()
        """,
    )
    lines = [json.loads(line) for line in run_zipapp(path, PYPATCHER_LOG="json").stderr.splitlines()]
    assert [line["event"] for line in lines] == ["node.started", "node.stopped"]
    assert lines[0]["version"] == "1.2.3"
    assert all("time" in line for line in lines)
