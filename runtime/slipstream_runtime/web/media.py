"""Media in the JSON body of a request: images, audio, video and files, as text in base64."""

from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final, NamedTuple

from slipstream_runtime.web import asgi, body

PARTS: Final = (
    "image_url",
    "image",
    "input_audio",
    "audio_url",
    "video_url",
    "source",
    "file",
    "file_data",
)
"""Fields of a part of a message that hold its media, as vLLM's APIs name them."""
_LEAST: Final = 64 * 1024
"""Bytes of a body from which media are searched; smaller ones count as text."""
_OBJECTS: Final = 4096
"""Objects of a step: some milliseconds."""

_SCHEMES: Final = ("data:", "http://", "https://")
_LONG: Final = 4096
"""Bytes of a text without a scheme that is media: files and Anthropic's images are plain base64."""


class Media(NamedTuple):
    """Media of a request."""

    pieces: int = 0
    size: int = 0
    """Bytes of their text in the body."""


def media(content: Mapping[str, Any], *, size: int) -> Media:
    """Return the media of a body of `size` bytes, which does not nest without end."""
    if size < _LEAST:
        return Media()
    sizes = [len(text) for text in _texts(content) if text]
    return Media(len(sizes), sum(sizes))


def bounded(content: Mapping[str, Any], *, size: int) -> Media:
    """Return the media of a body of `size` bytes; Refusal if the rest of it is larger than text may be."""
    return _bounded(media(content, size=size), size)


def bounded_in_steps(content: Mapping[str, Any], *, size: int) -> Generator[None, None, Media]:
    """Do the same as `bounded`, in short steps."""
    pieces = length = 0
    for number, text in enumerate(_texts(content)):
        if text:
            pieces += 1
            length += len(text)
        if number % _OBJECTS == _OBJECTS - 1:
            yield
    return _bounded(Media(pieces, length), size)


def parse_in_steps(raw: bytes) -> Generator[None, None, dict[str, Any]]:
    """Return the JSON object in a large body of bounded text."""
    content = yield from body.parse_in_steps(raw)
    yield
    yield from bounded_in_steps(content, size=len(raw))
    return content


def _bounded(found: Media, size: int) -> Media:
    if size - found.size > asgi.BODY_LIMIT:
        raise body.too_large()
    return found


def _texts(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the media of an object and of the objects in it, and an empty text for each object.

    Lists of other things are skipped at their first item.
    """
    yield ""
    for name, value in node.items():
        if name in PARTS and (text := _of_part(value)) is not None:
            yield text
        elif isinstance(value, Mapping):
            yield from _texts(value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for child in value:
                if isinstance(child, Mapping):
                    yield from _texts(child)


def _of_part(value: object) -> str | None:
    """Return the media in a field of a part: its text, or that of its fields which is long or a URL."""
    found = value.values() if isinstance(value, Mapping) else (value,)
    return next((text for text in found if isinstance(text, str) and _is_media(text)), None)


def _is_media(text: str) -> bool:
    return len(text) >= _LONG or text.startswith(_SCHEMES)
