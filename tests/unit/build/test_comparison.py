"""Comparison of two artifacts: files and lineage that differ, also after a change by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime import contract
from slipstream_runtime.build import command, manifest, workspace
from slipstream_runtime.build.manifest import Lineage, Manifest
from tests.support import builds


def artifact(folder: Path, *, value: int = 0, seed: int = 0) -> Path:
    """Write an artifact, and return its folder."""
    builds.checkpoint(folder, value=value)
    lineage = Lineage(
        uri="hf://org/model",
        revision="main",
        sha256="0" * 64,
        recipe={"seed": seed, "steps": [{"quantize": {"scheme": "w8a8"}}]},
        versions={"torch": "2.13"},
    )
    files = workspace.entries(folder, workspace.names(folder))
    text = Manifest(name="tiny", lineage=lineage, files=files).text()
    (folder / contract.BUILD_MANIFEST).write_text(text)
    return folder


def compare(
    capsys: pytest.CaptureFixture[str], first: Path, second: Path
) -> tuple[int, dict[str, Any]]:
    code = command.compare([f"file://{first}", f"file://{second}"], plain_http=False)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_equal_artifacts_differ_in_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = artifact(tmp_path / "a"), artifact(tmp_path / "b")
    assert compare(capsys, first, second) == (
        0,
        {"equal": True, "files": [], "same": 3, "lineage": []},
    )


def test_differing_files_are_named_with_the_part_of_the_recipe_that_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = artifact(tmp_path / "a"), artifact(tmp_path / "b", value=1, seed=7)
    (second / "extra.txt").write_text("x")
    code, found = compare(capsys, first, second)
    assert (code, found["equal"], found["same"]) == (1, False, 2)
    names = {file["name"]: file for file in found["files"]}
    assert names.keys() == {"extra.txt", "model.safetensors"}
    assert names["extra.txt"]["first"] is None
    assert found["lineage"] == [{"field": "recipe.seed", "first": 0, "second": 7}]


def test_a_file_that_was_changed_after_the_build_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = artifact(tmp_path / "a"), artifact(tmp_path / "b")
    (second / "tokenizer.json").write_text("[]")
    code, found = compare(capsys, first, second)
    assert (code, [file["name"] for file in found["files"]]) == (1, ["tokenizer.json"])
    assert manifest.parse((second / contract.BUILD_MANIFEST).read_text(), place="b").files


@pytest.mark.parametrize("make", [False, True])
def test_a_place_without_an_artifact_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: bool
) -> None:
    other = tmp_path / "b"
    if make:
        builds.checkpoint(other)
    uris = [f"file://{artifact(tmp_path / 'a')}", f"file://{other}"]
    assert command.compare(uris, plain_http=False) == 2
    assert f"file://{other}: holds no artifact of a build" in capsys.readouterr().err
    assert other.exists() is make
