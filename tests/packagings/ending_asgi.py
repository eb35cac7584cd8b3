"""The ASGI application of ``ending_app``: in a module of its own, since workers import it by name."""

import asyncio

from app_version import VERSION
from ending_notes import note, up


async def application(scope, receive, send) -> None:
    """Answers after a second, and says when its lifespan ends; a worker imports it by name."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        up()
        await receive()
        note("stopped")
        await send({"type": "lifespan.shutdown.complete"})
        return
    note("asked")
    await asyncio.sleep(1)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": VERSION.encode()})
