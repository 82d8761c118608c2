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
        lines += _section(f"slipstream {name}", command, level="##")
        if isinstance(command, click.Group):
            for part, one in sorted(command.commands.items()):
                lines += _section(f"slipstream {name} {part}", one, level="###")
    return "\n".join(lines) + "\n"


def _section(name: str, command: click.Command, *, level: str) -> list[str]:
    """Lines of one command."""
    context = click.Context(command, info_name=name, terminal_width=WIDTH)
    return ["", f"{level} {name}", "", "```text", command.get_help(context), "```"]
