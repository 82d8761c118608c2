"""LoRA adapters of an engine: from the operator's list to what is loaded, without vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from slipstream_runtime.engine import adapters
from slipstream_runtime.engine.config import Adapters
from slipstream_runtime.errors import EngineError
from slipstream_runtime.host import status
from slipstream_runtime.model_files import selection

URIS = st.sampled_from(["file:///a", "file:///b"])
NAMES = st.sampled_from(["x", "y", "z"])
HELD = st.dictionaries(
    NAMES, st.builds(status.AdapterStatus, uri=URIS, reason=st.sampled_from([None, "it is broken"]))
)


@for_all(HELD, st.dictionaries(NAMES, URIS), st.booleans())
def test_after_the_steps_exactly_what_is_listed_is_held(
    held: dict[str, status.AdapterStatus], listed: dict[str, str], again: bool
) -> None:
    steps = adapters.steps(held, listed, again=again)
    after = {name: held[name].uri for name in held if name not in steps.unload}
    assert not set(after) & set(steps.load)
    assert after | dict(steps.load) == listed


@for_all(HELD)
def test_what_is_loaded_and_still_listed_is_left_alone(
    held: dict[str, status.AdapterStatus],
) -> None:
    listed = {name: adapter.uri for name, adapter in held.items()}
    assert not adapters.steps(held, listed, again=False)
    failed = {name for name, adapter in held.items() if not adapter.loaded}
    assert set(adapters.steps(held, listed, again=True).load) == failed


def test_a_missing_list_is_empty_and_a_broken_one_is_told(tmp_path: Path) -> None:
    file = tmp_path / "adapters.json"
    assert adapters.wanted(file) == {}
    file.write_text('{"x": "file:///x"}')
    assert adapters.wanted(file) == {"x": "file:///x"}
    for broken in ("{", "[]", '{"x": 1}'):
        file.write_text(broken)
        with pytest.raises(EngineError, match=r"adapters\.json: "):
            adapters.wanted(file)


@pytest.mark.parametrize(
    ("config", "rank"),
    [({"r": 8}, 8), ({"r": 8, "rank_pattern": {"q": 32, "k": 4}}, 32), ({"r": 1}, 1)],
)
def test_an_adapters_rank_is_its_highest(tmp_path: Path, config: dict[str, Any], rank: int) -> None:
    (tmp_path / selection.ADAPTER_CONFIG).write_text(json.dumps(config))
    found = adapters.find(f"file://{tmp_path}", cache=tmp_path, token=None)
    assert found == adapters.Found(tmp_path, rank)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no adapter_config.json, so it is not an adapter"),
        ("{", "adapter_config.json can't be read"),
        ("{}", "the field r, the rank, is missing"),
        ("[]", "the field r, the rank, is missing"),
    ],
)
def test_what_is_no_adapter_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / selection.ADAPTER_CONFIG).write_text(content)
    with pytest.raises(EngineError, match=message):
        adapters.find(f"file://{tmp_path}", cache=tmp_path, token=None)


@pytest.mark.parametrize(
    ("asked", "ranks", "expected"),
    [
        (None, [], 16),
        (None, [4, 8], 16),
        (None, [4, 24], 32),
        (None, [300], 320),
        (None, [4096], 16),
        (8, [4], 8),
        (64, [4, 128], 64),
    ],
)
def test_the_engine_has_room_for_what_is_there_or_was_asked_for(
    asked: int | None, ranks: list[int], expected: int
) -> None:
    assert adapters.max_rank(Adapters(slots=4, rank=asked), ranks) == expected


def test_a_revision_has_a_path_of_its_own_to_the_same_files(tmp_path: Path) -> None:
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')

    def path(entry: str) -> Path:
        found = adapters.find(entry, cache=tmp_path, token=None)
        return adapters.path_of(found, entry, links=tmp_path / "links")

    uri = f"file://{folder}"
    one, two = path(f"{uri}#1"), path(f"{uri}#2")
    assert path(uri) == folder
    assert len({folder, one, two}) == 3
    assert one.resolve() == two.resolve() == folder
    assert path(f"{uri}#1") == one


def test_an_adapter_of_too_high_a_rank_is_told_with_the_remedy() -> None:
    found = adapters.Found(Path("/x"), 48)
    adapters.check_rank(found, uri="file:///x", max_rank=64)
    with pytest.raises(EngineError) as caught:
        adapters.check_rank(found, uri="file:///x", max_rank=16)
    assert caught.value.reason == (
        "file:///x: has rank 48, and this engine was started for 16. Set spec.model.maxAdapterRank to 64."
    )


MODEL = {"model.q_proj.weight": (128, 64), "model.norm.weight": (64,)}


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        ("base_model.model.model.q_proj.lora_A.weight", (4, 64)),
        ("base_model.model.model.q_proj.lora_A.default.weight", (4, 64)),
        ("base_model.model.model.q_proj.lora_B.weight", (128, 4)),
        ("base_model.model.model.other.lora_B.weight", (7, 4)),
        ("base_model.model.model.norm.lora_A.weight", (4, 7)),
        ("something.else", (7, 7)),
    ],
)
def test_an_adapter_of_this_base_fits(part: str, shape: tuple[int, ...]) -> None:
    adapters.check_base({part: shape}, MODEL, uri="file:///x")


@pytest.mark.parametrize(
    ("part", "shape", "sizes"),
    [
        ("lora_A", (4, 32), "size 32, the model's has 64"),
        ("lora_A", (4, 256), "size 256, the model's has 64"),
        ("lora_B", (64, 4), "size 64, the model's has 128"),
    ],
)
def test_an_adapter_of_another_base_is_told(part: str, shape: tuple[int, ...], sizes: str) -> None:
    name = f"base_model.model.model.q_proj.{part}.weight"
    with pytest.raises(EngineError) as caught:
        adapters.check_base({name: shape}, MODEL, uri="file:///x")
    assert caught.value.reason == (
        f"file:///x: was trained for a different base model: its model.q_proj has {sizes}."
    )
