"""Command reference: `slipstream` and its commands, as their own help prints them."""

import click

from slipstream_cli.main import main

WIDTH = 96


def page() -> str:
    """Markdown page of the command line."""
    lines = [
        "# The slipstream command",
        "",
        (
            "This page lists every command and option of `slipstream` for app and platform teams. "
            "It is generated from the program. `kubectl slipstream` is the same program."
        ),
    ]
    for name, command in sorted(main.commands.items()):
        context = click.Context(command, info_name=f"slipstream {name}", terminal_width=WIDTH)
        lines += ["", f"## slipstream {name}", "", "```text", command.get_help(context), "```"]
    return "\n".join(lines) + "\n"
