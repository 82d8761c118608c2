"""The report of checkpoints, which the operator reads from a pod's termination message."""

import json

from slipstream_operator.core import facts
from slipstream_runtime.fetch import report

SIZES = {"config.json": 700, "a.safetensors": 5000, "b.safetensors": 3000, "tokenizer.json": 900}


def test_only_weights_count_and_only_known_keys_are_reported() -> None:
    config = {
        "hidden_size": 64,
        "secret_sauce": 1,
        "text_config": {"num_hidden_layers": 2, "x": 1},
        "quantization_config": {"quant_method": "fp8", "ignored_layers": ["a"] * 500},
    }
    found = report.facts("hf://o/m", SIZES, json.dumps(config).encode())
    assert found == {
        "uri": "hf://o/m",
        "bytes": 8000,
        "config": {
            "hidden_size": 64,
            "text_config": {"num_hidden_layers": 2},
            "quantization_config": {"quant_method": "fp8"},
        },
    }


def test_a_broken_configuration_leaves_the_size() -> None:
    for content in (None, b"", b"[1]", b"{}"):
        assert report.facts("hf://o/m", SIZES, content) == {"uri": "hf://o/m", "bytes": 8000}


def test_a_report_fits_into_a_termination_message_and_keeps_the_model_longest() -> None:
    small = report.facts("hf://o/m", SIZES, b'{"hidden_size": 64}')
    large = report.facts(
        "hf://o/d", SIZES, json.dumps({"layer_types": ["full_attention"] * 900}).encode()
    )
    text = report.text(small, large)
    assert len(text.encode()) <= report.LIMIT_BYTES
    assert json.loads(text) == {"model": small, "draft": {"uri": "hf://o/d", "bytes": 8000}}
    assert json.loads(report.text(large, None)) == {"model": {"uri": "hf://o/d", "bytes": 8000}}


def test_the_operator_reads_what_is_reported() -> None:
    model = report.facts("hf://o/m", SIZES, b'{"hidden_size": 64}')
    parsed = facts.parse(report.text(model, None))
    assert parsed is not None
    assert (parsed.model.bytes, parsed.model.config) == (8000, {"hidden_size": 64})
    assert parsed.draft.bytes is None


def test_a_config_nested_without_end_is_left_out() -> None:
    assert report.facts("hf://a/b", {}, b'{"a":' * 100_000) == {"uri": "hf://a/b", "bytes": 0}
