"""Memory that the images, audio and video of a request take once they are decoded, read from their headers.

A picture of 28 KiB may have 180 megapixels. vLLM bounds one picture and one piece of audio, but not a video, and not
all media of a request.
"""

import asyncio
import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import av
from PIL import Image
from vllm.multimodal import image

from slipstream_runtime.engine import bounds
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, malformed

MOST: Final = 256 * 1024 * 1024
"""Bytes of one request: 89 megapixels."""
PICTURE_PIXELS: Final = 36_000_000
"""Pixels of one picture: 108 MB in memory."""
_FORMATS: Final = getattr(image, "ALLOWED_IMAGE_FORMATS", None)
"""Formats of pictures that vLLM opens; None is all formats, before 0.32."""
_BYTES_PER_PIXEL: Final = 3
_BYTES_PER_SAMPLE: Final = 4
_FRAMES: Final = 32
"""Frames that vLLM takes from a video, unless the request may name another number, and does."""
_ALL_FRAMES: Final = -1
"""Number of frames of a request that has them chosen by time."""
_SAMPLES: Final = 64 * 1024 * 1024
"""Samples of one piece of audio, at which vLLM stops to decode it."""
_BEGINNING: Final = 64 * 1024
"""Characters of a picture in which its size is found, except in pictures that begin with a thumbnail."""


async def size(body: Mapping[str, Any]) -> int:
    """Return the bytes of all decoded media of a request; Refusal if they are more than one request may have."""
    texts = [text for text in bounds.media(body) if "://" not in text[: bounds.SCHEME]]
    if not texts:
        return 0
    frames = _frames(body)
    total = await asyncio.to_thread(_total, texts, frames)
    if total > MOST:
        raise Refusal(
            413,
            f"The images, audio and video take {total} bytes once they are decoded, and one request may take {MOST}. "
            "Send fewer or smaller ones.",
            reason=Reason.TOO_LARGE,
        )
    return total


def _total(texts: Sequence[str], frames: int) -> int:
    total = 0
    for text in texts:
        total += _size(text, frames)
        if total > MOST:
            break
    return total


def _size(text: str, frames: int) -> int:
    head, separator, data = text.partition(",")
    if not separator or not head.lower().startswith("data:"):
        head, data = "", text
    if head.lower().startswith("data:video/jpeg"):
        return sum(_picture(part) or 0 for part in data.split(","))
    found = _picture(data)
    return _stream(data, frames) if found is None else found


def _picture(data: str) -> int | None:
    """Return the bytes of a picture; None if it is no picture."""
    for part in (data[:_BEGINNING], data):
        try:
            with Image.open(io.BytesIO(_decoded(part)), formats=_FORMATS) as picture:
                width, height = picture.size
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            width, height = PICTURE_PIXELS, 2
        except Exception:  # noqa: S112 (plugins raise all kinds)
            continue
        if width * height > PICTURE_PIXELS:
            raise malformed(f"A picture has more than {PICTURE_PIXELS} pixels. Send a smaller one.")
        return width * height * _BYTES_PER_PIXEL
    return None


def _stream(data: str, frames: int) -> int:
    """Return the bytes of a video or of audio; 0 for what can't be read, which vLLM refuses."""
    try:
        with av.open(io.BytesIO(_decoded(data)), mode="r") as container:
            seconds = (container.duration or 0) / av.time_base
            size = 0
            for video in container.streams.video[:1]:
                rate = float(video.average_rate or 0)
                count = video.frames or int(seconds * rate) or abs(frames)
                taken = count if frames < 0 else min(frames, count)
                size += video.width * video.height * _BYTES_PER_PIXEL * taken
            for audio in container.streams.audio[:1]:
                samples = int(seconds * audio.rate * audio.channels) or _SAMPLES
                size += min(samples, _SAMPLES) * _BYTES_PER_SAMPLE
            return size
    except (av.FFmpegError, OSError, ValueError):
        return 0


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data[: len(data) // 4 * 4])
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _frames(body: Mapping[str, Any]) -> int:
    """Return the frames that vLLM takes from each video; less than 0 for all."""
    asked: object = body
    for name in ("media_io_kwargs", "video"):
        asked = asked.get(name) if isinstance(asked, Mapping) else None
    if not isinstance(asked, Mapping):
        return _FRAMES
    frames = asked.get("num_frames")
    if type(frames) is int:
        return frames
    return _ALL_FRAMES if "fps" in asked else _FRAMES
