"""Help texts of the commands."""

import click
import pytest
from click.testing import CliRunner

from dev.cli import cli
from slipstream_cli.main import main


@pytest.mark.parametrize("group", [cli, main], ids=["dev", "slipstream"])
def test_the_list_of_commands_cuts_no_description_off(group: click.Group) -> None:
    listed = CliRunner().invoke(group, ["--help"], terminal_width=80)
    lines = listed.output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == sorted(group.commands)
    assert not [line for line in lines if line.endswith("...")]
