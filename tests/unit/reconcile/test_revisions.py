"""Revisions: what starts a new one, which of them run, and when the traffic moves."""

from collections.abc import Callable
from typing import Any

import pytest

from slipstream_operator.core import revisions
from slipstream_operator.core.observed import Child, Observed, ObservedPod, RouterState
from slipstream_operator.core.revisions import Revision, Rollout
from tests.support import given

MODEL = given.MODEL
DIRECT: dict[str, Any] = {"routing": {"mode": "Direct"}}
OLD: dict[str, Any] = {"model": {"uri": "hf://org/old"}, **DIRECT}
NEW: dict[str, Any] = {"model": {"uri": "hf://org/new"}, **DIRECT}
RECREATE: dict[str, Any] = {**NEW, "rollout": {"strategy": "Recreate"}}
A, B = given.identity(OLD), given.identity(NEW)

MOUNTING = ("volumeMounts", "initContainers")
"""Parts of a template that name its volumes."""


@pytest.mark.parametrize(
    "spec",
    [
        {"model": MODEL, "replicas": 3},
        {"model": MODEL, "scaling": {"maxReplicas": 4}},
        {"model": MODEL, "slo": {"ttft": {"p95": "1s"}}},
        {"model": MODEL, "rollout": {"strategy": "Recreate"}},
        {"model": {**MODEL, "name": "chat"}},
        {"model": MODEL, "accelerator": {"type": "gpu", "count": 1}},
        {"model": MODEL, "template": {"nodeSelector": {}}},
        {"model": MODEL, "routing": {"mode": "Router", "strategy": "LeastLoad"}},
        {"model": MODEL, "routing": {"apiKeys": {"name": "keys"}}},
        {"model": MODEL, "cache": {"responses": {"ttl": "1m"}}},
    ],
)
def test_what_needs_no_restart_makes_no_revision(spec: dict[str, Any]) -> None:
    assert given.identity(spec) == given.identity({"model": MODEL})


@pytest.mark.parametrize(
    "profile",
    [{"scaling": {"scaleDownWindow": "1m"}}, {"limits": {"maxReplicas": 9}}, {"tiers": {}}],
)
def test_the_profiles_other_settings_make_no_revision(profile: dict[str, Any]) -> None:
    assert given.identity(profiles=[given.profile(**profile)]) == given.identity()


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"uri": "hf://org/other"}},
        {"model": {**MODEL, "name": "other"}},
        {"model": {**MODEL, "maxLength": 128}},
        {"model": {**MODEL, "adapters": []}},
        {"model": {**MODEL, "tokenSecret": {"name": "hf", "key": "token"}}},
        {"model": MODEL, "accelerator": {"count": 2}},
        {"model": MODEL, "accelerator": {"type": "cpu"}},
        {"model": MODEL, "resources": {"limits": {"memory": "8Gi"}}},
        {"model": MODEL, "quantization": {"method": "fp8"}},
        {"model": MODEL, "speculation": {"method": "ngram"}},
        {"model": MODEL, "speculation": {"method": "mtp"}},
        {"model": MODEL, "parallelism": {"pipeline": 2}},
        {"model": MODEL, "attention": {"backend": "FLASHINFER"}},
        {"model": MODEL, "attention": {"slidingWindow": 64}},
        {"model": MODEL, "engineArgs": {"seed": 1}},
        {"model": MODEL, "cache": {"prefix": False}},
        {"model": MODEL, "batching": {"maxSequences": 8}},
        {"model": MODEL, "limits": {"concurrency": 8}},
        {"model": MODEL, "output": {"stop": ["END"]}},
        {"model": MODEL, "routing": {"mode": "Direct"}},
        {"model": MODEL, "template": {"image": "other"}},
        {"model": MODEL, "template": {"env": [{"name": "A", "value": "1"}]}},
        {"model": MODEL, "template": {"labels": {"a": "1"}}},
        *(
            {"model": MODEL, "template": {key: value}}
            for key, value in given.TEMPLATE.items()
            if key not in MOUNTING
        ),
        {"runtime": "simulator"},
    ],
)
def test_what_a_pod_must_be_restarted_for_makes_a_revision(spec: dict[str, Any]) -> None:
    assert given.identity(spec) != given.identity({"model": MODEL})


@pytest.mark.parametrize("key", MOUNTING)
def test_where_volumes_are_mounted_makes_a_revision(key: str) -> None:
    volumes = {"volumes": given.TEMPLATE["volumes"]}
    mounted = {**volumes, key: given.TEMPLATE[key]}
    assert given.identity({"model": MODEL, "template": mounted}) != given.identity(
        {"model": MODEL, "template": volumes}
    )


