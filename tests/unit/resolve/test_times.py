"""Times of an engine's life: defaults by model, limits and accelerator, and where they reach."""

from typing import Any

import pytest

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import devices, times
from slipstream_operator.core.runtimes import registry
from slipstream_operator.core.times import Times
from tests.support import given

CPU = {"accelerator": {"type": "cpu"}}
SPOT = {"name": "gpu", "resourceName": "nvidia.com/gpu", "times": {"drain": "15s", "start": "2h"}}


def of(weights: int | None = None, *, on_gpu: bool = True, **spec: Any) -> Times:
    """Times of a service on an accelerator."""
    parsed = InferenceServiceSpec.model_validate({"model": given.MODEL, **spec})
    runtime = registry.of(parsed)
    return times.of(
        parsed,
        Accelerator(name="a"),
        device=devices.CUDA if on_gpu else devices.CPU,
        generates_tokens=runtime.generates_tokens,
        weights_bytes=weights,
    )


def pod(spec: dict[str, Any], **snapshot: Any) -> Any:
    """The pod that is rendered."""
    manifests = given.rendered(given.observed({"model": given.MODEL, **spec}, **snapshot))
    (deployment,) = (each for each in manifests if each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]


def startup(pod: Any) -> tuple[int, int]:
    """Period and number of the startup probe."""
    probe = pod["containers"][0]["startupProbe"]
    return probe["periodSeconds"], probe["failureThreshold"]


def test_a_cpu_service_keeps_short_times() -> None:
    assert of(on_gpu=False) == Times(start=3600, drain=60, hold=300, hold_follows_start=True)
    assert startup(pod(CPU)) == (1, 3600)


@pytest.mark.parametrize(
    ("weights", "start", "hold"),
    [
        (None, 3600, 600),
        (16 * 10**9, 3600, 664),
        (141 * 10**9, 3720, 1164),
        (410 * 10**9, 9100, 2240),
        (1300 * 10**9, 26900, 3600),
    ],
)
def test_a_large_checkpoint_gets_the_time_that_its_download_takes(
    weights: int | None, start: int, hold: int
) -> None:
    found = of(weights)
    assert (found.start, found.hold) == (start, hold)


@pytest.mark.parametrize(
    ("spec", "drain"),
    [
        ({}, 300),
        ({"limits": {"maxOutputTokens": 512}}, 60),
        ({"limits": {"maxOutputTokens": 4000}}, 160),
        ({"limits": {"maxOutputTokens": 32000}}, 1280),
        ({"limits": {"maxOutputTokens": 32000, "timeout": "10m"}}, 600),
        ({"limits": {"maxOutputTokens": 1_000_000}}, 3600),
        ({"limits": {"timeout": "90s"}}, 90),
        ({"limits": {"timeout": "5s"}}, 60),
        ({"runtime": "onnx"}, 60),
        ({"times": {"drain": "15s"}}, 15),
        ({"times": {"drain": "1500ms"}}, 2),
    ],
)
def test_a_drain_is_as_long_as_answers_may_be(spec: dict[str, Any], drain: int) -> None:
    assert of(**spec).drain == drain


def test_a_request_that_may_wait_long_is_held_as_long() -> None:
    assert of(limits={"timeout": "30m"}).hold == 1800
    assert of(limits={"timeout": "30m"}, times={"hold": "2m"}).hold == 120
    assert of(limits={"timeout": "30s"}).hold == 30
    assert of(limits={"timeout": "500ms"}).hold == 1


def test_a_short_drain_for_spot_nodes_reaches_engine_and_pod() -> None:
    spot = given.profile(accelerators=[SPOT])
    assert given.resolved(profiles=[spot]).revisioned.config["drainSeconds"] == 15
    found = pod({}, profiles=[spot])
    assert found["terminationGracePeriodSeconds"] == 4 + 15 + 10
    assert startup(found) == (10, 720)
    own = pod({"times": {"drain": "20m"}}, profiles=[spot])
    assert own["terminationGracePeriodSeconds"] == 4 + 1200 + 10
    assert startup(own) == (10, 720)


def test_the_budget_of_a_start_is_the_startup_probes() -> None:
    assert startup(pod({})) == (5, 720)
    assert startup(pod({"times": {"start": "24h"}})) == (10, 8640)
    assert startup(pod({"times": {"start": "2m"}})) == (1, 120)
    assert startup(pod({**CPU, "times": {"start": "2m"}})) == (1, 120)


@pytest.mark.parametrize(
    ("spec", "usual_start", "seconds"),
    [
        ({}, None, 600),
        ({}, 60.0, 600),
        ({}, 631.0, 1320),
        ({}, 9000.0, 3600),
        ({"times": {"hold": "2m"}}, 631.0, 120),
        ({"times": {"hold": "3h"}}, 631.0, 10800),
        ({"limits": {"timeout": "15m"}}, 631.0, 900),
    ],
)
def test_a_request_is_held_for_two_starts_unless_a_limit_is_set(
    spec: dict[str, Any], usual_start: float | None, seconds: int
) -> None:
    assert times.hold(of(**spec), usual_start) == seconds


def test_times_of_streams_and_bodies_are_the_routers_unless_they_are_set() -> None:
    assert (of().idle, of().body) == (None, None)
    found = of(times={"idle": "10m", "body": "1500ms"})
    assert (found.idle, found.body) == (600, 2)


def test_a_start_that_is_set_is_part_of_the_revision_and_a_hold_is_not() -> None:
    plain = given.identity()
    assert given.identity({"model": given.MODEL, "times": {"hold": "20m"}}) == plain
    assert given.identity({"model": given.MODEL, "times": {"start": "2h"}}) != plain
    assert given.identity({"model": given.MODEL, "times": {"drain": "2m"}}) != plain
