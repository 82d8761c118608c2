"""API in front of the batcher: an ASGI application that raises refusals, which the front answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
import pydantic
import pydantic_core

from slipstream_runtime import logs
from slipstream_runtime.host import routes
from slipstream_runtime.onnx import pooling, protocol
from slipstream_runtime.onnx.batcher import Batcher
from slipstream_runtime.onnx.exported import Exported, Task
from slipstream_runtime.onnx.metrics import Metrics
from slipstream_runtime.onnx.pooling import Floats
from slipstream_runtime.onnx.tokens import Texts, Tokens
from slipstream_runtime.web import asgi, openai
from slipstream_runtime.web.refusal import Refusal, invalid, wrong_method

_RANKING: Final = (*openai.RERANKS, *openai.SCORES)
_SERVED: Final[Mapping[Task, tuple[str, Sequence[str]]]] = {
    "embed": ("an encoder", (openai.EMBEDDINGS, *_RANKING)),
    "rerank": ("a reranker", _RANKING),
    "classify": ("a classifier", (openai.CLASSIFY,)),
}
"""Task -> kind of model, and the routes that it serves."""
ROUTES: Final = routes.routes({path for _, paths in _SERVED.values() for path in paths})
"""Routes that clients can use."""

Form = TypeVar(
    "Form", protocol.Embeddings, protocol.Rerank, protocol.Score, protocol.Classification
)


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
        route = routes.route(path, routes=ROUTES)
        assert route is not None
        if method != route.method:
            raise wrong_method(path, method, allowed=route.method)
        if (match := openai.MODEL.fullmatch(path)) is not None:
            await self._show(match["id"], send)
            return
        what, served = _SERVED[self._model.reading.task]
        if route.computes and path not in served:
            raise Refusal(
                400, f"{self._name} is {what} and does not serve {path}. Use {' or '.join(served)}."
            )
        match path:
            case openai.HEALTH:
                await asgi.respond(send, b"")
            case openai.MODELS:
                await asgi.respond_json(send, {"object": "list", "data": [self._card()]})
            case openai.EMBEDDINGS:
                await self._compute(protocol.Embeddings, self._embed, receive, send)
            case _ if path in openai.RERANKS:
                await self._compute(protocol.Rerank, self._rank, receive, send)
            case _ if path in openai.SCORES:
                await self._compute(protocol.Score, self._score, receive, send)
            case openai.CLASSIFY:
                await self._compute(protocol.Classification, self._classify, receive, send)

    async def _show(self, name: str, send: asgi.Send) -> None:
        if name != self._name:
            raise _no_model(name)
        await asgi.respond_json(send, self._card())

    def _card(self) -> protocol.Content:
        length = self._model.max_length
        return protocol.model(self._name, created=self._created, max_length=length)

    async def _compute(
        self,
        form: type[Form],
        answer: Callable[[Form], Awaitable[protocol.Content]],
        receive: asgi.Receive,
        send: asgi.Send,
    ) -> None:
        request = _parsed(form, await asgi.read(receive))
        if request.model not in (None, self._name):
            raise _no_model(request.model)

        async def work() -> None:
            body = pydantic_core.to_json(await answer(request))
            await asgi.respond(send, body, kind="application/json")

        with self._observer.request() as observed:
            if await asgi.unless_disconnected(work(), receive):
                observed.finished()

    async def _embed(self, request: protocol.Embeddings) -> protocol.Content:
        sequences = await self._tokenized(request.input, cut=request.truncate_prompt_tokens)
        vectors = await self._rows(sequences)
        size = len(vectors[0])
        if request.dimensions not in (None, size):
            raise Refusal(
                400,
                f"dimensions: the model's vectors have {size} dimensions and can't be shortened. Leave it out.",
            )
        return protocol.embeddings(vectors, request, model=self._name, tokens=_count(sequences))

    async def _rank(self, request: protocol.Rerank) -> protocol.Content:
        scores, tokens = await self._scores(
            [request.query], request.texts, cut=request.truncate_prompt_tokens
        )
        return protocol.ranking(scores, request, model=self._name, tokens=tokens)

    async def _score(self, request: protocol.Score) -> protocol.Content:
        scores, tokens = await self._scores(
            request.firsts, request.seconds, cut=request.truncate_prompt_tokens
        )
        return protocol.scores(scores, model=self._name, tokens=tokens)

    async def _scores(
        self, firsts: Sequence[str], seconds: Sequence[str], *, cut: int | None
    ) -> tuple[list[float], int]:
        """Return the score of each pair, and the tokens of all of them; one first text belongs to all second ones."""
        if self._model.reading.task == "embed":
            sequences = await asyncio.to_thread(self._texts.singles, [*firsts, *seconds], cut=cut)
            vectors = pooling.normalize(np.stack(await self._rows(sequences)))
            queries, documents = vectors[: len(firsts)], vectors[len(firsts) :]
            return (queries * documents).sum(axis=1).tolist(), _count(sequences)
        sequences = await asyncio.to_thread(self._paired, firsts, seconds, cut=cut)
        return np.stack(await self._rows(sequences))[:, 0].tolist(), _count(sequences)

    def _paired(
        self, firsts: Sequence[str], seconds: Sequence[str], *, cut: int | None
    ) -> list[Tokens]:
        if len(firsts) == 1:
            return self._texts.pairs(firsts[0], seconds, cut=cut)
        pairs = zip(firsts, seconds, strict=True)
        return [self._texts.pairs(first, [second], cut=cut)[0] for first, second in pairs]

    async def _classify(self, request: protocol.Classification) -> protocol.Content:
        sequences = await self._tokenized(request.input, cut=request.truncate_prompt_tokens)
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


def _no_model(name: str | None) -> Refusal:
    return Refusal(404, f"The model `{name}` does not exist.")


def _count(sequences: Sequence[Tokens]) -> int:
    return sum(map(len, sequences))
