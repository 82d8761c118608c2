"""Token sequences of texts, from the model's own tokenizer, and their length limits."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tokenizers import Tokenizer

from slipstream_runtime.errors import EngineError, describe
from slipstream_runtime.onnx.exported import Exported
from slipstream_runtime.web.refusal import Refusal, prompt_too_long

OWN_LENGTH: Final = -1
"""Value of truncate_prompt_tokens that cuts texts at the model's own length."""
_CHARACTERS_PER_TOKEN: Final = 64
"""Characters of a text for each token that the model reads; text has about 4."""
_AT_ONCE: Final = 1024 * 1024
"""Characters that are tokenized at once; the tokenizer takes up to 140 bytes for each."""
_KEPT: Final = 4
"""Tokenizers that are cached, one for each length at which texts are cut."""


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Token sequence; `types` is 1 for tokens of the second text of a pair."""

    ids: Sequence[int]
    types: Sequence[int]

    def __len__(self) -> int:
        return len(self.ids)


class Texts:
    """Tokenizer of one model, usable on any thread; sequences of more than `most` tokens are refused."""

    def __init__(self, model: Exported, *, uri: str, most: int | None = None) -> None:
        try:
            self._written = model.tokenizer.read_text()
            self._whole = _tokenizer(self._written, longest=None)
        except Exception as error:
            # NB: the library raises plain exceptions.
            raise EngineError(f"{uri}: tokenizer.json can't be read: {describe(error)}") from error
        self._longest = model.max_length
        self._most = most
        self._lower_case = model.reading.lower_case
        self._vocabulary = model.reading.vocabulary or self._whole.get_vocab_size()
        # NB: truncation is a state of a tokenizer, so there is one for each length; making one is fast.
        self._cutting = functools.lru_cache(maxsize=_KEPT)(
            functools.partial(_tokenizer, self._written)
        )

    def singles(self, texts: Sequence[str], *, cut: int | None) -> list[Tokens]:
        """Return each text as a sequence, cut at `cut` tokens unless it is None."""
        return self._encode([self._bounded(text, cut=cut) for text in texts], cut=cut)

    def pairs(self, first: str, others: Sequence[str], *, cut: int | None) -> list[Tokens]:
        """Return a sequence for the first text with each of the others."""
        head = self._bounded(first, cut=cut)
        return self._encode([(head, self._bounded(text, cut=cut)) for text in others], cut=cut)

    def given(self, sequences: Sequence[Sequence[int]], *, cut: int | None) -> list[Tokens]:
        """Return sequences that the client has tokenized itself."""
        limit = self._limit(cut)
        for ids in sequences:
            wrong = next((token for token in ids if not 0 <= token < self._vocabulary), None)
            if wrong is not None:
                raise Refusal(
                    400, f"input: {wrong} is not a token. The model has {self._vocabulary} tokens."
                )
        return self._checked([Tokens(ids[:limit], [0] * len(ids[:limit])) for ids in sequences])

    def _encode(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, cut: int | None
    ) -> list[Tokens]:
        limit = self._limit(cut)
        tokenizer = self._whole if limit is None else self._cutting(longest=limit)
        sequences: list[Tokens] = []
        for some in _parts(texts):
            encoded = tokenizer.encode_batch_fast(some)
            sequences += self._checked([Tokens(one.ids, one.type_ids) for one in encoded])
        return sequences

    def _bounded(self, text: str, *, cut: int | None) -> str:
        """Return the text without what can't be read; Refusal if it is too long and not to be cut."""
        most = _CHARACTERS_PER_TOKEN * self._longest
        if len(text) <= most:
            return self._cased(text)
        if cut is None and self._most is not None:
            raise prompt_too_long(f"more than {self._most}", most=self._most)
        if cut is None:
            raise Refusal(
                400,
                f"The input has {len(text)} characters, and the model accepts 1 to {self._longest} tokens. Shorten "
                f"it, or cut it with truncate_prompt_tokens: {OWN_LENGTH}.",
            )
        return self._cased(text[:most])

    def _cased(self, text: str) -> str:
        return text.lower() if self._lower_case else text

    def _limit(self, cut: int | None) -> int | None:
        if cut is None:
            return None
        return self._longest if cut == OWN_LENGTH else min(cut, self._longest)

    def _checked(self, sequences: list[Tokens]) -> list[Tokens]:
        for tokens in sequences:
            if self._most is not None and len(tokens) > self._most:
                raise prompt_too_long(len(tokens), most=self._most)
            if not 0 < len(tokens) <= self._longest:
                raise Refusal(
                    400,
                    f"The input has {len(tokens)} tokens, and the model accepts 1 to {self._longest}. Shorten it, or "
                    f"cut it with truncate_prompt_tokens: {OWN_LENGTH}.",
                )
        return sequences


def _parts(
    texts: Sequence[str] | Sequence[tuple[str, str]],
) -> Iterator[list[str] | list[tuple[str, str]]]:
    """Yield the texts in parts of `_AT_ONCE` characters."""
    part: list[Any] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text) if isinstance(text, str) else sum(map(len, text))
        if size >= _AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _tokenizer(written: str, *, longest: int | None) -> Tokenizer:
    """Return the tokenizer without its saved padding and truncation."""
    tokenizer: Tokenizer = Tokenizer.from_str(written)
    tokenizer.no_padding()
    if longest is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length=longest)
    return tokenizer
