"""A TCP proxy as one would write it first in asyncio: streams, two tasks per connection, 64 KiB at a time.

    python streams_proxy.py LISTEN TARGET [LISTEN TARGET]...

Addresses are HOST:PORT, or [HOST]:PORT. It stands on the standard library alone and knows nothing of what measures it.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

CHUNK = 65536
BACKLOG = 4096
"""As every proxy here has it: of a burst, asyncio's 100 would be left and the rest lost."""


async def serve(arguments: list[str]) -> None:
    """Listen on every address and proxy for ever; raises OSError when an address cannot be listened on."""
    servers = []
    for listen, target in zip(arguments[::2], arguments[1::2], strict=True):
        servers.append(await asyncio.start_server(partial(proxy, split(target)), *split(listen), backlog=BACKLOG))
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def proxy(target: tuple[str, int], client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    """Carry one connection until both sides have said everything, or one of them breaks."""
    to_upstream = None
    try:
        upstream, to_upstream = await asyncio.open_connection(*target)
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(client, to_upstream))
            group.create_task(copy(upstream, to_client))
    except* OSError:
        pass  # one side broke: closing both is all that is left
    finally:
        to_client.close()
        if to_upstream:
            to_upstream.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and pass the end on; raises OSError."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def split(address: str) -> tuple[str, int]:
    """Take an address apart; raises ValueError."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    try:
        asyncio.run(serve(sys.argv[1:]))
    except OSError as error:
        sys.exit(str(error))
