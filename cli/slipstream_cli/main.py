"""`slipstream` and `kubectl slipstream`: one command a module."""

import click

from slipstream_cli.plan import plan
from slipstream_cli.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Slipstream serves language models on Kubernetes inside their latency objectives."""


for command in (plan, simulate):
    main.add_command(command)
