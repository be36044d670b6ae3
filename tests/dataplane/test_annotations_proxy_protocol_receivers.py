"""uproxy.io/proxy-protocol, as read by those who wrote its specification and by those who are most often behind it."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from bench.programs import environment, find
from tests.dataplane.annotated import Annotated
from tests.dataplane.running import connect, read_all
from tests.lab.ports import free_port
from tests.lab.waiting import eventually
from uproxy.core.model import Endpoint, Protocol, RouteKey, ServiceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.dataplane.running import RunningPlane

HAPROXY: Final = """\
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend told
    bind {place} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
"""
NGINX: Final = """\
daemon off;
error_log stderr;
pid {folder}/nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen {place} proxy_protocol;
        return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port";
    }}
}}
"""
RECEIVERS: Final[dict[str, tuple[str, Callable[[str, Path], list[str]]]]] = {
    "haproxy": (HAPROXY, lambda program, config: [program, "-db", "-f", str(config)]),
    "nginx": (NGINX, lambda program, config: [program, "-e", "stderr", "-p", str(config.parent), "-c", str(config)]),
}


@contextmanager
def receiver(name: str, address: str, folder: Path) -> Iterator[Endpoint]:
    """Run a real receiver that answers every request with the addresses that it was told."""
    program = find(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    template, command = RECEIVERS[name]
    endpoint = Endpoint(address, free_port(address))
    config = folder / f"{name}.cfg"
    config.write_text(template.format(place=endpoint, folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command(program, config), stdout=log, stderr=log, env={**os.environ, **environment(program)})
    try:
        eventually(lambda: _listens(endpoint, process, folder / "log"))
        yield endpoint
    finally:
        process.terminate()
        process.wait(10)


def _listens(endpoint: Endpoint, process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(log.read_text())
    connect(RouteKey(endpoint.address, Protocol.TCP, endpoint.port)).close()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("vip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("name", sorted(RECEIVERS))
def test_a_real_receiver_is_told_the_clients_address_and_the_services(
    plane: RunningPlane, tmp_path: Path, name: str, vip: str, version: int
) -> None:
    with receiver(name, vip, tmp_path) as endpoint:
        served = Annotated(plane, ServiceOptions(proxy_protocol=version), endpoint, vip=vip)
        with connect(served.key) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
            head, _, body = read_all(client).partition(b"\r\n\r\n")
            host, port = client.getsockname()[:2]
        assert head.startswith(b"HTTP/1.1 200"), head
        assert body.decode() == f"{host} {port} {vip} {served.key.port}"


@pytest.mark.parametrize("name", sorted(RECEIVERS))
def test_the_receivers_of_these_tests_refuse_what_has_no_header(plane: RunningPlane, tmp_path: Path, name: str) -> None:
    with receiver(name, "127.0.0.1", tmp_path) as endpoint, connect(Annotated(plane, ServiceOptions(), endpoint).key) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        try:
            answer = read_all(client)
        except ConnectionResetError:
            answer = b""
        assert b" 200 " not in answer
