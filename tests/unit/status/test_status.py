"""Figures, revisions and adapters of the status."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core.gateway import Attachment
from slipstream_operator.core.scaling.metrics.values import BatchSpeculation
from tests.support import given
from tests.support.statuses import RESOLVED, ROLLING, SPEC, A, measure, summarize


@pytest.mark.parametrize(
    ("loaded", "told"),
    [
        ({}, "not known yet: sql, chat, en"),
        ({"sql": True, "chat": True, "en": True}, "sql, chat, en"),
        ({"sql": True, "chat": False}, "sql; not loaded: chat; not known yet: en"),
    ],
)
def test_status_tells_which_adapters_can_be_asked_for(loaded: dict[str, bool], told: str) -> None:
    listed = dict.fromkeys(("sql", "chat", "en"), "hf://org/a")
    found = summarize(
        resolved=dataclasses.replace(RESOLVED, adapters=listed),
        measured=dataclasses.replace(measure(), adapters=loaded),
    )
    assert found["engine"]["adapters"] == told


def test_a_healthy_service() -> None:
    found = summarize()
    conditions = found.pop("conditions")
    assert found == {
        "observedGeneration": 7,
        "url": "http://chat.team.svc/v1",
        "replicas": 1,
        "readyReplicas": 1,
        "selector": "slipstream.dev/service=chat",
        "slo": [
            {
                "objective": "ttft-p95",
                "metric": "ttft",
                "percentile": "p95",
                "target": "500ms",
                "current": "250ms",
                "attainment5m": "99.0%",
                "attainment1h": "98.0%",
                "budgetRemaining": "50.0%",
            },
            {
                "objective": "throughput",
                "metric": "throughput",
                "target": "900/s",
                "current": "100/s",
            },
        ],
        "scaling": {
            "desired": 1,
            "reason": "Keeping 1 replica.",
            "since": "1970-01-01T00:00:00Z",
            "inputs": (
                "inFlight=8 waiting=1 kv=10% tokensPerSecond=100 requestsPerSecond=9.5 work=0.62 "
                "utilization=62% need=1 ready=1 starting=0 horizon=120s"
            ),
            "model": (
                "step=7.00ms +20.0us/request +60.0ns/kvToken +32.0us/promptToken (1 sd 12%) kappa=1.00"
            ),
            "coldStart": "112s",
        },
        "engine": {
            "runtime": "vllm",
            "accelerator": "gpu x 1",
            "quantization": "auto",
            "acceptance": "75.0%",
            "speculationGain": "1.16",
            "kvCapacityTokens": 16000,
        },
    }
    assert [(entry["type"], entry["status"], entry["reason"]) for entry in conditions] == [
        ("Ready", "True", "EnginesReady"),
        ("Accepted", "True", "Accepted"),
        ("ModelReady", "True", "Loaded"),
        ("Available", "True", "EnginesReady"),
        ("SLOMet", "True", "Met"),
        ("ScalingActive", "True", "FollowingLoad"),
    ]
    assert {entry["observedGeneration"] for entry in conditions} == {7}


def test_the_digests_of_the_images_that_run_are_shown() -> None:
    first, second, third = (
        dataclasses.replace(pod, image=image)
        for pod, image in zip(given.pods(A, 3), ("sha256:b", "sha256:a", "sha256:b"), strict=True)
    )
    assert summarize(pods=(first, third))["engine"]["imageDigest"] == "sha256:b"
    both = summarize(pods=(first, second, third))["engine"]["imageDigest"]
    assert both == "sha256:a, sha256:b"


def test_revisions_are_shown_while_there_is_more_than_one() -> None:
    pods = given.pods(A, 1) + given.pods("b", 1, ready=False)
    assert summarize(pods=pods, rollout=ROLLING)["revisions"] == [
        {"name": f"chat-{A}", "hash": A, "weight": 100, "replicas": 1},
        {"name": "chat-b", "hash": "b", "weight": 0, "replicas": 0},
    ]
    assert "revisions" not in summarize()


def test_the_url_is_the_gateways_once_it_has_accepted_all() -> None:
    assert summarize(gateway=Attachment(url="http://192.0.2.7/team/chat/v1"))["url"] == (
        "http://192.0.2.7/team/chat/v1"
    )


@pytest.mark.parametrize(
    ("spec", "gain", "expected"),
    [
        ({"speculation": {"method": "ngram"}}, None, "unknown"),
        ({"speculation": {"method": "ngram"}}, 1.163, "1.16"),
        ({}, None, None),
    ],
)
def test_a_gain_that_was_not_measured_is_unknown(
    spec: dict[str, Any], gain: float | None, expected: str | None
) -> None:
    measured = dataclasses.replace(measure(given.reading()), gain=gain)
    resolved = given.resolved({**SPEC, **spec})
    found = summarize(resolved=resolved, measured=measured)
    assert found["engine"].get("speculationGain") == expected


def test_the_draft_tokens_in_use_and_their_gain_are_shown_by_batch_size() -> None:
    by_batch = (
        BatchSpeculation(1, 4.0, 1.414),
        BatchSpeculation(2, 3.5, 1.2),
        BatchSpeculation(8, 0.0, 1.0),
        BatchSpeculation(32, 0.0, None),
    )
    measured = dataclasses.replace(measure(given.reading()), by_batch=by_batch)
    assert summarize(measured=measured)["engine"]["speculationByBatch"] == [
        {"batch": "1", "tokens": "4", "gain": "1.41"},
        {"batch": "2", "tokens": "3.5", "gain": "1.20"},
        {"batch": "5-8", "tokens": "0", "gain": "1.00"},
        {"batch": "17-32", "tokens": "0", "gain": "unknown"},
    ]
    assert "speculationByBatch" not in summarize()["engine"]
