"""Model that is loaded into this process by transformers, without a server."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from slipstream_runtime.errors import UnsuitableError, describe
from slipstream_runtime.evaluate.quality.observations import Kind, Observation, Request


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
        with torch.inference_mode():
            if batch[0].kind is Kind.ANSWER:
                return self._answers(batch)
            return [self._likelihoods(request) for request in batch]

    def _answers(self, batch: Sequence[Request]) -> list[Observation]:
        begin = time.monotonic()
        prompts = [self._prompt(request) for request in batch]
        inputs = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self._device)
        result = self._model.generate(
            **inputs,
            max_new_tokens=batch[0].max_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **(
                {"stop_strings": list(batch[0].stop), "tokenizer": self._tokenizer}
                if batch[0].stop
                else {}
            ),
        )
        new = result.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        first = result.scores[0].float().log_softmax(-1)
        seconds = (time.monotonic() - begin) / len(batch)
        return [
            self._answer(request, ids, len(prompt), logprobs=logprobs, seconds=seconds)
            for request, ids, prompt, logprobs in zip(batch, new, prompts, first, strict=True)
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
            start = self._prompt(request)
            ends = [
                self._tokenizer(text, add_special_tokens=False)["input_ids"]
                for text in request.continuations
            ]
            found = [self._likelihood(start + end, len(end)) for end in ends]
            prompt = sum(len(start) + len(end) for end in ends)
        return Observation(
            likelihoods=tuple(found), prompt_tokens=prompt, seconds=time.monotonic() - begin
        )

    def _likelihood(self, tokens: list[int], last: int) -> tuple[float, int, bool]:
        if last < 1:
            return 0.0, 0, True
        ids = torch.tensor([tokens], device=self._device)
        logprobs = self._model(ids).logits[0, -last - 1 : -1].float().log_softmax(-1)
        wanted = ids[0, -last:]
        chosen = logprobs.gather(1, wanted.unsqueeze(1)).sum().item()
        greedy = bool((logprobs.argmax(-1) == wanted).all())
        return (chosen if math.isfinite(chosen) else -math.inf), last, greedy

    def _prompt(self, request: Request) -> list[int]:
        if request.prompt is not None:
            return list(self._tokenizer(request.prompt)["input_ids"])
        messages = [dict(message) for message in request.messages]
        return list(
            self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True
            )["input_ids"]
        )

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
