"""The API server is lost and comes back: killed, stopped, gone for long, hanging. Traffic does not notice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.fed import Fed
from tests.cluster.fixtures import require_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Give a lab that is fed by a control plane."""
    require_binaries()
    with Fed(tmp_path_factory.mktemp("fed")) as made:
        yield made


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_x(fed: Fed, way: str) -> None:
    t=time.monotonic()
    def p(*a):
        print(round(time.monotonic()-t,2),*a)
    uproxy = fed.start()
    p("started")
    try:
        with fed.undisturbed(lines=20) as clients:
            p("clients")
            getattr(fed.plane, way)()
            p("killed")
            fed.plane.start()
            p("back", [len(c.answers) for c in clients._clients])
            uproxy.wait_for_log("api_server_back", within=30)
            p("found")
        p("ok")
        fed.assert_like_a_new_one()
        p("like new")
    finally:
        print(uproxy.log())
