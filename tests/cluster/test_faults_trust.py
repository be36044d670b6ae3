"""Certificates and tokens are replaced, in time or too late: who is trusted changes, what is served does not."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import kubeconfigs
from tests.cluster.certificates import Authority, write_whole
from tests.cluster.fed import Fed
from tests.cluster.fixtures import require_binaries
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.relay import Relay

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SAYS: Final = 22
"""Lines about it: a watch's end and a list for each kind, what the server is lost for, that it is back."""
SHORT_LIFE: Final = 5.0
"""Seconds for which a token is good that is renewed meanwhile."""
WITHIN: Final = 20.0


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Give a lab that is fed by a control plane."""
    require_binaries()
    with Fed(tmp_path_factory.mktemp("fed")) as made:
        yield made


@contextmanager
def passing_on(fed: Fed) -> Iterator[Relay]:
    """Give a relay before the API server that leaves TLS alone: its connections can be ended without a restart."""
    server = fed.lab.node2
    with fed.plane.relay(namespace=server.namespace, address=server.address(4), plain=True) as relay:
        yield relay


def naming_files(kubeconfig: Path, authority: Path) -> Path:
    """Have a kubeconfig name the file that the authority's certificate is in."""
    document = json.loads(kubeconfig.read_text(encoding="utf-8"))
    cluster = document["clusters"][0]["cluster"]
    del cluster["certificate-authority-data"]
    cluster["certificate-authority"] = str(authority)
    kubeconfig.write_text(json.dumps(document))
    return kubeconfig


def await_refusals(fed: Fed, code: str) -> None:
    """Wait until uproxy has been turned away with this code a few more times."""
    refusals = fed.count("rest_client_requests_total", code=code)
    eventually(lambda: fed.count("rest_client_requests_total", code=code) >= refusals + 6, within=WITHIN)


def test_a_new_certificate_of_the_same_authority_is_nothing_to_talk_about(fed: Fed) -> None:
    with passing_on(fed) as relay:
        uproxy = fed.start(fed.plane.kubeconfig(server=relay.url))
        listed = len(fed.said("listed"))
        with fed.undisturbed(lines=SAYS):
            fed.plane.renew_certificate()
            assert relay.cut() >= 3
            fed.retarget(fed.moving, fed.lab.pod2, fed.lab.remote)
            eventually(lambda: len(fed.said("watch_restarted")) == 3, within=WITHIN)
        assert "api_server_lost" not in uproxy.log()
        assert len(fed.said("listed")) == listed, "watches go on where they were"


def test_a_certificate_of_another_authority_is_refused_until_the_kubeconfig_names_it(fed: Fed, tmp_path: Path) -> None:
    other, trusted = Authority(), fed.plane.authority.write(tmp_path / "ca.crt")
    with passing_on(fed) as relay:
        uproxy = fed.start(naming_files(fed.plane.kubeconfig(server=relay.url), trusted))
        try:
            with fed.undisturbed(lines=SAYS):
                fed.plane.renew_certificate(other)
                relay.cut()
                uproxy.wait_for_log("api_server_lost", "signed by nobody we trust", within=WITHIN)
                fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour2)
                await_refusals(fed, "<error>")
                assert len(fed.said("api_server_lost")) == 1
                other.write(trusted)
                uproxy.wait_for_log("api_server_back", within=WITHIN)
        finally:
            fed.plane.renew_certificate()


def test_a_token_that_is_renewed_in_time_is_nothing_to_talk_about(fed: Fed, tmp_path: Path) -> None:
    account, path = fed.plane.service_account("default", "renewed"), tmp_path / "token"
    write_whole(path, account.token_for(SHORT_LIFE).encode())
    expires = time.monotonic() + SHORT_LIFE
    uproxy = fed.start(fed.plane.kubeconfig(kubeconfigs.with_token_file(path)))
    with fed.undisturbed(lines=SAYS):
        write_whole(path, account.token().encode())
        eventually(lambda: time.monotonic() > expires, within=WITHIN)
        fed.plane.restart()
        uproxy.wait_for_log("api_server_back", within=WITHIN)
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour)
        assert fed.count("rest_client_requests_total", code="401") == 0


def test_a_revoked_token_is_refused_until_there_is_a_new_one(fed: Fed, tmp_path: Path) -> None:
    account, path = fed.plane.service_account("default", "revoked"), tmp_path / "token"
    write_whole(path, account.token().encode())
    uproxy = fed.start(fed.plane.kubeconfig(kubeconfigs.with_token_file(path)))
    with fed.undisturbed(lines=SAYS):
        renewed = account.revoke()
        # It remembers for ten seconds that the token was good, unless it is started again.
        fed.plane.restart()
        uproxy.wait_for_log("api_server_lost", "401", within=WITHIN)
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour2)
        await_refusals(fed, "401")
        assert len(fed.said("api_server_lost", "401")) == 1
        write_whole(path, renewed.token().encode())
        uproxy.wait_for_log("api_server_back", within=WITHIN)
