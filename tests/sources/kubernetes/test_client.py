"""Requests to the real API server, straight and through a relay that does what networks and proxies do."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.cluster import kubeconfigs
from tests.cluster.certificates import ADMIN, NODE_PROXIER, Authority
from tests.cluster.control_plane import STATIC_TOKENS
from tests.cluster.objects import service
from tests.cluster.relay import STALLED, Fault, Relay
from tests.lab.waiting import eventually
from tests.sources.kubernetes.asking import PATIENCE, SERVICES, asking
from tests.sources.kubernetes.tunnel import Tunnel
from uproxy.errors import UproxyError
from uproxy.sources.kubernetes.api_errors import (
    ApiError,
    CertificateRejected,
    CredentialsRejected,
    Forbidden,
    Garbled,
    Gone,
    Refused,
    ServerFailed,
    Stalled,
    TooManyRequests,
    Unreachable,
    from_error_event,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane

TOKEN = STATIC_TOKENS[NODE_PROXIER]


@contextmanager
def relay_before(control_plane: ControlPlane, *names: str, expired: bool = False) -> Iterator[tuple[Relay, Path]]:
    """Put a relay before the API server that shows a certificate for these names; give it and a kubeconfig that leads to it."""
    authority = Authority()
    certificate = authority.server(*(names or ("127.0.0.1",)), expired=expired).write(control_plane.folder, "relay")
    connect = partial(control_plane.connect, ("127.0.0.1", control_plane.port))
    with Relay(connect, certificate=certificate) as relay:
        yield relay, control_plane.kubeconfig(kubeconfigs.with_token(TOKEN), server=relay.url, authority=authority.pem)


def change(kubeconfig: Path, **cluster: object) -> Path:
    """Add to what a kubeconfig says of its cluster."""
    document = json.loads(kubeconfig.read_bytes())
    document["clusters"][0]["cluster"].update({name.replace("_", "-"): value for name, value in cluster.items()})
    kubeconfig.write_text(json.dumps(document), encoding="utf-8")
    return kubeconfig


# What works


async def test_a_list_comes_whole_with_its_selectors(control_plane: ControlPlane, namespace: str) -> None:
    for name, labels in (("web", {}), ("headless", {"service.kubernetes.io/headless": ""})):
        document = service(namespace, name, {"http": 80})
        document["metadata"]["labels"] = {"of": namespace, **labels}
        control_plane.admin.create(document)
    async with asking(control_plane.kubeconfig()) as ours:
        listed = json.loads(await ours.services(labelSelector=f"of in ({namespace}),!service.kubernetes.io/headless"))
        assert [item["metadata"]["name"] for item in listed["items"]] == ["web"]
        assert ours.codes == ["200"]
        assert ours.stats.latencies["GET", ours.api.host].total == 1


async def test_pages_of_a_list_follow_each_other(control_plane: ControlPlane, namespace: str) -> None:
    for number in range(5):
        control_plane.admin.create(service(namespace, f"web-{number}", {"http": 80}))
    names: list[str] = []
    async with asking(control_plane.kubeconfig()) as ours:
        query = {"limit": "2"}
        while True:
            page = json.loads(await ours.api.get(f"/api/v1/namespaces/{namespace}/services", query, PATIENCE))
            names += [item["metadata"]["name"] for item in page["items"]]
            if "continue" not in page["metadata"]:
                break
            query["continue"] = page["metadata"]["continue"]
    assert names == [f"web-{number}" for number in range(5)]


async def test_a_stream_gives_events_as_they_come(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.admin.create(service(namespace, "before", {"http": 80}))
    heard = b""
    async with asking(control_plane.kubeconfig()) as ours:
        query = {"watch": "1", "fieldSelector": f"metadata.namespace={namespace}"}
        async with asyncio.timeout(20), ours.api.stream(SERVICES, query, stall=20) as chunks:
            async for chunk in chunks:
                heard += chunk
                if b'"before"' in heard and b'"after"' not in heard:
                    await asyncio.to_thread(control_plane.admin.apply, service(namespace, "after", {"http": 80}))
                if b'"after"' in heard:
                    break
    assert [json.loads(line)["object"]["metadata"]["name"] for line in heard.splitlines()[:2]] == ["before", "after"]


async def test_a_stream_ends_when_the_server_ends_it(control_plane: ControlPlane) -> None:
    query = {"watch": "1", "timeoutSeconds": "1"}
    async with asking(control_plane.kubeconfig()) as ours, ours.api.stream(SERVICES, query, stall=20) as chunks:
        started = time.monotonic()
        assert b"".join([chunk async for chunk in chunks])
        assert time.monotonic() - started < 10


async def test_what_is_sent_arrives(control_plane: ControlPlane, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    async with asking(control_plane.kubeconfig(ADMIN)) as ours:
        await ours.api.send("POST", path, json.dumps(service(namespace, "web", {"http": 80})).encode(), "application/json")
        change = b'{"metadata": {"labels": {"changed": "yes"}}}'
        answer = json.loads(await ours.api.send("PATCH", f"{path}/web", change, "application/merge-patch+json"))
        assert answer["metadata"]["labels"] == {"changed": "yes"}
        assert {(method, code) for method, _, code in ours.stats.requests} == {("POST", "201"), ("PATCH", "200")}


async def test_pages_travel_compressed_and_watches_do_not(control_plane: ControlPlane, namespace: str) -> None:
    for number in range(300):
        control_plane.admin.create(service(namespace, f"web-{number}", {"http": 80}, externalName="e" * 200 + ".example"))
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours:
            listed = await ours.services(fieldSelector=f"metadata.namespace={namespace}")
            travelled = relay.traffic.to_clients
            assert len(listed) > 131072, "the server does not compress less"
            assert travelled < len(listed) / 4
            query = {"watch": "1", "timeoutSeconds": "1", "fieldSelector": f"metadata.namespace={namespace}"}
            async with ours.api.stream(SERVICES, query, stall=20) as chunks:
                watched = b"".join([chunk async for chunk in chunks])
            assert relay.traffic.to_clients - travelled > len(watched)


async def test_connections_are_used_again(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours:
            for _ in range(5):
                await ours.services()
            assert relay.traffic.accepted == 1


async def test_a_connection_that_ended_while_idle_costs_no_error(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours:
            await ours.services()
            assert relay.cut() == 1
            await ours.services()


# Proxies


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_proxies_of_the_environment_are_not_used(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with Tunnel() as tunnel, asking(control_plane.kubeconfig()) as ours:
        monkeypatch.setenv(variable, tunnel.url)
        await ours.services()
        assert tunnel.opened == []


async def test_the_proxy_of_the_kubeconfig_is_used(control_plane: ControlPlane) -> None:
    async with Tunnel() as tunnel, asking(change(control_plane.kubeconfig(), proxy_url=tunnel.url)) as ours:
        await ours.services()
        assert tunnel.opened == [f"127.0.0.1:{control_plane.port}"]


async def test_a_proxy_that_does_not_want_to_is_named(control_plane: ControlPlane) -> None:
    async with Tunnel(refuses=True) as tunnel, asking(change(control_plane.kubeconfig(), proxy_url=tunnel.url)) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason) == (Unreachable, "proxy")
        assert "the proxy answers 403" in str(error)


async def test_a_proxy_that_is_not_there_is_named(control_plane: ControlPlane) -> None:
    async with asking(change(control_plane.kubeconfig(), proxy_url=f"http://{unused_address()}")) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason) == (Unreachable, "proxy")
        assert "proxy-url" in str(error)


# No answer


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def test_a_refused_connection_is_told_with_the_address_and_who_said_so(control_plane: ControlPlane) -> None:
    server = f"https://{unused_address()}"
    kubeconfig = control_plane.kubeconfig(server=server)
    async with asking(kubeconfig) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason) == (Unreachable, "refused")
        assert str(error).startswith(f"connection refused: GET {server}{SERVICES} (kubeconfig {kubeconfig}, context lab); ")
        assert ours.codes == ["<error>"]


async def test_a_name_that_nobody_knows_is_told(control_plane: ControlPlane) -> None:
    # Longer than a name may be: no name server has to be asked.
    name = ".".join(["n" * 60] * 5)
    async with asking(control_plane.kubeconfig(server=f"https://{name}:6443")) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason) == (Unreachable, "dns_failure")
        assert f"the name {name} is not known" in str(error)


async def test_a_server_that_accepts_and_says_nothing_is_given_up(control_plane: ControlPlane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with asking(control_plane.kubeconfig(server=server), connect_timeout=0.3) as ours:
            started = time.monotonic()
            error = await ours.refusal()
            assert (type(error), error.reason) == (Unreachable, "timeout")
            assert "no connection within 0.3 s" in str(error)
            assert time.monotonic() - started < 5


async def test_an_answer_that_does_not_come_is_given_up(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours:
            await ours.services()
            relay.fault = STALLED
            with pytest.raises(Unreachable, match=r"no whole answer within 0\.5 s") as caught:
                await ours.api.get(SERVICES, {}, 0.5)
            assert caught.value.reason == "timeout"


async def test_an_answer_that_stops_half_way_is_given_up(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours:
            await ours.services()
            relay.fault = Fault(then="stall", after=300)
            with pytest.raises(Unreachable, match=r"no whole answer within 0\.5 s"):
                await ours.api.get(SERVICES, {}, 0.5)


@pytest.mark.parametrize(("then", "reasons"), [("close", {"cut", "disconnected"}), ("reset", {"cut", "reset", "disconnected"})])
async def test_an_answer_that_is_cut_off_is_no_answer(control_plane: ControlPlane, then: str, reasons: set[str]) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        relay.fault = Fault(then="close" if then == "close" else "reset", after=300)
        async with asking(kubeconfig) as ours:
            error = await ours.refusal()
            assert type(error) is Unreachable
            assert error.reason in reasons


async def test_the_clusters_own_address_is_recognised_as_a_trap(control_plane: ControlPlane, tmp_path: Path, namespace: str) -> None:
    (tmp_path / "token").write_text(control_plane.service_account(namespace).token(), encoding="utf-8")
    (tmp_path / "ca.crt").write_bytes(control_plane.authority.pem)
    host, _, port = unused_address().partition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, f"KUBERNETES_PORT_{port}_TCP_ADDR": host}
    async with asking(environ=environ, service_account=tmp_path) as ours:
        error = await ours.refusal()
        assert type(error) is Unreachable
        assert "is the Service kubernetes itself" in str(error)
        assert "KUBERNETES_SERVICE_HOST" in str(error)


# TLS


async def test_a_server_of_another_authority_is_not_believed(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig(authority=Authority().pem)) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason) == (CertificateRejected, "unknown_authority")
        assert "certificate-authority must be the one of this cluster" in str(error)


async def test_the_systems_authorities_are_asked_when_the_kubeconfig_has_none(control_plane: ControlPlane) -> None:
    async with asking(change(control_plane.kubeconfig(), certificate_authority_data=None)) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason) == (CertificateRejected, "unknown_authority")


async def test_an_expired_certificate_is_not_believed(control_plane: ControlPlane) -> None:
    with relay_before(control_plane, expired=True) as (_, kubeconfig):
        async with asking(kubeconfig) as ours:
            error = await ours.refusal()
            assert (type(error), error.reason) == (CertificateRejected, "expired")
            assert "has expired" in str(error)


async def test_a_certificate_for_somebody_else_is_not_believed_unless_its_name_is_given(control_plane: ControlPlane) -> None:
    with relay_before(control_plane, "api.example") as (_, kubeconfig):
        async with asking(kubeconfig) as ours:
            error = await ours.refusal()
            assert (type(error), error.reason) == (CertificateRejected, "host_name")
            assert "tls-server-name" in str(error)
        async with asking(change(kubeconfig, tls_server_name="api.example")) as ours:
            await ours.services()


async def test_without_verification_any_certificate_will_do_and_that_is_said(control_plane: ControlPlane) -> None:
    with relay_before(control_plane, "elsewhere.example", expired=True) as (_, kubeconfig):
        async with asking(change(kubeconfig, insecure_skip_tls_verify=True)) as ours:
            await ours.services()
            assert "insecure-skip-tls-verify" in str(ours.log.named("api_server_unsafe"))


async def test_the_servers_own_certificate_may_stand_for_its_authority(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (_, kubeconfig):
        shown = (control_plane.folder / "relay.crt").read_bytes()
        token = kubeconfigs.with_token(TOKEN)
        server = json.loads(kubeconfig.read_bytes())["clusters"][0]["cluster"]["server"]
        async with asking(control_plane.kubeconfig(token, server=server, authority=shown)) as ours:
            await ours.services()


@contextmanager
def balancer_that_wants_a_certificate(authority: Authority, folder: Path) -> Iterator[str]:
    """Serve TLS to who shows a certificate of this authority; give the address. asyncio's servers end without saying why."""
    wanting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem.decode())
    wanting.load_cert_chain(*authority.server("127.0.0.1").write(folder, "balancer"))
    wanting.verify_mode = ssl.CERT_REQUIRED

    def serve() -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                raw, _ = listener.accept()
                with wanting.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as client, suppress(OSError):
                    client.settimeout(PATIENCE)
                    with suppress(ssl.SSLError):
                        client.do_handshake()
                    # The request is read before the end: what is unread would become a reset, which overtakes the alert.
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_a_balancer_that_wants_a_client_certificate_says_so(control_plane: ControlPlane, tmp_path: Path) -> None:
    authority = Authority()
    with balancer_that_wants_a_certificate(authority, tmp_path) as server:
        for user in (kubeconfigs.with_token(TOKEN), kubeconfigs.with_certificate(Authority().client(NODE_PROXIER))):
            async with asking(control_plane.kubeconfig(user, server=server, authority=authority.pem)) as ours:
                error = await ours.refusal()
                assert (type(error), error.reason) == (CertificateRejected, "client_certificate")


