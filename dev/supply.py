"""Supply of the images: bills of materials, and an audit of the locks for known vulnerabilities.

`python -m dev.supply sbom` writes one CycloneDX file for each image. `python -m dev.supply audit` asks an advisory
database about each pinned package. It fails if the database knows a vulnerability, and if it can't be asked.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

from dev import paths
from dev.environments import locked, records
from dev.errors import DevError

REQUIREMENTS: Final = paths.REPOSITORY / "requirements"
LOCK: Final = REQUIREMENTS / "supply.txt"
IMAGES: Final = (
    "operator",
    "router",
    "runtime-cpu",
    "runtime-cuda",
    "runtime-onnx",
    "runtime-onnx-cuda",
    "builder",
)
"""Locks of the images, without their ending."""
_SECONDS: Final = 600.0


@click.group()
def main() -> None:
    """Describe and check what the images are made of."""


@main.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=paths.REPOSITORY / "build" / "sbom",
    show_default=True,
    help="Folder of the files.",
)
def sbom(*, folder: Path) -> None:
    """Write a bill of materials in CycloneDX for the Python packages of each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        file = folder / f"{image}.cdx.json"
        write_sbom(image, file)
        count = len(json.loads(file.read_text())["components"])
        click.echo(f"{file}: {count} packages")


def write_sbom(image: str, file: Path) -> None:
    """Write the bill of materials of one image. The same lock gives the same file."""
    words = ["-m", "cyclonedx_py", "requirements", "--output-reproducible", "--output-file"]
    _run([*words, str(file), str(REQUIREMENTS / f"{image}.txt")])


@main.command()
@click.option(
    "--database",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Checkout of the repository pypa/advisory-database, for a machine that reaches no database.",
)
def audit(*, database: Path | None) -> None:
    """Look up each pinned package of each lock in an advisory database."""
    locks = sorted(file for file in REQUIREMENTS.glob("*.txt") if "--hash=" in file.read_text())
    if database is None:
        problems = [line for lock in locks for line in _audit(lock)]
    else:
        problems = [
            f"{lock.name}: {name} {version}: {advisory}"
            for lock in locks
            for name, version in sorted(records.pins(lock).items())
            for advisory in advisories(database, name, version)
        ]
    for line in problems:
        click.echo(line)
    if problems:
        raise click.ClickException(f"{len(problems)} findings")
    click.echo("No known vulnerability.")


def _audit(lock: Path) -> Iterator[str]:
    words = ["-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    # NB: exit code 1 means that a vulnerability was found, and the answer is complete.
    text = _run([*words, "--format", "json", "-r", str(lock)], fine=(0, 1))
    yield from findings(lock.name, json.loads(text)["dependencies"])


def advisories(database: Path, name: str, version: str) -> Iterator[str]:
    """Yield the advisories of a checkout of the database that affect this version."""
    folder = database / "vulns" / canonicalize_name(name)
    for file in sorted(folder.glob("*.yaml")):
        found = yaml.safe_load(file.read_text())
        if "withdrawn" not in found and any(
            _affects(affected, Version(version)) for affected in found["affected"]
        ):
            yield str(found["id"])


def _affects(affected: dict[str, Any], version: Version) -> bool:
    """Whether the version is listed, or lies in a range of versions."""
    if str(version) in affected.get("versions", ()):
        return True
    ranges = [each for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM"]
    return any(_inside(each["events"], version) for each in ranges)


def _inside(events: list[dict[str, str]], version: Version) -> bool:
    inside = False
    for event in events:
        ((kind, text),) = event.items()
        limit = Version(text)
        if kind == "introduced":
            inside = inside or version >= limit
        elif kind == "fixed":
            inside = inside and version < limit
        elif kind == "last_affected":
            inside = inside and version <= limit
    return inside


def findings(lock: str, dependencies: list[dict[str, object]]) -> Iterator[str]:
    """Yield a line for each vulnerability, and one if packages could not be checked."""
    unknown = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    if unknown:
        yield f"{lock}: {len(unknown)} of {len(dependencies)} packages could not be checked"
    for entry in dependencies:
        found = entry.get("vulns", [])
        assert isinstance(found, list)
        for each in found:
            fixed = ", ".join(each["fix_versions"]) or "no version"
            yield f"{lock}: {entry['name']} {entry['version']}: {each['id']}, fixed in {fixed}"


def _run(words: list[str], *, fine: tuple[int, ...] = (0,)) -> str:
    command = [str(locked.python(LOCK)), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode not in fine:
        last = done.stderr.strip().splitlines()[-1:] or ["failed"]
        raise DevError(f"`{' '.join(words)}`: {last[0]}")
    return done.stdout


if __name__ == "__main__":
    main()
