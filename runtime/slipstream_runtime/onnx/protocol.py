"""Requests and answers of the API: OpenAI's embeddings, vLLM's rerank and classify."""

import base64
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
import pydantic

from slipstream_runtime.onnx.pooling import Floats
from slipstream_runtime.onnx.tokens import OWN_LENGTH

MOST: Final = 2048
"""Inputs or documents of one request, as OpenAI allows."""

Sequences: TypeAlias = list[str] | list[list[int]]
Content: TypeAlias = dict[str, Any]


def _sequences(value: object) -> Sequences:
    """Return any form of `input` as a list of texts or of token ids."""
    many = [value] if isinstance(value, str) or _is_ids(value) else value
    if not isinstance(many, list) or not 1 <= len(many) <= MOST:
        raise ValueError(f"must be text, token ids, or a list of 1 to {MOST} of them")
    if all(isinstance(one, str) for one in many) or all(map(_is_ids, many)):
        return many
    raise ValueError("must hold texts only, or lists of token ids only")


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _cut(value: int | None) -> int | None:
    if value == 0 or (value is not None and value < OWN_LENGTH):
        raise ValueError("must be a number of tokens, or -1 for the model's own length")
    return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Input = Annotated[Sequences, pydantic.PlainValidator(_sequences)]


class _Request(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    model: str | None = None
    truncate_prompt_tokens: Annotated[int | None, pydantic.AfterValidator(_cut)] = None


class Embeddings(_Request):
    """POST /v1/embeddings."""

    input: Input
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class Classification(_Request):
    """POST /classify."""

    input: Input


class Document(pydantic.BaseModel):
    """Document with more fields than its text."""

    text: str


class Rerank(_Request):
    """POST /v1/rerank."""

    query: str
    documents: Annotated[list[str | Document], pydantic.Field(min_length=1, max_length=MOST)]
    top_n: Annotated[int, pydantic.Field(ge=0)] = 0
    return_documents: bool = True

    @property
    def texts(self) -> list[str]:
        """Texts of the documents."""
        return [one if isinstance(one, str) else one.text for one in self.documents]


class Score(_Request):
    """POST /score: pairs of texts, by any of vLLM's names of their two sides."""

    firsts: Annotated[
        list[str],
        pydantic.Field(validation_alias=pydantic.AliasChoices("text_1", "queries", "data_1")),
        pydantic.BeforeValidator(_listed),
        pydantic.Field(min_length=1, max_length=MOST),
    ]
    seconds: Annotated[
        list[str],
        pydantic.Field(
            validation_alias=pydantic.AliasChoices("text_2", "documents", "items", "data_2")
        ),
        pydantic.BeforeValidator(_listed),
        pydantic.Field(min_length=1, max_length=MOST),
    ]

    @pydantic.model_validator(mode="after")
    def _paired(self) -> "Score":
        if len(self.firsts) not in (1, len(self.seconds)):
            raise ValueError(
                f"has {len(self.firsts)} first texts for {len(self.seconds)} second ones: "
                "send one first text, or as many as second ones"
            )
        return self


def embeddings(
    vectors: Sequence[Floats], request: Embeddings, *, model: str, tokens: int
) -> Content:
    """Return the answer to Embeddings."""
    write = _base64 if request.encoding_format == "base64" else _numbers
    data = [
        {"index": index, "object": "embedding", "embedding": write(vector)}
        for index, vector in enumerate(vectors)
    ]
    return {**_head("embd", model), "data": data, "usage": _usage(tokens)}


def classification(
    rows: Sequence[Floats], *, labels: Sequence[str], model: str, tokens: int
) -> Content:
    """Return the answer to Classification."""
    data = [
        {
            "index": index,
            "label": labels[int(row.argmax())],
            "probs": _numbers(row),
            "num_classes": len(row),
        }
        for index, row in enumerate(rows)
    ]
    return {**_head("classify", model), "data": data, "usage": _usage(tokens)}


def ranking(scores: Sequence[float], request: Rerank, *, model: str, tokens: int) -> Content:
    """Return the answer to Rerank, best document first; equal scores keep the order of the request."""
    texts = request.texts
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    results: list[Content] = [
        {"index": index, "relevance_score": scores[index]}
        for index in order[: request.top_n or None]
    ]
    if request.return_documents:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    return {"id": _identity("rerank"), "model": model, "usage": _usage(tokens), "results": results}


def scores(values: Sequence[float], *, model: str, tokens: int) -> Content:
    """Return the answer to Score."""
    data = [
        {"index": index, "object": "score", "score": value} for index, value in enumerate(values)
    ]
    return {**_head("score", model), "data": data, "usage": _usage(tokens)}


def model(name: str, *, created: int, max_length: int) -> Content:
    """Return the model's entry of /v1/models, with the fields of vLLM's."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "slipstream",
        "root": name,
        "parent": None,
        "max_model_len": max_length,
    }


def _head(prefix: str, model: str) -> Content:
    return {
        "id": _identity(prefix),
        "object": "list",
        "created": int(time.time()),
        "model": model,
    }


def _identity(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}


def _numbers(row: Floats) -> list[float]:
    numbers: list[float] = row.tolist()
    return numbers


def _base64(row: Floats) -> str:
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()