ADAPTED = {**MODEL, "adapters": [{"name": "a", "uri": "hf://org/a"}]}


@pytest.mark.parametrize(
    "adapters",
    [
        [],
        [{"name": "a", "uri": "hf://org/other"}],
        [{"name": f"a{n}", "uri": "hf://org/a"} for n in range(4)],
    ],
)
def test_other_adapters_make_no_revision(adapters: list[dict[str, str]]) -> None:
    assert given.identity({"model": {**MODEL, "adapters": adapters}}) == given.identity(
        {"model": ADAPTED}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"adapters": [{"name": f"a{n}", "uri": "hf://org/a"} for n in range(5)]},
        {"adapters": [{"name": "a", "uri": "pvc://claim/a"}]},
        {"maxAdapterRank": 64},
    ],
)
def test_more_slots_a_higher_rank_and_another_claim_make_one(change: dict[str, Any]) -> None:
    assert given.identity({"model": {**ADAPTED, **change}}) != given.identity({"model": ADAPTED})


def test_a_new_image_in_the_profile_makes_a_revision() -> None:
    profile = given.profile(images={"vllm": "image/vllm:2", "router": "image/router:1"})
    assert given.identity(profiles=[profile]) != given.identity()


def test_the_order_in_which_things_are_written_does_not_matter() -> None:
    one = {"model": MODEL, "template": {"nodeSelector": {"a": "1", "b": "2"}}}
    other = {"template": {"nodeSelector": {"b": "2", "a": "1"}}, "model": MODEL}
    assert given.identity(one) == given.identity(other)


def test_another_secret_of_keys_makes_a_revision_where_engines_check_them() -> None:
    one, other = (
        {"model": MODEL, "routing": {"mode": "Direct", "apiKeys": {"name": name}}}
        for name in ("one", "other")
    )
    assert given.identity(one) != given.identity(other)


def test_a_part_that_is_not_used_does_not_count() -> None:
    given_cache = given.revisioned(cache=None)
    assert given.identity() == revisions.identity(given_cache)


def test_an_identity_fits_into_names_and_labels() -> None:
    assert len(given.identity()) == 8
    assert int(given.identity(), 16) >= 0


def _cluster(
    spec: dict[str, Any],
    *,
    serving: dict[str, Any] | None = OLD,
    starting: dict[str, Any] | None = None,
    pods: tuple[ObservedPod, ...] = (),
    without: Callable[[Child], bool] = lambda _: False,
    router: RouterState | None = None,
) -> Observed:
    """A cluster in which the revision of `serving` takes the traffic and that of `starting` exists, too."""
    children: dict[Any, Child] = {}
    for found in (starting, serving):  # the Service is that of the last one
        if found is not None:
            made = given.realised(given.observed(found)).children
            children |= {child.ref: child for child in made}
    kept = [child for child in children.values() if not without(child)]
    return given.observed(spec, children=kept, pods=pods, router=router)


def _roll_out(observed: Observed, *, replicas: int = 1) -> Rollout:
    resolved = given.resolved(observed.parent.spec)
    return revisions.roll_out(observed, resolved, replicas=replicas, now=given.MOMENT)


def _both(replicas: int = 1) -> Rollout:
    return Rollout(A, B, (Revision(A, replicas), Revision(B, replicas)))


def _only(revision: str, replicas: int = 1) -> Rollout:
    return Rollout(revision, revision, (Revision(revision, replicas),))


def _is_public_service(child: Child) -> bool:
    return child.ref.kind == "Service" and child.ref.name == given.NAME


