"""As whom the API server is asked now: what files say that may have changed, and what a plugin gave until it expires.

Owns when to look again. Must not know how requests are made; reads files in a thread, runs plugins as processes.
Invariant: what worked stays in use until something better has been read, and of those who need something new at the
same time one fetches it for all.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from uproxy.errors import UsageError
from uproxy.sources.kubernetes.api_errors import NoCredentials
from uproxy.sources.kubernetes.exec_plugin import ExecCredential
from uproxy.sources.kubernetes.rest_config import RestConfig, marks_of
from uproxy.sources.kubernetes.tls import BadPem, Tls, not_after

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from uproxy.config import KubernetesSettings
    from uproxy.log import Log
    from uproxy.sources.kubernetes.access import Access
    from uproxy.sources.kubernetes.exec_plugin import ExecPlugin

EARLY_SHARE: Final = 0.2
"""Share of its life before whose end a plugin's credential is renewed, as the kubelet does it; tokenRefresh at most."""

_Result = TypeVar("_Result")


class Login(Struct, frozen=True, eq=False):
    """All that a request needs: whom to ask and as whom. context: None for a connection that is not encrypted."""

    rest: RestConfig
    tls: Tls
    context: ssl.SSLContext | None
    authorization: str

    @property
    def is_renewable(self) -> bool:
        """Tell whether reading or asking again may give another one."""
        return bool(self.rest.files) or self.rest.exec_plugin is not None

    def expired_certificate(self, unix_now: float) -> str:
        """Name our certificate if it has expired, for the server only says 401 then; "" otherwise."""
        certificate = self.tls.certificate
        until = not_after(certificate.content) if certificate else None
        return certificate.origin if certificate and until is not None and until < unix_now else ""


class Credentials:
    """Gives the Login that is right now. Made inside a running loop."""

    def __init__(self, access: Access, settings: KubernetesSettings, log: Log) -> None:
        self._files = _Files(access, settings, log)
        self._plugin = _Plugin(settings, log)
        self._timeout = settings.request_timeout
        self._lock = asyncio.Lock()
        self._login: Login | None = None
        self._attempts = 0
        self._failure: NoCredentials | None = None

    async def current(self) -> Login:
        """Give the Login to use, a new one when a file has changed or something is about to expire; raises NoCredentials."""
        login = self._login
        if login is not None and not self._plugin.is_due and not await _in_thread(self._files.has_changed, self._timeout):
            return login
        return await self._renewed(is_rejected=False)

    async def after_rejection(self, rejected: Login) -> Login | None:
        """Give another Login than the one that got a 401, None when there can be none; raises NoCredentials."""
        if self._login is not rejected:
            return self._login
        if not rejected.is_renewable:
            return None
        renewed = await self._renewed(is_rejected=True)
        return None if renewed is rejected else renewed

    async def _renewed(self, *, is_rejected: bool) -> Login:
        """Renew the Login, or wait for somebody else who is at it."""
        attempts = self._attempts
        async with self._lock:
            if attempts == self._attempts:
                self._failure = await self._attempt(is_rejected=is_rejected)
                self._attempts += 1  # not when this was cancelled: the next one in line tries then
            if self._login is None or self._failure is not None:
                raise self._failure or NoCredentials("no credentials were read")
            return self._login

    async def _attempt(self, *, is_rejected: bool) -> NoCredentials | None:
        try:
            await self._renew(is_rejected=is_rejected)
        except NoCredentials as error:
            return error
        return None

    async def _renew(self, *, is_rejected: bool) -> None:
        rest = await _in_thread(lambda: self._files.read(is_rejected=is_rejected), self._timeout)
        given = await self._plugin.ask(rest.exec_plugin, is_rejected=is_rejected)
        former = self._login
        tls = replace(rest.tls, certificate=given.certificate, key=given.key) if given.certificate else rest.tls
        authorization = f"Bearer {given.token}" if given.token else rest.authorization
        if former is not None and (former.rest, former.tls, former.authorization) == (rest, tls, authorization):
            return
        # A new context makes new connections: those of another authority or certificate must not be used any longer.
        is_same = former is not None and former.tls == tls and former.rest.is_encrypted == rest.is_encrypted
        context = former.context if former is not None and is_same else await _in_thread(lambda: _context(rest, tls), self._timeout)
        self._login = Login(rest, tls, context, authorization)


