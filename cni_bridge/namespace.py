"""Network namespaces by path: opening, telling apart, entering for a while.

Knows nothing of CNI. A namespace is an open descriptor, closed by whoever opened it. setns(2) moves the calling thread
alone; sockets that are open already stay where they were made.
"""

from __future__ import annotations

from cni_bridge.fast import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

OWN = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_GET_KIND = 0xB703  # NS_GET_NSTYPE of linux/nsfs.h, ioctl_ns(2)
_RESOLVE_NOW = 2  # RTLD_NOW


class NotANamespace(Exception):
    """The path leads to something that is no network namespace; the message names it."""


def open_path(path: str) -> int:
    """Open a network namespace; give its descriptor. Raises OSError, NotANamespace."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    if _is_network_namespace(descriptor):
        return descriptor
    posix.close(descriptor)
    raise NotANamespace(f'"{path}" is not a network namespace')


def _is_network_namespace(descriptor: int) -> bool:
    """Ask the namespace itself: a mount or a PID namespace lies in nsfs as well."""
    from fcntl import ioctl  # noqa: PLC0415 - built into the interpreter or one small library: only who opens a namespace pays

    try:
        return ioctl(descriptor, _GET_KIND) == _CLONE_NEWNET
    except OSError:
        return False


def enter(descriptor: int) -> None:
    """Move the calling thread into the namespace, setns(2). Raises OSError."""
    if hasattr(posix, "setns"):  # Python 3.12
        posix.setns(descriptor, _CLONE_NEWNET)
    elif _call_setns(descriptor) != 0:
        _raise_why(descriptor)


def _call_setns(descriptor: int) -> int:
    """Call the C library without the module ctypes, which costs 4 ms."""
    try:
        from _ctypes import call_function, dlopen, dlsym  # noqa: PLC0415 - Python 3.11 alone needs it
    except ImportError:
        return -1
    library = dlopen(None, _RESOLVE_NOW)  # type: ignore[arg-type]  # None is the program itself, dlopen(3)
    return int(call_function(dlsym(library, "setns"), (descriptor, _CLONE_NEWNET)))


def _raise_why(descriptor: int) -> None:
    """Try once more the ordinary way, which tells errno."""
    import ctypes  # noqa: PLC0415 - an error, or an interpreter without the C functions

    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, posix.strerror(number), "setns")


class Inside:
    """For a `with` block: the calling thread is in the namespace and goes back to the one it came from."""

    __slots__ = ("_descriptor", "_home")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._home = -1

    def __enter__(self) -> None:
        self._home = posix.open(OWN, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            enter(self._descriptor)
        except BaseException:
            posix.close(self._home)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            enter(self._home)
        finally:
            posix.close(self._home)
