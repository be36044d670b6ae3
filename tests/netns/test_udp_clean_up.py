"""UDP clients that keep their socket: one sync after a change the next datagram goes to the right place.

That is where it went before, for as long as that serves.
"""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.lab import client
from tests.lab.servers import Servers
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES
from tests.netns.answering import ALL, make, one_sync, place, rewrite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.manifests import Served
    from tests.lab.stand import Stand
    from tests.lab.topology import Host

pytestmark = pytest.mark.netns

CLIENTS: Final = ("pod", "node", "outside")
OTHER_PORT: Final = 9053
NEVER: Final = 0.3
"""Seconds after which an answer that should not come has not come."""


class Asking:
    """A client that uses one unconnected socket for all it asks, as a resolver does: it hears of no refusals."""

    def __init__(self, host: Host, family: int) -> None:
        self._socket = client.open_socket(host, host.address(family), socket.SOCK_DGRAM)

    def close(self) -> None:
        """Give the socket up."""
        self._socket.close()

    def once(self, address: str, port: int) -> client.Answer:
        """Send one datagram and give its answer, which must come from where it was sent to; raises TimeoutError."""
        self._socket.sendto(b"who", (address, port))
        said, sender = self._socket.recvfrom(256)
        assert sender[:2] == (address, port)
        name, seen, seen_port = said.decode().split()
        return client.Answer(name, seen, int(seen_port))

    def say(self, address: str, port: int) -> None:
        """Send one datagram and wait for nothing. A host's own may be refused at once (EPERM)."""
        with suppress(PermissionError):
            self._socket.sendto(b"who", (address, port))

    def fileno(self) -> int:
        """Give the socket's descriptor, for select(2)."""
        return self._socket.fileno()


@contextmanager
def asking_everywhere(stand: Stand, served: Served, family: int) -> Iterator[dict[tuple[str, str], Asking]]:
    """Give sockets of each client for each class of address, each of which has been answered once."""
    with ExitStack() as stack:
        found = {}
        for who in CLIENTS:
            for address_class in ALL:
                made = found[who, address_class] = Asking(stand.lab[who], family)
                stack.callback(made.close)
                eventually(partial(made.once, *place(stand, served, address_class, family)))
        yield found


def answers(stand: Stand, served: Served, family: int, asked: dict[tuple[str, str], Asking]) -> set[str]:
    """Have every socket send one datagram; give the names of who answered."""
    return {each.once(*place(stand, served, address_class, family)).name for (_, address_class), each in asked.items()}


def assert_silent(stand: Stand, served: Served, family: int, asked: dict[tuple[str, str], Asking]) -> None:
    """Have every socket send one datagram; assert that none is answered."""
    for (_, address_class), each in asked.items():
        each.say(*place(stand, served, address_class, family))
    assert not select.select(list(asked.values()), [], [], NEVER)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_when_an_endpoint_is_removed_its_clients_go_elsewhere_and_the_others_stay(shared: Stand, family: int) -> None:
    with one_sync(shared):
        served = make(shared, f"removed-{family}", "pod2", "remote")
    with asking_everywhere(shared, served, family) as asked:
        before = {key: each.once(*place(shared, served, key[1], family)) for key, each in asked.items()}
        assert {answer.name for answer in before.values()} == {"pod2", "remote"}
        with one_sync(shared):
            rewrite(shared, served, "remote")
        after = {key: each.once(*place(shared, served, key[1], family)) for key, each in asked.items()}
    assert {answer.name for answer in after.values()} == {"remote"}
    assert all(after[key] == answer for key, answer in before.items() if answer.name == "remote"), "their source ports are the same"


@pytest.mark.parametrize("family", FAMILIES)
def test_when_every_endpoint_is_another_one_so_are_the_answers(shared: Stand, family: int) -> None:
    with one_sync(shared):
        served = make(shared, f"replaced-{family}", "pod2")
    with asking_everywhere(shared, served, family) as asked:
        for name in ("bridged", "remote", "pod2"):
            with one_sync(shared):
                rewrite(shared, served, name)
            assert answers(shared, served, family, asked) == {name}


