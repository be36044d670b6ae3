"""Which objects are asked for: kube-proxy's selectors, and with a proxy name the Services that carry it."""

from __future__ import annotations

from uproxy.core.model import Kind
from uproxy.sources.kubernetes.kinds import collections

NOT_OURS = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"


def test_without_a_proxy_name_what_other_proxies_serve_is_left_out() -> None:
    services, slices, nodes = collections("n1")
    assert services.selectors == {"labelSelector": NOT_OURS, "fieldSelector": "spec.clusterIP!=None"}
    assert services.older == {"labelSelector": NOT_OURS}
    assert slices.selectors == {"labelSelector": NOT_OURS}
    assert nodes.selectors == {"fieldSelector": "metadata.name=n1"}
    assert [each.kind for each in (services, slices, nodes)] == list(Kind)
    assert [each.path for each in (services, slices, nodes)] == [
        "/api/v1/services",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/api/v1/nodes",
    ]


def test_with_a_proxy_name_services_must_carry_it_and_slices_need_not() -> None:
    services, slices, _ = collections("n1", "uproxy")
    labels = "service.kubernetes.io/service-proxy-name=uproxy,!service.kubernetes.io/headless"
    assert services.selectors == {"labelSelector": labels, "fieldSelector": "spec.clusterIP!=None"}
    assert slices.selectors == {"labelSelector": "!service.kubernetes.io/headless"}
