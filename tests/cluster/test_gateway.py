"""Inference gateways: attached to where the cluster has the kinds, told about where it has not.

The kinds are those of the Gateway API and its inference extension. What a gateway's controller would answer is written
into the status by the tests; requests go through the real Envoy, which asks the real endpoint picker.
"""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dev import waiting
from dev.cluster.kube import Kube, Object, condition
from dev.cluster.lifecycle import Cluster
from slipstream_runtime import contract
from tests.support import clusters, gateways, services
from tests.support.gateways import ACCEPTED, GONE, SOON, Gateway, answer, programmed

REPLICAS = 3
PLACES = 8
"""Sequences that a replica runs at once."""


@pytest.fixture(scope="module")
def kinds(kube: Kube) -> Iterator[None]:
    """The kinds of the Gateway API exist, and the profile names an endpoint picker."""
    kube.patch(
        "ServingProfile", None, "local", {"spec": {"images": {"picker": "example.com/picker:1"}}}
    )
    with gateways.kinds(kube):
        yield


@pytest.fixture(scope="module")
def gateway(
    kube: Kube, cluster: Cluster, kinds: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Three simulated engines, the picker that the operator made for them, and Envoy before both."""
    image = gateways.picker_image(cluster)
    here = {"images": {"picker": image}, "router": dict.fromkeys(services.FAKE_NODES)}
    kube.patch("ServingProfile", None, "local", {"spec": here})
    with clusters.namespace(kube, "gateway") as namespace:
        programmed(kube, namespace)
        kube.apply(
            services.simulated(
                namespace,
                "chat",
                fake=False,
                routing={"mode": "Gateway", "gateway": {"name": "inference"}},
                simulator={"alpha": "5ms", "maxSequences": PLACES, "coldStart": "1s"},
                replicas=REPLICAS,
            )
        )
        answer(kube, namespace, "InferencePool", **ACCEPTED)
        answer(kube, namespace, "HTTPRoute", **ACCEPTED)
        services.ready(kube, namespace, "chat", timeout=GONE)
        with gateways.attached(kube, namespace, tmp_path_factory.mktemp("envoy")) as found:
            assert len(found.pods) == REPLICAS
            waiting.until(
                lambda: found.http.get("/models").status_code == httpx.codes.OK,
                seconds=SOON,
                what="the gateway's first answer",
            )
            yield found
    there = {"images": {"picker": "example.com/picker:1"}, "router": services.FAKE_NODES}
    kube.patch("ServingProfile", None, "local", {"spec": there})


def attached(namespace: str) -> dict[str, Any]:
    routing = {"mode": "Gateway", "gateway": {"name": "inference"}}
    return services.simulated(namespace, "chat", routing=routing)


def until_available(kube: Kube, namespace: str, reason: str, *, timeout: float = SOON) -> Object:
    found: Object = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Available").get("reason") == reason and items[0],
        name="chat",
        timeout=timeout,
    )
    return found


def until_told(kube: Kube, namespace: str, message: str) -> None:
    kube.until(
        "InferenceService",
        namespace,
        lambda items: message in condition(items[0], "Available").get("message", ""),
        name="chat",
        timeout=GONE,
    )


def test_without_the_kinds_it_is_a_condition_and_the_engines_run(
    kube: Kube, namespace: str
) -> None:
    kube.patch(
        "ServingProfile", None, "local", {"spec": {"images": {"picker": "example.com/picker:1"}}}
    )
    kube.apply(attached(namespace))
    told = until_available(kube, namespace, "GatewayUnavailable")
    assert "Install the CRDs of the Gateway API" in condition(told, "Available")["message"]
    assert condition(told, "Accepted")["status"] == "True"
    assert kube.find("Deployment", namespace, labelSelector="slipstream.dev/revision")


@pytest.mark.usefixtures("kinds")
def test_a_service_is_attached_and_available_once_the_gateway_says_so(
    kube: Kube, namespace: str
) -> None:
    kube.apply(attached(namespace))
    missing = until_available(kube, namespace, "GatewayUnavailable", timeout=GONE)
    assert "does not exist. Create it" in condition(missing, "Available")["message"]
    programmed(kube, namespace)
    until_told(kube, namespace, "No gateway has claimed InferencePool chat yet.")
    answer(kube, namespace, "InferencePool", **ACCEPTED)
    answer(kube, namespace, "HTTPRoute", **ACCEPTED)
    ready = until_available(kube, namespace, "EnginesReady")
    assert ready["status"]["url"] == f"http://192.0.2.7/{namespace}/chat/v1"


@pytest.mark.usefixtures("kinds")
def test_what_the_gateway_refuses_is_told_in_its_words(kube: Kube, namespace: str) -> None:
    programmed(kube, namespace)
    kube.apply(attached(namespace))
    answer(kube, namespace, "InferencePool", **ACCEPTED)
    answer(kube, namespace, "HTTPRoute", Accepted="True", ResolvedRefs="False")
    refusal = "HTTPRoute chat is not ResolvedRefs: Refused: as the test says"
    until_told(kube, namespace, refusal)


@pytest.mark.usefixtures("kinds")
def test_what_attached_it_goes_when_the_mode_changes(kube: Kube, namespace: str) -> None:
    kube.apply(attached(namespace))
    kube.until("HTTPRoute", namespace, bool, name="chat", timeout=GONE)
    kube.apply(services.simulated(namespace, "chat"))
    for kind in ("HTTPRoute", "InferencePool"):
        kube.until(kind, namespace, lambda items: not items, name="chat", timeout=SOON)
    for kind in ("Deployment", "Service", "ServiceAccount", "Role", "RoleBinding"):
        kube.until(kind, namespace, lambda items: not items, name="chat-epp", timeout=SOON)
    services.ready(kube, namespace, "chat")


@contextlib.contextmanager
def busy(address: str) -> Iterator[None]:
    """An engine with all places taken, and as many requests that wait, from clients past the gateway."""
    body = json.dumps({"model": "chat", "prompt": "hello", "max_tokens": 50_000, "stream": True})
    request = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(2 * PLACES):
            client = socket.create_connection((address, contract.API_PORT), timeout=SOON)
            stack.enter_context(client).sendall(request.encode())
        yield


def test_prompts_that_share_nothing_are_spread_over_the_engines(gateway: Gateway) -> None:
    shares = gateway.shares(gateways.unlike(300), clients=16)
    assert sum(shares.values()) == 300
    assert min(shares.values()) >= 60, shares


def test_equal_prompts_go_where_their_prefix_is_cached(gateway: Gateway) -> None:
    [prompt] = gateways.unlike(1)
    shares = gateway.shares([prompt] * 100, clients=1)
    assert sorted(shares.values()) == [0, 0, 100]


def test_an_engine_with_a_queue_gets_no_more_requests(gateway: Gateway) -> None:
    loaded, address = next(iter(gateway.pods.items()))
    with busy(address):
        waiting.until(
            lambda: gateway.queue(loaded) >= PLACES,
            seconds=SOON,
            what="the picker seeing the queue",
        )
        shares = gateway.shares(gateways.unlike(60), clients=4)
    assert shares.pop(loaded) == 0
    assert min(shares.values()) > 0, shares


def test_streams_pass_whole_and_other_paths_do_not(gateway: Gateway) -> None:
    body = {"model": "chat", "prompt": "hello", "max_tokens": 5, "stream": True}
    with gateway.http.stream("POST", "/completions", json=body) as stream:
        events = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    assert events[-1] == "[DONE]"
    assert [json.loads(event)["choices"][0]["finish_reason"] for event in events[:-1]][
        -1
    ] == "length"
    outside = str(gateway.http.base_url).removesuffix("/v1/") + contract.METRICS_PATH
    assert httpx.get(outside, trust_env=False).status_code == 404


def test_an_engine_that_leaves_loses_no_request(kube: Kube, gateway: Gateway) -> None:
    namespace = gateway.namespace
    kube.patch("InferenceService", namespace, "chat", {"spec": {"replicas": REPLICAS - 1}})
    prompts = iter(gateways.unlike(5000))

    def left() -> bool:
        gateway.ask(next(prompts))
        there = {pod["metadata"]["name"] for pod in kube.find("Pod", namespace)}
        return len(set(gateway.pods) - there) == 1

    waiting.until(left, seconds=GONE, what="an engine being gone", interval=0)
