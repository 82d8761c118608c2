from pathlib import Path

import pytest

from dev import paths
from dev.cluster import binaries
from dev.cluster.binaries import Target

PAUSE = Target("pause", "pause")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(binaries, "LINKS", ())
    monkeypatch.setattr(binaries, "TARGETS", (PAUSE,))


def built(*wanted: str) -> list[str]:
    reports: list[str] = []

    def report(target: Target, state: binaries.State, _seconds: float, _size: int) -> None:
        if state == "built":
            reports.append(target.name)

    binaries.build(wanted, report=report)
    return reports


def test_a_program_is_built_once() -> None:
    assert built("pause") == ["pause"]
    assert built("pause") == []
    assert (binaries.folder() / "pause").stat().st_size > 0


def test_a_new_program_builds_that_program_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    built("pause")
    before = binaries.folder()
    monkeypatch.setattr(binaries, "TARGETS", (PAUSE, Target("another", "pause")))
    assert binaries.folder() != before
    assert built("pause", "another") == ["another"]
    assert (binaries.folder() / "pause").samefile(before / "pause")


def test_a_changed_source_builds_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built("pause")
    sources = tmp_path / "go"
    (sources / "pause").mkdir(parents=True)
    original = (paths.SOURCES / "pause" / "pause.c").read_text()
    (sources / "pause" / "pause.c").write_text(original + "/* changed */\n")
    monkeypatch.setattr(paths, "SOURCES", sources)
    assert built("pause") == ["pause"]
