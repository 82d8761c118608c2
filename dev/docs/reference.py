"""Reference pages of docs/: `python -m dev.docs.reference [--check]` writes or verifies them."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from dev import paths
from dev.docs import builds, commands, fields, metrics, reasons

FOLDER = paths.REPOSITORY / "docs" / "reference"
CRDS = paths.REPOSITORY / "crds"


def pages() -> Iterator[tuple[Path, str]]:
    """Path and text of each page."""
    for crd in sorted(CRDS.glob("*.yaml")):
        if crd.name != "kustomization.yaml":
            yield FOLDER / f"{crd.stem}.md", fields.page(crd)
    yield FOLDER / "builds.md", builds.page()
    yield FOLDER / "metrics.md", metrics.page()
    yield FOLDER / "reasons.md", reasons.page()
    yield FOLDER / "commands.md", commands.page()


def main() -> int:
    """Exit code 1 if a page is not what the code says."""
    parser = argparse.ArgumentParser(prog="dev.docs.reference")
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = [path for path, text in pages() if not path.exists() or path.read_text() != text]
    if check and stale:
        sys.stderr.write(
            f"out of date: {', '.join(path.name for path in stale)}. Run `make reference`.\n"
        )
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in pages():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
