"""Meaning and remedy of each reason in the reference."""

import yaml

from dev.docs import reasons


def test_no_comma_cuts_a_meaning_or_a_remedy_off() -> None:
    entries = yaml.safe_load(reasons.MEANINGS.read_text())
    fields = {"conditions", "event", "meaning", "remedy"}
    assert not {name: set(entry) - fields for name, entry in entries.items() if set(entry) - fields}
