"""What device programs are made of: servers, helper processes, loops in threads. Each says how it ends, in its words.

``$APP_STATE/starts`` gets a line from each start, ``$APP_STATE/notes`` what the program does when it is stopped. The
first argument says which program it is, the second the port that it listens on. Nothing here knows of restarts, but
that none is to come before a program has begun; and ``drain`` is ended by its own ``on_restart``.
"""

import asyncio
import atexit
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time

import ending_asgi  # noqa: F401 - uvicorn imports it by its name
from app_version import PUBLIC_KEY
from ending_notes import note, say, up, wait_until_up

import pypatcher

HERE = "127.0.0.1"


def start() -> None:
    note("began")
    atexit.register(note, "atexit")
    pypatcher.on_event(lambda event: say("events", **event.to_dict()))
    pypatcher.on_restart(wait_until_up)
    pypatcher.start(pypatcher.UpdaterMode.Now)


def run_twisted(port: int) -> None:
    from twisted.internet import reactor
    from twisted.web import resource, server

    reactor.addSystemEventTrigger("before", "shutdown", note, "stopped")
    reactor.listenTCP(port, server.Site(resource.Resource()), interface=HERE)
    reactor.callWhenRunning(up)
    reactor.run()


def run_aiohttp(port: int) -> None:
    from aiohttp import web

    async def begin(_: web.Application) -> None:
        up()

    async def end(_: web.Application) -> None:
        note("stopped")

    app = web.Application()
    app.on_startup.append(begin)
    app.on_cleanup.append(end)
    web.run_app(app, host=HERE, port=port, print=None)


def run_flask(port: int) -> None:
    import flask

    threading.Timer(0.1, up).start()
    try:
        flask.Flask("app").run(HERE, port)
    finally:
        note("stopped")


def run_waitress(port: int) -> None:
    import waitress

    server = waitress.create_server(lambda _environ, _start: [], host=HERE, port=port)
    up()
    server.run()
    note("stopped")


def run_cherrypy(port: int) -> None:
    import cherrypy

    cherrypy.config.update({"server.socket_host": HERE, "server.socket_port": port, "log.screen": False})
    cherrypy.engine.subscribe("start", up, priority=100)
    cherrypy.engine.subscribe("stop", lambda: note("stopped"))
    cherrypy.quickstart(type("Root", (), {})(), "/", {})


def run_tornado(port: int) -> None:
    import tornado.web

    async def serve() -> None:
        tornado.web.Application([]).listen(port, HERE)
        up()
        try:
            await asyncio.Event().wait()
        finally:
            note("stopped")

    asyncio.run(serve())


def run_uvicorn(port: int, **options: object) -> None:
    import uvicorn

    uvicorn.run("ending_asgi:application", host=HERE, port=port, log_level="warning", **options)


def run_gunicorn(port: int, **settings: object) -> None:
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self) -> None:
            self.cfg.set("bind", f"{HERE}:{port}")
            self.cfg.set("workers", 2)
            for name, value in settings.items():
                self.cfg.set(name, value)
            self.cfg.set("when_ready", lambda _server: up())
            self.cfg.set("on_exit", lambda _server: note("stopped"))

        def load(self):
            return lambda _environ, _start: []

    Application().run()