async def test_a_port_without_tls_is_told(control_plane: ControlPlane) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with asking(control_plane.kubeconfig(server=f"https://127.0.0.1:{port}")) as ours:
            error = await ours.refusal()
            assert (type(error), error.reason) == (Unreachable, "not_tls")
            assert "is it the right port" in str(error)
        async with asking(control_plane.kubeconfig(server=f"http://127.0.0.1:{port}")) as ours:
            assert type(await ours.refusal()) is Garbled


async def test_a_server_that_wants_tls_says_so_to_who_comes_without(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig(server=control_plane.url.replace("https", "http"))) as ours:
        assert "Client sent an HTTP request to an HTTPS server" in str(await ours.refusal())
        assert "not encrypted" in str(ours.log.named("api_server_unsafe"))


# Who we are


async def test_a_token_that_is_not_known_is_told(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig(kubeconfigs.with_token("nobody's"))) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason, error.code) == (CredentialsRejected, "unauthorized", 401)


async def test_an_expired_client_certificate_is_named(control_plane: ControlPlane) -> None:
    expired = kubeconfigs.with_certificate(control_plane.authority.client(NODE_PROXIER, expired=True))
    async with asking(control_plane.kubeconfig(expired)) as ours:
        error = await ours.refusal()
        assert type(error) is CredentialsRejected
        assert "client-certificate-data has expired" in str(error)


