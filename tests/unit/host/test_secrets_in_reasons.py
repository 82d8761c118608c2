"""The reason of a failure, which readers of the service see, holds no value of a secret variable."""

from pathlib import Path

import pytest

from slipstream_runtime import contract, logs

LISTED = contract.SECRET_VARIABLES_ENV


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({LISTED: "A", "A": "hunter2"}, "Invalid value '<A>' of A"),
        ({LISTED: "A", "A": "hunter2\n"}, "Invalid value '<A>' of A"),
        ({LISTED: "A,B", "A": "hunter2", "B": "hunter"}, "Invalid value '<A>' of A"),
        ({LISTED: "A,B", "A": ""}, "Invalid value 'hunter2' of A"),
        ({"A": "hunter2"}, "Invalid value 'hunter2' of A"),
        ({}, "Invalid value 'hunter2' of A"),
    ],
)
def test_values_of_secret_variables_are_replaced_by_their_names(
    environment: dict[str, str], reason: str
) -> None:
    assert logs.without_secrets("Invalid value 'hunter2' of A", environment) == reason


def test_it_is_done_for_the_termination_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LISTED, "PASSWORD")
    monkeypatch.setenv("PASSWORD", "hunter2")
    logs.leave_reason(tmp_path / "log", "no such file: hunter2")
    assert (tmp_path / "log").read_text() == "no such file: <PASSWORD>\n"
