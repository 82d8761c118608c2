"""Commands of `slipstream` and `kubectl slipstream`, one in a module."""

import click

from slipstream_cli.build import build
from slipstream_cli.index import index
from slipstream_cli.plan import plan
from slipstream_cli.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Check services, compare scaling policies, build models and indexes, all without a cluster."""


for command in (build, index, plan, simulate):
    main.add_command(command)
