"""HTTP by aiohttp: a unit is a request and its whole answer, on a pool of connections that stay open or on one of its own.

Redirects are not followed, cookies not kept, nothing is asked twice: a unit is one request on the wire.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from bench.live.failures import CLOSED, Failure, reason
from bench.live.lane import Lane, Site, payload

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

LEAST_ERROR: Final = 400
REASONS: Final[dict[type[Exception], str]] = {
    aiohttp.ClientConnectorCertificateError: "certificate not valid",
    aiohttp.ClientConnectorSSLError: "TLS failed",
    aiohttp.ServerDisconnectedError: CLOSED,
    aiohttp.ClientPayloadError: "closed within the answer",
    aiohttp.ClientResponseError: "not HTTP",
}


class Known(AbstractResolver):
    """The addresses that were looked up before the start: no question to a name service while the load runs."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily | int = 0) -> list[ResolveResult]:  # noqa: ARG002 - aiohttp's
        """Give them as aiohttp wants them."""
        return [
            ResolveResult(hostname=host, host=address.host, port=port, family=address.family, proto=0, flags=0)
            for address in self._site.addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


class WebLane:
    """One request at a time; the connections are the session's."""

    def __init__(self, site: Site, session: aiohttp.ClientSession) -> None:
        self._site = site
        self._session = session

    async def exchange(self, number: int) -> None:
        """Make a request and read its answer to the end; raises OSError, Failure for a status from 400."""
        options, tally = self._site.options, self._site.tally
        body = payload(number, options.size) if options.size else None
        try:
            async with self._session.request("POST" if body else "GET", options.target.url, data=body, allow_redirects=False) as answer:
                tally.bytes_sent += options.size
                async for part in answer.content.iter_any():
                    tally.bytes_received += len(part)
        except aiohttp.ClientError as error:
            raise Failure(words(error)) from error
        tally.statuses[f"{answer.status // 100}xx"] += 1
        if answer.status >= LEAST_ERROR:
            raise Failure(f"status {answer.status // 100}xx")

    def close(self) -> None:
        """Leave the connections to the session."""


def words(error: aiohttp.ClientError) -> str:
    """Give the reason for an error of aiohttp's."""
    return next((text for kind, text in REASONS.items() if isinstance(error, kind)), None) or reason(error)


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET whose connection ended: that would be more than the rate."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Failure(words(error)) from error


async def _opened(site: Site, *_what: object) -> None:
    site.tally.opened += 1


@asynccontextmanager
async def web_lanes(site: Site) -> AsyncIterator[list[Lane]]:
    """Make the pool and its lanes."""
    options = site.options
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(partial(_opened, site))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=options.connections, ssl=not options.insecure, resolver=Known(site), force_close=options.new_connection
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        trace_configs=[tracing],
        middlewares=[_once],
    ) as session:
        yield [WebLane(site, session) for _ in range(options.connections)]
