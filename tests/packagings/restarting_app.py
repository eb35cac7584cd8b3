"""The application that the packaging tests build: it restarts itself as long as a next file lies in its state folder.

Every start appends one JSON line to ``$APP_STATE/starts``. What its main thread does meanwhile is its first argument.
It is built with the folder ``pypatcher/process`` alone, so nothing but the restart is tried here.
"""

import asyncio
import atexit
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

atexit.register(lambda: note("atexit registered before pypatcher was imported"))

from app_version import VERSION  # noqa: E402

from pypatcher.errors import NotSingleFileError  # noqa: E402
from pypatcher.process import Restarter, Restarting, detect  # noqa: E402

STATE = Path(os.environ["APP_STATE"])
buffered = (STATE / "buffered").open("a", encoding="ascii")  # never closed nor flushed by the app


def note(text: str) -> None:
    with (STATE / "notes").open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def staged() -> list[Path]:
    return sorted(STATE.glob("next-*"))


def say_start(restarter: Restarter) -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    start = {
        "version": VERSION,
        "argv": sys.argv,
        "plan": restarter.plan.how.name,
        "environment": dict(os.environ),
        "directory": str(Path.cwd()),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "blocked": int(status["SigBlk"], 16),
        "ignored": int(status["SigIgn"], 16),
        "umask": status["Umask"].strip(),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,
        "socket": Path("/proc/self/fd/3").is_socket(),
        "unpacked": str(restarter.program.unpacked),
        "bundled": (Path(__file__).parent / "bundled.txt").read_text() if restarter.program.unpacked else "",
    }
    with (STATE / "starts").open("a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")


def main() -> None:
    how = sys.argv[1]
    if how == "worker":
        try:
            detect()
        except NotSingleFileError as error:
            note(f"worker: {error}")
        return
    program = detect()
    grace, limit = (1.0 if how.startswith("stubborn") else 20.0), (0.3 if how == "callback-hangs" else 600.0)
    restarter = Restarter(program, grace=grace, delay_limit=limit)
    say_start(restarter)
    buffered.write(f"{VERSION}\n")
    os.environ["APP_CHANGED_BY_ITSELF"] = "yes"
    os.umask(0o077)
    atexit.register(note, "atexit registered by the application")
    if how == "worker-started":
        subprocess.run([str(program.executable), *worker_arguments(program)], check=True)
        return
    if not staged():
        if how == "ignores-stop-stay":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if how.endswith("stay"):
            time.sleep(60)
        note("end")
        print("the last one ends", flush=True)
        sys.exit(7)
    if restarter.plan.how is Restarting.NEXT_START or how == "at-start":
        restarter.restart(activate_next(program.path))
    if how == "callback-hangs":
        restarter.on_restart(threading.Event().wait)
    if how == "callback-fails":
        restarter.on_restart(lambda: 1 // 0)
    if how == "async-callback":
        restarter.on_restart(async_callback)
    restarter.on_restart(lambda: note("on_restart"))
    run(how, restarter, activate_next(program.path))


def worker_arguments(program: object) -> list[str]:
    # A frozen executable is its own interpreter.
    return ["worker"] if program.unpacked else [sys.argv[0], "worker"]  # type: ignore[attr-defined]


def activate_next(path: Path):
    def activate() -> None:
        staged()[0].rename(path)
        sys.meta_path.insert(0, NoteImports())

    return activate


class NoteImports:
    """Asked for every module that is not there yet: there must be none once the file at P is another one."""

    def find_spec(self, name: str, *_: object) -> None:
        note(f"import of {name} after activation")


def ask_soon(restarter: Restarter, activate) -> None:
    def ask() -> None:
        time.sleep(0.2)
        while (STATE / "hold").exists() or (
            sys.argv[1] == "slow-end" and not callable(signal.getsignal(signal.SIGTERM))
        ):
            time.sleep(0.02)
        restarter.request(activate)

    threading.Thread(target=ask, daemon=True).start()


def run(how: str, restarter: Restarter, activate) -> None:
    kind = how.removesuffix("-stay")
    if kind.startswith("async"):
        asyncio.run(async_main(kind, restarter, activate))
        return
    restarter.attach()
    ask_soon(restarter, activate)
    if kind == "bare":
        time.sleep(60)
    with restarter.around_main():
        try:
            SYNC[kind]()
        finally:
            import colorsys  # a module first imported while the program ends

            note(f"finally {colorsys.__name__}")


async def async_main(kind: str, restarter: Restarter, activate) -> None:
    ask_soon(restarter, activate)
    if kind == "async-spawn":
        restarter.attach()
        await never(kind)
    with restarter.around_main():
        await never(kind)


async def never(kind: str) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(f"cancelled {kind}")
        raise


def waits_for_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


async def async_callback() -> None:
    await asyncio.sleep(0.3)
    note("async on_restart, before the application was told to end")


def ends_slowly() -> None:
    def stop(*_: object) -> None:
        note("stop")
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    try:
        time.sleep(60)
    finally:
        note("ending")
        time.sleep(1)


def fails_at_its_end() -> None:
    try:
        time.sleep(60)
    finally:
        raise ValueError("the application's own failure")


def long_c_call() -> None:
    hashlib.pbkdf2_hmac("sha512", b"password", b"salt", 1_500_000)
    time.sleep(60)


def blocks_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    time.sleep(60)


def leaves_threads_and_children() -> None:
    thread = threading.Thread(target=time.sleep, args=(0.8,))
    thread.start()
    subprocess.Popen(["true"])
    inherited, _ = os.pipe()
    os.set_inheritable(inherited, True)
    time.sleep(60)


def swallows_everything() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:
            note("swallowed")


def blocks_all_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.sigwait({signal.SIGUSR2})


def has_thread_that_never_ends() -> None:
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("unflushed", end="")
    time.sleep(60)


SYNC = {
    "sleep": lambda: time.sleep(60),
    "slow-end": ends_slowly,
    "fails-at-end": fails_at_its_end,
    "callback-hangs": lambda: time.sleep(60),
    "callback-fails": lambda: time.sleep(60),
    "lock": waits_for_lock,
    "child": lambda: subprocess.run(["sleep", "1"], check=False) and time.sleep(60),
    "c-call": long_c_call,
    "blocks-sigterm": blocks_sigterm,
    "leftovers": leaves_threads_and_children,
    "stubborn-swallow": swallows_everything,
    "stubborn-sigwait": blocks_all_signals,
    "stubborn-thread": has_thread_that_never_ends,
}


if __name__ == "__main__":
    main()
