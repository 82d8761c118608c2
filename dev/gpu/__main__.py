"""Run the check with the packages of a bundle, if one is given: nothing but Python is needed up to there."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dev.gpu import bundle


def main() -> int:
    """Unpack the bundle, and hand everything else to `dev.gpu.check`."""
    parser = argparse.ArgumentParser(prog="dev.gpu", add_help=False)
    parser.add_argument("--bundle", type=Path)
    given, rest = parser.parse_known_args()
    command = [sys.executable, "-m", "dev.gpu.check", *rest]
    if given.bundle is None:
        return subprocess.run(command, check=False).returncode
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        site = str(bundle.unpack(given.bundle, Path(scratch)))
        found = [site, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found)}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
