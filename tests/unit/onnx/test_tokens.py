"""Tokenising: as the model does, and nothing that the model could not take."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from slipstream_runtime.errors import EngineError
from slipstream_runtime.onnx.exported import Exported, Reading
from slipstream_runtime.onnx.tokens import Texts, Tokens
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three"]
READING = Reading(
    task="embed",
    pooling="mean",
    normalize=True,
    activation="softmax",
    labels=(),
    length=6,
    positions=8,
    vocabulary=len(WORDS),
    padding=0,
    lower_case=False,
)


@pytest.fixture
def model(tmp_path: Path) -> Exported:
    """A tokenizer of seven words, saved with padding and truncation as hub repositories often have it."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_padding(length=32)
    tokenizer.enable_truncation(max_length=4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Exported(tmp_path / "model.onnx", tmp_path / "tokenizer.json", 6, READING)


def texts(model: Exported, **reading: Any) -> Texts:
    changed = dataclasses.replace(model.reading, **reading)
    return Texts(dataclasses.replace(model, reading=changed), uri="file:///m")


def test_a_text_is_neither_padded_nor_cut(model: Exported) -> None:
    found = texts(model).singles(["one two three one", "two"], cut=None)
    assert found == [Tokens([2, 4, 5, 6, 4, 3], [0] * 6), Tokens([2, 5, 3], [0] * 3)]


def test_of_a_pair_the_second_text_has_another_type(model: Exported) -> None:
    (found,) = texts(model).pairs("one", ["two"], cut=None)
    assert found == Tokens([2, 4, 3, 5, 3], [0, 0, 0, 1, 1])


def test_letters_are_made_small_where_the_model_says_so(model: Exported) -> None:
    assert texts(model).singles(["ONE"], cut=None)[0].ids == [2, 1, 3]
    assert texts(model, lower_case=True).singles(["ONE"], cut=None)[0].ids == [2, 4, 3]


@pytest.mark.parametrize(("cut", "ids"), [(-1, [2, 4, 4, 4, 4, 3]), (4, [2, 4, 4, 3])])
def test_a_cut_text_keeps_its_last_special_token(model: Exported, cut: int, ids: list[int]) -> None:
    assert texts(model).singles(["one " * 50], cut=cut)[0].ids == ids


def test_a_text_that_is_too_long_is_refused_with_the_remedy(model: Exported) -> None:
    with pytest.raises(Refusal, match=r"has 7 tokens.*truncate_prompt_tokens: -1") as caught:
        texts(model).singles(["one", "one two three one two"], cut=None)
    assert caught.value.status == 400


def test_of_a_text_that_is_cut_only_what_can_be_read_is_tokenized(
    model: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    whole = Texts._cased

    def cased(self: Texts, text: str) -> str:
        seen.append(len(text))
        return whole(self, text)

    monkeypatch.setattr(Texts, "_cased", cased)
    found = texts(model).singles(["one " * 4_000_000], cut=-1)
    assert found == [Tokens([2, 4, 4, 4, 4, 3], [0] * 6)]
    assert seen == [64 * 6]


@pytest.mark.parametrize(("most", "status"), [(None, 400), (5, 413)])
def test_a_text_far_beyond_the_model_is_refused_before_it_is_tokenized(
    model: Exported, most: int | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Texts(model, uri="file:///m", most=most)
    monkeypatch.setattr(tokenizer, "_whole", None)
    for make in (tokenizer.singles, lambda texts, cut: tokenizer.pairs(texts[0], ["one"], cut=cut)):
        with pytest.raises(Refusal) as refusal:
            make(["one " * 4_000_000], cut=None)
        assert refusal.value.status == status


def test_of_a_sequence_the_services_limit_counts_before_the_models(model: Exported) -> None:
    limited = Texts(model, uri="file:///m", most=3)
    assert len(limited.singles(["one two"], cut=3)[0]) == 3
    for tokens in (4, 9):
        with pytest.raises(
            Refusal, match=f"has {tokens} tokens, and this service allows 3"
        ) as caught:
            limited.given([[4], [4] * tokens], cut=None)
        assert (caught.value.status, caught.value.reason) == (413, Reason.PROMPT_TOO_LONG)


def test_given_tokens_are_taken_as_they_are(model: Exported) -> None:
    assert texts(model).given([[4, 5]], cut=None) == [Tokens([4, 5], [0, 0])]
    assert texts(model).given([[4] * 9], cut=-1) == [Tokens([4] * 6, [0] * 6)]


@pytest.mark.parametrize("token", [-1, 7])
def test_a_token_that_there_is_not_is_refused(model: Exported, token: int) -> None:
    with pytest.raises(Refusal, match=f"{token} is not a token. The model has 7"):
        texts(model).given([[4, token]], cut=None)


def test_a_tokenizer_that_cannot_be_read_is_told(model: Exported) -> None:
    model.tokenizer.write_text("{}")
    with pytest.raises(EngineError, match=r"file:///m: tokenizer\.json can't be read"):
        texts(model)
