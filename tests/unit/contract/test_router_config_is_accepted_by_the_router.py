"""What the operator writes for the router is what the router reads: the border between the two programs."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator import names
from slipstream_operator.core import inference_routes, resolve, revisions, router_config
from slipstream_operator.core.observed import Key, ObservedRouter, Parent
from slipstream_operator.core.render import gateway, router
from slipstream_operator.core.router_config import Entry
from slipstream_runtime.router.config import Config, Entries
from tests.support import given

EVERYTHING: dict[str, Any] = {
    "model": {
        **given.MODEL,
        "name": "Qwen",
        "adapters": [{"name": "sql", "uri": "hf://org/sql"}],
    },
    "limits": {
        "maxOutputTokens": 512,
        "maxPromptTokens": 2048,
        "timeout": "1m30s",
        "concurrency": 8,
        "queue": 16,
    },
    "cache": {"responses": {"ttl": "10m", "size": "128Mi"}},
    "routing": {
        "strategy": "LeastLoad",
        "apiKeys": {"name": "keys"},
        "cors": {"allowOrigins": ["https://*.example.com"]},
    },
    "scaling": {"minReplicas": 0, "idleAfter": "5m", "maxReplicas": 2},
}


def _entry(spec: dict[str, Any] | None = None, *, name: str = given.NAME) -> Entry:
    found = given.entry(given.observed(parent=given.parent(spec, key=Key("team", name))))
    assert found is not None
    return found


def _read(*services: Entry, routes: tuple[Any, ...] = ()) -> Config:
    texts = router_config.documents("team", [entry.settings for entry in services], routes)
    assert not texts.parts
    return Config.model_validate_json(texts.main)


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
    found = router_config.resolve(observed, {given.NAME: _entry()}, {})
    assert found is not None
    bodies = Config.model_validate_json(found.document).bodies
    assert (bodies.size, bodies.memory) == (32 * 2**20, 2**30)


def test_every_choice_of_the_user_reaches_the_router() -> None:
    entry = _entry(EVERYTHING)
    assert entry.keys == "keys"
    (service,) = _read(entry).services
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
    assert (revision.name, revision.weight) == (f"chat-{given.identity(EVERYTHING)}", 100)


def test_a_model_alone_has_the_routers_defaults() -> None:
    entry = _entry({"model": given.MODEL, "accelerator": {"type": "cpu"}})
    assert entry.keys is None
    (service,) = _read(entry).services
    assert service.limits == type(service.limits)()
    assert (service.strategy, service.keys, service.activation) == ("Prefix", False, None)
    assert not service.stopped


SCALES_TO_ZERO = {"minReplicas": 0, "maxReplicas": 2}


def test_the_router_knows_which_service_its_owner_stopped() -> None:
    (service,) = _read(_entry({"model": given.MODEL, "replicas": 0})).services
    assert service.stopped
    (service,) = _read(_entry({"model": given.MODEL, "scaling": SCALES_TO_ZERO})).services
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
    (service,) = _read(_entry(spec)).services
    assert service.limits.concurrency == expected


def test_the_router_holds_and_drains_as_long_as_the_service_needs() -> None:
    (plain,) = _read(_entry()).services
    assert (plain.limits.hold, plain.limits.drain) == (600, 300)
    times = {"hold": "20m", "drain": "15m"}
    (chosen,) = _read(_entry({"model": given.MODEL, "times": times})).services
    assert (chosen.limits.hold, chosen.limits.drain) == (1200, 900)
    (spot,) = _read(_entry({"model": given.MODEL, "times": {"drain": "15s"}})).services
    assert spot.limits.drain is None


def test_the_router_holds_requests_for_a_service_that_starts_slowly() -> None:
    snapshot = given.observed({"model": given.MODEL, "scaling": {"maxReplicas": 2}})
    resolved = resolve.resolve(snapshot)
    rollout = revisions.roll_out(snapshot, resolved, replicas=1, now=given.MOMENT)
    entry = router_config.entry(resolved, rollout, kv_capacity=None, usual_start=700.0)
    assert entry is not None
    (service,) = _read(entry).services
    assert service.limits.hold == 1440


def test_the_router_gets_the_times_of_streams_and_bodies() -> None:
    times = {"idle": "10m", "body": "5m"}
    (chosen,) = _read(_entry({"model": given.MODEL, "times": times})).services
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
    (service,) = _read(_entry({"model": given.MODEL, **spec})).services
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


CASCADE: dict[str, Any] = {
    "model": "assistant",
    "cascade": {
        "stages": [
            {"service": "small", "accept": {"minConfidence": "70%", "maxPromptTokens": 2000}},
            {"service": "large"},
        ],
        "budget": "50%",
    },
}
SPLIT: dict[str, Any] = {
    "model": "both",
    "backends": [{"service": "small", "weight": 3}, {"service": "large"}],
}


def _route(spec: dict[str, Any], *, name: str = "route", created: str = given.CREATED) -> Parent:
    key = Key("team", name, names.INFERENCE_ROUTE)
    return given.parent(spec, key=key, uid=f"uid-of-{name}", created=created)


SERVICES = {name: _entry(name=name) for name in ("small", "large")}
PARENTS = [given.parent(key=Key("team", name)) for name in SERVICES]


def _judge(*found: Parent, **fields: Any) -> inference_routes.ValidatedRoutes:
    return inference_routes.validate(given.router(PARENTS, routes=found, **fields), SERVICES)


@pytest.mark.parametrize("spec", [CASCADE, SPLIT])
def test_the_router_reads_a_route(spec: dict[str, Any]) -> None:
    judged = _judge(_route(spec))
    (route,) = _read(routes=tuple(judged.entries.values())).routes
    assert route.model == spec["model"]


def test_every_choice_of_a_cascade_reaches_the_router() -> None:
    (route,) = _read(routes=tuple(_judge(_route(CASCADE)).entries.values())).routes
    first, last = route.stages
    assert (first.service, first.accept.min_confidence, first.accept.max_prompt_tokens) == (
        "small",
        0.7,
        2000,
    )
    assert (last.service, last.accept.min_confidence) == ("large", None)
    assert route.max_escalation == 0.5


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a name that a service has": (
        {**SPLIT, "model": "small"},
        "NameTaken",
        'spec.model: "small" is already served by InferenceService small in this namespace',
    ),
    "a service that is not there": (
        {"model": "x", "backends": [{"service": "tiny"}]},
        "BackendNotFound",
        'spec.backends[0].service: "tiny" is not an InferenceService in this namespace. Create it',
    ),
    "a stage past the router": (
        {
            "model": "x",
            "cascade": {"stages": [CASCADE["cascade"]["stages"][0], {"service": "direct"}]},
        },
        "BackendNotFound",
        'spec.cascade.stages[1].service: "direct" is not served by the router',
    ),
}


@pytest.mark.parametrize(("spec", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_a_route_that_cannot_work_is_refused(
    spec: dict[str, Any], reason: str, message: str
) -> None:
    direct = given.parent(key=Key("team", "direct"))
    observed = given.router([*PARENTS, direct], routes=[_route(spec)])
    judged = inference_routes.validate(observed, SERVICES)
    refusal = judged.refused["route"]
    assert refusal.reason == reason
    assert message in refusal.message
    assert not judged.entries


def test_of_two_routes_the_older_holds_a_name() -> None:
    newer = _route(SPLIT, name="a", created="2026-03-01T00:00:00Z")
    judged = _judge(newer, _route(SPLIT, name="b"))
    assert set(judged.entries) == {"b"}
    assert judged.refused["a"].reason == "NameTaken"


def test_a_route_whose_change_cannot_work_stays_as_the_router_knows_it() -> None:
    known = {"name": "route", "model": "public", "backends": []}
    wrong = {"model": "public", "backends": [{"service": "tiny"}]}
    judged = _judge(_route(wrong), listed_routes={"route": known})
    assert judged.entries == {"route": known}
    assert judged.refused


def _resolved(entries: dict[str, Entry] | None = None, **fields: Any) -> router.Router:
    found = router_config.resolve(given.router(PARENTS, **fields), entries or SERVICES, {})
    assert found is not None
    return found


def test_without_a_service_there_is_no_router() -> None:
    assert router_config.resolve(given.router([]), {}, {}) is None


def test_a_role_names_the_leases_or_has_no_rule_for_them() -> None:
    role = given.find(router.render(_resolved()), "Role")
    assert "leases" not in json.dumps(role)
    entry = {"small": _entry(EVERYTHING, name="small")}
    role = given.find(router.render(_resolved(entry)), "Role")
    (rule,) = (rule for rule in role["rules"] if rule["resources"] == ["leases"])
    assert rule["resourceNames"] == ["small-activation"]
    assert rule["verbs"] == ["get", "patch"]


def test_a_role_names_the_secrets_with_keys_or_has_no_rule_for_them() -> None:
    role = given.find(router.render(_resolved()), "Role")
    assert "secrets" not in json.dumps(role)
    entries = {name: _entry(EVERYTHING, name=name) for name in ("small", "large")}
    role = given.find(router.render(_resolved(entries)), "Role")
    (rule,) = (rule for rule in role["rules"] if rule["resources"] == ["secrets"])
    assert rule["resourceNames"] == ["keys"]
    assert rule["verbs"] == ["list", "watch"]
    config = _read(*entries.values())
    assert config.key_secrets == {"keys"}


_SPECS = st.fixed_dictionaries(
    {"model": st.just(given.MODEL)},
    optional={
        "replicas": st.integers(0, 5),
        "routing": st.fixed_dictionaries(
            {"strategy": st.sampled_from(["Prefix", "LeastLoad"])},
            optional={
                "apiKeys": st.fixed_dictionaries({"name": st.sampled_from(["keys", "others"])})
            },
        ),
        "limits": st.fixed_dictionaries({}, optional={"timeout": st.just("2h")}),
        "drain": st.just("30m"),
        "cache": st.just(EVERYTHING["cache"]),
        "scaling": st.just(EVERYTHING["scaling"]),
    },
).filter(lambda spec: not ("replicas" in spec and "scaling" in spec))
_NAMES = st.sampled_from(["small", "large", "third"])


@hypothesis.given(
    services=st.dictionaries(_NAMES, _SPECS, min_size=1),
    routes=st.dictionaries(_NAMES, st.just({"backends": []})),
)
def test_no_service_route_or_key_changes_the_routers_pods(
    services: dict[str, dict[str, Any]], routes: dict[str, Any]
) -> None:
    """A changed pod template would restart the router under the requests of all other services."""

    def template(entries: dict[str, Entry], parents: list[Parent], found: dict[str, Any]) -> Any:
        resolved = router_config.resolve(given.router(parents), entries, found)
        assert resolved is not None
        deployment = given.find(router.render(resolved), "Deployment")
        return {**deployment["spec"], "metadata": None}

    entries = {name: _entry(spec, name=name) for name, spec in services.items()}
    parents = [given.parent(spec, key=Key("team", name)) for name, spec in services.items()]
    named = {name: {"name": name, **route} for name, route in routes.items()}
    alone = {"only": _entry(name="only")}
    only = [given.parent({"model": given.MODEL}, key=Key("team", "only"))]
    assert template(entries, parents, named) == template(alone, only, {})


def test_the_profile_sizes_and_places_the_router() -> None:
    asked = {
        "replicas": 3,
        "nodeSelector": {"pool": "edge"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "runtimeClassName": "thin",
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "high",
        "resources": {"requests": {"cpu": "1"}},
    }
    deployment = given.find(
        router.render(_resolved(profiles=[given.profile(router=asked)])), "Deployment"
    )
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == 3
    assert pod["containers"][0]["resources"] == asked["resources"]
    placed = set(asked) - {"replicas", "resources"}
    assert all(pod[key] == asked[key] for key in placed)


def test_a_router_with_another_account_has_its_rights() -> None:
    profile = given.profile(router={"serviceAccountName": "edge"})
    manifests = router.render(_resolved(profiles=[profile]))
    pod = given.find(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "edge"
    (subject,) = given.find(manifests, "RoleBinding")["subjects"]
    assert subject["name"] == "edge"


def test_a_router_names_no_user_where_the_cluster_assigns_it() -> None:
    manifests = router.render(_resolved(profiles=[given.profile(users="Assigned")]))
    context = given.find(manifests, "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert context == {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_a_picker_has_the_secrets_priority_account_and_user_of_the_router() -> None:
    asked = {"imagePullSecrets": [{"name": "registry"}], "priorityClassName": "high"}
    profile = given.profile(router={**asked, "serviceAccountName": "edge"}, users="Assigned")
    spec = {
        "model": given.MODEL,
        "routing": {"mode": "Gateway", "gateway": {"name": "inference"}},
    }
    manifests = gateway.render(given.resolved(spec, profiles=[profile]), active="r")
    pod = given.find(manifests, "Deployment")["spec"]["template"]["spec"]
    assert {key: pod[key] for key in asked} == asked
    assert pod["serviceAccountName"] == "edge"
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (subject,) = given.find(manifests, "RoleBinding")["subjects"]
    assert subject["name"] == "edge"


def test_a_services_drain_reaches_the_router_without_restarting_it() -> None:
    manifests = [
        router.render(_resolved({"small": _entry({"model": given.MODEL, "times": times})}))
        for times in ({"drain": "30m"}, {"drain": "15s"})
    ]
    long, short = (given.find(each, "Deployment") for each in manifests)
    assert long == short
    assert long["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 4 + 3600 + 10
    texts = [given.find(each, "ConfigMap")["data"]["router.json"] for each in manifests]
    drains = [Config.model_validate_json(text).services[0].limits.drain for text in texts]
    assert drains == [1800, None]


def test_a_single_router_may_be_evicted() -> None:
    kinds = [
        manifest["kind"]
        for manifest in router.render(_resolved(profiles=[given.profile(router={"replicas": 1})]))
    ]
    assert "PodDisruptionBudget" not in kinds


def test_the_token_is_in_the_secret_alone() -> None:
    token = router.token("team", account="uid", value="very-secret")
    assert token["stringData"] == {"token": "very-secret"}
    assert "very-secret" not in json.dumps(router.render(_resolved()))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"services": [{}]}', '{"services": 1}'])
def test_a_broken_configuration_lists_nobody(text: str) -> None:
    assert router_config.entries(text, part="services") == {}


def _large(count: int) -> list[dict[str, Any]]:
    """Entries of that many services with as many and as long adapters as the CRD allows."""
    adapters = [f"a{number:02}".ljust(63, "x") for number in range(32)]
    entry = {**_entry().settings, "adapters": adapters}
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
