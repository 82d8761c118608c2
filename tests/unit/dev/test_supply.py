"""Audit of the locks: an advisory that affects a version is found, and a package that was not checked is no success."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from dev import supply


def database(folder: Path, name: str, **affected: object) -> Path:
    """A checkout with one advisory."""
    found = folder / "vulns" / name
    found.mkdir(parents=True)
    content = {"id": "PYSEC-2026-1", "affected": [{"package": {"name": name}, **affected}]}
    (found / "PYSEC-2026-1.yaml").write_text(yaml.safe_dump(content))
    return folder


def events(*pairs: tuple[str, str]) -> dict[str, object]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": [{kind: text} for kind, text in pairs]}]}


@pytest.mark.parametrize(
    ("affected", "version", "expected"),
    [
        (events(("introduced", "0"), ("fixed", "2.0")), "1.9", True),
        (events(("introduced", "0"), ("fixed", "2.0")), "2.0", False),
        (events(("introduced", "1.10")), "1.9", False),
        (events(("introduced", "1.10")), "1.10", True),
        (events(("introduced", "0"), ("last_affected", "2.0")), "2.0", True),
        (events(("introduced", "0"), ("last_affected", "2.0")), "2.0.1", False),
        (
            events(("introduced", "0"), ("fixed", "1.0"), ("introduced", "2.0"), ("fixed", "2.1")),
            "2.0.5",
            True,
        ),
        ({"versions": ["1.0"]}, "1.0", True),
        ({"versions": ["1.0"]}, "1.1", False),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, "1.1", False),
    ],
)
def test_an_advisory_affects_the_versions_that_it_names(
    tmp_path: Path, affected: dict[str, object], version: str, expected: bool
) -> None:
    folder = database(tmp_path, "some-package", **affected)
    found = list(supply.advisories(folder, "Some_Package", version))
    assert found == (["PYSEC-2026-1"] if expected else [])
    assert list(supply.advisories(folder, "another", version)) == []


def test_a_package_of_a_lock_with_an_advisory_fails_the_audit(tmp_path: Path) -> None:
    folder = database(tmp_path, "aiohttp", **events(("introduced", "0")))
    done = CliRunner().invoke(supply.main, ["audit", "--database", str(folder)])
    assert done.exit_code == 1
    assert "router.txt: aiohttp" in done.output


def test_a_package_that_was_not_checked_is_a_finding() -> None:
    skipped = {"name": "a", "skip_reason": "not found"}
    bad = {"name": "b", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}
    assert list(supply.findings("router.txt", [skipped, bad])) == [
        "router.txt: 1 of 2 packages could not be checked",
        "router.txt: b 1: X-1, fixed in 2",
    ]


@pytest.mark.parametrize("image", supply.IMAGES)
def test_every_image_has_a_lock(image: str) -> None:
    assert (supply.REQUIREMENTS / f"{image}.txt").is_file()
