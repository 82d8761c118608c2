"""Queries of the operator on the real Prometheus, with engines and routers that are scraped more than once."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from dev import waiting
from dev.cluster.pki import Authority, Subject
from slipstream_operator.adapters import metrics
from slipstream_operator.core import histograms, inference_routes, profile
from slipstream_operator.core import prometheus as prometheus_core
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling.metrics import queries, signals
from slipstream_operator.core.scaling.metrics.promql import Expression
from slipstream_operator.core.scaling.metrics.query_results import QueryResults, ServiceResults
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_runtime import contract
from slipstream_simulator.prometheus import evaluation
from tests.support import processes, prometheus
from tests.support.prometheus import Server, job

PASSWORD = "secret"
HASH = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
"""bcrypt of the password."""
WINDOW = 15.0
CLIENTS = 3
POD = {"namespace": "team", "service": "chat", "pod": "chat-1"}
ROUTER = {"namespace": "team", "pod": "slipstream-router-1"}
FIRST = {"revision": "abc", "node": "n1"}
BY_MONITOR = {"revision": "abc", "container": "engine", "endpoint": "management"}
BY_SERVICE_MONITOR = {"endpoint": "metrics", "container": "engine"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Process]:
    folder = tmp_path_factory.mktemp("engine")
    settings = {
        "model": {"name": "m"}, "coldStart": 0, "lingerSeconds": 0, "alpha": 0.05,
    }  # fmt: skip
    process = processes.Simulator(folder, settings)
    try:
        process.until_ready()
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="module")
def router(
    engine: processes.Process, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[processes.Process]:
    config = {
        "namespace": "team",
        "services": [
            {"name": name, "model": model, "revisions": [{"name": "chat-abc", "weight": 100}]}
            for name, model in (("chat", "m"), ("other", "o"))
        ],
        "routes": [
            {"name": "r", "model": "public", "backends": [{"service": "chat", "weight": 1}]}
        ],
    }
    engines = {"chat-abc": [(engine.port("api"), engine.port("management"))]}
    process = processes.Router(tmp_path_factory.mktemp("router"), config, engines)
    try:
        process.until_ready()
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="module")
def servers(
    engine: processes.Process,
    router: processes.Process,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Server, Server]]:
    """Two stores of the same pods under steady load: one scrapes them once; the other gets what two replicas send,
    one of which has three jobs."""
    folder = tmp_path_factory.mktemp("prometheus")
    pod, front = engine.port("management"), router.port("management")
    once = [job("pods", pod, **POD, **FIRST), job("routers", front, **ROUTER)]
    often = [
        *once,
        job("team/chat", pod, **POD, **BY_MONITOR),
        job("team/slipstream-router", front, **ROUTER, endpoint="management"),
        job("chat", pod, **POD, **BY_SERVICE_MONITOR),
        # NB: a ServiceMonitor on the Service of a service selects the router, and its label hides the router's own.
        job("chat-of-the-router", front, **ROUTER, service="chat", endpoint="http"),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_load(router.port("api")))
        store = stack.enter_context(prometheus.running(folder / "store"))
        replica = {"cluster": "c", "prometheus_replica": "prometheus-a"}
        stack.enter_context(
            prometheus.running(folder / "a", jobs=often, external=replica, sends_to=store)
        )
        replica = {**replica, "prometheus_replica": "prometheus-b"}
        single = stack.enter_context(
            prometheus.running(folder / "b", jobs=once, external=replica, sends_to=store)
        )
        store.until(f"count({contract.RUNNING})", 4)
        store.until(f"count({contract.ROUTER_REQUESTS})", 8)
        store.until(f"min(count_over_time({contract.RUNNING}[{WINDOW:.0f}s]))", WINDOW - 2)
        yield single, store


@contextlib.contextmanager
def _load(port: int) -> Iterator[None]:
    """Keep CLIENTS streams open through the router, half of the requests by the route's name."""
    stop = threading.Event()

    def run(model: str) -> None:
        body = {
            "model": model, "stream": True, "max_tokens": 40, "ignore_eos": True,
            "messages": [{"role": "user", "content": "x" * 40}],
        }  # fmt: skip
        with httpx.Client(timeout=60) as http:
            while not stop.is_set():
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                with http.stream("POST", url, json=body) as answer:
                    assert answer.status_code == 200
                    for _ in answer.iter_lines():
                        pass

    threads = [threading.Thread(target=run, args=("public" if n else "m",)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _results(server: Server) -> ServiceResults:
    """Return what a round of all queries finds about the service."""
    asked = {
        **queries.every_tick(window=WINDOW),
        **queries.every_scrape(window=WINDOW),
        **queries.every_minute(),
        **queries.profile(),
    }
    found = QueryResults()
    texts = {name: str(query) for name, query in asked.items()}
    asyncio.run(metrics.Metrics().read(prometheus_core.Server(server.url), texts, take=found.take))
    assert not found.failed
    return found.of(Key("team", "chat"))


def test_pods_that_are_scraped_often_carry_the_same_load(servers: tuple[Server, Server]) -> None:
    single, store = servers
    naive = f"sum by (namespace, service, pod) ({contract.RUNNING})"
    assert store.value(naive) == pytest.approx(4 * (single.value(naive) or 0), rel=0.5)

    loads = []
    for server in servers:
        load = signals.load(_results(server), pods={"chat-1": 0.0}, now=1e9, max_age=10.0)
        assert not isinstance(load, Unknown)
        loads.append(load)
    once, often = loads
    (one,), (other,) = once.pods, often.pods
    assert one.running_mean == pytest.approx(CLIENTS, abs=0.7)
    assert other.running_mean == pytest.approx(one.running_mean, abs=0.7)
    assert other.waiting_mean == pytest.approx(one.waiting_mean, abs=0.3)
    for name in ("output", "prompt", "steps", "itl_sum", "itl_count", "started", "finished"):
        assert getattr(one, name) > 0, name
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=0.3), name
    assert once.arrivals
    assert often.arrivals == pytest.approx(once.arrivals, rel=0.3)
    assert often.output_length == pytest.approx(once.output_length, rel=0.01)
    assert often.kv_tokens == once.kv_tokens


def test_every_figure_of_status_is_the_same(servers: tuple[Server, Server]) -> None:
    once, often = map(_results, servers)
    assert {*often.totals} == {*once.totals}
    assert often.totals[queries.HELD] == once.totals[queries.HELD] == 0
    for name, one in once.histograms.items():
        other = often.histograms[name]
        assert other.count == pytest.approx(one.count, rel=0.35), name
        quantiles = [histograms.linear_quantile(found, 0.9) for found in (one, other)]
        assert quantiles[1] == pytest.approx(quantiles[0], rel=0.3), name


def test_a_profile_says_where_time_goes_however_often_pods_are_scraped(
    servers: tuple[Server, Server],
) -> None:
    for server in servers:
        found = profile.read(_results(server), sequences=256, kv=None)
        assert found is not None
        assert found.decode is not None
        assert found.decode.duration == pytest.approx(0.05, rel=0.3)
        assert found.decode.batch == pytest.approx(CLIENTS, rel=0.3)
        for sums in (found.first, found.whole):
            assert {"wake", "retry", "cold_prefix", "others_prefill", "engine"} <= {*(sums or {})}
        assert next(iter(profile.shares(found.whole))) == "decode"
        assert profile.shares(found.whole)["decode"] > 0.5


def test_the_figures_of_a_route_are_the_same(servers: tuple[Server, Server]) -> None:
    once, often = (
        asyncio.run(
            metrics.Metrics().query(prometheus_core.Server(server.url), inference_routes.queries())
        )
        for server in servers
    )
    for name in (inference_routes.ANSWERS, inference_routes.TOKENS):
        one, other = once[name], often[name]
        assert not isinstance(one, Unknown)
        assert not isinstance(other, Unknown)
        values = [
            {json.dumps(sample.labels, sort_keys=True): sample.value for sample in found}
            for found in (one, other)
        ]
        assert {*values[0]} == {*values[1]}
        for labels, value in values[0].items():
            assert values[1][labels] == pytest.approx(value, rel=0.35, abs=1), (name, labels)


def test_a_server_behind_tls_and_authentication_is_asked_with_secrets(
    engine: processes.Process, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki")
    authority.issue("server", subject=Subject("server", addresses=["127.0.0.1"]))
    web = {
        "tls_server_config": {
            "cert_file": str(tmp_path / "pki/server.crt"),
            "key_file": str(tmp_path / "pki/server.key"),
        },
        "basic_auth_users": {"operator": HASH},
    }
    entries = {
        "ca.crt": authority.certificate.read_bytes(),
        "login": b"Basic " + base64.b64encode(f"operator:{PASSWORD}".encode()),
    }

    async def read(name: str) -> dict[str, bytes]:
        return entries

    jobs = [job("pods", engine.port("management"), **POD, **FIRST)]
    with prometheus.running(tmp_path / "prometheus", jobs=jobs, web=web) as found:
        secret = "slipstream-prometheus"
        asked = prometheus_core.Server(
            found.url, ca=(secret, "ca.crt"), headers=(("Authorization", (secret, "login")),)
        )

        def ask(adapter: metrics.Metrics, server: prometheus_core.Server) -> object:
            query = f"count({contract.RUNNING})"
            return asyncio.run(adapter.query(server, {"count": query}))["count"]

        adapter = metrics.Metrics(read)
        waiting.until(
            lambda: ask(adapter, asked) == [Sample({}, 1.0)],
            seconds=prometheus.SECONDS,
            what="an answer",
            interval=0.2,
        )
        refused = ask(adapter, dataclasses.replace(asked, headers=()))
        assert isinstance(refused, Unknown)
        assert refused.reason.startswith("Prometheus refused the operator with HTTP 401.")
        untrusted = ask(adapter, dataclasses.replace(asked, ca=None))
        assert isinstance(untrusted, Unknown)
        assert "its certificate is not trusted" in untrusted.reason


def test_own_labels_are_all_that_the_processes_write(
    engine: processes.Process, router: processes.Process
) -> None:
    """A label that is missing in OWN would make series that differ by it count once."""
    rounds = {**queries.every_tick(window=1), **queries.every_minute(), **queries.profile()}
    asked = {*_metrics_of(rounds.values())}
    seen = {
        label
        for process in (engine, router)
        for name, labels in process.labels().items()
        if name in asked - {contract.CACHE_INFO}  # only the labels that its query names are used
        for label in labels
    }
    assert {"model_name", "engine", "finished_reason", "le", "source", "service"} <= seen
    assert seen <= {*queries.OWN, contract.SERVICE_LABEL}


def _metrics_of(expressions: Iterable[Expression]) -> Iterator[str]:
    """Yield the names of the metrics of these expressions."""
    for expression in expressions:
        yield from evaluation.metrics(expression)