async def test_a_client_certificate_of_another_authority_is_told(control_plane: ControlPlane) -> None:
    foreign = kubeconfigs.with_certificate(Authority().client(NODE_PROXIER))
    async with asking(control_plane.kubeconfig(foreign)) as ours:
        assert type(await ours.refusal()) is CredentialsRejected


async def test_somebody_without_credentials_is_told_that_there_were_none(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig({})) as ours:
        error = await ours.refusal()
        assert type(error) is Forbidden
        assert "no credentials were sent" in str(error)
        assert "anonymously" in str(ours.log.named("api_server_unsafe"))


async def test_what_is_not_allowed_is_told_with_the_role_to_be_bound(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig()) as ours:
        error = await ours.refusal("/api/v1/pods")
        assert (type(error), error.reason, error.code, error.status_reason) == (Forbidden, "forbidden", 403, "Forbidden")
        assert 'cannot list resource "pods"' in str(error)
        assert "system:node-proxier" in str(error)


# Answers that are none


async def test_a_path_that_the_server_does_not_know_is_told(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig(ADMIN)) as ours:
        error = await ours.refusal("/apis/nothing.example/v1/things")
        assert (type(error), error.reason) == (Refused, "not_found")


async def test_a_version_that_the_server_has_not_reached_needs_a_new_list(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig()) as ours:
        error = await ours.refusal(resourceVersion="99999999")
        assert (type(error), error.reason, error.code) == (Gone, "version_too_large", 504)
        assert error.retry_after == 1.0


