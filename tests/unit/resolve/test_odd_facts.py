"""A model's config.json is anybody's text. It refuses a service with a reason, or is unknown, and never a fault."""

import json
from typing import Any, Final

from slipstream_operator.core import facts
from slipstream_operator.errors import PermanentError
from slipstream_runtime import contract
from slipstream_runtime.fetch import report
from tests.support import given
from tests.support.configs import CONFIGS
from tests.support.odd import TEXTS, Odd

REPORTS: Final = 2000
KEYS: Final = (
    *contract.FACT_KEYS, *contract.FACT_PARTS, contract.FACT_QUANTIZATION, *contract.FACT_QUANTIZATION_KEYS,
    "factor", "rope_type", "original_max_position_embeddings",
)  # fmt: skip
DRAFT: Final = "hf://org/draft"
SPECS: Final = (
    {},
    {"accelerator": {"count": 2}},
    {"parallelism": {"tensor": 2, "pipeline": 2}},
    {"accelerator": {"type": "nvidia-h100"}, "quantization": {"method": "fp8"}},
    {"speculation": {"method": "eagle3", "draft": DRAFT, "tokens": 3}},
    {"batching": {"maxSequences": 1}, "attention": {"slidingWindow": 16}},
)
PROFILE: Final = given.profile(
    accelerators=[
        {"name": "nvidia-l4", "resourceName": "nvidia.com/gpu", "memory": "22Gi"},
        {"name": "nvidia-h100", "resourceName": "nvidia.com/gpu", "memory": "79Gi"},
    ],
    images={"vllm": "image/vllm:1", "router": "image/router:1"},
)


def _decided(spec: dict[str, Any], known: facts.Facts | None) -> str | None:
    """Return the refusal of the service, None if it is accepted."""
    try:
        given.resolved({"model": given.MODEL, **spec}, profiles=[PROFILE], facts=known)
    except PermanentError as refusal:
        return refusal.message
    return None


def test_no_report_of_a_checkpoint_is_a_fault() -> None:
    seen = {True: 0, False: 0}
    for number in range(REPORTS):
        odd = Odd(number, keys=KEYS)
        config = odd.changed(odd.random.choice([*CONFIGS.values()]))
        entry = {"uri": given.MODEL["uri"], "bytes": odd.value(), "config": config}
        text = json.dumps({"model": entry, "draft": {**entry, "uri": DRAFT}})
        refusal = _decided(odd.random.choice(SPECS), facts.parse(text))
        assert len(refusal or "") < 2000
        seen[refusal is None] += 1
    assert min(seen.values()) > REPORTS / 20


def test_a_config_whose_heads_have_no_size_is_unknown() -> None:
    config = {**CONFIGS["gpt-oss-20b"], "hidden_size": 16, "head_dim": None}
    known = facts.parse(json.dumps({"model": {"bytes": 1, "config": config}}))
    assert _decided({}, known) is None


def test_layers_without_number_cost_no_time() -> None:
    config = {**CONFIGS["Qwen3-8B"], "num_hidden_layers": 10**6}
    text = json.dumps({"model": {"uri": given.MODEL["uri"], "bytes": 1, "config": config}})
    assert _decided({}, facts.parse(text)) is None


def test_a_report_that_no_kubelet_keeps_is_no_report() -> None:
    assert facts.parse(json.dumps({"model": {"bytes": 1, "uri": "x" * 100_000}})) is None


def test_any_config_makes_a_report_that_the_kubelet_keeps() -> None:
    for number in range(REPORTS):
        odd = Odd(number, keys=KEYS)
        found = report.facts("hf://org/model", {"a.safetensors": 5}, _config(odd))
        written = report.text(found, found)
        assert len(written.encode()) <= report.LIMIT_BYTES
        known = facts.parse(written)
        assert known is not None and known.model.bytes == 5


def _config(odd: Odd) -> bytes:
    if odd.random.random() < 0.1:
        return odd.random.choice((b"[" * 100_000, b"\xff", *(text.encode() for text in TEXTS)))
    return json.dumps(odd.changed(CONFIGS["Qwen3-8B"])).encode()
