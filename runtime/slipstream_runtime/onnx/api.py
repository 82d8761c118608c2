"""API in front of the batcher: an ASGI application that raises refusals, which the front answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
import pydantic
import pydantic_core

from slipstream_runtime import logs
from slipstream_runtime.host import front
from slipstream_runtime.onnx import pooling, protocol
from slipstream_runtime.onnx.batcher import Batcher
from slipstream_runtime.onnx.exported import Exported, Task
from slipstream_runtime.onnx.metrics import Metrics
from slipstream_runtime.onnx.pooling import Floats
from slipstream_runtime.onnx.tokens import Texts, Tokens
from slipstream_runtime.web import asgi, openai
from slipstream_runtime.web.refusal import Refusal, invalid, wrong_method

HEALTH: Final = "/health"
ROUTES: Final[Mapping[str, front.Route]] = {
    HEALTH: front.OPEN,
    openai.MODELS: front.READS,
    openai.EMBEDDINGS: front.COMPUTES,
    openai.RERANK: front.COMPUTES,
    openai.CLASSIFY: front.COMPUTES,
}
"""Routes that clients can use."""

_SERVED: Final[Mapping[Task, tuple[str, Sequence[str]]]] = {
    "embed": ("an encoder", (openai.EMBEDDINGS, openai.RERANK)),
    "rerank": ("a reranker", (openai.RERANK,)),
    "classify": ("a classifier", (openai.CLASSIFY,)),
}
"""Task -> kind of model, and the routes that it serves."""

Form = TypeVar("Form", protocol.Embeddings, protocol.Rerank, protocol.Classification)


class Api:
    """API of one model."""

    def __init__(
        self, *, name: str, model: Exported, texts: Texts, batcher: Batcher, observer: Metrics
    ) -> None:
        self._name = name
        self._model = model
        self._texts = texts
        self._batcher = batcher
        self._observer = observer
        self._created = int(time.time())

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request to a known route, or raise Refusal."""
        try:
            await self._route(scope["method"], scope["path"], receive, send)
        except Refusal:
            raise
        except asgi.DisconnectedError:
            return
        except Exception as error:
            logs.failure("request failed", error=error, path=scope["path"])
            raise Refusal(500, "Internal engine error. Retry later.") from error

    async def _route(self, method: str, path: str, receive: asgi.Receive, send: asgi.Send) -> None:
        route = ROUTES[path]
        if method != route.method:
            raise wrong_method(path, method, allowed=route.method)
        what, served = _SERVED[self._model.reading.task]
        if route.computes and path not in served:
            raise Refusal(
                400, f"{self._name} is {what} and does not serve {path}. Use {' or '.join(served)}."
            )
        match path:
            case "/health":
                await asgi.respond(send, b"")
            case openai.MODELS:
                length = self._model.max_length
                await asgi.respond_json(
                    send, protocol.models(self._name, created=self._created, max_length=length)
                )
            case openai.EMBEDDINGS:
                await self._compute(protocol.Embeddings, self._embed, receive, send)
            case openai.RERANK:
                await self._compute(protocol.Rerank, self._rank, receive, send)
            case openai.CLASSIFY:
                await self._compute(protocol.Classification, self._classify, receive, send)

    async def _compute(
        self,
        form: type[Form],
        answer: Callable[[Form], Awaitable[protocol.Content]],
        receive: asgi.Receive,
        send: asgi.Send,
    ) -> None:
        asked = _parsed(form, await asgi.read(receive))
        if asked.model not in (None, self._name):
            raise Refusal(404, f"The model `{asked.model}` does not exist.")

        async def work() -> None:
            body = pydantic_core.to_json(await answer(asked))
            await asgi.respond(send, body, kind="application/json")

        with self._observer.request() as observed:
            if await asgi.unless_disconnected(work(), receive):
                observed.finished()

    async def _embed(self, asked: protocol.Embeddings) -> protocol.Content:
        sequences = await self._tokenized(asked.input, cut=asked.truncate_prompt_tokens)
        vectors = await self._rows(sequences)
        size = len(vectors[0])
        if asked.dimensions not in (None, size):
            raise Refusal(
                400,
                f"dimensions: the model's vectors have {size} dimensions and can't be shortened. Leave it out.",
            )
        return protocol.embeddings(vectors, asked, model=self._name, tokens=_count(sequences))

    async def _rank(self, asked: protocol.Rerank) -> protocol.Content:
        cut = asked.truncate_prompt_tokens
        if self._model.reading.task == "embed":
            texts = [asked.query, *asked.texts]
            sequences = await asyncio.to_thread(self._texts.singles, texts, cut=cut)
            vectors = pooling.normalize(np.stack(await self._rows(sequences)))
            scores = vectors[1:] @ vectors[0]
        else:
            sequences = await asyncio.to_thread(
                self._texts.pairs, asked.query, asked.texts, cut=cut
            )
            scores = np.stack(await self._rows(sequences))[:, 0]
        return protocol.ranking(scores.tolist(), asked, model=self._name, tokens=_count(sequences))

    async def _classify(self, asked: protocol.Classification) -> protocol.Content:
        sequences = await self._tokenized(asked.input, cut=asked.truncate_prompt_tokens)
        return protocol.classification(
            await self._rows(sequences),
            labels=self._model.reading.labels,
            model=self._name,
            tokens=_count(sequences),
        )

    async def _tokenized(self, given: protocol.Sequences, *, cut: int | None) -> list[Tokens]:
        make = self._texts.singles if isinstance(given[0], str) else self._texts.given
        return await asyncio.to_thread(make, given, cut=cut)  # type: ignore[arg-type] # all items are of one kind

    async def _rows(self, sequences: Sequence[Tokens]) -> list[Floats]:
        rows = await self._batcher.rows(sequences)
        self._observer.prompted(tokens=_count(sequences))
        return rows


def _parsed(form: type[Form], body: bytes) -> Form:
    try:
        return form.model_validate_json(body)
    except pydantic.ValidationError as error:
        raise invalid(error) from None


def _count(sequences: Sequence[Tokens]) -> int:
    return sum(map(len, sequences))
