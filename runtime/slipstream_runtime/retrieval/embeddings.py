"""Client of a service with `/v1/embeddings`, such as an InferenceService with `runtime: onnx`."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, Self

import aiohttp
import numpy as np

from slipstream_runtime.errors import EngineError, one_line
from slipstream_runtime.retrieval.index import Floats
from slipstream_runtime.web import answers

ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of an answer: 256 vectors of 4,096 numbers take 24 MB as text."""
_DETAIL: Final = 300
"""Characters of a server's answer that an error quotes."""


class EmbeddingsError(EngineError):
    """Service that gives no vectors now."""


class Embeddings:
    """Vectors of texts, of length one; a context manager."""

    def __init__(self, url: str, *, model: str, key: str | None = None, seconds: float) -> None:
        self._url = f"{url.rstrip('/')}/embeddings"
        self.model = model
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def vectors(self, texts: Sequence[str]) -> Floats:
        """Return a vector for each text; EmbeddingsError if the service gives none.

        Texts that are longer than the model reads are cut.
        """
        body = {
            "model": self.model,
            "input": list(texts),
            "encoding_format": "float",
            "truncate_prompt_tokens": -1,
        }
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._post(body)
        except TimeoutError:
            raise EmbeddingsError(f"{self._url}: no answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise EmbeddingsError(one_line(f"{self._url}: {error}")) from None
        return self._checked(answer, count=len(texts))

    async def _post(self, body: dict[str, Any]) -> Any:
        assert self._session is not None
        async with self._session.post(
            self._url, json=body, headers=self._headers, allow_redirects=False
        ) as reply:
            if reply.status != 200:
                said = (await reply.content.read(_DETAIL)).decode(errors="replace")
                raise EmbeddingsError(one_line(f"{self._url}: answered {reply.status}: {said}"))
            return json.loads(await answers.read(reply, most=ANSWER_BYTES))

    def _checked(self, answer: Any, *, count: int) -> Floats:
        """Return the vectors in the answer, in the order of the texts."""
        try:
            items = sorted(answer["data"], key=lambda item: item["index"])
            found = np.asarray([item["embedding"] for item in items], np.float64)
        except (KeyError, TypeError, ValueError):
            raise EmbeddingsError(f"{self._url}: the answer has another form") from None
        if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
            raise EmbeddingsError(f"{self._url}: the answer has other vectors than requested")
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not ((lengths > 0) & np.isfinite(lengths)).all():
            raise EmbeddingsError(
                f"{self._url}: the answer has a vector of length 0, or beyond all numbers"
            )
        unit: Floats = (found / lengths).astype(np.float32)
        return unit
