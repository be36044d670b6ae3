"""The API server is lost and comes back: killed, stopped, gone for long, hanging. Whoever asks a Service meanwhile does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.fed import Fed
from tests.cluster.fixtures import require_binaries
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.netns, pytest.mark.slow]

MINUTE: Final = 15.0
"""Seconds. With uproxy's waits and pauses quartered (fed.QUARTERS, fed.SETTINGS) as much happens in them as in a minute
otherwise: as many attempts, each pause as long in relation, the longest ones among them, two resyncs, a save."""
ATTEMPTS: Final = 60
"""In a minute, of three kinds: 0.25 s doubles five times until it is the longest pause of 3.75 s to 7.5 s, about 9 times each."""
SAYS: Final = 20
"""Lines about a loss and its end: a watch's end and a list for each kind, what the server is lost for, that it is back."""


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Give a lab that is fed by a control plane."""
    require_binaries()
    with Fed(tmp_path_factory.mktemp("fed")) as made:
        yield made


def wait_for_return(fed: Fed) -> None:
    """Wait until uproxy has found its API server again."""
    fed.uproxy.wait_for_log("api_server_back", within=20)


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_changes_around_a_restart_are_served_and_nobody_notices_it(fed: Fed, way: str) -> None:
    lab = fed.lab
    fed.start()
    fed.add("gone", lab.pod)
    with fed.undisturbed(lines=SAYS):
        fed.retarget(fed.moving, lab.pod2, lab.remote)
        getattr(fed.plane, way)()
        fed.plane.start()
        fed.remove("gone")
        fed.retarget(fed.moving, lab.pod2, lab.neighbour2)
        fed.add("late", lab.neighbour)
        wait_for_return(fed)


def test_a_loss_of_a_minute_changes_nothing_for_anybody(fed: Fed) -> None:
    uproxy = fed.start()
    with fed.undisturbed(lines=SAYS) as clients:
        fed.plane.kill()
        uproxy.wait_for_log("api_server_lost", "refused", within=20)
        lost = len(uproxy.lines)
        clients.are_served_for(MINUTE)
        assert [uproxy.get(page).status for page in ("/livez", "/healthz")] == [200, 200]
        assert fed.count("uproxy_watch_last_event_age_seconds", kind="Service") >= MINUTE
        assert 0 < fed.count("rest_client_requests_total", code="<error>") <= ATTEMPTS
        assert len(uproxy.lines) == lost, "it was said once"
        fed.plane.start()
        wait_for_return(fed)
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.remote)


def test_one_that_hangs_is_given_up_and_found_again(fed: Fed) -> None:
    uproxy = fed.start(stallTimeout="3s", connectTimeout="2s", requestTimeout="2s", retryLimit="2s")
    with fed.undisturbed(lines=2 * SAYS) as clients:
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour)
        with fed.plane.paused():
            uproxy.wait_for_log("api_server_lost", "within 2 s", within=20)
            errors = fed.count("rest_client_requests_total", code="<error>")
            eventually(lambda: fed.count("rest_client_requests_total", code="<error>") >= errors + 3, within=20)
            clients.are_served()
        wait_for_return(fed)
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.remote)
