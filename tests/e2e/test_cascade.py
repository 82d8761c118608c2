"""A cascade of two real models: the small one answers what it is sure of, the large one the rest, and status tells."""

import json
from collections import Counter
from typing import Any

import httpx
import pytest

from dev.cluster.kube import Kube, Object, is_true
from dev.models import heldout
from slipstream_runtime import contract
from tests.support import services

EVERY = 8
"""Held-out questions of which one is asked: 50 of all."""
START = 300.0
MEASURED = 150.0
"""For Prometheus to see the answers, and the operator to ask it, once a minute each."""


def engine(namespace: str, name: str, *, weights: str) -> Object:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": f"file:///models/{weights}"},
            "accelerator": {"type": "cpu"},
            "replicas": 1,
        },
    }


def route(namespace: str) -> Object:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceRoute",
        "metadata": {"name": "assistant", "namespace": namespace},
        "spec": {
            "model": "assistant",
            "cascade": {
                "stages": [
                    {"service": "small", "accept": {"minConfidence": "90%"}},
                    {"service": "large"},
                ]
            },
        },
    }


def ask(url: str, question: str, *, stream: bool) -> tuple[str, str]:
    """The answer, and the model that gave it."""
    body = {
        "model": "assistant",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 64,
        "stream": stream,
    }
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    if not stream:
        answer = reply.json()
        return answer["choices"][0]["message"]["content"], answer["model"]
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    chunks: list[Any] = [json.loads(line) for line in lines]
    said = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    return "".join(text or "" for text in said), chunks[0]["model"]


def shares(item: Object) -> dict[str, float]:
    return {
        stage["service"]: float(stage["share"].rstrip("%")) / 100
        for stage in item["status"].get("stages", ())
        if "share" in stage
    }


def test_the_small_model_answers_what_it_is_sure_of_and_status_tells(
    kube: Kube, namespace: str
) -> None:
    kube.apply(engine(namespace, "small", weights="draft"))
    kube.apply(engine(namespace, "large", weights="target"))
    kube.apply(route(namespace))
    for name in ("small", "large"):
        services.ready(kube, namespace, name, timeout=START)
    kube.until(
        "InferenceRoute",
        namespace,
        lambda items: items and is_true(items[0], "Ready"),
        name="assistant",
        timeout=60,
        what="the route",
    )
    router = kube.get("Service", namespace, contract.ROUTER_NAME)
    assert router is not None
    url = f"http://{router['spec']['clusterIP']}"

    items = heldout.read()[::EVERY]
    right, by = 0, Counter[str]()
    for number, item in enumerate(items):
        answer, model = ask(url, item["prompt"], stream=number % 2 == 1)
        right += answer == item["answer"]
        by[model] += 1
    assert right >= 0.9 * len(items)
    assert by.keys() == {"small", "large"}
    assert by.total() == len(items)

    found = kube.until(
        "InferenceRoute",
        namespace,
        lambda items: items[0] if shares(items[0]) else None,
        name="assistant",
        timeout=MEASURED,
        what="measured shares",
    )
    for name, share in shares(found).items():
        assert share == pytest.approx(by[name] / len(items), abs=0.1)
    assert found["status"]["saved"].endswith(" tokens/1h")
    assert found["status"]["discarded"] != "0 tokens/1h"
