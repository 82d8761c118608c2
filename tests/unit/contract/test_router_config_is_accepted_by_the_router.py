"""What the operator writes for the router is what the router reads: the border between the two programs."""

from typing import Any

import pytest

from slipstream_operator.core import resolve, revisions, router_config
from slipstream_operator.core.observed import ObservedRouter
from slipstream_runtime import contract
from slipstream_runtime.router.config import Config, Entries
from tests.support import given, router_entries


def test_the_profiles_limits_of_bodies_reach_the_router() -> None:
    router_spec = {"maxBodySize": "32Mi", "bodyMemory": "1Gi"}
    profile = given.profile(router=router_spec)
    observed = ObservedRouter(
        namespace="team",
        namespace_labels={},
        profiles=(profile,),
        children=(),
        services=(given.parent(),),
        routes=(),
        pod_monitors=False,
    )
    found = router_config.resolve(observed, {given.NAME: router_entries.entry()}, {})
    assert found is not None
    bodies = Config.model_validate_json(found.document).bodies
    assert (bodies.size, bodies.memory) == (32 * 2**20, 2**30)


@pytest.mark.parametrize(
    ("value", "size"),
    [("100", 101 * 2**20), (None, 26 * 2**20), ("0x10", 26 * 2**20), ("9" * 4000, 26 * 2**20)],
)
def test_the_size_of_files_that_the_engine_takes_reaches_the_router(
    value: str | None, size: int
) -> None:
    env = [] if value is None else [{"name": contract.FILE_SIZE_VARIABLE, "value": value}]
    entry = router_entries.entry({"model": given.MODEL, "template": {"env": env}})
    (service,) = router_entries.read(entry).services
    assert service.limits.upload_size == size


def test_every_choice_of_the_user_reaches_the_router() -> None:
    entry = router_entries.entry(router_entries.EVERYTHING)
    assert entry.keys == "keys"
    (service,) = router_entries.read(entry).services
    found = service.model_dump()
    limits = {name: found["limits"][name] for name in ("concurrency", "queue", "timeout")}
    assert limits == {"concurrency": 8, "queue": 16, "timeout": 90.0}
    assert found["limits"]["max_output_tokens"] == 512
    assert found["responses"] == {"ttl": 600.0, "size": 128 * 2**20}
    assert found["cors"] == {"allow_origins": ("https://*.example.com",)}
    kept = ("name", "model", "adapters", "strategy", "keys", "activation")
    assert {key: found[key] for key in kept} == {
        "name": "chat",
        "model": "Qwen",
        "adapters": ("sql",),
        "strategy": "LeastLoad",
        "keys": True,
        "activation": "chat-activation",
    }
    (revision,) = service.revisions
    assert (revision.name, revision.weight) == (
        f"chat-{given.identity(router_entries.EVERYTHING)}",
        100,
    )


def test_a_model_alone_has_the_routers_defaults() -> None:
    entry = router_entries.entry({"model": given.MODEL, "accelerator": {"type": "cpu"}})
    assert entry.keys is None
    (service,) = router_entries.read(entry).services
    assert service.limits == type(service.limits)()
    assert (service.strategy, service.keys, service.activation) == ("Prefix", False, None)
    assert not service.stopped


SCALES_TO_ZERO = {"minReplicas": 0, "maxReplicas": 2}


def test_the_router_knows_which_service_its_owner_stopped() -> None:
    (service,) = router_entries.read(
        router_entries.entry({"model": given.MODEL, "replicas": 0})
    ).services
    assert service.stopped
    (service,) = router_entries.read(
        router_entries.entry({"model": given.MODEL, "scaling": SCALES_TO_ZERO})
    ).services
    assert not service.stopped


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"model": given.MODEL, "batching": {"maxSequences": 8}}, 8),
        (
            {
                "model": given.MODEL,
                "batching": {"maxSequences": 8},
                "limits": {"concurrency": 4},
            },
            4,
        ),
        ({"runtime": "simulator", "simulator": {"maxSequences": 32}}, 32),
    ],
)
def test_an_engine_gets_as_many_requests_as_it_is_said_to_bear(
    spec: dict[str, Any], expected: int
) -> None:
    (service,) = router_entries.read(router_entries.entry(spec)).services
    assert service.limits.concurrency == expected


@pytest.mark.parametrize(
    ("spec", "drain"),
    [
        ({"limits": {"timeout": "20m"}}, 1200),
        ({"limits": {"timeout": "3h"}}, contract.LONGEST_DRAIN_SECONDS),
        ({"limits": {"timeout": "70s"}}, 70),
        ({"limits": {"timeout": "20m"}, "times": {"drain": "2m"}}, 120),
    ],
)
def test_the_router_drains_as_long_as_a_request_may_take(
    spec: dict[str, Any], drain: float
) -> None:
    settings = router_entries.read(router_entries.entry({"model": given.MODEL, **spec})).services[0]
    assert settings.limits.drain == drain


