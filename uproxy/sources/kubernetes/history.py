"""Whether a server's history is still the one that a position belongs to: it is not after a restore from a backup.

Owns the question that is asked before a watch which broke is resumed. A watch from a resourceVersion that the server has
not reached is silent for ever, and one from a number that two histories share leaves out what only one of them has. Must
not know watches. What cannot be told from outside: a restore to between a change and a later deletion that was not
watched, when the server is further than we were by then; who sees the server refuse connections meanwhile lists anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from uproxy.sources.kubernetes.api_errors import Gone
from uproxy.sources.kubernetes.listing import parse_page
from uproxy.sources.kubernetes.watch_event import Bookmark, Changed, parse_item

if TYPE_CHECKING:
    from uproxy.config import KubernetesSettings
    from uproxy.core.model import ObjectKey
    from uproxy.sources.kubernetes.transport import Transport
    from uproxy.sources.kubernetes.watch_event import WatchEvent


class Newest(NamedTuple):
    """What is known to have changed last in a collection. key: None when it was a deletion, of which nothing is left to ask for."""

    resource_version: int = 0
    key: ObjectKey | None = None

    def after(self, event: WatchEvent) -> Newest:
        """Give what it is after one more event, or item of a list: those come in any order."""
        if isinstance(event, Bookmark) or event.resource_version < self.resource_version:
            return self
        return Newest(event.resource_version, event.key if isinstance(event, Changed) else None)


async def check_history(transport: Transport, path: str, settings: KubernetesSettings, position: int, newest: Newest) -> None:
    """Ask a server whether it knows what changed last, and how far it is. path: the collection's.

    Raises Gone when it is of another history, and when that cannot be told.
    """
    if newest.key is None:
        raise _unverified("nothing is known that is as it was when it changed last", path)
    query = {"fieldSelector": f"metadata.name={newest.key.name}"}
    page = parse_page(await transport.get(_within_namespace(path, newest.key.namespace), query, settings.request_timeout), path)
    if page.resource_version < position:
        raise rewound(position, page.resource_version, path)
    if [parse_item(raw, path).resource_version for raw in page.items] != [newest.resource_version]:
        raise _unverified(f"{newest.key} is not at resourceVersion {newest.resource_version} any more", path)


def rewound(position: int, version: int, where: str) -> Gone:
    """Make the error for a server that is not as far as it was."""
    what = f"the server is at resourceVersion {version}, which was {position} before: it was restored from a backup"
    return Gone(what, where, "everything is listed anew", reason="version_too_large")


def _unverified(why: str, where: str) -> Gone:
    what = f"whether the server still has the same history cannot be told: {why}"
    return Gone(what, where, "everything is listed anew", reason="unverified")


def _within_namespace(path: str, namespace: str) -> str:
    parent, _, plural = path.rpartition("/")
    return f"{parent}/namespaces/{namespace}/{plural}" if namespace else path
