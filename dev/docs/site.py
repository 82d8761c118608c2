"""Documentation site: `python -m dev.docs.site [--check]` builds it into build/site, or only looks for dead links."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dev import paths

SOURCES = ("docs", "benchmarks", "manifests")
"""Folders whose pages and samples link to each other; the site keeps their places."""
KINDS = frozenset({".md", ".png", ".svg", ".dot", ".yaml"})
STAGE = paths.REPOSITORY / "build" / "docs"
SITE = paths.REPOSITORY / "build" / "site"


def main() -> int:
    """Exit code of mkdocs: 1 if a link is dead or a page is missing from the navigation."""
    parser = argparse.ArgumentParser(prog="dev.docs.site")
    parser.add_argument("--check", action="store_true", help="keep no site")
    check = parser.parse_args().check
    _stage()
    with tempfile.TemporaryDirectory() as scratch:
        code = _mkdocs(Path(scratch) if check else SITE)
    if not check and code == 0:
        sys.stdout.write(f"open {SITE / 'docs' / 'index.html'}\n")
    return code


def _stage() -> None:
    shutil.rmtree(STAGE, ignore_errors=True)
    for root in SOURCES:
        for file in sorted((paths.REPOSITORY / root).rglob("*")):
            if file.suffix in KINDS:
                target = STAGE / file.relative_to(paths.REPOSITORY)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


def _mkdocs(folder: Path) -> int:
    # NB: Material prints an advertisement for its successor unless this says otherwise.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=paths.REPOSITORY,
        env=environment,
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        # NB: with --quiet, mkdocs does not count warnings, so a dead link would pass.
        sys.stderr.write(
            "\n".join(
                line
                for line in done.stderr.splitlines()
                if line.startswith(("WARNING", "ERROR", "Aborted"))
            )
        )
        sys.stderr.write("\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
