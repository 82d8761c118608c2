"""Every case on every GPU gets through to vLLM's choice of kernels, and the image holds what each kernel needs."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.gpu import contract, page
from tests.gpu.cases import BY_NAME, CASES
from tests.gpu.hardware import GPUS
from tests.gpu.plan import SAMPLES

pytestmark = pytest.mark.timeout(contract.TIMEOUT * 3)

LACKING: Final = {("B200", "cubins")}
"""GPU and need that the image can't meet: FlashInfer's kernels for Blackwell's experts and MLA are only to be had
compiled, from NVIDIA's server, and no package of the lock's release holds them. docs/gpu-kernels.md says so."""

SAMPLE_NAMES = [f"sample {path.stem}" for path in SAMPLES]
PAIRS = [
    pytest.param(gpu.key, name, id=f"{gpu.key}-{name}")
    for gpu in GPUS
    for name in [case.name for case in CASES if gpu in case.gpus] + SAMPLE_NAMES
]


@pytest.fixture(scope="session")
def found() -> contract.Answers:
    return contract.answers(report=lambda *_: None)


@pytest.mark.parametrize(("gpu", "name"), PAIRS)
def test_a_service_gets_a_configuration_and_kernels_that_the_image_can_run(
    gpu: str, name: str, found: contract.Answers
) -> None:
    answer = found.found[gpu][name]
    refusal = BY_NAME[name].refusal(gpu) if name in BY_NAME else None
    if refusal is not None:
        assert refusal in (answer["error"] or "")
        return
    assert answer["error"] is None
    assert answer["kernels"]["attention"]
    assert answer["kernels"]["linear"]
    lacks = {need: lack for need, lack in answer["needs"].items() if lack}
    assert {need: lack for need, lack in lacks.items() if (gpu, need) not in LACKING} == {}


def test_what_the_image_is_known_to_lack_it_still_lacks(found: contract.Answers) -> None:
    lacking = {
        (gpu, need)
        for gpu, cases in found.found.items()
        for answer in cases.values()
        for need, lack in answer.get("needs", {}).items()
        if lack
    }
    assert lacking == LACKING


def _settings(found: contract.Answers, name: str) -> Mapping[str, Mapping[str, Any]]:
    return {
        gpu: cases[name]["settings"]
        for gpu, cases in found.found.items()
        if name in cases and "settings" in cases[name]
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tensor", {"tensor": 2, "pipeline": 1, "data": 1}),
        ("pipeline", {"tensor": 1, "pipeline": 2, "data": 1}),
        ("data", {"tensor": 1, "pipeline": 1, "data": 2}),
        ("data with expert parallelism", {"data": 8, "experts": True}),
        ("no prefix cache", {"prefixCache": False}),
        ("Qwen3-8B", {"prefixCache": True, "compilation": "VLLM_COMPILE", "eager": False}),
        ("batching", {"maxSequences": 64, "maxBatchedTokens": 4096, "policy": "priority"}),
        ("whole prompts in a step", {"chunkedPrefill": False}),
        ("all of model", {"length": 8192}),
        ("draft", {"speculation": "draft_model"}),
        ("ngram", {"speculation": "ngram"}),
        ("eagle3", {"speculation": "eagle3"}),
        ("mtp", {"speculation": "mtp"}),
        ("Qwen3-8B, kvCache fp8", {"kvCache": "fp8"}),
        ("no compilation", {"compilation": "NONE", "graphs": "FULL_DECODE_ONLY", "eager": False}),
        ("draft", {"scheduler": None, "draftQuantization": None, "modelRunner": 2}),
        ("half of a GPU", {"memoryShare": 0.46}),
        ("KV cache in memory", {"connector": "OffloadingConnector"}),
        ("KV cache on disk", {"connector": "OffloadingConnector"}),
    ],
)
def test_vllm_makes_of_a_field_what_it_promises(
    name: str, expected: Mapping[str, Any], found: contract.Answers
) -> None:
    settings = _settings(found, name)
    assert settings
    for gpu, each in settings.items():
        assert {key: each[key] for key in expected} == expected, gpu


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Qwen3-8B, method fp8", "quantization"),
        ("sample chat-gpu", "quantization"),
        ("fp8 draft", "draftQuantization"),
    ],
)
def test_fp8_has_a_scale_for_each_channel_where_the_gpu_multiplies_fp8(
    name: str, key: str, found: contract.Answers
) -> None:
    chosen = {gpu: each[key] for gpu, each in _settings(found, name).items()}
    weights_only = {gpu.key for gpu in GPUS if gpu.capability < (8, 9)}
    assert chosen == {
        gpu.key: "fp8_per_tensor" if gpu.key in weights_only else "fp8_per_channel" for gpu in GPUS
    }


def test_a_draft_has_the_kernels_of_its_own_precision(found: contract.Answers) -> None:
    for gpu, cases in found.found.items():
        quantized = cases["Qwen3-8B, method fp8"]["kernels"]["linear"]
        plain = cases["Qwen3-8B"]["kernels"]["linear"]
        assert cases["fp8 draft"]["kernels"]["linear"] == plain, gpu
        assert cases["fp8 draft"]["draft"]["linear"] == quantized, gpu
        assert cases["draft beside method fp8"]["kernels"]["linear"] == quantized, gpu
        assert cases["draft beside method fp8"]["draft"]["linear"] == plain, gpu


def test_large_gpus_run_more_sequences_at_once(found: contract.Answers) -> None:
    sequences = {gpu: each["maxSequences"] for gpu, each in _settings(found, "Qwen3-8B").items()}
    large = {"H100", "H200", "B200"}
    assert sequences == {gpu.key: 1024 if gpu.key in large else 256 for gpu in GPUS}


def test_the_page_shows_what_was_found(found: contract.Answers) -> None:
    assert page.PAGE.read_text() == page.text(found), "run `make gpu-kernels`"
