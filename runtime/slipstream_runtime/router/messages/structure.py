"""Size of a JSON body once it is parsed, bounded before any object exists.

A body of brackets takes forty times its own size as objects, and long enough to parse that other clients would wait.
"""

from typing import Final

from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import CLOSE, Refusal
from slipstream_runtime.web.turns import LARGE

_CONTAINERS: Final = 131_072
"""Most objects and lists of a body. A conversation of 10,000 messages with parts has 30,000."""
_TEXTS: Final = 524_288
"""Most texts of a large body, names of fields included."""
_LIST: Final = 120
_OBJECT: Final = 320
_ITEM: Final = 96
_TEXT: Final = 64
"""Bytes of an empty list, a small object, an item or a field, and an empty text in CPython 3.11, rounded up."""
_FEW: Final = 256
"""Texts of a part up to which each one's own characters decide how wide they are, and not all of the part's."""
_NARROW: Final = bytes(range(0xF0))
"""Bytes of characters that take at most two bytes in memory."""
_BRACKETS: Final = b"[]{}"
_OTHERS: Final = bytes(each for each in range(256) if each not in _BRACKETS)
_UNMARKED: Final = bytes(each for each in range(256) if each not in b"[{,")
_AS_LISTS: Final = bytes.maketrans(b"{}", b"[]")


def marks(raw: bytes) -> bytes:
    """Return the brackets and commas of a body, since to count in all of it again takes most of its time."""
    return raw.translate(None, _UNMARKED)


def openings(marks: bytes) -> int:
    """Return the objects and lists that a body can have."""
    return marks.count(b"[") + marks.count(b"{")


def small_size(raw: bytes, marks: bytes) -> int:
    """Return the most bytes that a small body can take once it is parsed, whatever is inside of its texts."""
    return len(raw) * _width(raw) + _weight(marks)


def parsed_size(raw: bytes) -> int:
    """Return the most bytes that a body can take once it is parsed; Refusal if it has too many parts."""
    if len(raw) < LARGE:
        return small_size(raw, marks(raw))
    structure = Structure()
    for at in range(0, len(raw), LARGE):
        structure.add(raw[at : at + LARGE])
    return structure.size


class Structure:
    """Parts of a large body, counted as they arrive, so that neither the count nor a refusal waits for its end.

    Only what is outside of texts counts: source code in a prompt has brackets, too.
    """

    def __init__(self) -> None:
        self._closed = 0
        """Bytes of all that has ended."""
        self._text = 0
        self._text_width = 1
        """Bytes of the text that has not ended, and of each of its characters in memory."""
        self._inside = False
        self._escape = b""
        """Beginning of an escape sequence whose end has not arrived."""
        self._quotes = 0
        self._containers = 0
        self._brackets: list[bytes] = []

    @property
    def size(self) -> int:
        """Return the most bytes that the parsed parts can take."""
        return self._closed + self._text * self._text_width

    def add(self, part: bytes) -> None:
        """Count the next part, which should have less than 1 MiB; Refusal if there are too many parts now."""
        part, self._escape = _complete(self._escape + part)
        width = _width(part)
        plain = part
        if b"\\" in part:
            plain = part.replace(rb"\\", b"").replace(rb"\"", b"")
        # NB: to find none is far quicker than to count none.
        quotes = plain.count(b'"') if b'"' in plain else 0
        self._quotes += quotes
        if self._quotes > 2 * _TEXTS:
            raise too_many()
        if quotes == 0:
            if self._inside:
                self._continue_text(len(part), width)
            else:
                self._add_outside(plain)
            return
        pieces = plain.split(b'"')
        texts, outside = pieces[not self._inside :: 2], pieces[self._inside :: 2]
        if self._inside:
            self._continue_text(len(texts.pop(0)), width)
            self._end_text()
        self._inside ^= quotes % 2 == 1
        if self._inside:
            self._continue_text(len(texts.pop()), width)
        self._closed += (len(part) - len(plain)) * width + len(texts) * _TEXT
        self._closed += (
            sum(map(len, texts)) * width
            if width == 1 or len(texts) > _FEW
            else sum(len(text) * _width(text) for text in texts)
        )
        self._add_outside(b"".join(outside))

    def deeper(self, *, than: int) -> bool:
        """Whether lists and objects nest deeper, in a body that is valid JSON."""
        nested = b"".join(self._brackets)
        for _ in range(than):
            if not nested:
                return False
            nested = nested.replace(b"[]", b"")
        return bool(nested)

    def _continue_text(self, size: int, width: int) -> None:
        self._text += size
        self._text_width = max(self._text_width, width)

    def _end_text(self) -> None:
        self._closed += self._text * self._text_width + _TEXT
        self._text, self._text_width = 0, 1

    def _add_outside(self, plain: bytes) -> None:
        brackets = plain.translate(_AS_LISTS, _OTHERS)
        if brackets:
            self._containers += brackets.count(b"[")
            if self._containers > _CONTAINERS:
                raise too_many()
            self._brackets.append(brackets)
        self._closed += _weight(marks(plain))


def too_many() -> Refusal:
    """Return 413 for a body of too many parts."""
    return Refusal(
        413,
        f"The body has more than {_CONTAINERS} objects and lists, or more than {_TEXTS} texts. "
        "Send fewer of them in a request.",
        reason=Reason.TOO_LARGE,
        headers=CLOSE,
    )


def _complete(part: bytes) -> tuple[bytes, bytes]:
    """Return the part up to an escape sequence that goes on in the next one, and the beginning of that."""
    kept = 2 if part.endswith(b"u") else 1
    before = part[: 1 - kept] if kept > 1 else part
    escapes = (len(before) - len(before.rstrip(b"\\"))) % 2 == 1
    return (part[:-kept], part[-kept:]) if escapes else (part, b"")


def _weight(marks: bytes) -> int:
    """Return the bytes of the objects, lists and numbers, as if each further item were a field of an object."""
    return marks.count(b"[") * _LIST + marks.count(b"{") * _OBJECT + marks.count(b",") * _ITEM


def _width(text: bytes) -> int:
    """Return the bytes of a character in memory."""
    if text.isascii() and (b"\\" not in text or b"\\u" not in text):
        return 1
    wide = b"\\ud" in text or b"\\uD" in text or text.translate(None, _NARROW)
    return 4 if wide else 2
