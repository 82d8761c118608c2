"""Estimated tokens of the prompts in a JSON body, until the engine reports its count."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from slipstream_runtime.router.messages.usage import BYTES_PER_TOKEN
from slipstream_runtime.web import openai

_SCORING: Final = frozenset({*openai.RERANKS, *openai.SCORES})
_QUERIES: Final = ("query", "queries", "data_1", "text_1")
_DOCUMENTS: Final = ("documents", "data_2", "text_2", "items")
"""Fields of vLLM's scoring requests, of which each has one of both."""
_PROMPTS: Final = ("prompt", "input")
"""Fields that can hold token ids."""


def tokens(path: str, content: Mapping[str, Any], *, text: int) -> float:
    """Return the estimated tokens of a body with `text` bytes that are no media.

    A token id is a token, however few digits it has. A query is computed again with each document.
    """
    ids = max(_ids(content.get(name)) for name in _PROMPTS)
    repeated = _repeated_query(content) if path in _SCORING else 0.0
    return max(text / BYTES_PER_TOKEN, ids) + repeated


def count(content: Mapping[str, Any]) -> int:
    """Return the number of prompts of a completion: a list of token ids is one, any other list one for each item."""
    return max(1, _count(content.get("prompt")) + _count(content.get("prompt_embeds")))


def _count(prompts: object) -> int:
    if prompts is None:
        return 0
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        return len(prompts)
    return 1


def _ids(prompts: object) -> int:
    """Return the number of token ids."""
    if not isinstance(prompts, list) or not prompts:
        return 0
    if isinstance(prompts[0], int):
        return len(prompts)
    if isinstance(prompts[0], list):
        return sum(len(each) for each in prompts if isinstance(each, list))
    return 0


def _repeated_query(content: Mapping[str, Any]) -> float:
    """Return the tokens of a query for all documents but the first, whose query the body has."""
    query = next((content[name] for name in _QUERIES if name in content), None)
    documents = next((content[name] for name in _DOCUMENTS if name in content), None)
    if isinstance(query, list):
        if len(query) != 1:
            return 0.0
        [query] = query
    if query is None or not isinstance(documents, list) or not documents:
        return 0.0
    each = len(query if isinstance(query, str) else orjson.dumps(query)) / BYTES_PER_TOKEN
    most = content.get("max_tokens_per_query")
    if isinstance(most, int) and most > 0:
        each = min(each, most)
    return each * (len(documents) - 1)
