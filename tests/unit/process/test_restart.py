"""The last moments of a restart, where our own signal, a lack of room or a mask could cost the program; the restart of
whole programs is tried in tests/packagings.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
BEGIN = """
import atexit, ctypes, errno, os, signal, subprocess, sys, threading, time
from pathlib import Path
from pypatcher.process import children, native
from pypatcher.process.ending import Ending
from pypatcher.process.plan import Restarting, RestartPlan
from pypatcher.process.restart import Restarter

def restarter(how=Restarting.EXEC):
    made = Restarter(native(Path("/bin/echo"), ("RESTARTED",)), plan=RestartPlan(how), ending=ending, grace=5.0)
    return made

ending = Ending()
ending.attach()
"""
HANDLERS = pytest.mark.parametrize("handler", ["sys.exit(0)", "os._exit(0)"])


def run(script: str) -> str:
    """What the program and the one after it say; the second says RESTARTED."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@HANDLERS
def test_program_that_its_callback_ends_is_sent_no_stop(handler: str) -> None:
    said = run(f"""
        signal.signal(signal.SIGTERM, lambda *_: {handler})
        inside, ended = threading.Event(), threading.Event()

        def activate():
            inside.set()
            time.sleep(0.5)
            print("activated", flush=True)

        made = restarter()
        made.on_restart(lambda: threading.Timer(0.3, ended.set).start())
        made.request(activate, inside.wait)
        ended.wait()
    """)
    assert said == "activated\nRESTARTED\n"


@HANDLERS
def test_stop_of_ours_while_it_leaves_does_not_end_it(handler: str) -> None:
    said = run(f"""
        signal.signal(signal.SIGTERM, lambda *_: {handler})
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

        def activate():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            print("activated", flush=True)

        restarter().request(activate)
        time.sleep(30)
    """)
    assert said == "activated\nRESTARTED\n"


def test_stop_of_ours_as_the_interpreter_ends_does_not_end_it() -> None:
    said = run("""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        ended = threading.Event()

        def callback():
            ending._sent = True
            # Once, and without a bytecode after it.
            atexit.register(next, map(getattr(ctypes.CDLL(None), "raise"), [int(signal.SIGTERM)]), None)
            ended.set()
            time.sleep(10)

        made = restarter()
        made.on_restart(callback)
        made.request(lambda: print("activated", flush=True))
        ended.wait()
    """)
    assert said == "activated\nRESTARTED\n"


def test_process_that_is_ended_while_it_leaves_goes_on_leaving() -> None:
    said = run("""
        def activate():
            print("activated", flush=True)
            os._exit(0)

        restarter().request(activate)
        time.sleep(30)
    """)
    assert said == "activated\nRESTARTED\n"


def test_stop_of_ours_that_was_held_back_does_not_kill() -> None:
    said = run("""
        restarter().request(lambda: print("activated", flush=True))
        old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            time.sleep(30)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
            print("ended in good order", flush=True)
    """)
    assert said == "ended in good order\nactivated\nRESTARTED\n"


@pytest.mark.parametrize("processes", [0, 1])
def test_program_without_room_for_a_helper_is_started(processes: int) -> None:
    said = run(f"""
        fork, pid = os.fork, os.getpid()

        def fork_while_there_is_room():
            if os.getpid() != pid or not {processes}:
                raise BlockingIOError(11, "no room")
            return fork()

        os.fork = fork_while_there_is_room
        restarter(Restarting.HELPER).request(lambda: print("activated", flush=True))
        time.sleep(30)
    """)
    assert said == "activated\nRESTARTED\n"


def test_program_whose_helper_was_killed_is_started() -> None:
    said = run("""
        made = restarter(Restarting.HELPER)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

        def activate():
            os.kill(made._helper.pid, signal.SIGKILL)
            time.sleep(0.2)
            print("activated", flush=True)

        made.request(activate)
        time.sleep(30)
    """)
    assert said == "activated\nRESTARTED\n"


def test_children_of_a_callback_block_what_main_blocks() -> None:
    said = run("""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        made = restarter()
        look = "print(open('/proc/self/status').read().split('SigBlk:')[1].split()[0])"
        made.on_restart(lambda: subprocess.run([sys.executable, "-c", look]))
        made.request()
        time.sleep(30)
    """)
    assert said.split() == ["0000000000000200", "RESTARTED"]


def test_signal_of_ours_that_ends_no_wait_is_sent_again() -> None:
    said = run("""
        send, lost = signal.pthread_kill, []

        def lose_one(thread, number):
            if ending.interrupted and not lost:
                lost.append(number)
            else:
                send(thread, number)

        signal.pthread_kill = lose_one
        atexit.register(print, "ended in good order", flush=True)
        restarter().request()
        time.sleep(30)
    """)
    assert said == "ended in good order\nRESTARTED\n"


