"""Working folder of a build: what is finished survives a kill, and what is half-written never counts."""

import os
from pathlib import Path

import pytest

from slipstream_runtime import contract
from slipstream_runtime.build import workspace
from slipstream_runtime.build.workspace import Record, Workspace
from slipstream_runtime.errors import EngineError, UnsuitableError

OWNER = {"name": "tiny", "uid": "1", "recipe": "{}"}


class Killed(BaseException):
    """A kill in the middle of a step."""


def finish(work: Workspace, stage: str, content: str) -> Record:
    with work.new_checkpoint(stage) as part:
        (part / "model.safetensors").write_text(content)
        files = workspace.entries(part, workspace.names(part))
    record = Record(stage=stage, folder=work.checkpoint(stage), files=files)
    work.keep(record)
    return record.stamped()


def test_a_finished_stage_is_found_again_with_its_hashes(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    record = finish(work, "0-quantize", "abc")
    assert Workspace(tmp_path).record("0-quantize") == record
    assert record.bytes == 3
    assert record.files["model.safetensors"].sha256 == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_step_that_was_killed_has_no_checkpoint_and_starts_with_an_empty_folder(
    tmp_path: Path,
) -> None:
    work = Workspace(tmp_path)
    with pytest.raises(Killed), work.new_checkpoint("0-quantize") as part:
        (part / "half").write_text("x")
        raise Killed
    assert work.record("0-quantize") is None
    assert not work.checkpoint("0-quantize").exists()
    with work.new_checkpoint("0-quantize") as part:
        assert list(part.iterdir()) == []


def test_a_step_that_was_killed_before_its_record_runs_again(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    with work.new_checkpoint("0-quantize") as part:
        (part / "model.safetensors").write_text("first")
    assert work.record("0-quantize") is None
    assert finish(work, "0-quantize", "second").bytes == 6


@pytest.mark.parametrize("damage", ["gone", "shorter"])
def test_a_record_without_its_checkpoint_does_not_count(tmp_path: Path, damage: str) -> None:
    work = Workspace(tmp_path)
    finish(work, "0-quantize", "abc")
    file = work.checkpoint("0-quantize") / "model.safetensors"
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("a")
    assert work.record("0-quantize") is None


def test_a_torn_record_does_not_count(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    finish(work, "0-quantize", "abc")
    file = tmp_path / "records" / "0-quantize.json"
    file.write_text(file.read_text()[:40])
    assert work.record("0-quantize") is None


def test_the_folder_of_another_build_is_refused_by_name(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.claim(OWNER)
    work.claim(OWNER)
    with pytest.raises(
        UnsuitableError, match=r"it holds another build, tiny\. Use an empty folder"
    ):
        work.claim({**OWNER, "uid": "2"})


def test_two_processes_never_work_in_one_folder(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    with (
        work.locked(),
        pytest.raises(EngineError, match="another process runs this build"),
        Workspace(tmp_path).locked(),
    ):
        pass
    with work.locked():
        pass


def test_the_hash_of_a_listing_depends_on_names_and_content(tmp_path: Path) -> None:
    for name, content in (("a", "1"), ("b", "2")):
        (tmp_path / name).write_text(content)
    both = workspace.entries(tmp_path, ["b", "a"])
    assert workspace.listing(both) == workspace.listing(dict(reversed(both.items())))
    assert workspace.listing(both) != workspace.listing({"a": both["a"], "c": both["b"]})


def test_a_published_build_leaves_no_checkpoint_and_no_download_in_its_folder(
    tmp_path: Path,
) -> None:
    work = Workspace(tmp_path)
    finish(work, "0-quantize", "abc")
    (tmp_path / "cache" / "hub").mkdir(parents=True)
    work.clear()
    assert workspace.names(tmp_path) == ["records/0-quantize.json"]


def test_a_build_that_is_created_again_deletes_what_its_former_one_left(tmp_path: Path) -> None:
    folders = {uid: tmp_path / f"{contract.BUILD_FOLDER}{uid}" for uid in ("old", "new", "other")}
    for uid, folder in folders.items():
        name = "another" if uid == "other" else "tiny"
        Workspace(folder).claim({"name": name, "uid": uid, "recipe": "{}"})
    (tmp_path / "tiny").mkdir()
    Workspace(folders["new"]).forget_former("tiny")
    assert {path.name for path in tmp_path.iterdir()} == {
        "tiny",
        folders["new"].name,
        folders["other"].name,
    }


def test_a_folder_that_a_user_chose_has_no_former_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Workspace(tmp_path / name).claim({**OWNER, "uid": name})
    Workspace(tmp_path / "two").forget_former("tiny")
    assert (tmp_path / "one" / "owner.json").exists()


def test_a_file_that_was_replaced_by_one_of_the_same_size_does_not_count(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    record = finish(work, "0-quantize", "abc")
    file = work.checkpoint("0-quantize") / "model.safetensors"
    os.utime(file, ns=(1, 1))
    assert work.record("0-quantize") == record
    file.write_text("abd")
    os.utime(file, ns=(2, 2))
    assert work.record("0-quantize") is None
    assert record.is_changed()
    file.unlink()
    assert not record.is_changed()


def test_the_folder_of_a_running_build_of_the_same_name_is_not_deleted(tmp_path: Path) -> None:
    former, other, own = (Workspace(tmp_path / f".slipstream-build-{n}") for n in (1, 2, 3))
    for work in (former, other, own):
        work.claim(OWNER)
    with other.locked():
        own.forget_former("tiny")
    assert (former.root.exists(), other.root.exists(), own.root.exists()) == (False, True, True)
