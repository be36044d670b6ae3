"""The command line: what an operator gets wrong is told in one line and exit code 2, without a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uproxy import __version__


def uproxy(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uproxy", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )


def test_version_is_printed() -> None:
    done = uproxy("version")
    assert (done.returncode, done.stdout) == (0, f"uproxy {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run", "--foo"), "--foo"),
        (("run", "--redirect", "iptables"), "--redirect"),
        (("run", "--nodeport-addresses", "10.0.0.0/33"), "--nodeport-addresses: '10.0.0.0/33' is not a CIDR"),
        (("run", "--healthz-bind-address", "10256"), "--healthz-bind-address: '10256' is not an IP address and a port"),
        (("run", "--drain-timeout", "5"), "--drain-timeout"),
        (("run", "--config", "/does/not/exist"), "--config /does/not/exist: No such file"),
        (("run",), "--manifests"),
        (("run", "--manifests", "/does/not/exist"), "--manifests"),
        (("serve",), "serve"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_is_told_in_one_line_that_names_it(arguments: tuple[str, ...], complaint: str) -> None:
    done = uproxy(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_mistake_in_the_environment_is_named() -> None:
    done = uproxy("run", UPROXY_REDIRECT="iptables")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "UPROXY_REDIRECT" in done.stderr


def test_without_a_command_the_help_is_shown() -> None:
    done = uproxy()
    assert done.returncode == 2
    assert "Commands:" in done.stderr
