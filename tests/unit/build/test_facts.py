"""Files of a source: those that an engine reads, and no file that only a link of the source names."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.build import facts
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.model_files import sources
from tests.support import builds


def check(folder: Path) -> None:
    source = sources.parse(f"file://{folder}")
    facts.check_links(source, folder, facts.files(folder))


def test_hidden_files_are_no_part_of_a_checkpoint(tmp_path: Path) -> None:
    folder = builds.checkpoint(tmp_path / "source")
    objects = folder / ".git" / "lfs" / "objects"
    objects.mkdir(parents=True)
    (objects / "model.safetensors").write_bytes(builds.weights(100))
    (folder / ".env").write_text("HF_TOKEN=secret")
    assert facts.files(folder) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_link_out_of_the_source_would_publish_a_secret(tmp_path: Path) -> None:
    folder = builds.checkpoint(tmp_path / "source")
    secret = tmp_path / "secret"
    secret.write_text("token")
    (folder / "LICENSE").symlink_to(secret)
    with pytest.raises(
        UnsuitableError, match=r"LICENSE is a link to .*/secret, outside the source"
    ):
        check(folder)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    folder = builds.checkpoint(tmp_path / "source")
    (folder / "vocab.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(UnsuitableError, match=r"vocab\.txt is a link to .*, which does not exist"):
        check(folder)


def test_a_pipe_is_refused_because_a_read_of_it_would_never_end(tmp_path: Path) -> None:
    folder = builds.checkpoint(tmp_path / "source")
    os.mkfifo(folder / "notes.txt")
    with pytest.raises(UnsuitableError, match=r"notes\.txt is neither a file nor a folder"):
        check(folder)


def test_links_of_the_hub_cache_and_links_to_weights_are_followed(tmp_path: Path) -> None:
    snapshot = builds.checkpoint(tmp_path / "models--org--tiny" / "snapshots" / ("1" * 40))
    blobs = tmp_path / "models--org--tiny" / "blobs"
    blobs.mkdir()
    for name in ("tokenizer.json", "config.json"):
        (snapshot / name).rename(blobs / name)
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    check(snapshot)
    folder = builds.checkpoint(tmp_path / "source")
    (folder / "model.safetensors").rename(tmp_path / "large.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "large.safetensors")
    check(folder)


@pytest.mark.parametrize(
    "config", [{"hidden_size": "big"}, {"num_hidden_layers": [1]}, {"hidden_size": 1e999}]
)
def test_sizes_that_are_no_numbers_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = builds.checkpoint(tmp_path / "source")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsuitableError, match=r"config\.json of .* has a size that is no number"):
        facts.stored("file:///source", folder)
