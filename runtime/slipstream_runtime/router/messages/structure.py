"""Size of a JSON body once it is parsed, bounded before any object exists.

A body of brackets takes forty times its own size as objects, and long enough to parse that other clients would wait.
"""

from typing import Final

from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal

LARGE: Final = 256 * 1024
"""Bytes from which a body is counted exactly, and parsed in turn with other large ones."""
_CONTAINERS: Final = 131_072
"""Most objects and lists of a body. A conversation of 10,000 messages with parts has 30,000."""
_TEXTS: Final = 524_288
"""Most texts of a large body, names of fields included."""
_LIST: Final = 120
_OBJECT: Final = 320
_ITEM: Final = 96
_TEXT: Final = 64
"""Bytes of an empty list, a small object, an item or a field, and an empty text in CPython 3.11, rounded up."""
_LONG: Final = 1024
"""Bytes of a text from which its own characters decide how wide they are, and not all of the body's."""
_NARROW: Final = bytes(range(0xF0))
"""Bytes of characters that take at most two bytes in memory."""


def parsed_size(raw: bytes) -> int:
    """Return the most bytes that the parsed body can take; Refusal if it has too many parts."""
    width = _width(raw)
    size = len(raw) * width + _weight(raw)
    if len(raw) < LARGE:
        return size
    size += raw.count(b'"') * _TEXT
    containers = raw.count(b"[") + raw.count(b"{")
    if width == 1 and containers <= _CONTAINERS and size <= 2 * len(raw):
        return size
    return _exact(raw, widest=width)


def too_many() -> Refusal:
    """Return 413 for a body of too many parts."""
    return Refusal(
        413,
        f"The body has more than {_CONTAINERS} objects and lists, or more than {_TEXTS} texts. "
        "Send fewer of them in a request.",
        reason=Reason.TOO_LARGE,
    )


def _exact(raw: bytes, *, widest: int) -> int:
    """Return the size by what is outside of texts: source code in a prompt has brackets, too."""
    plain = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 2 * _TEXTS:
        raise too_many()
    pieces = plain.split(b'"')
    skeleton, texts = b"".join(pieces[::2]), pieces[1::2]
    if skeleton.count(b"[") + skeleton.count(b"{") > _CONTAINERS:
        raise too_many()
    size = (len(raw) - len(plain)) * widest + len(texts) * _TEXT
    for text in texts:
        narrow = widest == 1 or len(text) < _LONG
        size += len(text) * (widest if narrow else _width(text))
    return size + _weight(skeleton)


def _weight(raw: bytes) -> int:
    """Return the bytes of the objects, lists and numbers, as if each further item were a field of an object."""
    return raw.count(b"[") * _LIST + raw.count(b"{") * _OBJECT + raw.count(b",") * _ITEM


def _width(text: bytes) -> int:
    """Return the bytes of a character in memory."""
    if text.isascii() and b"\\u" not in text:
        return 1
    wide = b"\\ud" in text or b"\\uD" in text or text.translate(None, _NARROW)
    return 4 if wide else 2
