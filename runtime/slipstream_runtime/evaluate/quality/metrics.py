"""Metrics of answers: the request that each needs, and its score of one item. Pure.

Scores lie between 0 and 1, and more is better. Perplexity is an exception; `scores.py` handles it.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from slipstream_runtime.evaluate.quality.items import Item
from slipstream_runtime.evaluate.quality.observations import Kind, Observation, Request

FIRST_TOKENS: Final = 20
"""First tokens with their log-probabilities: the most that vLLM reports by default (max_logprobs)."""
_LEAST_SHARE: Final = 1e-9
"""Probability below which a figure is rounding: log-probabilities are of single precision."""
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_FENCE: Final = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)
_UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
"""Character of a script without spaces between words."""


class Name(StrEnum):
    """Metric of an evaluation."""

    EXACT_MATCH = "ExactMatch"
    F1 = "F1"
    CHOICE = "Choice"
    ROUGE = "Rouge"
    BLEU = "Bleu"
    PERPLEXITY = "Perplexity"
    AGREEMENT = "Agreement"
    JSON_SCHEMA = "JsonSchema"
    JUDGE = "Judge"


@dataclass(frozen=True, slots=True)
class Metric:
    """Metric that scores each item by one observation."""

    kind: Kind
    applies: Callable[[Item], bool]
    needs: str
    """Field of an item that the metric needs, for messages."""
    score: Callable[[Item, Observation], float] | None
    """Score of an answer alone; None if the metric compares it with the baseline's."""

    @property
    def relative(self) -> bool:
        """Whether the metric exists only against a baseline."""
        return self.score is None and self.kind is Kind.ANSWER


def request(metric: Name, item: Item, *, max_tokens: int, chat: bool, top: int) -> Request:
    """Return the request that the metric needs an answer to.

    `top` is above 0 if any metric of the run compares tokens, so that all metrics share one request.
    """
    kind = METRICS[metric].kind
    if kind is Kind.TEXT:
        return Request(kind, text=item.text or "")
    asked: dict[str, Any] = (
        {"messages": item.conversation} if chat else {"prompt": item.prompt or ""}
    )
    if kind is Kind.CHOICES:
        return Request(kind, continuations=item.choices, **asked)
    return Request(kind, max_tokens=max_tokens, top=top, **asked)


def agreement(baseline: Observation, candidate: Observation) -> float:
    """Return the share of the longer answer's tokens that are equal until the first difference."""
    longest = max(len(baseline.tokens), len(candidate.tokens))
    if not longest:
        return float(baseline.text == candidate.text)
    equal = 0
    for left, right in zip(baseline.tokens, candidate.tokens, strict=False):
        if left != right:
            break
        equal += 1
    return equal / longest


def divergence(baseline: Observation, candidate: Observation) -> float | None:
    """Return the KL divergence of the first token's distribution from the baseline's, in nats.

    Tokens that the baseline alone lists are one class, and all tokens that it does not list another one. The figure is
    the least divergence that fits what both list, so it is a lower bound by the data processing inequality. None
    without distributions.
    """
    if not baseline.first or not candidate.first:
        return None
    before = {token: math.exp(value) for token, value in baseline.first.items()}
    after = {token: math.exp(value) for token, value in candidate.first.items()}
    shared = before.keys() & after.keys()
    alone = sum(share for token, share in before.items() if token not in shared)
    rest = max(1.0 - sum(before.values()), 0.0)
    left = max(1.0 - sum(after[token] for token in shared), 0.0)
    # NB: a token that the candidate does not list is at most as likely as the last one that it lists.
    most = min(
        (len(before) - len(shared)) * min(after.values()), max(1.0 - sum(after.values()), 0.0)
    )
    given = min(left * alone / (alone + rest), most) if alone + rest > 0 else 0.0
    total = sum(_term(before[token], after[token]) for token in shared)
    return max(total + _term(alone, given) + _term(rest, left - given), 0.0)


def _term(share: float, other: float) -> float:
    """Return the part of one class in a divergence."""
    return share * math.log(share / max(other, _LEAST_SHARE)) if share > 0 else 0.0