@pytest.mark.slow
async def test_what_the_server_has_forgotten_needs_a_new_list(own_control_plane: ControlPlane) -> None:
    with own_control_plane.admin.namespace() as namespace:
        for number in range(3):
            own_control_plane.admin.create(service(namespace, f"web-{number}", {"http": 80}))
        async with asking(own_control_plane.kubeconfig()) as ours:
            begun = json.loads(await ours.services(limit="1"))["metadata"]
            own_control_plane.admin.create(service(namespace, "later", {"http": 80}))
            await asyncio.to_thread(own_control_plane.compact)
            continued = await ours.refusal(**{"limit": "1", "continue": begun["continue"]})
            assert (type(continued), continued.reason, continued.code) == (Gone, "gone", 410)
            query = {"watch": "1", "resourceVersion": begun["resourceVersion"], "timeoutSeconds": "5"}
            async with ours.api.stream(SERVICES, query, stall=20) as chunks:
                event = json.loads(b"".join([chunk async for chunk in chunks]))
            assert event["type"] == "ERROR"
            told = from_error_event(json.dumps(event["object"]).encode(), "the watch")
            assert (type(told), told.reason, told.code, told.status_reason) == (Gone, "gone", 410, "Expired")


async def test_a_query_that_makes_no_sense_is_refused(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig()) as ours:
        assert (await ours.refusal(resourceVersion="old")).reason == "bad_request"


