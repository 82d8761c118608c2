"""Artifacts in folders: whole or not there, and never over the artifact of another build."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime import contract
from slipstream_runtime.build import manifest, workspace
from slipstream_runtime.build.manifest import Lineage, Manifest
from slipstream_runtime.build.publishing import folders, place
from slipstream_runtime.build.publishing.folders import Folder
from slipstream_runtime.errors import EngineError, UnsuitableError
from tests.support import builds


def artifact(folder: Path, **lineage: Any) -> Manifest:
    plain = {
        "uri": "hf://org/model",
        "revision": "main",
        "sha256": "0" * 64,
        "recipe": {"seed": 0},
        **lineage,
    }
    return Manifest(
        name="tiny",
        lineage=Lineage(**plain),
        files=workspace.entries(folder, workspace.names(folder)),
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return builds.checkpoint(tmp_path / "made")


@pytest.fixture
def target(tmp_path: Path) -> Folder:
    path = tmp_path / "claim" / "models" / "tiny"
    return Folder(f"file://{path}", path)


def publish(target: Folder, made: Path, found: Manifest) -> int:
    counted: list[int] = []
    place.publish(target, made, found, counted.append)
    return sum(counted)


def test_an_artifact_has_its_manifest_and_the_files_with_their_hashes(
    made: Path, target: Folder
) -> None:
    found = artifact(made)
    assert publish(target, made, found) == sum(entry.bytes for entry in found.files.values())
    kept = json.loads((target.path / contract.BUILD_MANIFEST).read_text())
    assert kept["lineage"]["uri"] == "hf://org/model"
    assert workspace.entries(target.path, found.files) == found.files
    assert workspace.names(target.path.parent) == sorted(
        f"tiny/{name}" for name in (*found.files, contract.BUILD_MANIFEST)
    )


def test_a_folder_appears_only_when_all_its_files_are_there(
    made: Path, target: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    real = folders._copy

    def watched(source: Path, copy: Path) -> None:
        seen.append(target.path.exists())
        real(source, copy)

    monkeypatch.setattr(folders, "_copy", watched)
    publish(target, made, artifact(made))
    assert seen == [False] * 3


def test_what_a_killed_run_left_is_replaced(
    made: Path, target: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(source: Path, copy: Path) -> None:
        copy.write_text("half")
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(folders, "_copy", killed)
        publish(target, made, artifact(made))
    assert target.existing() is None
    publish(target, made, artifact(made))
    assert [path.name for path in target.path.parent.iterdir()] == ["tiny"]


def test_the_same_artifact_is_kept(made: Path, target: Folder) -> None:
    publish(target, made, artifact(made))
    before = (target.path / "model.safetensors").stat()
    assert publish(target, made, artifact(made)) == 0
    assert (target.path / "model.safetensors").stat() == before


def test_the_artifact_of_another_build_is_refused_before_and_after_the_work(
    made: Path, target: Folder
) -> None:
    publish(target, made, artifact(made))
    other = artifact(made, recipe={"seed": 1})
    with pytest.raises(UnsuitableError, match="an artifact of another build: tiny, made of hf://"):
        place.check(target, name="tiny", source=other.lineage.uri, recipe=other.lineage.recipe)
    with pytest.raises(UnsuitableError, match="an artifact of another build"):
        publish(target, made, other)


def test_the_same_recipe_with_other_bytes_names_the_file_and_the_cause(
    made: Path, target: Folder, tmp_path: Path
) -> None:
    publish(target, made, artifact(made, versions={"torch": "2.12"}))
    again = builds.checkpoint(tmp_path / "again", value=1)
    with pytest.raises(
        UnsuitableError, match=r"not equal: model\.safetensors \(another versions\)"
    ):
        publish(target, again, artifact(again, versions={"torch": "2.13"}))
    with pytest.raises(UnsuitableError, match=r"model\.safetensors \(from the same source by"):
        publish(target, again, artifact(again, versions={"torch": "2.12"}))


def test_files_of_others_are_refused(made: Path, target: Folder) -> None:
    target.path.mkdir(parents=True)
    (target.path / "notes").write_text("mine")
    with pytest.raises(UnsuitableError, match="it holds other files"):
        publish(target, made, artifact(made))


def test_a_folder_that_cannot_be_written_is_refused(
    target: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root, which runs these tests, may write everywhere.
    monkeypatch.setattr(folders.os, "access", lambda *_: False)
    with pytest.raises(UnsuitableError, match="can't write to"):
        target.existing()


def test_a_path_below_a_file_is_reported(made: Path, tmp_path: Path) -> None:
    path = made / "config.json" / "tiny"
    with pytest.raises(EngineError, match="can't be written: "):
        Folder(f"file://{path}", path).existing()


def test_a_manifest_has_no_folder_of_this_machine_and_no_identity_of_a_run(tmp_path: Path) -> None:
    one, other = (
        builds.recipe(
            folder,
            uid=folder.name,
            steps=[
                {
                    "quantize": {
                        "scheme": "w8a8",
                        "method": "gptq",
                        "calibration": {"dataset": {"uri": f"{folder}/calibration.jsonl"}},
                    }
                }
            ],
        )
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert manifest.recipe(one) == manifest.recipe(other)
    assert "calibration.jsonl" in json.dumps(manifest.recipe(one))


def test_two_builds_do_not_write_the_same_artifact_at_the_same_time(
    made: Path, target: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = folders._copy
    refused: list[str] = []

    def copied_by_two(source: Path, copy: Path) -> None:
        if not refused:
            with pytest.raises(EngineError) as error:
                target.write(made, artifact(made), lambda _: None)
            refused.append(error.value.reason)
        real(source, copy)

    monkeypatch.setattr(folders, "_copy", copied_by_two)
    publish(target, made, artifact(made))
    assert "is being written by another build" in refused[0]
    assert workspace.entries(target.path, artifact(made).files) == artifact(made).files


@pytest.mark.parametrize("length", [240, 300])
def test_a_name_is_as_long_as_the_file_system_allows(
    made: Path, tmp_path: Path, length: int
) -> None:
    target = Folder("file:///long", tmp_path / "claim" / ("n" * length))
    if length > 255:
        with pytest.raises(UnsuitableError, match="its name is too long for the file system"):
            target.existing()
        return
    publish(target, made, artifact(made))
    assert target.existing() == artifact(made)


def test_a_link_in_the_place_of_the_artifact_is_refused_before_the_work(tmp_path: Path) -> None:
    link = tmp_path / "tiny"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnsuitableError, match=r"it holds other files|it is a link"):
        Folder(f"file://{link}", link).existing()