def test_exec_that_fails_for_a_moment_is_tried_again() -> None:
    said = run("""
        execve, failures = os.execve, [errno.ENOMEM, errno.EAGAIN, errno.ETXTBSY]

        def fail_first(*arguments):
            if failures:
                raise OSError(failures.pop(), "not now")
            execve(*arguments)

        os.execve = fail_first
        restarter().restart()
    """)
    assert said.strip() == "RESTARTED"


def test_a_wait_in_c_that_our_signal_ends_does_not_end_the_program() -> None:
    said = run("""
        made = restarter()
        made.on_restart(lambda: None)
        threading.Timer(0.3, made.request).start()
        libc = ctypes.CDLL(None)
        libc.pause()  # C code that takes an interrupted wait for the end of its work
    """)
    assert said.strip() == "RESTARTED"


def test_helpers_of_a_helper_do_not_outlive_it() -> None:
    said = run("""
        helper = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        last = int(helper.stdout.readline())

        def stop(*_):
            helper.terminate()
            helper.wait()
            sys.exit(0)

        signal.signal(signal.SIGTERM, stop)
        made = restarter()
        made.request(lambda: print("lives" if children._start_of(last) else "ended", flush=True))
        time.sleep(60)
    """)
    assert said.split() == ["ended", "RESTARTED"]


IN_C = """
libc = ctypes.CDLL(None)
libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
libc.signal(15, ctypes.cast(libc.{handler}, ctypes.c_void_p))
signal.signal(signal.SIGINT, lambda *_: os._exit(15))
made = restarter()
made.on_restart(lambda: os.kill(os.getpid(), {also}))
made.request()
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("handler", "also", "said"),
    [("_exit", 0, "RESTARTED"), ("abs", "threading.Timer(2.0, os.kill, (os.getpid(), 2)).start() or 0", "")],
    ids=["ends it", "a stop comes"],
)
def test_handler_in_c_that_ends_the_program_does_not_end_the_restart(handler: str, also: object, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + IN_C.format(handler=handler, also=also)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (signal.SIGTERM, said), done.stderr


def test_a_start_that_must_restart_needs_no_thread_for_it() -> None:
    said = run("""
        def no_room(self):
            raise RuntimeError("can't start new thread")

        threading.Thread.start = no_room
        restarter().restart()
    """)
    assert said == "RESTARTED\n"


SENDERS = ['getattr(signal, "raise_" "signal")(15)', 'getattr(os, "ki" "ll")(os.getpid(), 15)']
SENDERS += ['getattr(signal, "pthread_" "kill")(threading.get_ident(), 15)', "signal.raise_signal(15)"]
SENDERS += ["os.killpg(os.getpgrp(), 15)", 'getattr(os, "ki" "ll")(-os.getpgrp(), 15)', "kill(os.getpid(), 15)"]


@pytest.mark.parametrize("send", [*SENDERS, "from_outside()"])
def test_program_that_ends_itself_by_sigterm_is_started_anew(send: str) -> None:
    """As uvicorn ends; compiled, its frames do not name what it calls. A stop from outside at that moment wins."""
    said = run(f"""
        from os import kill
        os.setpgid(0, 0)
        ended = threading.Event()

        def from_outside():
            subprocess.Popen(["sh", "-c", "kill $PPID"])
            time.sleep(20)

        def end():
            {send}
            time.sleep(20)

        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        made = restarter()
        made.request(lambda: print("activated", flush=True))
        ended.wait()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end()
    """)
    assert said == ("" if send == "from_outside()" else "activated\nRESTARTED\n")


OTHERS = {
    "a method of the same name": "",
    "one that was ignored": "in_vain()",
    "a fork": "print(fork_ends(), flush=True)",
}


@pytest.mark.parametrize("before", OTHERS)
def test_stop_from_outside_counts_whatever_the_program_calls(before: str) -> None:
    """What it sent to others, or in vain, makes no stop its own; a fork ends by the default, as it had."""
    said = run(f"""
        ended = threading.Event()

        def fork_ends():
            child = os.fork()
            if not child:
                os.kill(os.getpid(), 15)
                os._exit(3)
            return os.waitpid(child, 0)[1]

        def in_vain():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.kill(os.getpid(), 15)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

        def wait_and_end(worker):
            subprocess.Popen(["sh", "-c", "sleep 0.1; kill $PPID"])
            time.sleep(20)
            worker.kill()

        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        restarter().request(lambda: print("activated", flush=True))
        ended.wait()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        {OTHERS[before] or "pass"}
        wait_and_end(None)
    """)
    assert said == ("15\n" if before == "a fork" else "")


def test_what_the_program_put_in_the_place_of_kill_is_called() -> None:
    said = run("""
        ended = threading.Event()
        kill = os.kill

        def mine(process, number):
            print("mine", flush=True)
            kill(process, number)

        os.kill = mine
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        restarter().request(lambda: print("activated", flush=True))
        ended.wait()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), 15)
        time.sleep(20)
    """)
    assert said == "mine\nactivated\nRESTARTED\n"
