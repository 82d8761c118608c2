"""Figure of the demo: `python -m dev.docs.figures [--check]` draws docs/figures/demo.svg from the printed text."""

import argparse
import sys
from html import escape

from dev import paths

FOLDER = paths.REPOSITORY / "docs" / "figures"
TEXT = FOLDER / "demo.txt"
FIGURE = FOLDER / "demo.svg"

CHARACTER = 7.25
"""Width of a character in pixels, in a monospace font of 12 pixels."""
LINE = 18
"""Height of a line in pixels."""
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
NO_BREAK = "\u00a0"
"""Space that no viewer of SVG collapses."""
MARGIN = 16
"""Space around the text in pixels."""


def main() -> int:
    """Write the figure, or return 1 if it differs from its text."""
    parser = argparse.ArgumentParser(prog="dev.docs.figures")
    parser.add_argument("--check", action="store_true", help="write nothing")
    figure = draw(TEXT.read_text())
    if parser.parse_args().check:
        if FIGURE.read_text() == figure:
            return 0
        sys.stderr.write(f"{FIGURE} differs from {TEXT.name}. Run `python -m dev.docs.figures`.\n")
        return 1
    FIGURE.write_text(figure)
    return 0


def draw(text: str) -> str:
    """SVG of a terminal that shows this text; lines that are not indented are headings."""
    lines = text.rstrip("\n").split("\n")
    width = round(max(map(len, lines)) * CHARACTER + 2 * MARGIN)
    height = len(lines) * LINE + 2 * MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + LINE * number + 13}"{_style(line)}>{_text(line)}</text>'
        for number, line in enumerate(lines)
        if line
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            "<title>Output of make demo</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#1e2430"/>',
            f'<g font-family="{FONTS}" font-size="12" fill="#cdd6e4">',
            *rows,
            "</g>",
            "</svg>\n",
        ]
    )


def _text(line: str) -> str:
    return escape(line).replace(" ", NO_BREAK)


def _style(line: str) -> str:
    if line.startswith("$"):
        return ' fill="#8bd49c"'
    return "" if line.startswith(" ") else ' font-weight="bold" fill="#ffffff"'


if __name__ == "__main__":
    sys.exit(main())
