"""Routes of the pinned vLLM's server: each is passed to it, or refused with a reason."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipstream_runtime.host import front, routes
from slipstream_runtime.host.lifecycle import Phase
from slipstream_runtime.web import asgi, openai
from slipstream_runtime.web.not_served import NOT_SERVED
from tests.support.clients import KEY, Client, life_in, request

DECORATORS = {
    "get", "post", "put", "delete", "patch", "head", "options", "websocket",
    "api_route", "route", "mount", "add_api_route", "add_route", "add_api_websocket_route",
}  # fmt: skip
SERVED = {
    **dict.fromkeys(openai.FORMS, "POST"),
    openai.MODELS: "GET",
    openai.HEALTH: "GET",
    routes.VERSION: "GET",
    "/v1/responses/{response_id}": "GET",
    "/v1/responses/{response_id}/cancel": "POST",
}
"""Route of vLLM that an engine passes on -> its only method."""
OF_THE_ENGINE_ALONE = {routes.VERSION}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def decorated() -> Iterator[str]:
    """Yield each route in vLLM's source, also of servers and options that are not in use."""
    found = importlib.util.find_spec("vllm")
    assert found is not None and found.origin is not None
    for file in Path(found.origin).parent.rglob("*.py"):
        text = file.read_text()
        if "fastapi" not in text and "starlette" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in DECORATORS
                and isinstance(node.func.value, ast.Name)
                and (node.func.value.id == "app" or "router" in node.func.value.id)
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value)


def built() -> Iterator[str]:
    """Yield the routes of vLLM's application for each task, with those of other packages."""
    from vllm import tasks
    from vllm.entrypoints.launchers import cli_args
    from vllm.entrypoints.launchers.app import build_app
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = cli_args.make_arg_parser(FlexibleArgumentParser())
    args = parser.parse_args(["--model", "m"])
    args.enable_fault_tolerance = True
    for task in (*tasks.GENERATION_TASKS, *tasks.POOLING_TASKS, *tasks.FRONTEND_TASKS):
        model: Any = SimpleNamespace(
            get_pooling_task=lambda supported: next(iter(supported), None),
            is_cross_encoder=True,
            score_type="cross-encoder",
            hf_config=SimpleNamespace(num_labels=1),
        )
        yield from (str(route.path) for route in build_app(args, (task,), model).routes)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore")  # those of vLLM's imports
def test_each_route_of_vllm_is_served_or_refused_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A route that is new in vLLM belongs to `openai.FORMS` or `NOT_SERVED`."""
    for variable in ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        monkeypatch.setenv(variable, "1")
    routes = {*decorated(), *built()}
    assert {openai.CHAT, "/adapters", "/cohere/v2/chat", "/v1/realtime"} <= routes
    assert routes - SERVED.keys() - NOT_SERVED.keys() == set()
    assert (SERVED.keys() | NOT_SERVED.keys()) - routes == set()
    assert SERVED.keys() & NOT_SERVED.keys() == set()


async def status(path: str, method: str) -> int:
    async def answer(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond_json(send, {})

    guard = front.Front(answer, life=life_in(Phase.READY), probe_key=KEY)
    scope = request(path, method=method)
    if path in openai.FORMS and openai.FORMS[path].uploads:
        scope["headers"] = [(b"content-type", b"multipart/form-data; boundary=b")]
    client = Client()
    await guard(scope, client.receive, client.send)
    return client.status


def concrete(path: str) -> str:
    return path.replace("{response_id}", "resp_1").replace("{adapter_name}", "sql")


@pytest.mark.parametrize("path", sorted(SERVED.keys() | NOT_SERVED.keys()))
async def test_each_method_of_a_route_is_passed_or_refused(path: str) -> None:
    for method in METHODS:
        allowed = SERVED.get(path)
        passes = method == allowed or (method, allowed) == ("HEAD", "GET")
        expected = 200 if passes else 404 if allowed is None else 405
        assert await status(concrete(path), method) == expected, method
    routed = None if path in OF_THE_ENGINE_ALONE else SERVED.get(path)
    assert openai.method(concrete(path)) == routed


async def test_a_websocket_gets_no_answer() -> None:
    guard = front.Front(_unused, life=life_in(Phase.READY), probe_key=KEY)
    client = Client()
    scope = {"type": "websocket", "path": "/v1/realtime", "headers": []}
    await guard(scope, client.receive, client.send)
    assert client.sent == []


async def _unused(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    raise AssertionError


async def test_a_refusal_says_what_to_use_instead() -> None:
    guard = front.Front(_unused, life=life_in(Phase.READY), probe_key=KEY)
    client = Client()
    await guard(request("/generative_scoring"), client.receive, client.send)
    assert client.status == 404
    assert b"Use /v1/completions with" in client.body
