"""The file of an index, and the search in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.retrieval import index
from slipstream_runtime.retrieval.index import Index
from slipstream_runtime.retrieval.passages import Passage


def unit(*values: float) -> index.Floats:
    found = np.asarray(values, np.float32)
    return np.asarray(found / np.linalg.norm(found), np.float32)


def made(count: int = 3) -> Index:
    vectors = np.stack([unit(1.0, number) for number in range(count)])
    texts = [Passage(f"ü{number}", f"{number}.md") for number in range(count)]
    return Index(texts, vectors, "minilm", unit(1.0, 1.0))


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    made().save(file)
    found = index.load(file)
    assert (found.passages, found.model) == (made().passages, "minilm")
    assert np.array_equal(found.vectors, made().vectors)
    assert found.is_of(unit(1.0, 1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        made().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", ["missing/a.npz", "file/a.npz", "."])
def test_an_index_that_can_not_be_written_is_refused_before_the_work(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsuitableError, match="can't be written"):
        index.check_target(tmp_path / name)
    with pytest.raises(EngineError):
        made().save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_refused_whatever_is_wrong_with_it(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "a.npz"
    made().save(file)
    random = np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    for place in random.integers(0, len(content), size=8):
        content[place] = random.integers(0, 256)
    file.write_bytes(content)
    try:
        index.load(file)
    except UnsuitableError as error:
        assert "a.npz" in error.reason


def test_the_nearest_passages_come_first() -> None:
    found = made(5).search(unit(1.0, 2.1), most=3)
    assert [each.number for each in found] == [2, 3, 4]
    assert found[0].score > found[1].score > found[2].score
    assert len(made(2).search(unit(1.0, 0.0), most=50)) == 2


def test_another_encoder_is_noticed() -> None:
    assert not made().is_of(unit(1.0, 0.0))
    assert not made().is_of(unit(1.0, 1.0, 1.0))


def parts(**changes: Any) -> dict[str, Any]:
    about = {"form": 1, "model": "m", "probe": [1.0, 0.0], "sources": ["a"]}
    about |= changes.pop("about", {})
    return {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "offsets": np.asarray([0, 2]),
        "texts": np.frombuffer(b"ab", np.uint8),
        "vectors": np.asarray([[1.0, 0.0]], np.float32),
        **changes,
    }


BROKEN: dict[str, dict[str, Any]] = {
    "another form": parts(about={"form": 2}),
    "no passages": parts(about={"sources": []}, vectors=np.zeros((0, 2), np.float32)),
    "another length": parts(vectors=np.zeros((2, 2), np.float32)),
    "another width": parts(vectors=np.zeros((1, 3), np.float32)),
    "no numbers": parts(vectors=np.asarray([[np.nan, 0.0]], np.float32)),
    "another type": parts(vectors=np.zeros((1, 2))),
    "texts beyond": parts(offsets=np.asarray([0, 9])),
    "texts before": parts(offsets=np.asarray([-1, 2])),
    "no UTF-8": parts(texts=np.frombuffer(b"\xff\xff", np.uint8)),
    "objects": parts(texts=np.asarray([{"a": 1}], object)),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, **content)
    with pytest.raises(UnsuitableError, match="Build it again with slipstream index"):
        index.load(file)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.save(tmp_path / "b.npy", np.zeros(3))
    for content in (b"", b"text", b"PK\x03\x04", (tmp_path / "b.npy").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(UnsuitableError):
            index.load(file)
    with pytest.raises(UnsuitableError, match="can't be read"):
        index.load(tmp_path / "missing")