CASES: list[tuple[str, Observed, int, Rollout]] = [
    ("the first revision starts alone", given.observed(NEW), 2, _only(B, 2)),
    ("nothing changes", _cluster(OLD, pods=given.pods(A, 1)), 3, _only(A, 3)),
    (
        "a change starts the new one beside the old",
        _cluster(NEW, pods=given.pods(A, 2)),
        2,
        _both(2),
    ),
    (
        "the old one serves while the new one starts",
        _cluster(NEW, starting=NEW, pods=given.pods(A, 1) + given.pods(B, 1, ready=False)),
        1,
        _both(),
    ),
    (
        "the old one serves until the new one has all its replicas",
        _cluster(NEW, starting=NEW, pods=given.pods(A, 2) + given.pods(B, 1)),
        2,
        _both(2),
    ),
    (
        "then the traffic moves and the old one is dropped",
        _cluster(NEW, starting=NEW, pods=given.pods(A, 2) + given.pods(B, 2)),
        2,
        _only(B, 2),
    ),
    (
        "changing back keeps the old one and drops the new one",
        _cluster(OLD, starting=NEW, pods=given.pods(A, 1) + given.pods(B, 1)),
        1,
        _only(A),
    ),
    (
        "a service that does not answer has nothing to lose",
        _cluster(NEW, starting=NEW, pods=given.pods(A, 1, ready=False)),
        1,
        _only(B),
    ),
    (
        "pods that are being deleted do not serve",
        _cluster(NEW, pods=(given.pod(A, deleting=True),)),
        1,
        _only(B),
    ),
    ("a stopped service changes at once", _cluster(NEW, pods=given.pods(A, 1)), 0, _only(B, 0)),
    (
        "without its Service, what answers is kept",
        _cluster(
            NEW,
            starting=NEW,
            pods=given.pods(A, 2) + given.pods(B, 1),
            without=_is_public_service,
        ),
        2,
        _both(2),
    ),
    (
        "a Service that selects what is gone is not followed",
        _cluster(
            NEW,
            pods=given.pods(A, 1),
            without=lambda child: child.ref.kind == "Deployment",
        ),
        1,
        _both(),
    ),
    (
        "recreate stops the old one first",
        _cluster(RECREATE, pods=given.pods(A, 2)),
        2,
        Rollout(A, B, (Revision(A, 0), Revision(B, 0))),
    ),
    (
        "recreate waits for pods that are still ending",
        _cluster(RECREATE, pods=(given.pod(A, deleting=True),)),
        2,
        Rollout(A, B, (Revision(A, 0), Revision(B, 0))),
    ),
    (
        "recreate does not wait for a node that is gone to end its pod",
        _cluster(RECREATE, pods=(given.pod(A, deleting=True, gone_at=given.CREATED),)),
        2,
        _only(B, 2),
    ),
    (
        "recreate does not wait for a node that is gone to end a worker",
        _cluster(
            RECREATE,
            pods=(given.pod(A, deleting=True, gone_at=given.CREATED, worker=True),),
        ),
        2,
        _only(B, 2),
    ),
    ("then recreate starts the new one", _cluster(RECREATE), 2, _only(B, 2)),
    (
        "recreate does not wait for pods that were evicted",
        _cluster(RECREATE, pods=(given.pod(A, ready=False, phase="Failed"),)),
        2,
        _only(B, 2),
    ),
]