def test_the_router_holds_and_drains_as_long_as_the_service_needs() -> None:
    (plain,) = router_entries.read(router_entries.entry()).services
    assert (plain.limits.hold, plain.limits.drain) == (600, 300)
    times = {"hold": "20m", "drain": "15m"}
    (chosen,) = router_entries.read(
        router_entries.entry({"model": given.MODEL, "times": times})
    ).services
    assert (chosen.limits.hold, chosen.limits.drain) == (1200, 900)
    (spot,) = router_entries.read(
        router_entries.entry({"model": given.MODEL, "times": {"drain": "15s"}})
    ).services
    assert spot.limits.drain is None


def test_the_router_holds_requests_for_a_service_that_starts_slowly() -> None:
    snapshot = given.observed({"model": given.MODEL, "scaling": {"maxReplicas": 2}})
    resolved = resolve.resolve(snapshot)
    rollout = revisions.roll_out(snapshot, resolved, replicas=1, now=given.MOMENT)
    entry = router_config.entry(resolved, rollout, kv_capacity=None, usual_start=700.0)
    assert entry is not None
    (service,) = router_entries.read(entry).services
    assert service.limits.hold == 1440


def test_the_router_gets_the_times_of_streams_and_bodies() -> None:
    times = {"idle": "10m", "body": "5m"}
    (chosen,) = router_entries.read(
        router_entries.entry({"model": given.MODEL, "times": times})
    ).services
    assert (chosen.limits.idle_timeout, chosen.limits.body_timeout) == (600, 300)


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 600 + 3600),
        ({"times": {"hold": "2h"}}, 7200 + 3600),
        ({"limits": {"timeout": "90m"}}, 5400),
    ],
)
def test_a_request_has_time_for_its_answer_after_the_longest_wait(
    spec: dict[str, Any], seconds: float
) -> None:
    (service,) = router_entries.read(router_entries.entry({"model": given.MODEL, **spec})).services
    assert service.limits.seconds == seconds
    assert service.limits.hold <= seconds


def test_where_the_router_queues_the_engine_is_not_told_to() -> None:
    spec = {"model": given.MODEL, "limits": {"queue": 9, "concurrency": 2}}
    direct = {**spec, "routing": {"mode": "Direct"}}
    assert given.resolved(spec).revisioned.config["limits"] == {"concurrency": 2}
    assert given.resolved(direct).revisioned.config["limits"] == {"concurrency": 2, "queue": 9}


def test_what_is_reached_past_the_router_is_not_listed() -> None:
    spec = {"model": given.MODEL, "routing": {"mode": "Direct"}}
    assert given.entry(given.observed(spec)) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"services": [{}]}', '{"services": 1}'])
def test_a_broken_configuration_lists_nobody(text: str) -> None:
    assert router_config.entries(text, part="services") == {}


def _large(count: int) -> list[dict[str, Any]]:
    """Entries of that many services with as many and as long adapters as the CRD allows."""
    adapters = [f"a{number:02}".ljust(63, "x") for number in range(32)]
    entry = {**router_entries.entry().settings, "adapters": adapters}
    return [{**entry, "name": f"chat-{number}".ljust(40, "y")} for number in range(count)]


def test_a_configuration_beyond_the_limit_of_a_config_map_reaches_the_router_in_parts() -> None:
    services, routes = _large(600), [{"name": f"r-{n}", "model": f"m-{n}"} for n in range(50)]
    for route in routes:
        route["backends"] = [{"service": services[0]["name"], "weight": 1}]
    texts = router_config.documents("team", services, routes, bodies={"size": 1000})
    assert len(texts.main) < 2**20 < sum(map(len, texts.parts.values()))
    assert all(len(text) <= router_config.PART_BYTES for text in texts.parts.values())
    main = Config.model_validate_json(texts.main)
    assert main.parts == tuple(sorted(texts.parts)) == tuple(router_config.parts(texts.main))
    found = main.with_entries(Entries.model_validate_json(text) for text in texts.parts.values())
    assert {s.name for s in found.services} == {s["name"] for s in services}
    assert {r.name for r in found.routes} == {r["name"] for r in routes}
    assert found.bodies.size == 1000


def test_a_change_of_one_service_changes_one_part() -> None:
    services = _large(600)
    before = router_config.documents("team", services, ())
    services[7] = {**services[7], "kvTokens": 4711}
    after = router_config.documents("team", services, ())
    assert len(after.parts.keys() - before.parts.keys()) == 1
    assert after.main != before.main


@pytest.mark.parametrize("text", ["", "[]", '{"parts": 1}', '{"parts": [1]}', "{}"])
def test_a_broken_configuration_has_no_parts(text: str) -> None:
    assert router_config.parts(text) == []
