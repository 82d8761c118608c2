"""Structured pruning by measured importance, healed, and loaded by the real vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from dev.models import heldout
from tests.support import builders
from tests.support.builders import Builder, Engine

TARGET = Path(heldout.__file__).parent / "target"
SHARES = {"layers": 0.25, "heads": 0.5, "channels": 0.33}


@pytest.fixture(scope="module")
def pruned(builder: Builder) -> dict[str, Any]:
    """Facts of a checkpoint for each part, with a short healing after layers."""
    data = builders.questions(builder.folder / "prune.jsonl", 400)
    samples = {"dataset": {"uri": str(data)}, "samples": 32, "maxLength": 128}
    heal = samples | {"samples": 320, "batch": 16, "learningRate": 1e-3}
    facts = {}
    for name, share in SHARES.items():
        step: dict[str, Any] = {name: share, "calibration": samples}
        more = {"heal": heal} if name == "channels" else {}
        found = builder.run({"prune": step | more}, TARGET, name)
        assert "facts" in found, found
        facts[name] = found["facts"] | {"ticks": found["ticks"]}
    return facts


def config(builder: Builder, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((builder.folder / name / "config.json").read_text())
    return found


def test_the_layer_without_which_the_loss_is_least_is_removed(
    builder: Builder, pruned: dict[str, Any]
) -> None:
    facts = pruned["layers"]
    losses = facts["lossWithout"]
    assert len(losses) == 4
    assert set(range(4)) - set(facts["layersKept"]) == {losses.index(min(losses))}
    assert config(builder, "layers")["num_hidden_layers"] == 3
    assert [tick[:2] for tick in facts["ticks"]] == [[done, 4] for done in range(1, 5)]


def test_heads_and_channels_are_cut_in_every_layer(
    builder: Builder, pruned: dict[str, Any]
) -> None:
    assert (pruned["heads"]["kept"], pruned["heads"]["of"]) == (2, 4)
    heads = config(builder, "heads")
    assert (heads["num_attention_heads"], heads["num_key_value_heads"]) == (2, 2)
    assert (heads["head_dim"], heads["hidden_size"]) == (32, 128)
    assert config(builder, "channels")["intermediate_size"] == 256


def test_healing_lowers_the_loss(pruned: dict[str, Any]) -> None:
    facts = pruned["channels"]
    assert facts["healSteps"] == 20
    assert facts["healLossLast"] < facts["healLossFirst"]


def test_vllm_serves_fewer_heads_and_fewer_channels(
    builder: Builder, pruned: dict[str, Any], vllm: Engine
) -> None:
    assert pruned
    found = vllm.answers([builder.folder / "heads", builder.folder / "channels"])
    assert "error" not in found["heads"], found
    assert found["channels"]["right"]["all"] > 200