def _exact(item: Item, seen: Observation) -> float:
    return float(any(seen.text.strip() == reference.strip() for reference in item.references))


def _f1(item: Item, seen: Observation) -> float:
    """Return the best F1 of words, normalized as SQuAD does (Rajpurkar et al., 2016)."""
    return max(_overlap(_words(reference), _words(seen.text)) for reference in item.references)


def _words(text: str) -> list[str]:
    """Return the words without punctuation and articles; a text of nothing else keeps them, such as the answer "A"."""
    plain = "".join(mark for mark in text.lower() if mark not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split() or plain.split() or text.split()


def _overlap(reference: Sequence[str], answer: Sequence[str]) -> float:
    if not reference or not answer:
        return float(reference == answer)
    shared = (Counter(reference) & Counter(answer)).total()
    return 2 * shared / (len(reference) + len(answer))


def _choice(item: Item, seen: Observation) -> float:
    """Return whether the right choice is the likeliest, by the sum of its tokens (`acc` of lm-evaluation-harness).

    Without a likelihood for each choice, the answer is wrong: it would otherwise be the first one's.
    """
    sums = [total for total, tokens, _ in seen.likelihoods if tokens]
    if len(sums) < len(item.choices) or not all(map(math.isfinite, sums)):
        return 0.0
    return float(sums.index(max(sums)) == item.answer)


def _rouge(item: Item, seen: Observation) -> float:
    """Return ROUGE-L's F-measure with the best reference, by Google's rouge-score."""
    return float(_rouge_scorer().score_multi(item.references, seen.text)["rougeL"].fmeasure)


class _Words:
    """Words of a text in any script. Those of ASCII are the same as rouge-score's own, which knows no others."""

    def __init__(self) -> None:
        import regex  # noqa: PLC0415
        from rouge_score import tokenizers  # noqa: PLC0415

        self._word = regex.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+")
        self._of_ascii = tokenizers.DefaultTokenizer(use_stemmer=True).tokenize

    def tokenize(self, text: str) -> list[str]:
        """Return the words in lower case, those of ASCII without their endings."""
        return [
            part
            for word in self._word.findall(text.lower())
            for part in (self._of_ascii(word) if word.isascii() else [word])
        ]


@lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    from rouge_score import rouge_scorer  # noqa: PLC0415

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())


def _bleu(item: Item, seen: Observation) -> float:
    """Return the BLEU of one answer, with effective order, by sacrebleu."""
    import sacrebleu  # noqa: PLC0415

    return float(sacrebleu.sentence_bleu(seen.text, list(item.references)).score) / 100


def _follows_schema(item: Item, seen: Observation) -> float:
    from slipstream_runtime.evaluate.quality import schemas  # noqa: PLC0415

    fenced = _FENCE.match(seen.text)
    return float(schemas.follows(fenced.group(1) if fenced else seen.text, item.schema or {}))


def _has_reference(item: Item) -> bool:
    return item.asks and bool(item.references)


def _asks(item: Item) -> bool:
    return item.asks


METRICS: Final[Mapping[Name, Metric]] = {
    Name.EXACT_MATCH: Metric(Kind.ANSWER, _has_reference, "reference", _exact),
    Name.F1: Metric(Kind.ANSWER, _has_reference, "reference", _f1),
    Name.CHOICE: Metric(Kind.CHOICES, lambda item: bool(item.choices), "choices", _choice),
    Name.ROUGE: Metric(Kind.ANSWER, _has_reference, "reference", _rouge),
    Name.BLEU: Metric(Kind.ANSWER, _has_reference, "reference", _bleu),
    Name.PERPLEXITY: Metric(Kind.TEXT, lambda item: item.text is not None, "text", None),
    Name.AGREEMENT: Metric(Kind.ANSWER, _asks, "prompt or messages", None),
    Name.JSON_SCHEMA: Metric(
        Kind.ANSWER, lambda item: item.schema is not None, "schema", _follows_schema
    ),
    Name.JUDGE: Metric(Kind.ANSWER, _asks, "prompt or messages", None),
}
