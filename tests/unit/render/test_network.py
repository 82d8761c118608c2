"""Engines and downloads open connections only to name servers, the hub and what the profile names."""

import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from slipstream_operator.api.network import NetworkSpec
from slipstream_operator.core import network
from slipstream_operator.names import WORKER_LABEL
from tests.support import given

PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1::1")
INSIDE = ("10.96.0.1", "172.20.1.1", "192.168.1.5", "100.64.0.9", "127.0.0.1", "fd12::1", "fe80::1")
METADATA = ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")


def _reached(rules: Any, address: str, port: int, protocol: str = "TCP") -> bool:
    """Whether the rules admit a connection to an address outside of the cluster's pods."""
    return any(
        _holds(peer["ipBlock"], address)
        for rule in rules
        if "ports" not in rule or {"protocol": protocol, "port": port} in rule["ports"]
        for peer in rule["to"]
        if "ipBlock" in peer
    )


def _holds(block: dict[str, Any], address: str) -> bool:
    found = ipaddress.ip_address(address)
    excluded = [ipaddress.ip_network(text) for text in block.get("except", [])]
    return found in ipaddress.ip_network(block["cidr"]) and not any(
        found in one for one in excluded
    )


def _egress(**fields: Any) -> Any:
    return network.egress(NetworkSpec.model_validate({"egress": fields}))


@pytest.mark.parametrize("rules", [network.egress(None), network.egress(NetworkSpec()), _egress()])
def test_the_hub_and_name_servers_are_reached_by_default_and_nothing_else(rules: Any) -> None:
    assert all(_reached(rules, address, 443) for address in PUBLIC)
    assert not any(_reached(rules, address, 80) for address in (*PUBLIC, *INSIDE))
    assert not any(_reached(rules, address, 443) for address in (*INSIDE, *METADATA))
    assert all(_reached(rules, address, 53, "UDP") for address in (*PUBLIC, *INSIDE))
    assert not any(
        _reached(rules, address, 53, protocol)
        for address, protocol in itertools.product(METADATA, ("TCP", "UDP"))
    )


def test_routers_and_pickers_reach_everything_but_metadata_addresses() -> None:
    rules = network.anywhere()
    assert all(_reached(rules, address, 6443) for address in (*PUBLIC, *INSIDE))
    assert not any(_reached(rules, address, 80) for address in METADATA)


def test_the_profile_closes_the_internet_and_names_destinations() -> None:
    store = {"matchLabels": {"kubernetes.io/metadata.name": "minio"}}
    rules = _egress(
        internet="None",
        allow=[
            {"cidr": "10.20.0.7/16", "ports": [9000, 443]},
            {"namespaceSelector": store, "ports": [9000]},
        ],
    )
    assert not any(_reached(rules, address, 443) for address in PUBLIC)
    assert _reached(rules, "10.20.9.9", 9000)
    assert _reached(rules, "10.20.9.9", 443)
    assert not _reached(rules, "10.21.0.1", 443)
    assert {"to": [{"namespaceSelector": store}], "ports": [{"protocol": "TCP", "port": 9000}]} in (
        rules
    )


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "169.254.0.0/16", "::/0", "fd00::/8"])
def test_metadata_stays_closed_in_a_wide_range(cidr: str) -> None:
    rules = _egress(allow=[{"cidr": cidr}])
    assert not any(_reached(rules, address, 443) for address in METADATA)


def test_metadata_is_reached_if_the_profile_names_its_address() -> None:
    rules = _egress(allow=[{"cidr": "169.254.169.254/32", "ports": [80]}])
    assert _reached(rules, "169.254.169.254", 80)
    assert not _reached(rules, "169.254.169.254", 443)


@pytest.mark.parametrize("cidr", ["10.0.0.0", "10.0.0.0/99", "example.org/8"])
def test_a_destination_that_is_no_range_is_refused(cidr: str) -> None:
    with pytest.raises(ValueError, match=cidr):
        _egress(allow=[{"cidr": cidr}])


def _policies(spec: dict[str, Any], **snapshot: Any) -> Iterator[dict[str, Any]]:
    rendered = given.rendered(given.observed(spec, **snapshot))
    return (one for one in rendered if one["kind"] == "NetworkPolicy")


def test_every_policy_of_engines_has_the_rules() -> None:
    spec = {
        "model": given.MODEL,
        "parallelism": {"tensor": 8, "pipeline": 2, "nodes": 2},
    }
    policies = [one["spec"] for one in _policies(spec, leader_worker_sets=True)]
    assert len(policies) == 2
    workers = {"to": [{"podSelector": {"matchLabels": {WORKER_LABEL: given.NAME}}}]}
    for policy in policies:
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert [*network.egress(None)] == policy["egress"][: len(network.egress(None))]
        assert workers in policy["egress"]


def test_downloads_have_the_rules_too() -> None:
    kept = {"cache": {"model": {"claim": {"name": "models"}}}}
    (fetching,) = (
        one["spec"]
        for one in _policies({"model": given.MODEL, **kept})
        if one["metadata"]["name"] == f"{given.NAME}.fetch"
    )
    assert fetching["policyTypes"] == ["Egress"]
    assert fetching["egress"] == [*network.egress(None)]
    assert fetching["podSelector"] == {"matchLabels": {"slipstream.dev/fetch": given.NAME}}


def test_only_gateways_that_the_profile_names_reach_engines_behind_a_gateway() -> None:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}
    routing = {"mode": "Gateway", "gateway": {"name": "a"}}
    spec = {"model": given.MODEL, "routing": routing}
    (closed,) = _policies(spec, profiles=[given.profile(network={"gatewayNamespaces": selector})])
    (opened,) = _policies(spec)
    assert closed["spec"]["ingress"][0]["from"] == [{"namespaceSelector": selector}]
    assert "from" not in opened["spec"]["ingress"][0]
