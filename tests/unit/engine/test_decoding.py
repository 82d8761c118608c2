"""Memory of decoded media, as their headers say before anything is decoded."""

import base64
import io
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from slipstream_runtime.engine import decoding
from slipstream_runtime.web.refusal import Refusal

MIB = 1024 * 1024


def picture(width: int, height: int, kind: str = "PNG") -> str:
    file = io.BytesIO()
    Image.new("1" if kind in ("PNG", "TIFF") else "RGB", (width, height)).save(file, kind)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode()


def film(width: int, height: int, frames: int) -> str:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        still = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
        for _ in range(frames):
            container.mux(stream.encode(still))
        container.mux(stream.encode())
    return "data:video/mp4;base64," + base64.b64encode(file.getvalue()).decode()


def sound(seconds: int) -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8000)
        written.writeframes(bytes(2 * 8000 * seconds))
    return base64.b64encode(file.getvalue()).decode()


def said(*parts: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}], **fields}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def video(url: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url}}


FRAME = picture(400, 200, "JPEG").partition(",")[2]


@pytest.mark.parametrize(
    ("parts", "fields", "size"),
    [
        ([{"type": "text", "text": "hi"}], {}, 0),
        ([image(picture(400, 200))], {}, 240_000),
        ([image(picture(400, 200, "JPEG")), image(picture(400, 200, "WEBP"))], {}, 480_000),
        ([{"type": "image", "source": {"data": picture(400, 200).partition(",")[2]}}], {}, 240_000),
        ([image("data:image/png;base64,bm8gcGljdHVyZQ==")], {}, 0),
        ([image("data:image/png;base64,x")], {}, 0),
        ([image("https://example.com/a.png")], {}, 0),
        ([video(film(160, 80, 50))], {}, 160 * 80 * 3 * 32),
        ([video(film(160, 80, 10))], {}, 160 * 80 * 3 * 10),
        (
            [video(film(160, 80, 50))],
            {"media_io_kwargs": {"video": {"num_frames": -1}}},
            160 * 80 * 3 * 50,
        ),
        ([video(f"data:video/jpeg;base64,{FRAME},{FRAME},{FRAME}")], {}, 720_000),
        (
            [{"type": "input_audio", "input_audio": {"data": sound(10), "format": "wav"}}],
            {},
            320_000,
        ),
    ],
)
async def test_the_size_of_decoded_media_is_read_from_their_headers(
    parts: Sequence[Mapping[str, Any]], fields: dict[str, Any], size: int
) -> None:
    assert await decoding.size(said(*parts, **fields)) == size


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("side", [7_000, 13_300, 20_000])
async def test_a_picture_of_too_many_pixels_is_the_clients_fault(kind: str, side: int) -> None:
    with pytest.raises(Refusal, match="more than 36000000 pixels") as refusal:
        await decoding.size(said(image(picture(side, side, kind))))
    assert refusal.value.status == 400


async def test_all_pictures_of_a_request_together_are_bounded() -> None:
    large = image(picture(5_000, 5_000))
    assert await decoding.size(said(*[large] * 3)) == 225_000_000
    with pytest.raises(Refusal, match="once they are decoded") as refusal:
        await decoding.size(said(*[large] * 4))
    assert refusal.value.status == 413


async def test_a_film_of_large_frames_is_refused() -> None:
    with pytest.raises(Refusal, match="once they are decoded"):
        await decoding.size(said(video(film(2560, 1440, 32))))