def _context(rest: RestConfig, tls: Tls) -> ssl.SSLContext | None:
    try:
        return tls.context() if rest.is_encrypted else None
    except BadPem as error:
        raise NoCredentials(str(error), remedy="it is read again with the next request", reason="certificate") from error


async def _in_thread(work: Callable[[], _Result], timeout: float) -> _Result:  # noqa: ASYNC109 - one deadline for each use
    """Do what blocks, a few small files, elsewhere; raises NoCredentials when it does not end."""
    try:
        # Not wait_for: before Python 3.12 it gives the result instead of ending when it is told to end in the moment it has one.
        async with asyncio.timeout(timeout):
            return await asyncio.to_thread(work)
    except TimeoutError as error:
        what = f"the files with credentials cannot be read within {timeout:g} s"
        raise NoCredentials(what, remedy="is their file system there?", reason="timeout") from error


class _Files:
    """What files say, read again when one has changed, at least every tokenRefresh. Blocks."""

    def __init__(self, access: Access, settings: KubernetesSettings, log: Log) -> None:
        self._access = access
        self._interval = settings.token_refresh
        self._log = log
        self._rest = access.rest
        self._marks = marks_of(access.rest.files)
        self._read_at = time.monotonic()

    def has_changed(self) -> bool:
        """Tell whether it is time to read them."""
        is_old = time.monotonic() - self._read_at >= self._interval
        return bool(self._rest.files) and (is_old or marks_of(self._rest.files) != self._marks)

    def read(self, *, is_rejected: bool) -> RestConfig:
        """Give what they say now. What cannot be read, half written perhaps, is as it was, with a warning."""
        if not is_rejected and not self.has_changed():
            return self._rest
        marks = marks_of(self._rest.files)
        try:
            self._rest = self._access.read()
        except UsageError as error:
            self._log.warning("credentials_not_read", subject=self._access.origin, reason=str(error), kept="what was read before")
            return self._rest
        self._marks, self._read_at = marks if marks == marks_of(self._rest.files) else (), time.monotonic()
        return self._rest


class _Plugin:
    """What a credential plugin gave, until it is about to expire or has been rejected."""

    def __init__(self, settings: KubernetesSettings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._asked: ExecPlugin | None = None
        self._given = ExecCredential()
        self._renew_at = float("inf")

    @property
    def is_due(self) -> bool:
        """Tell whether it is time to ask again."""
        return time.time() >= self._renew_at

    async def ask(self, plugin: ExecPlugin | None, *, is_rejected: bool) -> ExecCredential:
        """Give the plugin's credential; one that is still good is kept when the plugin fails. Raises NoCredentials."""
        if plugin is None:
            return ExecCredential()
        if plugin == self._asked and not is_rejected and not self.is_due:
            return self._given
        try:
            given = await plugin.run(self._settings.exec_timeout)
        except NoCredentials as error:
            if plugin != self._asked or is_rejected or time.time() >= (self._given.expires or 0):
                raise
            self._log.warning("credentials_not_renewed", subject=plugin.name, reason=str(error), kept="the former ones, until they expire")
            return self._given
        self._asked, self._given, self._renew_at = plugin, given, self._when_to_renew(given)
        return given

    def _when_to_renew(self, given: ExecCredential) -> float:
        if given.expires is None:
            return float("inf")
        life = given.expires - time.time()
        return given.expires - min(self._settings.token_refresh, life * EARLY_SHARE)
