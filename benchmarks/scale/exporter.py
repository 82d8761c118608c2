"""Engines' metrics without engines: `targets` pages of pods whose counters grow steadily, for a real Prometheus."""

import asyncio
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import click
from aiohttp import web

from slipstream_runtime import contract

REPLICAS = 4
"""Of each service."""
CLASSES = 10
"""So many kinds of load; pods of one kind show the same values."""
MEDIANS = {contract.TTFT: 0.1, contract.TPOT: 0.03}
"""Latencies in seconds: only what the objectives of the benchmark's services are about."""
_SECONDS = MEDIANS[contract.TTFT] + 199 * MEDIANS[contract.TPOT]
"""That a request of 200 tokens takes."""
_SIGMA = 0.4
_LABELS = "@"
"""Stands for a pod's labels in the text of its kind."""


@dataclass(frozen=True)
class Fleet:
    """How many services there are, and how their pods are spread over the targets of a scrape."""

    services: int
    targets: int

    def pods(self, target: int) -> Iterator[tuple[int, str]]:
        """Index and labels of the pods that a target shows."""
        for service in range(target, self.services, self.targets):
            for replica in range(REPLICAS):
                labels = f'namespace="{namespace(service)}",service="{name(service)}"'
                labels += f',revision="1",pod="{pod(service, replica)}"'
                yield service * REPLICAS + replica, labels


def namespace(service: int) -> str:
    """A hundred services share one."""
    return f"team-{service // 100}"


def name(service: int) -> str:
    """Of the service with this number."""
    return f"chat-{service}"


def pod(service: int, replica: int) -> str:
    """Of one of its engines."""
    return f"{name(service)}-6d5f7c9b8d-{replica}"


def page(kind: int, seconds: float) -> str:
    """What a pod of this kind of load shows after so many seconds."""
    running = 2 + kind % 3
    rate = running / _SECONDS
    requests = math.floor(rate * seconds)
    lines = [
        _line(contract.RUNNING, running),
        _line(contract.WAITING, 0),
        _line(contract.QUEUED, 0),
        _line(contract.KV_USAGE, 0.1 + 0.01 * kind),
        _line(contract.CACHE_INFO, 1, 'block_size="16",num_gpu_blocks="7500"'),
        _line(contract.GENERATION_TOKENS, 200 * requests),
        _line(contract.PROMPT_TOKENS, 300 * requests),
        _line(contract.COMPUTED_PROMPT_TOKENS, 240 * requests, 'source="local_compute"'),
        _line(f"{contract.ITERATION_TOKENS}_count", 200 // running * requests),
        _line(f"{contract.ITL}_sum", 6.0 * requests),
        _line(f"{contract.ITL}_count", 199 * requests),
        _line(contract.REQUEST_SUCCESS, requests, 'finished_reason="stop"'),
        _line(contract.REJECTIONS, 0, 'reason="max_num_queued_reqs"'),
        _line(contract.PREEMPTIONS, 0),
        _line(f"{contract.TTFT}_count", requests),
    ]
    for metric, tokens in ((contract.PROMPT_LENGTH, 300), (contract.OUTPUT_LENGTH, 200)):
        lines += [
            _line(f"{metric}_sum", tokens * requests),
            _line(f"{metric}_count", requests),
        ]
    for metric, median in MEDIANS.items():
        latency = NormalDist(math.log(median), _SIGMA)
        for bound in contract.LATENCY_BUCKETS[metric]:
            count = round(requests * latency.cdf(math.log(bound)))
            lines.append(_line(f"{metric}_bucket", count, f'le="{bound}"'))
        lines.append(_line(f"{metric}_bucket", requests, 'le="+Inf"'))
    return "".join(lines)


def _line(metric: str, value: float, label: str = "") -> str:
    return f"{metric}{{{_LABELS}{',' if label else ''}{label}}} {value}\n"


def application(fleet: Fleet) -> web.Application:
    """Serves `/metrics/N` for every target."""
    began = time.monotonic()

    async def metrics(request: web.Request) -> web.Response:
        seconds = 1000.0 + time.monotonic() - began
        pages = [page(kind, seconds) for kind in range(CLASSES)]
        shown = fleet.pods(int(request.match_info["target"]))
        text = "".join(pages[index % CLASSES].replace(_LABELS, labels) for index, labels in shown)
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/metrics/{target}", metrics)
    return app


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--services", type=int, required=True)
@click.option("--targets", type=int, required=True)
def main(*, port: int, services: int, targets: int) -> None:
    """Serve until killed."""
    fleet = Fleet(services, targets)
    web.run_app(
        application(fleet),
        host="127.0.0.1",
        port=port,
        print=None,
        access_log=None,
        loop=asyncio.new_event_loop(),
    )


if __name__ == "__main__":
    main()
