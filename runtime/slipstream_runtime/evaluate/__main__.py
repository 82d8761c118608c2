"""`python -m slipstream_runtime.evaluate quality --config FILE`: measure the quality of a model's answers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from slipstream_runtime import contract


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 passed, 1 try again, 2 wrong configuration, 3 regressed, 4 inconclusive."""
    parser = argparse.ArgumentParser(
        prog="slipstream_runtime.evaluate",
        description="Measure a model.",
        epilog="Exit status: 0 passed, or nothing to compare; 1 interrupted, run again; 2 wrong configuration; "
        "3 the loss is too high; 4 too few items to tell. python -m slipstream_runtime.evaluate.load measures load.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    quality = verbs.add_parser(
        "quality", help="score answers, and compare them item by item with a baseline's"
    )
    quality.add_argument("--config", type=Path, required=True, metavar="FILE", help="JSON file")
    quality.add_argument(
        "--cache",
        type=Path,
        default=Path(contract.CACHE_DIRECTORY),
        help="folder of downloads (default: %(default)s)",
    )
    quality.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args(argv)
    # NB: --help needs none of the libraries.
    from slipstream_runtime.evaluate.quality import command  # noqa: PLC0415

    return command.main(given.config, cache=given.cache, output=given.output)


if __name__ == "__main__":
    raise SystemExit(main())