def run_sigwait(_port: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    up()
    signal.sigwait([signal.SIGTERM])
    note("stopped")


def run_forker(port: int) -> None:
    """A helper process holds the listening socket; the handler of SIGTERM ends it, and then this one at once."""
    child = _fork_helper(port)

    def stop(*_: object) -> None:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        note("stopped")
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    up()
    while True:
        time.sleep(0.2)


def run_deaf_forker(port: int) -> None:
    """The same without a handler: at a stop, whoever stops a service ends them all."""
    _fork_helper(port)
    up()
    try:
        time.sleep(600)
    finally:
        note("stopped")


def _fork_helper(port: int) -> int:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((HERE, port))
    listening.listen()
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(1)
    return child


def run_thread(_port: int) -> None:
    """Main returns, and the work goes on in a thread."""

    def work() -> None:
        up()
        while True:
            time.sleep(0.2)

    note("stopped")
    threading.Thread(target=work).start()


def run_drain(_port: int) -> None:
    """It says otherwise: what ends it is its own callback, not SIGTERM."""
    ended = threading.Event()
    pypatcher.on_restart(ended.set)
    pypatcher.on_restart(lambda: time.sleep(5))
    up()
    ended.wait()
    note("stopped")


def run_loop_in_thread(_port: int) -> None:
    async def serve() -> None:
        pypatcher.on_event(lambda event: say("events", **event.to_dict()))
        await pypatcher.spawn(pypatcher.UpdaterMode.Now)
        up()
        try:
            await asyncio.Event().wait()
        finally:
            note("stopped")

    note("began")
    atexit.register(note, "atexit")
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    thread.join()


def run_asyncio_signals(_port: int) -> None:
    async def serve() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        up()
        await ended.wait()
        await asyncio.sleep(0.2)
        note("stopped")

    asyncio.run(serve())


def run_pool(method: str) -> None:
    """Workers that are started anew, not forked, and a main that waits for them."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        pool.map(abs, range(4))
        up()
        try:
            pool.map(time.sleep, [600, 600])
        finally:
            note("stopped")


def run_ignores_stop(_port: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    up()
    try:
        time.sleep(600)
    finally:
        note("stopped")


def run_c_forker(_port: int) -> None:
    """A library of C forks, without exec, while the release arrives; Python knows nothing of it."""
    libc = ctypes.PyDLL(None)

    def fork(event: object) -> None:
        if event.name == "fetch.started" and libc.fork() == 0:
            libc.pause()
            libc._exit(0)

    pypatcher.on_event(fork)
    up()
    try:
        time.sleep(600)
    finally:
        note("stopped")


def run_daemon(port: int) -> None:
    """A helper that made itself independent, as daemons do; nothing ends it but whoever stops a whole service."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        note("daemon")
        os.write(writer, b"up")
        while True:
            time.sleep(1)
    os.read(reader, 2)
    up()
    try:
        time.sleep(600)
    finally:
        note("stopped")


def become_daemon() -> None:
    """As daemons of old: two forks, a session and a folder of their own."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")


def run_old_daemon(_port: int) -> None:
    up()
    try:
        time.sleep(600)
    finally:
        note("stopped")


PROGRAMS = {
    "old-daemon": run_old_daemon,
    "asyncio-signals": run_asyncio_signals,
    "spawn-pool": lambda _port: run_pool("spawn"),
    "forkserver-pool": lambda _port: run_pool("forkserver"),
    "ignores-stop": run_ignores_stop,
    "c-forker": run_c_forker,
    "daemon": run_daemon,
    "twisted": run_twisted,
    "aiohttp": run_aiohttp,
    "flask": run_flask,
    "waitress": run_waitress,
    "cherrypy": run_cherrypy,
    "tornado": run_tornado,
    "uvicorn": run_uvicorn,
    "uvicorn-workers": lambda port: run_uvicorn(port, workers=2),
    "gunicorn": run_gunicorn,
    "gunicorn-preload": lambda port: run_gunicorn(port, preload_app=True),
    "sigwait": run_sigwait,
    "forker": run_forker,
    "deaf-forker": run_deaf_forker,
    "thread": run_thread,
    "drain": run_drain,
}


@pypatcher.public_key(PUBLIC_KEY)
def main() -> None:
    start()
    PROGRAMS[sys.argv[1]](int(sys.argv[2]))


if __name__ == "__main__":
    multiprocessing.freeze_support()
    if sys.argv[1] == "old-daemon":
        become_daemon()
    if sys.argv[1] == "loop-in-thread":
        pypatcher.public_key(PUBLIC_KEY)
        run_loop_in_thread(0)
    else:
        main()
