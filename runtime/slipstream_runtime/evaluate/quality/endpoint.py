"""Model behind an OpenAI-compatible endpoint. Likelihoods need vLLM's /tokenize and echoed log-probabilities."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import openai

from slipstream_runtime.errors import EngineError, UnsuitableError, describe
from slipstream_runtime.evaluate.quality.config import Model
from slipstream_runtime.evaluate.quality.observations import Kind, Observation, Request

_RETRIES: Final = 8
"""Attempts after the first for one request; the client waits up to 8 s before each, or as Retry-After says."""
_REFUSALS: Final = (400, 413, 422)
"""Statuses by which a server refuses one request for its content."""
_WRONG: Final = (401, 403, 404, 405)
"""Statuses by which a server refuses every request: the key, the model or the address is wrong."""
_BROKEN: Final = ("abort", "error")
"""Reasons of vLLM for an answer that ended before the model was done with it."""
_FORM: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""Exceptions of this module and of the client for an answer of another form than OpenAI's."""


class Endpoint:
    """Client of one model of an OpenAI-compatible server."""

    def __init__(self, model: Model, *, concurrency: int, timeout: float) -> None:
        assert model.url is not None and model.model is not None
        self._root = model.url.rstrip("/").removesuffix("/v1")
        self._model = model.model
        self._concurrency = concurrency
        self._timeout = timeout
        self._key = _key(model)
        self._verify = str(model.ca_file) if model.ca_file else True

    async def ask(self, requests: Sequence[Request]) -> AsyncIterator[tuple[Request, Observation]]:
        """Yield the observations as they arrive; EngineError if the server can't be reached or refuses the key."""
        waiting = iter(requests)
        async with openai.AsyncOpenAI(
            base_url=f"{self._root}/v1",
            api_key=self._key,
            max_retries=_RETRIES,
            timeout=self._timeout,
            http_client=openai.DefaultAsyncHttpxClient(verify=self._verify),
        ) as client:
            running: set[asyncio.Task[tuple[Request, Observation]]] = set()
            try:
                while True:
                    while len(running) < self._concurrency and (one := next(waiting, None)):
                        running.add(asyncio.create_task(self._observe(client, one)))
                    if not running:
                        return
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    async def _observe(
        self, client: openai.AsyncOpenAI, request: Request
    ) -> tuple[Request, Observation]:
        begin = time.monotonic()
        try:
            found = await _ASK[request.kind](self, client, request)
        except openai.APIStatusError as error:
            if error.status_code in _REFUSALS:
                return request, Observation(error=describe(error))
            kind = UnsuitableError if error.status_code in _WRONG else EngineError
            raise kind(f"{self._root}: {describe(error)}") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise EngineError(f"{self._root}: {describe(cause)}") from error
        except (openai.OpenAIError, *_FORM) as error:
            # NB: the exception's text may quote the answer.
            raise EngineError(
                f"{self._root}: the answer has another form than OpenAI's ({type(error).__name__})."
            ) from error
        found["seconds"] = round(time.monotonic() - begin, 4)
        return request, Observation(**found)

    async def _answer(self, client: openai.AsyncOpenAI, request: Request) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        if request.stop:
            settings["stop"] = list(request.stop)
        if request.prompt is not None:
            if request.top:
                settings["logprobs"] = request.top
            answer = await client.completions.create(prompt=request.prompt, **settings)
            found = _of_completion(answer)
        else:
            if request.top:
                settings |= {"logprobs": True, "top_logprobs": request.top}
            chat = await client.chat.completions.create(
                messages=[dict(message) for message in request.messages],  # type: ignore[misc]
                **settings,
            )
            found = _of_chat(chat)
        if found["finish"] in _BROKEN:
            raise EngineError(
                f"{self._root}: an answer broke off ({found['finish']}). See the server's log."
            )
        if request.top and found["text"] and not found.get("tokens"):
            raise UnsuitableError(
                f"{self._root}: reports no log-probabilities of its answers, which Agreement needs."
            )
        return found

    async def _choices(self, client: openai.AsyncOpenAI, request: Request) -> dict[str, Any]:
        parts = [await self._parts(client, request, text) for text in request.continuations]
        found = [await self._likelihood(client, start + end, len(end)) for start, end in parts]
        return {
            "likelihoods": tuple(found),
            "prompt_tokens": sum(len(start) + len(end) for start, end in parts),
        }

    async def _text(self, client: openai.AsyncOpenAI, request: Request) -> dict[str, Any]:
        tokens = await self._tokenize(client, {"prompt": request.text})
        # NB: the first token has no probability.
        found = await self._likelihood(client, tokens, len(tokens) - 1)
        return {"likelihoods": (found,), "prompt_tokens": len(tokens)}

    async def _parts(
        self, client: openai.AsyncOpenAI, request: Request, continuation: str
    ) -> tuple[list[int], list[int]]:
        """Return the tokens of the question, and those of the continuation."""
        if request.prompt is not None:
            before, after = request.split(continuation)
            start = await self._tokenize(client, {"prompt": before})
            whole = await self._tokenize(client, {"prompt": before + after})
            return whole[: len(start)], whole[len(start) :]
        messages = [dict(message) for message in request.messages]
        chat = {"messages": messages, "add_generation_prompt": True}
        start = await self._tokenize(client, chat)
        end = await self._tokenize(client, {"prompt": continuation, "add_special_tokens": False})
        return start, end

    async def _tokenize(self, client: openai.AsyncOpenAI, body: Mapping[str, Any]) -> list[int]:
        try:
            answer = await client.post(
                f"{self._root}/tokenize", cast_to=object, body={"model": self._model} | dict(body)
            )
        except openai.NotFoundError as error:
            raise UnsuitableError(
                f"{self._root}: has no /tokenize, which Choice and Perplexity need. Ask vLLM, or give a path."
            ) from error
        if not isinstance(answer, dict):
            raise TypeError(type(answer))
        return [int(token) for token in answer["tokens"]]

    async def _likelihood(
        self, client: openai.AsyncOpenAI, tokens: list[int], last: int
    ) -> tuple[float, int, bool]:
        """Return the log-probability of the last tokens, their number, and whether each was the likeliest."""
        if last < 1:
            return 0.0, 0, True
        if last == len(tokens):
            raise UnsuitableError(
                f"{self._root}: the model's tokenizer begins no text with a token of its own, so an empty question has "
                "no likelihood. Give a path."
            )
        answer = await client.completions.create(
            model=self._model, prompt=tokens, echo=True, logprobs=1, max_tokens=1, temperature=0
        )
        found = answer.choices[0].logprobs
        if found is None or found.token_logprobs is None:
            raise UnsuitableError(
                f"{self._root}: does not echo log-probabilities, which Choice and Perplexity need."
            )
        span = slice(len(tokens) - last, len(tokens))
        # NB: a token without a log-probability is a TypeError here: it is not one of probability 1.
        values = [float(value) for value in found.token_logprobs[span]]
        likeliest = [max(top.values()) for top in (found.top_logprobs or [])[span]]
        greedy = all(value >= best for value, best in zip(values, likeliest, strict=True))
        if len(values) != last or not all(map(math.isfinite, values)):
            raise ValueError(len(values))
        return sum(values), last, greedy


