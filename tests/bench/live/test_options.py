"""The command line: what it means, and that each mistake is one line which names the flag and what would be right."""

from __future__ import annotations

import pytest

from bench.live.address import Target
from bench.live.options import UsageError, parse


def test_the_defaults_are_modest() -> None:
    options = parse(["tcp", "10.96.0.1:80"])

    assert (options.rate, options.duration, options.connections, options.size, options.expect) == (100, 10, 10, 64, "echo")
    assert (options.timeout, parse(["udp", "web:53"]).timeout, parse(["http", "http://web/"]).timeout) == (2, 0.5, 5)
    assert parse(["http", "http://web/"]).size == 0


def test_times_are_written_as_everywhere_in_the_project() -> None:
    options = parse(["tcp", "web:80", "--duration", "1m30s", "--timeout", "250ms"])

    assert (options.duration, options.timeout) == (90, 0.25)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.96.0.1:80", "10.96.0.1", 80),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("web.default.svc:443", "web.default.svc", 443),
    ],
)
def test_an_address_is_a_host_and_any_port(text: str, host: str, port: int) -> None:
    target = parse(["udp", text]).target

    assert target == Target(host, port)
    assert str(target) == text


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("http://web", "web", 80), ("https://[fd00::1]/a?b=c", "fd00::1", 443), ("http://10.96.0.1:8080/", "10.96.0.1", 8080)],
)
def test_a_url_has_the_port_of_its_scheme(text: str, host: str, port: int) -> None:
    target = parse(["http", text]).target

    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("tcp web", "ADDRESS web: its port is missing, write it like web:80"),
        ("tcp web:", "its port is missing"),
        ("tcp [::1]", "its port is missing"),
        ("tcp ::1", "write an IPv6 address in brackets, like [fd00::1]:80"),
        ("tcp fd00::1:80", "write an IPv6 address in brackets"),
        ("tcp [web]:80", "web is no IPv6 address"),
        ("tcp :80", "write it like"),
        ("tcp me@web:80", "write it like"),
        ("udp web:0", "the port 0 is no number from 1 to 65535"),
        ("udp web:65536", "the port 65536 is no number from 1 to 65535"),
        ("udp web:http", "the port http is no number"),
        ("udp web:²", "the port ² is no number"),
        ("tcp http://web:80/", "this takes HOST:PORT"),
        ("http web:80", "http takes a URL, write it like http://web:80"),
        ("http ftp://web/", "ftp:// is neither http:// nor https://"),
        ("http http://web:x/", "not a URL"),
        ("http http://web:70000/", "not a URL"),
        ("http http://", "ADDRESS http://: "),
        ("http http://[::1/", "not a URL"),
        ("http http://me:secret@web/", "without a name and a password"),
        ("sctp web:80", "kind: invalid choice: 'sctp' (choose from"),
        ("tcp", "ADDRESS"),
        ("tcp web:80 --rate fast", "--rate: 'fast' is no rate"),
        ("tcp web:80 --rate 0", "--rate: '0' is no rate: units per second from 0.001, like 100"),
        ("tcp web:80 --rate -5", "--rate: '-5' is no rate"),
        ("tcp web:80 --rate nan", "--rate: 'nan' is no rate"),
        ("tcp web:80 --rate inf", "--rate: 'inf' is no rate"),
        ("tcp web:80 --duration 10", "--duration: not a duration: '10' (write it like 250ms, 30s or 1h30m)"),
        ("tcp web:80 --duration 0s", "--duration: longer than 0, like 10s"),
        ("tcp web:80 --timeout 2m", "--timeout: 60s at most"),
        ("tcp web:80 --connections 0", "--connections: at least 1"),
        ("tcp web:80 --connections 1.5", "--connections: '1.5' is no whole number, like 64"),
        ("tcp web:80 --size 0", "--size 0: tcp takes 1 to 1048576 bytes"),
        ("udp web:80 --size 65508", "--size 65508: udp takes 1 to 65507 bytes"),
        ("tcp web:80 --size -1", "--size: '-1' is no whole number"),
        ("tcp web:80 --expect 200", "--expect: invalid choice: '200'"),
        ("http http://web/ --expect any", "--expect any: for tcp and udp; an answer to http is a status below 400"),
        ("tcp web:80 --insecure", "--insecure: for http with an https:// URL"),
        ("http http://web/ --insecure", "--insecure: for http with an https:// URL"),
        ("tcp web:80 --speed 3", "unrecognized arguments: --speed 3"),
        ("tcp web:80 --rate", "--rate: expected one argument"),
        ("tcp web:80 --rate 10001", "--rate 10001: --max-rate allows 10000; raise it to 10001 if the target is yours"),
        ("tcp web:80 --rate 1000000 --max-rate 999999", "--rate 1000000: --max-rate allows 999999; raise it to 1000000"),
        ("tcp web:80 --connections 1001", "--connections 1001: --max-connections allows 1000; raise it to 1001"),
        ("tcp web:80 --duration 11m", "--duration 660s: --max-duration allows 600s; raise it to 660s"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_would_be_right(argv: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(argv.split())

    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_raised_limits_allow_more() -> None:
    limits = ["--max-rate", "20000", "--max-connections", "2000", "--max-duration", "1h"]
    options = parse(["tcp", "web:80", "--rate", "20000", "--connections", "2000", "--duration", "1h", *limits])

    assert (options.rate, options.connections, options.duration) == (20_000, 2_000, 3_600)


def test_help_names_every_default_and_limit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])

    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(default in text for default in ("(100)", "(10s)", "(10)", "(64)", "(10000)", "(1000)", "(600s)"))
