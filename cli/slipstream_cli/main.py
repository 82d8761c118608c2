"""Commands of `slipstream` and `kubectl slipstream`, one in a module."""

import click

from slipstream_cli.build import build
from slipstream_cli.index import index
from slipstream_cli.plan import plan
from slipstream_cli.rollout import rollout
from slipstream_cli.simulate import simulate
from slipstream_cli.upgrade import group as upgrade
from slipstream_cli.why import why


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Check and roll out services, find out why they are slow, compare policies and versions, and build models.

    Only rollout and why need a cluster.
    """


for command in (build, index, plan, rollout, simulate, upgrade, why):
    main.add_command(command)
