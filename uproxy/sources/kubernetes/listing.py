"""A list in pages.

Owns continue tokens and how large a page may be. Must not know objects nor what a list is for. Invariant: all pages
are of one moment; when that moment has expired in between, the list ends with Gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from uproxy.sources.kubernetes.api_errors import Garbled, excerpt
from uproxy.sources.kubernetes.watch_event import check_text, parse_version

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from uproxy.config import KubernetesSettings
    from uproxy.sources.kubernetes.transport import Transport


class Page(NamedTuple):
    """A part of a list. resource_version: of the whole list, the same in each page."""

    items: list[Raw]
    resource_version: int
    continue_token: str = ""


class _Metadata(Struct, rename="camel", gc=False):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(Struct, gc=False):
    kind: str
    metadata: _Metadata
    items: list[Raw] | None = None


_decode_list: Final = msgspec.json.Decoder(_List).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def parse_page(body: bytes, where: str) -> Page:
    """Split an answer into its items, 2 ms per MB; where: what was asked, for errors. Raises Garbled."""
    try:
        check_text(body)
        found = _decode_list(body)
    except _UNREADABLE as error:
        raise Garbled(f"a list cannot be read ({error}: {excerpt(body)})", where) from None
    if not found.kind.endswith("List"):
        raise Garbled(f"the answer is a {excerpt(found.kind.encode())} instead of a list", where)
    return Page(found.items or [], parse_version(found.metadata.resource_version, where), found.metadata.continue_)


async def pages(
    transport: Transport, path: str, selectors: Mapping[str, str], settings: KubernetesSettings, *, whole: bool = False
) -> AsyncGenerator[Page, None]:
    """Give the pages of a list of what there is now (no resourceVersion is asked for: a quorum read). Raises ApiError.

    whole: ask for everything in one page, which cannot expire.
    https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
    """
    limit = 0 if whole else settings.page_size
    token = ""
    while True:
        body = await transport.get(path, _query(selectors, limit, token), settings.request_timeout)
        page = parse_page(body, path)
        limit = _next_limit(limit, len(body), settings)
        token = page.continue_token
        del body
        yield page
        if not token:
            return


def _query(selectors: Mapping[str, str], limit: int, token: str) -> dict[str, str]:
    query = dict(selectors)
    if limit:
        query["limit"] = str(limit)
    if token:
        query["continue"] = token
    return query


def _next_limit(limit: int, length: int, settings: KubernetesSettings) -> int:
    """Ask for fewer objects when they turn out to be large. Never for more: the first page has the right number or too many."""
    return limit if length <= settings.page_bytes else max(1, limit * settings.page_bytes // length)
