"""KV cache offload: it takes memory of the pod, and is refused where the pinned vLLM can't do it."""

import json
from typing import Any

import pytest

from slipstream_operator.api import units
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from slipstream_runtime.engine import arguments
from slipstream_runtime.engine.config import EngineConfig
from tests.support import given
from tests.unit.engine.test_arguments import TARGET

OFFLOAD: dict[str, Any] = {"model": given.MODEL, "cache": {"offload": {"cpu": "20Gi"}}}
MEMORY = {"requests": {"memory": "16Gi"}, "limits": {"memory": "32Gi"}}


def resources(spec: dict[str, Any], **accelerator: Any) -> dict[str, dict[str, str]]:
    profile = given.profile(
        accelerators=[{"name": "gpu", "resourceName": "nvidia.com/gpu", **accelerator}]
    )
    found = given.resolved(spec, profiles=[profile]).revisioned.resources
    return {
        kind: {name: value for name, value in entry.items() if name == "memory"}
        for kind, entry in found.items()
    }


def words(spec: dict[str, Any]) -> list[str]:
    config = EngineConfig.model_validate(given.resolved(spec).revisioned.config)
    return arguments.build(config, target=TARGET, draft=None, cpu_flags=frozenset())


def test_the_engine_offloads_through_vllms_own_connector() -> None:
    found = words(OFFLOAD)
    assert json.loads(found[found.index("--kv-transfer-config") + 1]) == {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 20 * 2**30},
    }


def test_without_offload_there_is_no_connector() -> None:
    assert "--kv-transfer-config" not in words({"model": given.MODEL})


def test_engines_of_data_parallelism_share_the_memory_of_their_replica() -> None:
    found = words({**OFFLOAD, "parallelism": {"data": 4}})
    connector = json.loads(found[found.index("--kv-transfer-config") + 1])
    assert connector["kv_connector_extra_config"] == {"cpu_bytes_to_use": 5 * 2**30}


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (MEMORY, {"requests": {"memory": "36864Mi"}, "limits": {"memory": "53248Mi"}}),
        ({"requests": MEMORY["requests"]}, {"requests": {"memory": "36864Mi"}, "limits": {}}),
    ],
)
def test_its_memory_is_added_to_what_the_profile_gives_an_engine(
    profile: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert resources(OFFLOAD, resources=profile) == expected


def test_its_memory_is_added_to_the_built_in_request_too() -> None:
    plain = given.resolved({"model": given.MODEL}).default_requests["memory"]
    more = given.resolved(OFFLOAD).default_requests["memory"]
    assert units.quantity(more) - units.quantity(plain) == 20 * 2**30


def test_blocks_go_to_a_volume_of_limited_size_on_the_nodes_disk() -> None:
    spec = {"model": given.MODEL, "cache": {"offload": {"cpu": "20Gi", "disk": "100Gi"}}}
    found = words(spec)
    connector = json.loads(found[found.index("--kv-transfer-config") + 1])
    assert connector["kv_connector_extra_config"] == {
        "cpu_bytes_to_use": 20 * 2**30,
        "spec_name": "TieringOffloadingSpec",
        "secondary_tiers": [{"type": "fs", "root_dir": contract.OFFLOAD_DIRECTORY}],
    }
    pod = given.find(given.rendered(given.observed(spec)), "Deployment")["spec"]["template"]["spec"]
    assert {"name": "offload", "emptyDir": {"sizeLimit": "100Gi"}} in pod["volumes"]
    (container,) = pod["containers"]
    assert {"name": "offload", "mountPath": contract.OFFLOAD_DIRECTORY} in container["volumeMounts"]
    plain = given.resolved({"model": given.MODEL}).default_requests["ephemeral-storage"]
    more = container["resources"]["requests"]["ephemeral-storage"]
    assert units.quantity(more) - units.quantity(plain) == 100 * 2**30


def test_memory_that_the_object_sets_is_left_as_it_is() -> None:
    spec = {**OFFLOAD, "resources": {"limits": {"memory": "64Gi"}}}
    assert resources(spec, resources=MEMORY)["limits"] == {"memory": "64Gi"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {"accelerator": {"type": "cpu"}},
            "spec.cache.offload: can't work because on type cpu the KV cache is in the node's memory already",
        ),
        (
            {
                "cache": {"offload": {"cpu": "1Gi", "disk": "9Gi"}},
                "resources": {"requests": {"ephemeral-storage": "5Gi"}},
            },
            'spec.resources: ephemeral-storage "5Gi" must be more than spec.cache.offload.disk "9Gi"',
        ),
        (
            {"cache": {"prefix": False, "offload": {"cpu": "1Gi"}}},
            "spec.cache.offload: needs spec.cache.prefix",
        ),
        (
            {"resources": {"limits": {"memory": "20Gi"}}},
            'spec.resources: memory "20Gi" must be more than spec.cache.offload.cpu "20Gi"',
        ),
        (
            {"cache": {"offload": {"cpu": "20Ki"}}},
            'spec.cache.offload.cpu: "20Ki" is too small for a block. Use at least 64Mi',
        ),
        (
            {"cache": {"offload": {"cpu": "20Gi", "disk": "100Ki"}}},
            'spec.cache.offload.disk: "100Ki" is too small for a block',
        ),
        (
            {"engineArgs": {"kv-offloading-size": 4}},
            "spec.engineArgs.kv-offloading-size: spec.cache.offload sets the same",
        ),
        (
            {"runtime": "simulator", "model": None},
            "spec.cache.offload: can't be used with runtime: simulator",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_a_remedy(more: dict[str, Any], expected: str) -> None:
    spec = {key: value for key, value in {**OFFLOAD, **more}.items() if value is not None}
    with pytest.raises(PermanentError) as refused:
        given.resolved(spec)
    assert expected in refused.value.message
    assert refused.value.reason in (Reason.UNSUPPORTED, Reason.INVALID_SPEC)
