"""`slipstream upgrade compare` with two servers of a known pace and known answers."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from slipstream_cli.main import main
from slipstream_runtime.web import sockets

TOKENS = ("one", "two", "three", "four")


def server(tokens: tuple[str, ...], *, pace: float, status: int = 200) -> Starlette:
    """Return a server that sends a token each `pace` seconds; with another status, only to streams."""

    async def stream() -> AsyncIterator[str]:
        for token in tokens:
            await asyncio.sleep(pace)
            yield f"data: {json.dumps({'choices': [{'delta': {'content': token}}]})}\n\n"
        usage = {"prompt_tokens": 1, "completion_tokens": len(tokens)}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"

    async def answer(request: Request) -> Response:
        if (await request.json()).get("stream"):
            if status != 200:
                return JSONResponse({"error": {"message": "no"}}, status)
            return StreamingResponse(stream(), media_type="text/event-stream")
        entries = [
            {"token": token, "logprob": -0.1, "top_logprobs": [{"token": token, "logprob": -0.1}]}
            for token in tokens
        ]
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": " ".join(tokens)},
            "logprobs": {"content": entries},
        }
        return JSONResponse({"id": "1", "object": "chat.completion", "choices": [choice]})

    return Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])


@contextlib.contextmanager
def running(app: Starlette) -> Iterator[str]:
    with sockets.bind(0) as bound:
        running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(f'{{"prompt": "question {number}"}}\n' for number in range(100)))
    return file


def compare(prompts: Path, candidate: Starlette, *words: str) -> click.testing.Result:
    with running(server(TOKENS, pace=0.002)) as present, running(candidate) as other:
        return click.testing.CliRunner().invoke(
            main,
            [
                "upgrade", "compare", "--baseline", present, "--candidate", f"{other}/v1", "--model", "chat",
                "--prompts", str(prompts), "--seconds", "0.1", "--clients", "4", *words,
            ],
        )  # fmt: skip


def test_a_slower_engine_fails_by_its_latency_and_passes_by_its_answers(prompts: Path) -> None:
    result = compare(prompts, server(TOKENS, pace=0.02), "-o", "json")
    found = json.loads(result.output)
    verdicts = {row["name"]: row["verdict"] for row in found["measures"]}
    assert verdicts == {"answers": "Passed", "ttft": "Failed", "tpot": "Failed", "e2e": "Failed"}
    assert result.exit_code == 3


def test_other_answers_and_failed_requests_are_failures(prompts: Path) -> None:
    result = compare(prompts, server(("one", "zwei"), pace=0.001, status=500))
    assert "Failed" in next(line for line in result.output.splitlines() if "tokens equal" in line)
    assert "The candidate failed" in result.output
    assert "Not measured: time to first token" in result.output
    assert result.exit_code == 3


def test_a_server_that_does_not_answer_is_named(prompts: Path) -> None:
    command = ["upgrade", "compare", "--model", "chat", "--prompts", str(prompts)]
    with running(server(TOKENS, pace=0.002)) as present:
        urls = ["--baseline", present, "--candidate", "http://127.0.0.1:1"]
        result = click.testing.CliRunner().invoke(main, [*command, *urls])
    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in result.output
