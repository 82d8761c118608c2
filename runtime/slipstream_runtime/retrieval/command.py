"""Commands of the search service: build an index, and serve it."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from aiohttp import web

from slipstream_runtime import contract, logs
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.retrieval import building, index
from slipstream_runtime.retrieval.embeddings import Embeddings
from slipstream_runtime.retrieval.server import Server
from slipstream_runtime.web import sockets
from slipstream_runtime.web.certificates import ServerCertificate

EMBEDDINGS_KEY: Final = "SLIPSTREAM_EMBEDDINGS_KEY"
"""Environment variable with the API key of the encoder's service."""
SEARCH_KEY: Final = "SLIPSTREAM_SEARCH_KEY"
"""Environment variable with the key that clients of the search need."""
_DRAIN_SECONDS: Final = 10.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    found = argparse.ArgumentParser(
        prog="python -m slipstream_runtime.retrieval",
        description="Build an index of texts, or serve it.",
        epilog=f"{EMBEDDINGS_KEY} holds the API key of the encoder's service, and {SEARCH_KEY} the key of clients.",
    )
    commands = found.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build an index from files")
    build.add_argument("files", nargs="+", type=Path, metavar="FILE")
    build.add_argument("--output", "-o", type=Path, required=True, metavar="FILE")
    serve = commands.add_parser("serve", help="answer searches in an index")
    serve.add_argument("index", type=Path, metavar="FILE")
    serve.add_argument("--name", help="id of the vector store; default: name of the file")
    serve.add_argument("--api-port", type=int, default=contract.API_PORT)
    serve.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    serve.add_argument("--tls", type=Path, metavar="DIR", help="certificate of the service")
    for each in (build, serve):
        each.add_argument(
            "--embeddings",
            required=True,
            metavar="URL",
            help="base URL of the encoder's service, such as http://embeddings.team.svc/v1",
        )
        each.add_argument("--model", required=True, help="model name of the encoder")
    return found


def run(options: argparse.Namespace) -> None:
    """Run the command; EngineError if it can't."""
    asyncio.run(_build(options) if options.command == "build" else serve(options))


async def _build(options: argparse.Namespace) -> None:
    index.check_target(options.output)
    async with client(options.embeddings, model=options.model, seconds=120.0) as embeddings:
        built = await building.build(options.files, embeddings)
    built.index.save(options.output)
    sys.stdout.write(
        f"{options.output}: {len(built.index.passages)} passages of {built.files} files, "
        f"{built.duplicates} duplicates left out\n"
    )


def client(url: str, *, model: str, seconds: float) -> Embeddings:
    """Return the client of the encoder's service, with the key of the environment."""
    if not url.startswith(("http://", "https://")):
        raise UnsuitableError(f'"{url}" is no URL. Use one such as http://embeddings.team.svc/v1.')
    key = os.environ.get(EMBEDDINGS_KEY, "").strip() or None
    return Embeddings(url, model=model, key=key, seconds=seconds)


async def serve(options: argparse.Namespace) -> None:
    """Answer searches until SIGTERM."""
    found = index.load(options.index)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        embeddings = await stack.enter_async_context(
            client(options.embeddings, model=options.model, seconds=5.0)
        )
        key = os.environ.get(SEARCH_KEY, "").strip() or None
        server = Server(found, embeddings, name=options.name or options.index.stem, key=key)
        certificate = None
        if options.tls is not None:
            certificate = ServerCertificate(options.tls, clock=time.monotonic)
        context = None if certificate is None else certificate.context
        ports = {}
        for name, app, port, tls in (
            ("api", server.api(), options.api_port, context),
            ("management", server.management(), options.management_port, None),
        ):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=_DRAIN_SECONDS)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            bound = sockets.bind(port)
            ports[name] = bound.getsockname()[1]
            await web.SockSite(runner, bound, ssl_context=tls).start()
        watching = asyncio.create_task(server.watch())
        stack.callback(watching.cancel)
        logs.event("listening", passages=len(found.passages), **ports)
        await stop.wait()
        server.ready = False
    logs.event("stopped")
