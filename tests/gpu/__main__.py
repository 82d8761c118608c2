"""`python -m tests.gpu` prints the table GPU x model kind x kernel; `--write` renews docs/gpu-kernels.md."""

import argparse
import dataclasses
import json
import sys

from rich.console import Console

from tests.gpu import contract, page, table


def main() -> None:
    """Run the contract and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--write", action="store_true", help=f"rewrite {page.PAGE.name}")
    options = parser.parse_args()
    errors = Console(stderr=True)
    found = contract.answers(
        report=lambda step, seconds: errors.print(f"{step}: {seconds:.0f} s", highlight=False)
    )
    if options.write:
        page.PAGE.write_text(page.text(found))
    if options.output == "json":
        sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")
        return
    Console().print(table.terminal(found))
    errors.print(f"found in {found.seconds:.0f} s, with {found.cpu:.0f} s of CPU", highlight=False)


if __name__ == "__main__":
    main()