@pytest.mark.parametrize("family", FAMILIES)
def test_when_the_first_endpoint_comes_back_clients_that_were_refused_are_answered(shared: Stand, family: int) -> None:
    with one_sync(shared):
        served = make(shared, f"emptied-{family}", "pod2")
    with asking_everywhere(shared, served, family) as asked:
        with one_sync(shared):
            rewrite(shared, served)
        assert_silent(shared, served, family, asked)
        with one_sync(shared):
            rewrite(shared, served, "remote")
        assert answers(shared, served, family, asked) == {"remote"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_whose_endpoint_never_answered_is_answered_by_the_next_one(shared: Stand, family: int) -> None:
    served = shared.services.plan(f"mute-{family}")
    nobody = [("10.244.3.99", 8080), ("fd10:244:3::99", 8080)]
    with one_sync(shared):
        shared.services.put(served, nobody, ingress=served.ingress())
    with ExitStack() as stack:
        asked = {(who, each): Asking(shared.lab[who], family) for who in CLIENTS for each in ALL}
        for one in asked.values():
            stack.callback(one.close)
        assert_silent(shared, served, family, asked)
        with one_sync(shared):
            rewrite(shared, served, "pod2")
        assert answers(shared, served, family, asked) == {"pod2"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("gone_between", [True, False])
def test_a_service_made_anew_in_front_of_another_port_is_found_by_old_sockets(shared: Stand, family: int, *, gone_between: bool) -> None:
    with one_sync(shared):
        served = make(shared, f"again-{family}-{gone_between}".lower(), "pod2")
    with Servers([shared.lab.pod2], OTHER_PORT, "-other"), asking_everywhere(shared, served, family) as asked:
        if gone_between:
            with one_sync(shared):
                shared.services.remove(served)
            assert_silent(shared, served, family, asked)
        with one_sync(shared):
            to = [(address, OTHER_PORT) for address in shared.lab.pod2.addresses]
            shared.services.put(served, to, ingress=served.ingress())
        assert answers(shared, served, family, asked) == {"pod2-other"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_service_made_anew_on_another_port_answers_old_sockets_there_and_nowhere_else(shared: Stand, family: int) -> None:
    with one_sync(shared):
        first = make(shared, f"elsewhere-{family}", "pod2")
    second = first._replace(port=5353, node_port=first.node_port + 1000)
    with asking_everywhere(shared, first, family) as asked:
        with one_sync(shared):
            shared.services.remove(first)
        with one_sync(shared):
            rewrite(shared, second, "remote")
        assert answers(shared, second, family, asked) == {"remote"}
        assert_silent(shared, first, family, asked)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_that_another_service_takes_over_leads_old_sockets_to_that_ones_endpoints(shared: Stand, family: int) -> None:
    with one_sync(shared):
        first = make(shared, f"former-{family}", "pod2")
    with asking_everywhere(shared, first, family) as asked:
        with one_sync(shared):
            shared.services.remove(first)
        with one_sync(shared):
            rewrite(shared, first._replace(name=f"latter-{family}"), "remote")
        assert answers(shared, first, family, asked) == {"remote"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flow_stays_with_an_endpoint_that_terminates_until_it_serves_no_more(shared: Stand, family: int) -> None:
    with one_sync(shared):
        served = make(shared, f"serving-{family}", "pod2")
    with asking_everywhere(shared, served, family) as asked:
        with one_sync(shared):
            rewrite(shared, served, "pod2", "remote", leaving=shared.lab.pod2.addresses)
        assert client.ask(shared.lab.pod, served.vip(family), 80, "UDP").name == "remote", "a new flow"
        assert answers(shared, served, family, asked) == {"pod2"}
        with one_sync(shared):
            rewrite(shared, served, "pod2", "remote", gone=shared.lab.pod2.addresses)
        assert answers(shared, served, family, asked) == {"remote"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flow_stays_where_it_is_when_a_policy_would_lead_new_ones_elsewhere(shared: Stand, family: int) -> None:
    with one_sync(shared):
        served = make(shared, f"policed-{family}", "remote")
    with asking_everywhere(shared, served, family) as asked:
        with one_sync(shared):
            rewrite(shared, served, "remote", "pod2", internal="Local", external="Local")
        assert client.ask(shared.lab.outside, shared.lab.node.address(family), served.node_port, "UDP").name == "pod2", "a new flow"
        assert answers(shared, served, family, asked) == {"remote"}
