"""Connections that engines, routers and pickers can open, as the rules of a NetworkPolicy."""

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from slipstream_operator.api.network import Destination, Egress, NetworkSpec
from slipstream_operator.core.observed import Manifest

HTTPS_PORT: Final = 443
DNS_PORTS: Final = (53, 5353)
"""Ports of DNS: the usual one, and that of the pods of OpenShift's DNS."""
METADATA: Final = (
    "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "100.100.100.200/32",
    "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128", "fd00:ec2::23/128",
    "fd20:ce::254/128",
)  # fmt: skip
"""Addresses at which AWS, GCP, Azure, Alibaba and Oracle give credentials to whoever asks from a node."""
PRIVATE: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
)  # fmt: skip
"""IPv4 ranges of RFC 6890 that are not public, with Azure's metadata address."""
PUBLIC_IPV6: Final = "2000::/3"
"""All addresses that are public in IPv6, by RFC 4291."""


def egress(spec: NetworkSpec | None) -> tuple[Manifest, ...]:
    """Return the rules: DNS, port 443 of public addresses, and what the profile names."""
    asked = (spec and spec.egress) or Egress()
    rules = [_dns()]
    if asked.internet != "None":
        rules.append(_rule([_block("0.0.0.0/0", PRIVATE), _block(PUBLIC_IPV6)], [HTTPS_PORT]))
    rules += [
        _rule([_peer(one)], one.ports or [HTTPS_PORT])
        for one in asked.allow or ()
        if one.cidr is not None or one.namespace_selector is not None
    ]
    return tuple(rules)


def anywhere() -> list[Manifest]:
    """Return the rule for routers and pickers, whose API server can have any address: all but metadata addresses."""
    return [{"to": [{"namespaceSelector": {}}, _wide("0.0.0.0/0"), _wide("::/0")]}]


def gateways(spec: NetworkSpec | None) -> Manifest | None:
    """Return the selector of the gateways' namespaces; None if the profile does not name them."""
    if spec is None or spec.gateway_namespaces is None:
        return None
    return spec.gateway_namespaces.model_dump(by_alias=True, exclude_none=True)


def _dns() -> Manifest:
    """Return the rule for name servers in pods and on nodes. Metadata addresses that also serve DNS stay closed."""
    peers = [{"namespaceSelector": {}}, _wide("0.0.0.0/0"), _wide("::/0")]
    return {
        "to": peers,
        "ports": [
            {"protocol": protocol, "port": port}
            for port in DNS_PORTS
            for protocol in ("UDP", "TCP")
        ],
    }


def _peer(destination: Destination) -> Manifest:
    if destination.cidr is not None:
        return _wide(str(ipaddress.ip_network(destination.cidr, strict=False)))
    assert destination.namespace_selector is not None
    selector = destination.namespace_selector.model_dump(by_alias=True, exclude_none=True)
    return {"namespaceSelector": selector}


def _wide(cidr: str) -> Manifest:
    """Return the block without the metadata addresses in it. A block of one address is as it is."""
    network = ipaddress.ip_network(cidr)
    inside = [
        text
        for text in METADATA
        if (one := ipaddress.ip_network(text)).version == network.version
        and one != network
        and one.network_address in network
    ]
    return _block(cidr, inside)


def _block(cidr: str, excluded: Sequence[str] = ()) -> Manifest:
    return {"ipBlock": {"cidr": cidr, **({"except": list(excluded)} if excluded else {})}}


def _rule(peers: Sequence[Manifest], ports: Sequence[int]) -> dict[str, Any]:
    return {
        "to": list(peers),
        "ports": [{"protocol": "TCP", "port": port} for port in sorted(set(ports))],
    }
