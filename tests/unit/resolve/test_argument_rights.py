"""Arguments of vLLM that reach further than the service's own requests need the profile."""

import pytest

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import argument_classes, argument_rights, engine_arguments
from slipstream_operator.core.vllm_versions import PINNED
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

REACHING = [
    *((argument, "x") for argument in argument_rights.GUARDED),
    ("compilation-config", '{"backend": "antigravity.x"}'),
    ("compilation-config", '{"inductor_passes": {"post_grad": "antigravity.x"}}'),
    ("compilation-config", '{"cache_dir": "/mnt/x"}'),
    ("structured-outputs-config", '{"reasoning_parser_plugin": "/mnt/x.py"}'),
    ("hf-overrides", '{"auto_map": {"AutoModel": "x"}}'),
    ("hf-overrides", '{"text_config": {"auto_map": {"AutoModel": "x"}}}'),
    ("hf-overrides", '{"mm_vision_tower": "org/other"}'),
    ("hf-overrides", '{"towers": [{"name": "org--other"}]}'),
    ("generation-config", "org/other"),
    ("generation-config", "/etc"),
    ("chat-template", "/etc/passwd"),
    ("chat-template", "../etc/passwd"),
    ("load-format", "tensorizer"),
    ("load-format", "modelexpress"),
    ("kv-offloading-backend", "lmcache"),
    ("prefix-caching-hash-algo", "xxhash"),
    ("prefix-caching-hash-algo", "xxhash_cbor"),
]  # fmt: skip
OWN = [
    ("compilation-config", '{"mode": 3, "backend": "inductor"}'),
    ("structured-outputs-config", '{"backend": "guidance"}'),
    ("hf-overrides", '{"sliding_window": 64, "architectures": ["LlamaForCausalLM"]}'),
    ("generation-config", "vllm"),
    ("chat-template", "{{ messages }} a/b"),
    ("chat-template", "template_chatml.jinja"),
    ("load-format", "runai_streamer"),
    ("kv-offloading-backend", "native"),
    ("prefix-caching-hash-algo", "sha256_cbor"),
]


def check(argument: str, value: str, *allowed: str) -> None:
    spec = InferenceServiceSpec.model_validate({"engineArgs": {argument: value}})
    engine_arguments.check_allowed(spec, allowed, profile="default")


@pytest.mark.parametrize(("argument", "value"), REACHING)
def test_a_value_that_reaches_further_needs_the_profile(argument: str, value: str) -> None:
    check(argument, value, argument)
    refused = rf"^spec\.engineArgs\.{argument}: .*engineArgs\.allow"
    with pytest.raises(PermanentError, match=refused) as caught:
        check(argument, value, "seed")
    assert caught.value.reason == Reason.NOT_ALLOWED


@pytest.mark.parametrize(("argument", "value"), OWN)
def test_other_values_need_no_permission(argument: str, value: str) -> None:
    check(argument, value)


@pytest.mark.parametrize("argument", sorted(argument_rights.CONDITIONAL))
@pytest.mark.parametrize("value", ["", "{", "[1]", "null", "3", "[" * 5000])
def test_a_value_without_sense_is_no_fault_of_the_operator(argument: str, value: str) -> None:
    try:
        check(argument, value)
    except PermanentError as refused:
        assert argument == "generation-config", refused


def test_the_profile_decides_which_of_them_a_service_can_use() -> None:
    spec = {"model": given.MODEL, "engineArgs": {"worker-extension-cls": "a.B"}}
    with pytest.raises(
        PermanentError, match="worker-extension-cls: loads code, and ServingProfile"
    ):
        given.resolved(spec)
    allowed = given.profile(engineArgs={"allow": ["worker-extension-cls"]})
    given.resolved(spec, profiles=[allowed])


def test_every_argument_of_the_pinned_vllm_that_services_can_set_is_judged_once() -> None:
    """A new argument needs a judgment. Read in vLLM's source what its value can name."""
    judgments = [
        *argument_rights.GUARDED,
        *argument_rights.CONDITIONAL,
        *argument_rights.HARMLESS,
    ]
    assert len(judgments) == len(set(judgments))
    assert set(judgments) == argument_classes.ENGINE | argument_classes.SERVER
    assert set(judgments) | argument_classes.OWNED.keys() >= PINNED.arguments.keys()


def test_arguments_with_free_values_are_judged_by_what_vllm_does_with_them() -> None:
    """A text can name modules, files and servers, so each is listed with its meaning in vLLM."""
    read_by = {
        "additional-config": "names of attention kernels of some models",
        "aux-output-config": "numbers",
        "attention-config": "names of registered backends",
        "cohere-format": "a name",
        "config-format": "names of registered parsers",
        "cpu-offload-params": "names of parameters",
        "default-chat-template-kwargs": "variables of the template",
        "diffusion-config": "numbers",
        "engram-config": "numbers",
        "eplb-config": "numbers and names of communicators",
        "fingerprint-value": "a text in answers",
        "ir-op-priority": "names of kernels",
        "kernel-config": "names of kernels",
        "kv-cache-dtype-skip-layers": "names of layers",
        "limit-mm-per-prompt": "numbers",
        "lora-target-modules": "names of layers",
        "mamba-backend": "a name of a kernel",
        "media-io-kwargs": "options of decoders and names of registered ones",
        "mm-encoder-attn-backend": "names of registered backends",
        "mm-processor-kwargs": "options of the model's own processor; trust_remote_code twice is a TypeError",
        "model-impl": "names of implementations",
        "numa-bind-cpus": "numbers of cores",
        "offload-params": "names of parameters",
        "optimization-level": "a level",
        "override-generation-config": "sampling parameters",
        "pooler-config": "options of pooling",
        "pt-load-map-location": "a device",
        "quantization-config": "names of schemes",
        "reasoning-config": "texts of tokens",
        "reasoning-parser": "a registered parser",
        "response-role": "a text in answers",
        "show-hidden-metrics-for-version": "a version",
        "tokenizer-mode": "names of registered tokenizers",
        "tool-call-parser": "a registered parser",
        "watermark-config": "numbers and names of algorithms",
    }
    free = {
        name
        for name, (kind, *_) in PINNED.arguments.items()
        if kind in ("str", "json", "list of str") and name in argument_rights.HARMLESS
    }
    assert free == read_by.keys()