def _key(model: Model) -> str:
    if model.key_file is None:
        return "none"
    try:
        key = model.key_file.read_text().strip()
    except OSError as error:
        raise UnsuitableError(f"keyFile: {error.strerror}: {model.key_file}") from error
    except UnicodeDecodeError:
        key = ""
    # NB: the client's error would quote a key that no header can carry.
    if not key.isascii() or not key.isprintable() or not key:
        raise UnsuitableError(
            f"keyFile: {model.key_file} has no key, or characters that a header can't carry. Write one line of ASCII."
        )
    return key


def _of_chat(answer: Any) -> dict[str, Any]:
    choice = answer.choices[0]
    found: dict[str, Any] = {
        "text": _characters(choice.message.content or ""),
        "finish": choice.finish_reason or "",
    }
    if choice.logprobs is not None and choice.logprobs.content:
        entries = choice.logprobs.content
        found["tokens"] = tuple(_characters(entry.token) for entry in entries)
        found["first"] = {_characters(t.token): t.logprob for t in entries[0].top_logprobs}
    return found | _usage(answer)


def _of_completion(answer: Any) -> dict[str, Any]:
    choice = answer.choices[0]
    found: dict[str, Any] = {
        "text": _characters(choice.text),
        "finish": choice.finish_reason or "",
    }
    if choice.logprobs is not None and choice.logprobs.tokens:
        found["tokens"] = tuple(map(_characters, choice.logprobs.tokens))
        first = choice.logprobs.top_logprobs[0]
        found["first"] = {_characters(token): value for token, value in first.items()}
    return found | _usage(answer)


def _characters(text: str) -> str:
    """Return the text with a replacement for half of a surrogate pair, which no file and no request can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _usage(answer: Any) -> dict[str, int]:
    if answer.usage is None:
        return {}
    return {
        "prompt_tokens": answer.usage.prompt_tokens,
        "output_tokens": answer.usage.completion_tokens,
    }


_ASK: Final = {
    Kind.ANSWER: Endpoint._answer,
    Kind.CHOICES: Endpoint._choices,
    Kind.TEXT: Endpoint._text,
}
