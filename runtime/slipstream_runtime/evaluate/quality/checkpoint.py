"""Model that is loaded into this process by transformers, without a server."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch
import transformers

from slipstream_runtime.errors import UnsuitableError, describe
from slipstream_runtime.evaluate.quality.observations import Kind, Observation, Request


class _RefusedError(Exception):
    """Reason for which the model can't take one request."""


class _FirstToken:
    """Log-probabilities of the first token of each answer. Those of all tokens would not fit into memory."""

    def __init__(self) -> None:
        self.logprobs: Any = None

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Keep the first scores that the generation passes, and change none."""
        if self.logprobs is None:
            self.logprobs = scores.float().log_softmax(-1)
        return scores


class Checkpoint:
    """Model of a folder, which answers in batches."""

    def __init__(self, folder: Path, *, batch: int) -> None:
        self._batch = batch
        transformers.utils.logging.disable_progress_bar()
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False
            )
            self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype="auto", trust_remote_code=False
            ).eval()
        except (OSError, ValueError, ImportError) as error:
            raise UnsuitableError(f"path: {folder} can't be loaded: {describe(error)}") from error
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    async def ask(self, requests: Sequence[Request]) -> AsyncIterator[tuple[Request, Observation]]:
        """Yield the observations batch by batch, requests of one kind and length together."""
        ordered = sorted(requests, key=lambda one: (one.kind, one.max_tokens, one.stop, _size(one)))
        for batch in _batches(ordered, self._batch):
            found = await asyncio.to_thread(self._observe, batch)
            for pair in zip(batch, found, strict=True):
                yield pair

    def _observe(self, batch: Sequence[Request]) -> list[Observation]:
        """Return the observations; a request that the model can't take is refused, as a server refuses it."""
        prompts: dict[int, list[int]] = {}
        found: dict[int, Observation] = {}
        with torch.inference_mode():
            for number, request in enumerate(batch):
                try:
                    if request.kind is Kind.ANSWER:
                        prompts[number] = self._fitting(self._prompt(request), request.max_tokens)
                    else:
                        found[number] = self._likelihoods(request)
                except _RefusedError as error:
                    found[number] = Observation(error=str(error))
            if prompts:
                asked = [batch[number] for number in prompts]
                answers = self._answers(asked, list(prompts.values()))
                found |= dict(zip(prompts, answers, strict=True))
        return [found[number] for number in range(len(batch))]

    def _answers(self, batch: Sequence[Request], prompts: list[list[int]]) -> list[Observation]:
        begin = time.monotonic()
        first = _FirstToken()
        inputs = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self._device)
        result = self._model.generate(
            **inputs,
            max_new_tokens=batch[0].max_tokens,
            do_sample=False,
            logits_processor=[first],
            **(
                {"stop_strings": list(batch[0].stop), "tokenizer": self._tokenizer}
                if batch[0].stop
                else {}
            ),
        )
        new = result[:, inputs["input_ids"].shape[1] :].tolist()
        seconds = (time.monotonic() - begin) / len(batch)
        return [
            self._answer(request, ids, len(prompt), logprobs=logprobs, seconds=seconds)
            for request, ids, prompt, logprobs in zip(
                batch, new, prompts, first.logprobs, strict=True
            )
        ]

    def _answer(
        self, request: Request, ids: list[int], prompt: int, *, logprobs: Any, seconds: float
    ) -> Observation:
        ends = _ends(self._model.generation_config.eos_token_id)
        ended = next((at for at, token in enumerate(ids) if token in ends), None)
        kept = ids if ended is None else ids[: ended + 1]
        tokens: tuple[str, ...] = ()
        first = None
        if request.top:
            tokens = self._texts(kept)
            values, numbers = logprobs.topk(min(request.top, len(logprobs)))
            first = dict(zip(self._texts(numbers.tolist()), values.tolist(), strict=True))
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        for stop in request.stop:
            text = text.split(stop)[0]
        return Observation(
            text=text,
            tokens=tokens,
            first=first,
            finish="length" if ended is None else "stop",
            prompt_tokens=prompt,
            output_tokens=len(kept),
            seconds=seconds,
        )

    def _likelihoods(self, request: Request) -> Observation:
        begin = time.monotonic()
        if request.kind is Kind.TEXT:
            tokens = self._tokenizer(request.text)["input_ids"]
            found = [self._likelihood(tokens, len(tokens) - 1)]
            prompt = len(tokens)
        else:
            parts = [self._parts(request, text) for text in request.continuations]
            found = [self._likelihood(start + end, len(end)) for start, end in parts]
            prompt = sum(len(start) + len(end) for start, end in parts)
        return Observation(
            likelihoods=tuple(found), prompt_tokens=prompt, seconds=time.monotonic() - begin
        )

    def _likelihood(self, tokens: list[int], last: int) -> tuple[float, int, bool]:
        if last < 1:
            return 0.0, 0, True
        self._fitting(tokens, 0)
        ids = torch.tensor([tokens], device=self._device)
        logprobs = self._model(ids).logits[0, -last - 1 : -1].float().log_softmax(-1)
        wanted = ids[0, -last:]
        chosen = logprobs.gather(1, wanted.unsqueeze(1)).sum().item()
        greedy = bool((logprobs.argmax(-1) == wanted).all())
        return (chosen if math.isfinite(chosen) else -math.inf), last, greedy

    def _parts(self, request: Request, continuation: str) -> tuple[list[int], list[int]]:
        """Return the tokens of the question, and those of the continuation."""
        if request.prompt is None:
            end = self._tokenizer(continuation, add_special_tokens=False)["input_ids"]
            return self._prompt(request), list(end)
        before, after = request.split(continuation)
        start = list(self._tokenizer(before)["input_ids"])
        whole = list(self._tokenizer(before + after)["input_ids"])
        first, last = whole[: len(start)], whole[len(start) :]
        return first or [self._beginning()], last

    def _beginning(self) -> int:
        """Return the token before a text without a question, as lm-evaluation-harness chooses it."""
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise UnsuitableError("path: the tokenizer has no token for the beginning of a text.")

    def _prompt(self, request: Request) -> list[int]:
        if request.prompt is not None:
            return list(self._tokenizer(request.prompt)["input_ids"])
        messages = [dict(message) for message in request.messages]
        try:
            return list(
                self._tokenizer.apply_chat_template(
                    messages, add_generation_prompt=True, return_dict=True
                )["input_ids"]
            )
        except (ValueError, jinja2.TemplateError) as error:
            if self._tokenizer.chat_template is None:
                raise UnsuitableError(
                    "path: the checkpoint has no chat template. Set chat to false."
                ) from error
            raise _RefusedError(describe(error)) from error

    def _fitting(self, tokens: list[int], more: int) -> list[int]:
        """Return the tokens; _RefusedError if they and `more` are beyond the model's context."""
        most = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if isinstance(most, int) and len(tokens) + more > most:
            raise _RefusedError(
                f"{len(tokens)} tokens and {more} of the answer exceed the context of {most} tokens"
            )
        return tokens

    def _texts(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token, as vLLM reports it."""
        return tuple(self._tokenizer.decode([number]) for number in ids)

    @property
    def _device(self) -> Any:
        return self._model.device


def _ends(token: int | list[int] | None) -> set[int]:
    if token is None:
        return set()
    return set(token) if isinstance(token, list) else {token}


def _size(request: Request) -> int:
    written = sum(len(message["content"]) for message in request.messages)
    return written + len(request.prompt or "") + len(request.text)


def _batches(ordered: Sequence[Request], size: int) -> list[list[Request]]:
    """Return batches of requests that can be generated together."""
    batches: list[list[Request]] = []
    for request in ordered:
        last = batches[-1] if batches else []
        if last and len(last) < size and _kind(last[0]) == _kind(request):
            last.append(request)
        else:
            batches.append([request])
    return batches


def _kind(request: Request) -> tuple[object, ...]:
    return request.kind, request.max_tokens, request.stop
