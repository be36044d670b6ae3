"""What has to be in the kernel for a capture, in nft's and ip's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.redirect.captures import elements, expected_elements, routed, rule_lines

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace
    from uproxy.redirect.base import Capture

RULES = [
    "970: from all fwmark 0x1000/0x1000 iif lo lookup 9701 proto 97",
    "971: from all fwmark 0x1000/0x1000 iif lo goto 32766 proto 97",
    "972: from all fwmark 0x1000/0x1000 lookup 9702 proto 97",
    "32970: from all iif lo lookup 9703 proto 97",
]
NOTICED_WITHIN_SECONDS = 1.0


def assert_installed(host: Namespace, capture: Capture) -> None:
    assert elements(host) == expected_elements(capture)
    assert routed(host) == {"9701": set(capture.vips), "9703": set(capture.vips), "local": set()}
    assert rule_lines(host) == RULES * 2
    for family in ("-4", "-6"):
        shown = host.run("ip", family, "route", "show", "table", "9702").split()
        assert shown[:6] == ["local", "default", "dev", "lo", "proto", "97"]
