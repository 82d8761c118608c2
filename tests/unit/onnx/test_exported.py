"""What a model's folder says, by the rules of Sentence Transformers and vLLM, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.onnx import exported

URI = "hf://org/model"
BERT: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "max_position_embeddings": 512,
    "vocab_size": 100,
    "pad_token_id": 0,
}
CLASSIFIER: dict[str, Any] = {**BERT, "architectures": ["BertForSequenceClassification"]}


def modules(*kinds: str) -> list[dict[str, Any]]:
    return [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{index}_{kind}"}
        for index, kind in enumerate(kinds)
    ]


def read(config: dict[str, Any] | None = None, **files: Any) -> exported.Reading:
    given: dict[str, Any] = {"tokenizer": {}, "sentence": {}, "modules": None, "pooling": None}
    return exported.read(config=BERT if config is None else config, uri=URI, **{**given, **files})


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (BERT, "embed"),
        ({**CLASSIFIER, "num_labels": 1}, "rerank"),
        ({**CLASSIFIER, "id2label": {"0": "LABEL_0"}}, "rerank"),
        ({**CLASSIFIER, "id2label": {"0": "a", "1": "b", "2": "c"}}, "classify"),
        (CLASSIFIER, "classify"),
    ],
)
def test_the_architecture_tells_the_task(config: dict[str, Any], task: str) -> None:
    assert read(config).task == task


def test_a_list_of_modules_makes_an_encoder_of_any_architecture() -> None:
    masked = {**BERT, "architectures": ["MPNetForMaskedLM"]}
    assert read(masked, modules=modules("Transformer", "Pooling")).task == "embed"
    with pytest.raises(UnsuitableError, match=r'is a "MPNetForMaskedLM".*Use runtime: vllm'):
        read(masked)


def test_labels_are_in_the_order_of_their_numbers() -> None:
    names = {str(index): f"label {index}" for index in (10, 2, 0, 1, *range(3, 10))}
    assert read({**CLASSIFIER, "id2label": names}).labels == tuple(
        f"label {index}" for index in range(11)
    )


@pytest.mark.parametrize(
    ("pooling", "found"),
    [
        (None, "mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "include_prompt": True}, "cls"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode_max_tokens": True}, "max"),
    ],
)
def test_the_pooling_is_the_models_own(pooling: dict[str, Any] | None, found: str) -> None:
    assert read(pooling=pooling).pooling == found


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"word_embedding_dimension": 8},
    ],
)
def test_another_pooling_is_refused(pooling: dict[str, Any]) -> None:
    with pytest.raises(
        UnsuitableError, match="runtime onnx by one of mean, cls, max and lasttoken"
    ):
        read(pooling=pooling)


def test_vectors_have_length_one_unless_the_modules_leave_that_out() -> None:
    assert read().normalize
    assert read(modules=modules("Transformer", "Pooling", "Normalize")).normalize
    assert not read(modules=modules("Transformer", "Pooling")).normalize
    assert not read(CLASSIFIER).normalize


def test_a_module_that_is_not_run_is_refused_since_the_numbers_would_be_wrong() -> None:
    with pytest.raises(
        UnsuitableError, match=r"modules\.json lists Dense, and runtime onnx supports"
    ):
        read(modules=modules("Transformer", "Pooling", "Dense", "Normalize"))


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({"num_labels": 1}, "sigmoid"),
        ({"num_labels": 3}, "softmax"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "sigmoid"),
        ({"num_labels": 1, "problem_type": "regression"}, "identity"),
        (
            {
                "num_labels": 1,
                "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
            },
            "identity",
        ),
        (
            {
                "num_labels": 1,
                "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
            },
            "sigmoid",
        ),
    ],
)
def test_the_activation_is_vllms(config: dict[str, Any], activation: str) -> None:
    assert read({**CLASSIFIER, **config}).activation == activation


def test_another_activation_is_refused() -> None:
    with pytest.raises(UnsuitableError, match="needs the activation Tanh"):
        read({**CLASSIFIER, "sbert_ce_default_activation_function": "torch.nn.Tanh"})


def test_the_length_is_the_least_that_any_file_says() -> None:
    assert read().length == 512
    assert read(sentence={"max_seq_length": 256}).length == 256
    assert (
        read(tokenizer={"model_max_length": 1e30}, sentence={"max_seq_length": None}).length == 512
    )


def test_roberta_counts_positions_from_the_padding_on() -> None:
    roberta = {
        **BERT,
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "max_position_embeddings": 514,
        "pad_token_id": 1,
    }
    assert (read(roberta).length, read(roberta).padding) == (512, 1)


def write(folder: Path, *, graph: str | None = "model.onnx", **more: object) -> Path:
    for name, content in {"config": BERT, "tokenizer": {}, **more}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    if graph is not None:
        (folder / graph).parent.mkdir(exist_ok=True)
        (folder / graph).write_bytes(b"")
    return folder


@pytest.mark.parametrize("graph", ["model.onnx", "onnx/model.onnx"])
def test_the_graph_is_where_hub_repositories_have_it(tmp_path: Path, graph: str) -> None:
    found = exported.load(write(tmp_path, graph=graph), uri=URI, max_length=None)
    assert found.graph == tmp_path / graph


def test_the_pooling_is_read_where_the_modules_say(tmp_path: Path) -> None:
    folder = write(tmp_path, modules=modules("Transformer", "Pooling"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    assert exported.load(folder, uri=URI, max_length=None).reading.pooling == "cls"


def test_a_model_without_a_graph_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match=r"hf://org/model: has neither.*Export the model"
    ) as caught:
        exported.load(write(tmp_path, graph=None), uri=URI, max_length=None)
    assert caught.value.exit_code == 1


def test_a_service_may_ask_for_as_many_tokens_as_there_are_positions(tmp_path: Path) -> None:
    folder = write(tmp_path, sentence_bert_config={"max_seq_length": 128})
    assert exported.load(folder, uri=URI, max_length=None).max_length == 128
    assert exported.load(folder, uri=URI, max_length=300).max_length == 300
    with pytest.raises(UnsuitableError, match=r"spec.model.maxLength: 513 is more than the 512"):
        exported.load(folder, uri=URI, max_length=513)


def test_a_file_that_is_not_json_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "modules.json").write_text("{")
    with pytest.raises(EngineError, match=r"modules\.json can't be read"):
        exported.load(folder, uri=URI, max_length=None)
