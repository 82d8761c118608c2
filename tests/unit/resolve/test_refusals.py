"""Refusals: each names the field, the value, the reason and a remedy."""

from typing import Any

import pytest

from slipstream_operator.core.observed import Key
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

MODEL = given.MODEL


LOCAL = {"uri": "file:///models/a"}


CPU = {"type": "cpu"}


SIMULATED: dict[str, Any] = {"runtime": "simulator"}


TIERS = {"interactive": {"ttft": {"p95": "500ms", "p50": "200ms"}, "tpot": {"p95": "40ms"}}}


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "a long name",
        {"parent": given.parent(key=Key("team", "a" * 41))},
        {},
        Reason.INVALID_SPEC,
        (
            f'metadata.name: "{"a" * 41}" is not valid. Use at most 40 characters (a-z, 0-9, -), start with '
            "a letter and not with slipstream-."
        ),
    ),
    (
        "a name of our own",
        {"parent": given.parent(key=Key("team", "slipstream-x"))},
        {},
        Reason.INVALID_SPEC,
        (
            'metadata.name: "slipstream-x" is not valid. Use at most 40 characters (a-z, 0-9, -), start with a '
            "letter and not with slipstream-."
        ),
    ),
    (
        "a wrong type",
        {"spec": {"model": {"uri": 3}}},
        {},
        Reason.INVALID_SPEC,
        'spec.model.uri: 3 can\'t work because it must be text. Write "3".',
    ),
    (
        "several wrong fields",
        {"spec": {"model": MODEL, "replicas": -1, "accelerator": {"count": 0}}},
        {},
        Reason.INVALID_SPEC,
        (
            "spec.accelerator.count: 0 can't work because it should be greater than or equal to 1. "
            "spec.replicas: -1 can't work because it should be greater than or equal to 0."
        ),
    ),
    (
        "no profile",
        {"profiles": []},
        {},
        Reason.NO_PROFILE,
        (
            "No ServingProfile selects namespace team. Create a profile whose namespaceSelector matches the labels of "
            "the namespace."
        ),
    ),
    (
        "an unknown accelerator",
        {"spec": {"model": MODEL, "accelerator": {"type": "tpu"}}},
        {},
        Reason.UNKNOWN_ACCELERATOR,
        'spec.accelerator.type: "tpu" is not an accelerator of ServingProfile default. Use one of cpu, gpu.',
    ),
    (
        "a source that is not allowed",
        {"spec": {"model": LOCAL}},
        {},
        Reason.SOURCE_NOT_ALLOWED,
        (
            'spec.model.uri: "file:///models/a" matches none of the sources that ServingProfile default allows '
            "(hf://*, pvc://*). Use an allowed source, or ask the platform team."
        ),
    ),
    (
        "a draft that is not allowed",
        {"spec": {"model": MODEL, "speculation": {"draft": "hf://other/model"}}},
        {"sources": {"allow": ["hf://org/*"]}},
        Reason.SOURCE_NOT_ALLOWED,
        (
            'spec.speculation.draft: "hf://other/model" matches none of the sources that ServingProfile default '
            "allows (hf://org/*). Use an allowed source, or ask the platform team."
        ),
    ),
    (
        "an adapter that is not allowed",
        {"spec": {"model": {**MODEL, "adapters": [{"name": "sql", "uri": "file:///x"}]}}},
        {},
        Reason.SOURCE_NOT_ALLOWED,
        (
            'spec.model.adapters[sql].uri: "file:///x" matches none of the sources that ServingProfile default '
            "allows (hf://*, pvc://*). Use an allowed source, or ask the platform team."
        ),
    ),
    (
        "an adapter with the model's name",
        {"spec": {"model": {**MODEL, "adapters": [{"name": "chat", "uri": "hf://org/x"}]}}},
        {},
        Reason.INVALID_SPEC,
        (
            'spec.model.adapters: "chat" is also the name of the model. Use another name for the adapter, or set '
            "spec.model.name."
        ),
    ),
    (
        "a model's own code",
        {"spec": {"model": {**MODEL, "trustRemoteCode": True}}},
        {},
        Reason.REMOTE_CODE_NOT_ALLOWED,
        (
            "spec.model.trustRemoteCode: true is not allowed by ServingProfile default. Leave it out, or ask the "
            "platform team."
        ),
    ),
    (
        "a name that an older service has",
        {"name_holders": {"chat": Key("team", "older")}},
        {},
        Reason.NAME_TAKEN,
        (
            'spec.model.name: "chat" is already served by the older InferenceService older in this namespace. Use '
            "another name."
        ),
    ),
    (
        "no image",
        {},
        {"images": {"vllmCpu": "c"}},
        Reason.IMAGE_MISSING,
        (
            "spec.template.image: no image is set for accelerator gpu. Set images.vllm in ServingProfile default."
        ),
    ),
    (
        "no image for a cpu",
        {"spec": {"model": MODEL, "accelerator": CPU}},
        {"images": {"vllm": "g"}},
        Reason.IMAGE_MISSING,
        (
            "spec.template.image: no image is set for accelerator cpu. Set images.vllmCpu in ServingProfile "
            "default."
        ),
    ),
    (
        "no image for a simulator",
        {"spec": SIMULATED},
        {"images": {"vllm": "g"}},
        Reason.IMAGE_MISSING,
        (
            "spec.template.image: no image is set for accelerator gpu. Set images.simulator in ServingProfile "
            "default."
        ),
    ),
    (
        "no image for the router",
        {},
        {"images": {"vllm": "g"}},
        Reason.IMAGE_MISSING,
        (
            "spec.routing.mode: Router needs an image. Set images.router in ServingProfile default, or use "
            "routing.mode: Direct."
        ),
    ),
    (
        "no image for the endpoint picker",
        {
            "spec": {
                "model": MODEL,
                "routing": {"mode": "Gateway", "gateway": {"name": "inference"}},
            }
        },
        {"images": {"vllm": "g"}},
        Reason.IMAGE_MISSING,
        (
            "spec.routing.mode: Gateway needs an image. Set images.picker in ServingProfile default, or use "
            "routing.mode: Direct."
        ),
    ),
    (
        "an fp8 cache on a cpu",
        {"spec": {"model": MODEL, "accelerator": CPU, "quantization": {"kvCache": "fp8"}}},
        {},
        Reason.UNSUPPORTED,
        (
            'spec.quantization.kvCache: "fp8" can\'t work because it needs AVX-512 or AMX on type cpu, and nodes may '
            "have neither. Leave it out, or use a GPU."
        ),
    ),
    (
        "suffix without an image for it",
        {"spec": {"model": MODEL, "speculation": {"method": "suffix"}}},
        {},
        Reason.UNSUPPORTED,
        (
            'spec.speculation.method: "suffix" needs arctic-inference, which the default images lack because it is '
            "published only as source for another version of torch. Use ngram, or set spec.template.image to an image "
            "that has it."
        ),
    ),
    (
        "a count that parallelism does not make",
        {
            "spec": {
                "model": MODEL,
                "accelerator": {"count": 4},
                "parallelism": {"tensor": 2, "pipeline": 3},
            }
        },
        {},
        Reason.INVALID_SPEC,
        (
            "spec.accelerator.count: 4 is not tensor x pipeline x data of spec.parallelism (2 x 3 x 1 = 6). Make "
            "them equal, or leave out count."
        ),
    ),
    (
        "a count that parallelism does not divide",
        {"spec": {"model": MODEL, "accelerator": {"count": 3}, "parallelism": {"data": 2}}},
        {},
        Reason.INVALID_SPEC,
        (
            "spec.accelerator.count: 3 is not tensor x pipeline x data of spec.parallelism (1 x 1 x 2 = 2). Make "
            "them equal, or leave out count."
        ),
    ),
    (
        "a backend that is misspelt",
        {"spec": {"model": MODEL, "attention": {"backend": "flash-attn"}}},
        {},
        Reason.INVALID_SPEC,
        'spec.attention.backend: vLLM 0.32.0 has no attention backend "flash-attn". Did you mean FLASH_ATTN?',
    ),
    (
        "no memory on a cpu",
        {"spec": {"model": MODEL, "accelerator": CPU, "resources": {"requests": {"cpu": "2"}}}},
        {},
        Reason.INVALID_SPEC,
        (
            "spec.resources.limits.memory: is required with accelerator cpu, because the size of the KV cache "
            "depends on it. Set it here or in the ServingProfile, for example to 8Gi."
        ),
    ),
    (
        "more replicas than allowed",
        {"spec": {"model": MODEL, "replicas": 5}},
        {"limits": {"maxReplicas": 1}},
        Reason.LIMIT_EXCEEDED,
        (
            "spec.replicas: 5 is more than the 1 replica that ServingProfile default allows. Use fewer replicas, "
            "or ask the platform team."
        ),
    ),
    (
        "more scaling than allowed",
        {"spec": {"model": MODEL, "scaling": {"maxReplicas": 5}}},
        {"limits": {"maxReplicas": 4}},
        Reason.LIMIT_EXCEEDED,
        (
            "spec.scaling.maxReplicas: 5 is more than the 4 replicas that ServingProfile default allows. Use "
            "fewer replicas, or ask the platform team."
        ),
    ),
    (
        "an unknown tier",
        {"spec": {"model": MODEL, "slo": {"tier": "fast"}}},
        {"tiers": TIERS},
        Reason.UNKNOWN_TIER,
        (
            'spec.slo.tier: "fast" is not a tier of ServingProfile default, which has interactive. Use an existing '
            "tier, or set objectives in spec.slo."
        ),
    ),
    (
        "a tier where there is none",
        {"spec": {"model": MODEL, "slo": {"tier": "fast"}}},
        {},
        Reason.UNKNOWN_TIER,
        (
            'spec.slo.tier: "fast" is not a tier of ServingProfile default, which has none. Use an existing tier, or '
            "set objectives in spec.slo."
        ),
    ),
]


@pytest.mark.parametrize(
    ("snapshot", "profile", "reason", "message"),
    [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)
def test_what_cannot_work_is_refused_with_field_value_and_remedy(
    snapshot: dict[str, Any], profile: dict[str, Any], reason: str, message: str
) -> None:
    snapshot = {"profiles": [given.profile(**profile)], **snapshot}
    with pytest.raises(PermanentError) as caught:
        given.resolved(**snapshot)
    assert (caught.value.reason, caught.value.message) == (reason, message)


def test_a_profile_may_allow_a_models_own_code_and_local_files() -> None:
    profile = given.profile(sources={"allow": ["file:///models/*"], "trustRemoteCode": True})
    found = given.resolved({"model": {**LOCAL, "trustRemoteCode": True}}, profiles=[profile])
    assert found.revisioned.config["model"]["trustRemoteCode"] is True
