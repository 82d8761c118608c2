"""Help of the command line, as an 80-column terminal shows it."""

import click
import pytest
from click.testing import CliRunner

from slipstream_cli.main import main
from slipstream_simulator import registry

COLUMNS = 80


def shown(*words: str) -> str:
    result = CliRunner().invoke(main, [*words, "--help"], terminal_width=COLUMNS)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("words", [(), *((name,) for name in main.commands)])
def test_help_fits_the_terminal_and_describes_every_command_and_option(
    words: tuple[str, ...],
) -> None:
    text = shown(*words)
    assert all(len(line) <= COLUMNS for line in text.splitlines())
    assert "..." not in text.partition("Commands:")[2]
    command = main.commands[words[0]] if words else main
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert all(option.help for option in options)


def test_no_policy_is_broken_at_the_end_of_a_line() -> None:
    text = shown("simulate")
    words = {word for line in text.splitlines() for word in line.replace(",", " ").split()}
    assert registry.POLICIES.keys() <= words
