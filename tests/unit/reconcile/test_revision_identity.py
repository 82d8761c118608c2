"""Identity of a revision: the fields that need a restart, and no other."""

from typing import Any

import pytest

from slipstream_operator.core import revisions
from tests.support import given

MODEL = given.MODEL

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
