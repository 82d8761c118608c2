"""Bodies of requests in all their forms, and answers as OpenAI and vLLM write them."""

import base64
import json
from typing import Any

import numpy as np
import pydantic
import pytest

from slipstream_runtime.onnx import protocol
from slipstream_runtime.onnx.protocol import Classification, Embeddings, Rerank
from slipstream_runtime.web.refusal import invalid


def asked(**body: Any) -> Embeddings:
    return Embeddings.model_validate_json(json.dumps({"model": "m", **body}))


@pytest.mark.parametrize(
    ("given", "sequences"),
    [
        ("text", ["text"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ("", [""]),
    ],
)
def test_an_input_is_a_list_of_texts_or_of_token_ids(given: object, sequences: object) -> None:
    assert asked(input=given).input == sequences


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "must be text, token ids, or a list of 1 to 2048 of them"),
        (["x"] * 2049, "a list of 1 to 2048 of them"),
        (None, "must be text"),
        ({"text": "x"}, "must be text"),
        (["a", 1], "must hold texts only, or lists of token ids only"),
        ([1.5], "must hold texts only"),
        ([True], "must hold texts only"),
        ([[]], "must hold texts only"),
    ],
)
def test_another_input_is_refused(given: object, reason: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        asked(input=given)
    refusal = invalid(caught.value)
    assert refusal.message.startswith("input: ")
    assert reason in refusal.message


@pytest.mark.parametrize("cut", [0, -2])
def test_a_cut_is_a_length_or_minus_one(cut: int) -> None:
    assert asked(input="x", truncate_prompt_tokens=-1).truncate_prompt_tokens == -1
    with pytest.raises(pydantic.ValidationError, match="-1 for the model's own length"):
        asked(input="x", truncate_prompt_tokens=cut)


def test_embeddings_are_numbers_or_base64_of_little_endian_floats() -> None:
    vectors = [np.array([0.5, -1.25], np.float32)]
    plain = protocol.embeddings(vectors, asked(input="x"), model="m", tokens=3)
    packed = protocol.embeddings(
        vectors, asked(input="x", encoding_format="base64"), model="m", tokens=3
    )
    assert plain["object"] == "list"
    assert plain["data"] == [{"index": 0, "object": "embedding", "embedding": [0.5, -1.25]}]
    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert np.frombuffer(raw, "<f4").tolist() == [0.5, -1.25]


def test_a_classification_names_the_likeliest_label() -> None:
    rows = [np.array([0.25, 0.75], np.float32)]
    found = protocol.classification(rows, labels=["no", "yes"], model="m", tokens=3)
    assert found["data"] == [{"index": 0, "label": "yes", "probs": [0.25, 0.75], "num_classes": 2}]
    assert Classification.model_validate({"input": "x"}).input == ["x"]


def rerank(**body: Any) -> Rerank:
    return Rerank.model_validate({"query": "q", "documents": ["a", {"text": "b"}, "c"], **body})


def test_a_ranking_is_best_first_and_keeps_the_order_of_equals() -> None:
    found = protocol.ranking([0.5, 0.75, 0.5], rerank(), model="m", tokens=9)["results"]
    assert found == [
        {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
        {"index": 0, "relevance_score": 0.5, "document": {"text": "a"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
    ]


def test_a_ranking_may_be_cut_and_may_leave_the_documents_out() -> None:
    asked = rerank(top_n=1, return_documents=False)
    found = protocol.ranking([0.1, 0.2, 0.9], asked, model="m", tokens=9)["results"]
    assert found == [{"index": 2, "relevance_score": 0.9}]


@pytest.mark.parametrize("body", [{"documents": []}, {"top_n": -1}, {"query": None}])
def test_another_rerank_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        rerank(**body)


@pytest.mark.parametrize(
    ("first", "second"), [("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2")]
)
def test_pairs_have_any_of_vllms_names(first: str, second: str) -> None:
    asked = protocol.Score.model_validate({first: "a", second: ["b", "c"]})
    assert (asked.firsts, asked.seconds) == (["a"], ["b", "c"])
    paired = protocol.Score.model_validate({first: ["a", "d"], second: ["b", "c"]})
    assert paired.firsts == ["a", "d"]


@pytest.mark.parametrize(
    "body",
    [
        {"text_1": ["a", "b"], "text_2": ["c"]},
        {"text_1": "a", "text_2": []},
        {"text_1": "a"},
        {"text_1": 1, "text_2": "b"},
    ],
)
def test_pairs_that_do_not_fit_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        protocol.Score.model_validate(body)
