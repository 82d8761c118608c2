"""Encoder on ONNX Runtime and the search service, as processes."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx

from benchmarks import servers
from dev import waiting
from dev.models import minilm
from slipstream_runtime import contract
from slipstream_runtime.onnx import export
from slipstream_runtime.retrieval import building
from slipstream_runtime.retrieval.embeddings import Embeddings

ENCODER: Final = "minilm"
_START_SECONDS: Final = 120.0


@contextlib.contextmanager
def encoder(home: Path) -> Iterator[str]:
    """Run all-MiniLM-L6-v2; yield the base URL of its API."""
    export.export(minilm.SOURCE, home / "model")
    config = {
        "model": {"uri": (home / "model").as_uri(), "name": ENCODER},
        "device": "cpu",
        "cores": 1,
        "drainSeconds": 5,
    }
    file = home / "engine.json"
    file.write_text(json.dumps(config))
    words = ["--config", str(file), "--termination-log", str(home / "termination-log")]
    with _running(contract.ONNX_MODULE, words, home=home) as url:
        yield f"{url}/v1"


@contextlib.contextmanager
def search(home: Path, texts: Sequence[str], *, embeddings: str) -> Iterator[str]:
    """Index the texts and serve them; yield the URL of the search."""
    file = home / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    asyncio.run(_build(file, home / "texts.npz", embeddings))
    words = ["serve", str(home / "texts.npz"), "--embeddings", embeddings, "--model", ENCODER]
    with _running("slipstream_runtime.retrieval", words, home=home) as url:
        yield f"{url}/v1/vector_stores/texts/search"


async def _build(texts: Path, output: Path, url: str) -> None:
    async with Embeddings(url, model=ENCODER, seconds=60.0) as embeddings:
        built = await building.build([texts], embeddings)
    built.index.save(output)


@contextlib.contextmanager
def _running(module: str, words: Sequence[str], *, home: Path) -> Iterator[str]:
    port, management = servers.free_port(), servers.free_port()
    ports = ["--api-port", str(port), "--management-port", str(management)]
    log = home / "log"
    environment = {**os.environ, "PYTHONPATH": "runtime"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words, *ports],
            stdout=output,
            stderr=output,
            env=environment,
        )

    def ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{management}{contract.READY_PATH}"
            return httpx.get(url, timeout=10).is_success
        return False

    try:
        waiting.until(ready, seconds=_START_SECONDS, what=module, log=log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_START_SECONDS)