@pytest.mark.parametrize(
    ("observed", "replicas", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_a_rollout(observed: Observed, replicas: int, expected: Rollout) -> None:
    assert _roll_out(observed, replicas=replicas) == expected


def test_the_next_time_to_look_at_recreate_is_when_a_pod_must_have_ended() -> None:
    ending = given.pod(A, name="ending", deleting=True)
    ended = given.pod(A, name="ended", deleting=True, phase="Failed")
    assert revisions.released_at(_cluster(RECREATE, pods=(ending, ended))) == given.MOMENT + 60
    assert revisions.released_at(_cluster(RECREATE, pods=(ended, *given.pods(A, 1)))) is None


@pytest.mark.parametrize("gone", [{"deleting": True}, {"phase": "Failed"}, {"phase": "Succeeded"}])
def test_a_pod_that_is_gone_proves_no_revision(gone: dict[str, Any]) -> None:
    pods = (*given.pods(A, 1), given.pod(B, **gone))  # its condition Ready may still be True
    assert _roll_out(_cluster(NEW, starting=NEW, pods=pods)) == _both()


def test_a_strangers_service_does_not_say_what_serves() -> None:
    pods = given.pods(A, 2) + given.pods(B, 1)
    cluster = _cluster(NEW, starting=NEW, pods=pods, without=_is_public_service)
    service = given.find(given.rendered(given.observed(NEW)), "Service", name=given.NAME)
    children = (*cluster.children, given.child(service, controller="somebody"))
    observed = given.observed(NEW, children=children, pods=pods)
    assert _roll_out(observed, replicas=2) == _both(2)


def test_an_existing_revision_keeps_what_it_was_made_with() -> None:
    cluster = _cluster(NEW, pods=given.pods(A, 1))
    before = given.find(given.rendered(given.observed(OLD)), "Deployment")
    after = given.find(given.rendered(cluster), "Deployment", name=f"chat-{A}")
    assert after == before


def test_what_a_stranger_stored_is_not_a_revision() -> None:
    config = given.find(given.rendered(given.observed(OLD)), "ConfigMap", name=f"chat-{A}")
    observed = given.observed(OLD, children=[given.child(config, controller="somebody")])
    assert revisions.stored(observed, A) is None


ROUTED_OLD: dict[str, Any] = {"model": {"uri": "hf://org/old"}}
ROUTED_NEW: dict[str, Any] = {"model": {"uri": "hf://org/new"}}
C, D = given.identity(ROUTED_OLD), given.identity(ROUTED_NEW)


def _listed(*weights: tuple[str, int], available: bool = True) -> RouterState:
    """The router sends requests to these revisions of the service."""
    revisions = [{"name": f"chat-{revision}", "weight": weight} for revision, weight in weights]
    return RouterState(available=available, entry={"name": "chat", "revisions": revisions})


def _routed(revision: str, *revisions: tuple[str, int], wanted: str) -> Rollout:
    return Rollout(
        revision,
        wanted,
        tuple(Revision(*each) for each in revisions),
        by_router=True,
        routed=revision,
    )


ROUTED: list[tuple[str, Observed, Rollout]] = [
    (
        "the first revision of a service is behind the router at once",
        given.observed(ROUTED_NEW, router=RouterState()),
        _routed(D, (D, 1), wanted=D),
    ),
    (
        "the old one keeps its weight until the new one has proved itself",
        _cluster(ROUTED_NEW, serving=ROUTED_OLD, pods=given.pods(C, 1), router=_listed((C, 100))),
        _routed(C, (C, 1), (D, 1), wanted=D),
    ),
    (
        "the weight moves, and the old one stays until the router was told",
        _cluster(
            ROUTED_NEW,
            serving=ROUTED_OLD,
            starting=ROUTED_NEW,
            pods=given.pods(C, 1) + given.pods(D, 1),
            router=_listed((C, 100), (D, 0)),
        ),
        _routed(D, (C, 1), (D, 1), wanted=D),
    ),
    (
        "then the old one is dropped",
        _cluster(
            ROUTED_NEW,
            serving=ROUTED_OLD,
            starting=ROUTED_NEW,
            pods=given.pods(C, 1) + given.pods(D, 1),
            router=_listed((C, 0), (D, 100)),
        ),
        _routed(D, (D, 1), wanted=D),
    ),
    (
        "to the router, the Service waits until the new engines are ready",
        _cluster(ROUTED_NEW, pods=given.pods(A, 1), router=_listed((A, 100))),
        Rollout(A, D, (Revision(A, 1), Revision(D, 1)), by_router=False, routed=A),
    ),
    (
        "to the router, the Service waits until the router is available",
        _cluster(
            ROUTED_NEW,
            starting=ROUTED_NEW,
            pods=given.pods(A, 1) + given.pods(D, 1),
            router=_listed((D, 100), available=False),
        ),
        Rollout(A, D, (Revision(A, 1), Revision(D, 1)), by_router=False, routed=D),
    ),
    (
        "to the router, the Service waits until the router knows the new engines",
        _cluster(
            ROUTED_NEW,
            starting=ROUTED_NEW,
            pods=given.pods(A, 1) + given.pods(D, 1),
            router=_listed((A, 100)),
        ),
        Rollout(A, D, (Revision(A, 1), Revision(D, 1)), by_router=False, routed=D),
    ),
    (
        "to the router, the Service moves and the old one stays for those who still come",
        _cluster(
            ROUTED_NEW,
            starting=ROUTED_NEW,
            pods=given.pods(A, 1) + given.pods(D, 1),
            router=_listed((D, 100)),
        ),
        _routed(D, (A, 1), (D, 1), wanted=D),
    ),
    (
        "to the engines, the Service waits until the new ones are ready",
        _cluster(NEW, serving=ROUTED_OLD, pods=given.pods(C, 1), router=_listed((C, 100))),
        Rollout(C, B, (Revision(C, 1), Revision(B, 1)), by_router=True, routed=C),
    ),
    (
        "to the engines, the Service moves and the router keeps what it has",
        _cluster(
            NEW,
            serving=ROUTED_OLD,
            starting=NEW,
            pods=given.pods(C, 1) + given.pods(B, 1),
            router=_listed((C, 100)),
        ),
        Rollout(B, B, (Revision(C, 1), Revision(B, 1)), by_router=False, routed=C),
    ),
    (
        "to the engines, the old one is dropped once the router has forgotten the service",
        _cluster(
            NEW, serving=NEW, starting=ROUTED_OLD, pods=given.pods(B, 1), router=RouterState()
        ),
        _only(B),
    ),
]


@pytest.mark.parametrize(
    ("observed", "expected"), [case[1:] for case in ROUTED], ids=[case[0] for case in ROUTED]
)
def test_a_rollout_by_the_router(observed: Observed, expected: Rollout) -> None:
    assert _roll_out(observed) == expected
