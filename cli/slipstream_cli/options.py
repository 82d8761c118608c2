"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

output: Final = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Output format.",
)
_CLUSTER: Final = (
    click.option("-n", "--namespace", show_default="from the kubeconfig", help="Namespace."),
    click.option("--context", show_default="the current one", help="Context of the kubeconfig."),
    click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        show_default="as for kubectl",
        help="File of the cluster and the credentials.",
    ),
)


def cluster(command: Command) -> Command:
    """Add the options that choose cluster and namespace: namespace, context and kubeconfig."""
    for option in reversed(_CLUSTER):
        command = option(command)
    return command
