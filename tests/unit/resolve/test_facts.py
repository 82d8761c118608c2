import json

import pytest

from slipstream_operator.core import facts
from slipstream_operator.core.facts import Facts, ModelFacts


def test_a_report_gives_size_configuration_and_source_of_model_and_draft():
    report = {
        "model": {"uri": "hf://org/model", "bytes": 16_000, "config": {"hidden_size": 4096}},
        "draft": {"bytes": 1_000},
    }
    assert facts.parse(json.dumps(report)) == Facts(
        model=ModelFacts(bytes=16_000, config={"hidden_size": 4096}, uri="hf://org/model"),
        draft=ModelFacts(bytes=1_000),
    )


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "3", '"model"', "[" * 100_000, '{"model": ', "\x00"]
)
def test_text_that_is_no_report_gives_no_facts(text):
    assert facts.parse(text) is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        3,
        [],
        {},
        {"bytes": 0},
        {"bytes": -1},
        {"bytes": True},
        {"bytes": "16"},
        {"bytes": 1.5},
        {"config": []},
        {"config": {}},
        {"uri": 7},
    ],
)
def test_a_missing_or_malformed_fact_is_unknown(entry):
    assert facts.parse(json.dumps({"model": entry})) == Facts()


def test_facts_of_a_former_source_do_not_concern_the_present_one():
    assert ModelFacts(uri="hf://org/old").concerns("hf://org/new") is False
    assert ModelFacts(uri="hf://org/new").concerns("hf://org/new") is True
    assert ModelFacts().concerns("hf://org/new") is True


@pytest.mark.parametrize("size", ["NaN", "1e999", "-5", "0", "true", '"16"', "1" + "0" * 400])
def test_a_size_without_sense_is_unknown(size):
    found = facts.parse('{"model": {"bytes": ' + size + "}}")
    assert found is not None and found.model.bytes is None
