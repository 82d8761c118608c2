"""Access to the ports of engines, and how Prometheus finds them."""

from collections.abc import Sequence
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core import router_config
from slipstream_operator.core.observed import Child
from slipstream_operator.core.render import router
from tests.support import given


@pytest.mark.parametrize(
    ("url", "selector"),
    [
        (
            "http://prometheus.monitoring.svc:9090",
            {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        ),
        (
            "https://p.mon.svc.cluster.local/x",
            {"matchLabels": {"kubernetes.io/metadata.name": "mon"}},
        ),
        (
            "http://prometheus.monitoring.svc",
            {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        ),
        ("https://prometheus.example.com", {}),
        ("http://10.0.0.1:9090", {}),
    ],
)
def test_only_prometheus_and_the_router_reach_the_management_port(
    url: str, selector: dict[str, Any]
) -> None:
    observed = given.observed(profiles=[given.profile(prometheus={"url": url})])
    policy = given.find(given.rendered(observed), "NetworkPolicy")
    management = policy["spec"]["ingress"][1]
    assert management["from"] == [
        {"namespaceSelector": selector},
        {"podSelector": {"matchLabels": names.router_selector()}},
        {"podSelector": {"matchLabels": {"slipstream.dev/picker": given.NAME}}},
    ]


ROUTERS = [{"podSelector": {"matchLabels": names.router_selector()}}]


@pytest.mark.parametrize(("mode", "allowed"), [("Router", ROUTERS), ("Direct", None)])
def test_engines_behind_a_router_take_requests_from_routers_alone(
    mode: str, allowed: list[dict[str, Any]] | None
) -> None:
    observed = given.observed(_routing(mode))
    assert _api_clients(given.rendered(observed)) == allowed


def _routing(mode: str) -> dict[str, Any]:
    return {"model": {"uri": "hf://org/model"}, "routing": {"mode": mode}}


def _api_clients(manifests: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Return the peers that reach the API port; None if everybody does."""
    rule = given.find(manifests, "NetworkPolicy")["spec"]["ingress"][0]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]
    found: list[dict[str, Any]] | None = rule.get("from")
    return found


def test_the_profile_names_the_namespaces_that_scrape() -> None:
    selector = {"matchLabels": {"monitoring": "yes"}}
    asked = {"url": "http://thanos.monitoring.svc", "scraperNamespaces": selector}
    observed = given.observed(profiles=[given.profile(prometheus=asked)])
    policy = given.find(given.rendered(observed), "NetworkPolicy")
    assert policy["spec"]["ingress"][1]["from"][0] == {"namespaceSelector": selector}


@pytest.mark.parametrize(
    ("discovery", "kind", "monitored"),
    [
        (None, False, False),
        (None, True, True),
        ("PodMonitor", True, True),
        ("PodMonitor", False, False),
        ("Annotations", True, False),
    ],
)
def test_a_pod_is_discovered_in_one_way(discovery: str | None, kind: bool, monitored: bool) -> None:
    asked = {"url": "http://p.m.svc", **({"discovery": discovery} if discovery else {})}
    profiles = [given.profile(prometheus=asked)]
    engines = given.rendered(given.observed(profiles=profiles, pod_monitors=kind))
    entry = given.entry(given.observed(profiles=profiles))
    assert entry is not None
    space = given.router([given.parent()], profiles=profiles, pod_monitors=kind)
    resolved = router_config.resolve(space, {given.NAME: entry}, {})
    assert resolved is not None
    for manifests in (engines, router.render(resolved)):
        assert any(manifest["kind"] == "PodMonitor" for manifest in manifests) == monitored
        template = given.find(manifests, "Deployment")["spec"]["template"]
        annotated = "prometheus.io/scrape" in template["metadata"].get("annotations", {})
        assert annotated == (not monitored)


def test_pod_monitors_have_the_labels_of_the_profile_and_keep_their_own() -> None:
    labels = {"release": "kube-prometheus-stack", names.SERVICE_LABEL: "another"}
    profiles = [given.profile(prometheus={"url": "http://p.m.svc", "podMonitorLabels": labels})]
    observed = given.observed(profiles=profiles, pod_monitors=True)
    found = given.find(given.rendered(observed), "PodMonitor")["metadata"]["labels"]
    assert found["release"] == "kube-prometheus-stack"
    assert found[names.SERVICE_LABEL] == given.NAME


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_the_kind_pod_monitor_comes_and_goes_without_a_restart_of_the_router(
    before: bool, after: bool
) -> None:
    entries = {given.NAME: given.entry(given.observed())}

    def template(pod_monitors: bool, children: Sequence[Child] = ()) -> tuple[Any, Child]:
        space = given.router([given.parent()], children=children, pod_monitors=pod_monitors)
        resolved = router_config.resolve(space, entries, {})  # type: ignore[arg-type]
        assert resolved is not None
        deployment = given.find(router.render(resolved), "Deployment")
        return deployment["spec"]["template"], given.child(deployment)

    first, child = template(before)
    assert template(after, [child])[0] == first


def test_without_the_pod_monitor_kind_none_is_made() -> None:
    assert all(manifest["kind"] != "PodMonitor" for manifest in given.rendered(given.observed()))
