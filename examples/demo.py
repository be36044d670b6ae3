"""uproxy on loopback addresses: no root, no cluster, no rules. `make demo`.

    clients 127.30.0.1 to .4  ->  uproxy: web, cart (TCP), clock (UDP)  ->  endpoints a b c, later d

Everything is real: `uproxy run` watches a folder of manifests, endpoints are processes, requests are
connections. The kernel delivers all of 127.0.0.0/8 to this machine, so there is nothing to set up.
"""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from examples.show.director import main
from examples.show.stage import EXAMPLES, TCP, UDP, Address, Backend, CannotPlay, Client, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES: Final = {"web": ("127.10.0.1", 18080), "cart": ("127.10.0.2", 18080), "clock": ("127.10.0.3", 18080)}
ENDPOINT_PORT: Final = 18088
BACKENDS: Final = tuple(Backend(name, f"127.20.0.{number}", ENDPOINT_PORT) for number, name in enumerate("abcd", 1))
NEXT_STEPS: Final = (
    "sudo make demo-node      the same with virtual addresses, pods and a node as network namespaces",
    "make test                the proof: every guarantee, with real packets",
    "uproxy run --redirect none --manifests examples/loopback      and edit the files while it runs",
)


def client(number: int) -> Client:
    """Give the client with this number: what tells clients apart is their address."""
    address = f"127.30.0.{number}"
    return Client(f"client {number}", address, partial(_socket_at, address))


def _socket_at(address: str, kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    sock.bind((address, 0))
    return sock


@contextmanager
def loopback() -> Iterator[Stage]:
    """Give the stage; raises CannotPlay when somebody else has one of its ports."""
    for address in (*SERVICES.values(), *((backend.address, backend.port) for backend in BACKENDS)):
        _check_free(address)
    yield Stage(
        title="uproxy · services on loopback addresses · no root, no cluster, no rules",
        manifests=EXAMPLES / "loopback",
        services=SERVICES,
        backends=BACKENDS[:3],
        newcomer=BACKENDS[3],
        clients=tuple(client(number) for number in (1, 2, 3, 4)),
        uproxy=(sys.executable, "-m", "uproxy", "run", "--redirect", "none"),
        next_steps=NEXT_STEPS,
    )


def _check_free(address: Address) -> None:
    for kind, protocol in ((TCP, "TCP"), (UDP, "UDP")):
        with closing(socket.socket(socket.AF_INET, kind)) as sock:
            # As the listeners do: connections of a demo that has just ended are no reason to wait.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(address)
            except OSError as error:
                taken = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
                raise CannotPlay(f"{address[0]}:{address[1]}/{protocol} {taken} (`ss -lntup` lists who listens)") from None


if __name__ == "__main__":
    sys.exit(main("Watch uproxy balance TCP and UDP on loopback addresses.", loopback))
