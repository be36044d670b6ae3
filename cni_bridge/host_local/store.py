r"""A network's folder while its lock is held: the reference implementation's files, read and written.

Owns names, contents and the order of writes; decides nothing. A lease is a file whose name is the address and whose
content is `<container ID>\r\n<interface>`; earlier releases of the reference implementation wrote the ID alone.
Invariant: a lease appears with its whole content or not at all, because it is renamed to its name when it is written; an
empty one, which only a crash of another implementation can leave, is a free address. Nothing is synced to disk: who
loses power loses the containers too.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.fast import posix
from cni_bridge.host_local import lock
from cni_bridge.protocol.errors import IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_FOLDER_MODE, _FILE_MODE = 0o755, 0o600
_LAST = "last_reserved_ip."
_UNFINISHED = ".unfinished"
"""What is being written; one name is enough under the lock. The reference implementation takes it for nothing."""
_BOOT_ID = "boot_id"
_PODS = "pod_addresses"
_READ_BYTES = 65536


def owner(container_id: str, ifname: str) -> bytes:
    """Give the content of an attachment's lease."""
    return f"{container_id.strip()}\r\n{ifname}".encode("utf-8", "surrogateescape")


def owners(attachments: Iterable[tuple[str, str]]) -> set[bytes]:
    """Give every content, stripped, that a lease of these may have; in the earlier form it is the container ID alone."""
    there = set(attachments)
    return {owner(*one).strip() for one in there} | {container.strip().encode("utf-8", "surrogateescape") for container, _ in there}


class Store:
    """The folder of one network, for `with`: made if need be, locked, and let go at the end.

    Every method raises OSError as the system gives it; entering raises CniError (5 or 11).
    """

    __slots__ = ("_folder", "_lock", "path", "seconds")

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._folder = self._lock = -1

    def __enter__(self) -> Store:  # noqa: PYI034 - Self would have to be imported
        try:
            _make_folder(self.path)
            self._folder = posix.open(self.path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
            self._lock = lock.acquire(self._folder, self.path, self.seconds)
        except BaseException as reason:
            self.__exit__(None, None, None)
            if isinstance(reason, OSError):
                raise failure(self.path, reason) from None
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        for descriptor in (self._lock, self._folder):
            if descriptor >= 0:
                posix.close(descriptor)
        self._folder = self._lock = -1

    def leases(self) -> dict[str, bytes]:
        """Give the content, white space stripped, of every file whose name is an address; empty ones are free."""
        return {name: self._content(name) for name in posix.listdir(self._folder) if _is_address(name)}

    def reserve(self, address: str, content: bytes) -> None:
        """Write a lease, whether or not the address has one."""
        self._write(address, content)

    def release(self, address: str) -> None:
        """Remove a lease; one that is gone is released already."""
        try:
            posix.unlink(address, dir_fd=self._folder)
        except FileNotFoundError:
            return

    def last_reserved(self, index: int) -> bytes | None:
        """Give the address, packed, that was handed out last from the set of that index; None when it cannot be told."""
        try:
            return addresses.parse(self._content(f"{_LAST}{index}").decode("ascii", "replace"))
        except addresses.AddressError:
            return None

    def remember_last(self, index: int, address: str) -> None:
        """Write which address was handed out last."""
        self._write(f"{_LAST}{index}", address.encode())

    def boot_id(self) -> str:
        """Give the boot in which leases were last written, as far as `remember_boot` was told; empty without."""
        return self._content(_BOOT_ID).decode("ascii", "replace")

    def remember_boot(self, boot_id: str) -> None:
        """Write the boot's ID."""
        self._write(_BOOT_ID, f"{boot_id}\n".encode())

    def changed_at(self, address: str) -> float:
        """Give the time, in seconds of the clock, at which the kernel last changed the lease's inode."""
        return posix.stat(address, dir_fd=self._folder).st_ctime

    def pods(self) -> bytes:
        """Give what `remember_pods` wrote; empty when nothing is remembered."""
        return self._content(_PODS)

    def remember_pods(self, content: bytes) -> None:
        """Write which pod had which address."""
        self._write(_PODS, content)

    def try_to_write(self) -> None:
        """Write and remove a file as a lease is written."""
        try:
            self._begin(b"probe")
        finally:
            self.release(_UNFINISHED)

    def _write(self, name: str, content: bytes) -> None:
        try:
            self._begin(content)
            posix.rename(_UNFINISHED, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            self.release(_UNFINISHED)
            raise

    def _begin(self, content: bytes) -> None:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
        descriptor = posix.open(_UNFINISHED, flags, _FILE_MODE, dir_fd=self._folder)
        try:
            while content:
                content = content[posix.write(descriptor, content) :]
        finally:
            posix.close(descriptor)

    def _content(self, name: str) -> bytes:
        """Read a file whole and strip it; one that is not there is empty."""
        try:
            descriptor = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self._folder)
        except FileNotFoundError:
            return b""
        try:
            return _read_all(descriptor).strip()
        except IsADirectoryError:
            return b"a folder"  # nobody's, and not free
        finally:
            posix.close(descriptor)


def read_leases(store: Store) -> dict[str, bytes]:
    """Give `store.leases()`. Raises CniError (5)."""
    try:
        return store.leases()
    except OSError as reason:
        raise failure(store.path, reason) from None


def exists(path: str) -> bool:
    """Tell whether a network has a folder. Raises CniError (5) when even that cannot be told."""
    try:
        posix.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as reason:
        raise failure(path, reason) from None
    return True


def failure(path: str, reason: OSError) -> CniError:
    """Say which store failed and how."""
    name = reason.filename or ""
    return CniError(IO_FAILURE, f"the store {path} failed: {reason.strerror}", name if isinstance(name, str) else "")


def _read_all(descriptor: int) -> bytes:
    chunks = []
    while chunk := posix.read(descriptor, _READ_BYTES):
        chunks.append(chunk)
    return b"".join(chunks)


def _is_address(name: str) -> bool:
    """Tell addresses from the other files: `lock`, the ones of this module and what somebody else put there."""
    if not name[:1].isdigit() and ":" not in name:
        return False
    try:
        addresses.parse(name)
    except addresses.AddressError:
        return False
    return True


def _make_folder(path: str) -> None:
    """Make a folder and those above it; one that is there is fine."""
    try:
        posix.mkdir(path, _FOLDER_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        above = path.rstrip("/").rpartition("/")[0]
        if not above:
            raise
        _make_folder(above)
        _make_folder(path)
