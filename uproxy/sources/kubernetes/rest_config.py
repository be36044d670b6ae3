"""What one needs to talk to an API server: client-go's rest.Config.

Owns the checks of an address. Must not know which file or variable anything was said in, other than to say so.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from uproxy.errors import UsageError
from uproxy.sources.kubernetes.exec_plugin import ExecPlugin
from uproxy.sources.kubernetes.tls import BadPem, Pem, Tls

if TYPE_CHECKING:
    from collections.abc import Iterable


class RestConfig(Struct, frozen=True):
    """Where the API server is and how one authenticates, as read from files at one moment.

    server: https://host:port/prefix without a slash at its end. server_name: the name that its certificate must have,
    "" for the host's. proxy: a URL, "" for none. authorization: the header's value, "" for none. files: all that this
    was read from, so that a change can be seen.
    """

    server: str
    tls: Tls = Tls()
    server_name: str = ""
    proxy: str = ""
    authorization: str = ""
    exec_plugin: ExecPlugin | None = None
    files: tuple[str, ...] = ()

    @property
    def is_encrypted(self) -> bool:
        """Tell whether the connection is."""
        return self.server.startswith("https:")

    @property
    def is_anonymous(self) -> bool:
        """Tell whether nothing says who we are."""
        return not self.authorization and self.exec_plugin is None and self.tls.certificate is None


def check_server(place: str, url: str) -> str:
    """Give the address of a server as RestConfig has it; raises UsageError naming the place where it is said."""
    parts = _split(place, url)
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"{place}: {_without_secrets(url)!r} holds more than scheme, host, port and path")
    return url.rstrip("/")


def check_proxy(place: str, url: str) -> str:
    """Give a proxy's URL; raises UsageError naming the place where it is said."""
    if urlsplit(url).scheme.startswith("socks"):
        raise UsageError(f"{place}: a SOCKS proxy is not supported (http and https are)")
    _split(place, url)
    return url


def _split(place: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{place}: {_without_secrets(url)!r} is not a URL ({error})") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or _NOT_IN_URLS.search(url):
        raise UsageError(f"{place}: {_without_secrets(url)!r} is not the URL of a server (write it like https://10.0.0.1:6443)")
    return parts


def _without_secrets(url: str) -> str:
    return re.sub(r"(?<=//)[^/@]*@", "...@", url)


_NOT_IN_URLS: Final = re.compile(r"[\s\x00-\x1f\x7f\\]")


def check_authorization(place: str, value: str) -> str:
    """Give a header's value without blanks at its ends; raises UsageError for what no header can hold."""
    scheme, _, secret = value.partition(" ")
    secret = secret.strip()
    if not secret:
        raise UsageError(f"{place}: is empty")
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UsageError(f"{place}: is not one line of printable characters")
    return f"{scheme} {secret}"


def read_pem(origin: str, path: str) -> Pem:
    """Read a certificate or a key; raises UsageError naming the setting that says so, and the file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - paths are texts in a kubeconfig, and are told as such
            return Pem(f"{origin} {path}", file.read())
    except OSError as error:
        raise UsageError(f"{origin} {path}: {error.strerror}") from error


def check_tls(tls: Tls) -> Tls:
    """Give it back if connections can be made with it; raises UsageError naming what is wrong."""
    try:
        tls.context()
    except BadPem as error:
        raise UsageError(str(error)) from error
    return tls


def marks_of(files: Iterable[str]) -> tuple[tuple[int, ...], ...]:
    """Give what changes when a file is written, replaced or removed, per file: symbolic links are followed."""
    return tuple(map(_mark_of, files))


def _mark_of(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - as in read_pem
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
