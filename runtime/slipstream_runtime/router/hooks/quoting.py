"""Quoted texts in a prompt: without control tokens, and within a number of tokens. Pure."""

import re
from typing import Final

from slipstream_runtime.router.messages.usage import BYTES_PER_TOKEN

_CONTROL: Final = re.compile(
    r"<(?=[|\uff5c]|/?(?:s|bos|eos|pad|unk|sys|think|tools?|tool_\w+|(?:start|end)_of_\w+|passage|summary)\b)"
    r"|(?<=[|\uff5c])>"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+|THINK|IMG\w*|ARGS|CALL_ID)\])",
    re.IGNORECASE,
)
"""Beginnings and ends of control tokens: `<|im_start|>`, `<start_of_turn>`, `</s>`, `[INST]`, and the router's tags.

Families of models have others, so this lowers a risk and does not end it.
"""
_PIECE: Final = re.compile(
    r"(?: |(?<![A-Za-z]))[A-Z]?[a-z]{1,4}|[A-Z]?[a-z]{1,2}| ?[A-Z]{1,2}"
    r"|\d|\s+| ?[!-/:-@\[-`{-~]|[\u0800-\uffff]|[^\s]"
)
"""Text that current tokenizers make at most one token of: four letters, then two each, a digit, a sign, a character.

Compared with those of GPT-4, GPT-4o, DeepSeek and Claude 2 for 22 kinds of text: at least 98 % of their tokens, and
87 % for base64. English text is taken for half as long again as it is.
"""
_WIDE: Final = "\u0800"
"""First character with three bytes in UTF-8: two tokens at most, such as of Chinese, Thai or Hindi."""
_WIDEST: Final = "\U00010000"
"""First character with four bytes, such as an emoji: up to four tokens."""


def harmless(text: str) -> str:
    """Return the text without control tokens of chat templates, which would begin messages of their own."""
    return _CONTROL.sub(_broken, text)


def tokens(text: str) -> int:
    """Return the estimated tokens of a text, seldom less than a current tokenizer makes of it."""
    pieces = sum(map(_cost, _PIECE.findall(text)))
    return max(pieces, -(-len(text.encode()) // BYTES_PER_TOKEN))


def cut(text: str, most: int) -> str:
    """Return the beginning of the text that has at most `most` estimated tokens, up to the end of a word."""
    beginning = text.encode()[: max(most, 0) * BYTES_PER_TOKEN].decode(errors="ignore")
    spent, end = 0, 0
    for match in _PIECE.finditer(beginning):
        spent += _cost(match[0])
        if spent > most:
            break
        end = match.end()
    if end == len(text):
        return text
    beginning = text[:end]
    return beginning[: max(beginning.rfind(" "), beginning.rfind("\n"), 0)].rstrip()


def _broken(match: re.Match[str]) -> str:
    return f" {match[0]}" if match[0] == ">" else f"{match[0]} "


def _cost(piece: str) -> int:
    if piece < _WIDE or len(piece) > 1:
        return 1
    return 2 if piece < _WIDEST else 4