@pytest.mark.parametrize(
    ("head", "kind", "retry_after"),
    [
        (b"429 Too Many Requests\r\nRetry-After: 7", TooManyRequests, 7),
        (b"503 Service Unavailable\r\nRetry-After: 3", ServerFailed, 3),
        (b"502 Bad Gateway", ServerFailed, 0),
        (b"302 Found\r\nLocation: https://login.example/", Garbled, 0),
    ],
)
async def test_answers_of_what_is_between_are_told_apart(
    control_plane: ControlPlane, head: bytes, kind: type[ApiError], retry_after: float
) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        relay.fault = Fault(replace=(b"200 OK", head))
        async with asking(kubeconfig) as ours:
            error = await ours.refusal()
            assert (type(error), error.retry_after) == (kind, retry_after)
            assert len(str(error)) < 600, "a foreign answer is quoted, not repeated"


async def test_a_page_for_humans_is_no_list(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        relay.fault = Fault(replace=(b"Content-Type: application/json", b"Content-Type: text/html"))
        async with asking(kubeconfig) as ours:
            error = await ours.refusal()
            assert type(error) is Garbled
            assert "the answer is text/html instead of JSON" in str(error)
            with pytest.raises(Garbled):
                async with ours.api.stream(SERVICES, {"watch": "1"}, stall=5):
                    raise AssertionError("nothing of it is given")


async def test_what_is_not_http_is_told(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        relay.fault = Fault(replace=(b"HTTP/1.1 200 OK", b"SMTP/1.1 200 OK"))
        async with asking(kubeconfig) as ours:
            assert type(await ours.refusal()) is Garbled


# Streams that end otherwise than they should


async def test_a_stream_on_which_nothing_comes_is_stalled(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours, ours.api.stream(SERVICES, {"watch": "1"}, stall=1.0) as chunks:
            assert await anext(chunks)
            relay.fault = STALLED
            with pytest.raises(Stalled, match="nothing came for 1 s") as caught:
                _ = [chunk async for chunk in chunks]
            assert caught.value.reason == "stalled"


async def test_a_stream_whose_pieces_are_damaged_ends_in_time(control_plane: ControlPlane, namespace: str) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours, ours.api.stream(SERVICES, {"watch": "1"}, stall=1.0) as chunks:
            assert await anext(chunks)
            relay.fault = Fault(replace=(b"\r\n", b""))
            await asyncio.to_thread(control_plane.admin.create, service(namespace, "web", {"http": 80}))
            async with asyncio.timeout(20):
                with pytest.raises(ApiError):
                    _ = [chunk async for chunk in chunks]


async def test_a_stream_whose_head_does_not_come_is_given_up(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig, request_timeout=0.5) as ours:
            await ours.services()
            relay.fault = STALLED
            with pytest.raises(Unreachable):
                async with ours.api.stream(SERVICES, {"watch": "1"}, stall=60):
                    raise AssertionError("there is no stream")


@pytest.mark.parametrize(("reset", "reasons"), [(False, {"cut"}), (True, {"cut", "reset"})])
async def test_a_stream_that_is_cut_is_not_one_that_ended(control_plane: ControlPlane, reasons: set[str], *, reset: bool) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours, ours.api.stream(SERVICES, {"watch": "1"}, stall=20) as chunks:
            assert await anext(chunks)
            relay.cut(reset=reset)
            with pytest.raises(Unreachable) as caught:
                _ = [chunk async for chunk in chunks]
            assert caught.value.reason in reasons


async def test_who_leaves_a_stream_closes_its_connection(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        async with asking(kubeconfig) as ours:
            async with ours.api.stream(SERVICES, {"watch": "1"}, stall=20) as chunks:
                assert await anext(chunks)
                assert relay.traffic.open == 1
            await asyncio.to_thread(eventually, lambda: relay.traffic.open == 0)


async def test_who_waits_for_a_stream_can_be_stopped(control_plane: ControlPlane) -> None:
    async with asking(control_plane.kubeconfig()) as ours:
        listening = asyncio.Event()

        async def listen() -> None:
            async with ours.api.stream(SERVICES, {"watch": "1", "resourceVersion": "0"}, stall=60) as chunks:
                async for _ in chunks:
                    listening.set()

        task = asyncio.create_task(listen())
        async with asyncio.timeout(20):
            await listening.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_every_error_is_one_of_ours(control_plane: ControlPlane) -> None:
    with relay_before(control_plane) as (relay, kubeconfig):
        relay.fault = Fault(flip_every=50)
        async with asking(kubeconfig) as ours:
            with pytest.raises(UproxyError):
                await ours.services()
